"""``photonic profile``: what a model costs on a chip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from photonic.analysis.explain_model import EVERY_LAYER
from photonic.analysis.profile import profile_model
from photonic.analysis.switches import open_silently
from photonic.cli.bars import TerminalProgress, drawn
from photonic.cli.costs import print_profile
from photonic.cli.group import HeldWarnings
from photonic.cli.trained import Trained
from photonic.models.activations import ACTIVATIONS
from photonic.models.networks import OWN, Shape, build_model
from photonic.physics import seeds
from photonic.train.loop import seeded_globally
from photonic.train.runs import CONFIG

DIGITS: Shape = (1, 8, 8)
DIGITS_CLASSES = 10


def _shape(context: click.Context, option: click.Parameter, value: str | None) -> Shape | None:
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"expected C,H,W such as 3,224,224, found {value!r}")
    c, h, w = (int(part) for part in parts)
    return c, h, w


@click.command("profile")
@click.argument("model", metavar="MODEL")
@click.option("--backend", "spec", default="sim", show_default=True, metavar="SPEC", help="What the layers run on.")
@click.option("--input", "shape", callback=_shape, metavar="C,H,W", help="Of the images; default 1,8,8, the digits'.")
@click.option("--classes", type=click.IntRange(min=1), help="Outputs of the model; default 10.")
@click.option("--activation", type=click.Choice(sorted(ACTIVATIONS)), help="In place of the model's own.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(min=1), help="Images in one forward.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
@click.pass_context
def profile_command(
    context: click.Context, /, model: str, spec: str, batch: int, as_json: bool, **options: Any
) -> None:
    """Say what a model costs on a chip: tiles, shots, programming, time, energy, and the digital work that remains.

    MODEL is mlp, convnet, a torchvision model, or the folder of a finished run of photonic train. Nothing is measured:
    one forward is counted, and the chip's data sheet says what that takes.
    """
    asked = _asked(model, batch, options)
    with (
        open_silently(spec) as backend,
        TerminalProgress(begun=lambda: None) as bars,
    ):
        context.ensure_object(HeldWarnings).release()
        profile = profile_model(asked.model, asked.images, backend, on_chip=asked.on_chip, progress=drawn(bars))
    if as_json:
        click.echo(json.dumps({"model": model, **profile.model_dump(mode="json")}))
    else:
        print_profile(model, profile)


@dataclass(frozen=True)
class _Asked:
    """A model with a batch of images, and which of its layers run on the chip."""

    model: nn.Module
    images: Tensor
    on_chip: Mapping[str, bool]


def _asked(name: str, batch: int, options: Mapping[str, Any]) -> _Asked:
    """From what was typed to a model: a folder with a run's config is that run."""
    path = Path(name)
    if (path / CONFIG).is_file() or (name not in OWN and (path.is_dir() or len(path.parts) > 1)):
        return _of_run(path, batch, options)
    shape = options["shape"] or DIGITS
    with seeded_globally("weights", 0):
        model = build_model(name, shape, options["classes"] or DIGITS_CLASSES, options["activation"])
    # as pixels are: not negative
    return _Asked(model, torch.rand(batch, *shape, generator=seeds.generator("profile", 0)), EVERY_LAYER)


def _of_run(path: Path, batch: int, options: Mapping[str, Any]) -> _Asked:
    given = [f"--{'input' if name == 'shape' else name}" for name, value in options.items() if value is not None]
    if given:
        raise click.UsageError(f"{path} is a run, whose config says this already; leave out {', '.join(given)}")
    trained = Trained(path)
    images = trained.data.test_x
    return _Asked(trained.model, images[torch.arange(batch) % len(images)], trained.on_chip)
