"""``photonic train``: the main job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from photonic.cli.bars import TerminalProgress
from photonic.cli.group import HeldWarnings, Interrupted
from photonic.cli.tables import print_result
from photonic.errors import RunError
from photonic.models.activations import ACTIVATIONS
from photonic.train import TrainConfig, resume, train
from photonic.train.runs import CHECKPOINT, RunFolder

_DEFAULTS = {name: field.default for name, field in TrainConfig.model_fields.items()}


def _parse_routes(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> Any:
    routes = []
    for value in values:
        # a spec string may hold '=' itself; the glob of a layer name does not
        glob, mark, spec = value.partition("=")
        if not (glob and mark and spec):
            raise click.BadParameter(f"expected GLOB=SPEC such as 'features.*=sim', found {value!r}")
        routes.append((glob, spec))
    return tuple(routes)


def _default(name: str, **more: Any) -> dict[str, Any]:
    return {"default": _DEFAULTS[name], "show_default": _DEFAULTS[name] is not None, **more}


@click.command("train")
@click.option(
    "--data",
    **_default("data"),
    metavar="DATA",
    help="digits, mnist, fashion-mnist, cifar10, cifar100, a folder, an .npz or a .parquet file",
)
@click.option("--download", is_flag=True, help="Let torchvision fetch the data set if it is not there.")
@click.option(
    "--model",
    **_default("model"),
    metavar="NAME",
    help="mlp, convnet, study_convnet (docs/study-noise.md) or a torchvision model",
)
@click.option(
    "--activation",
    **_default("activation"),
    type=click.Choice(sorted(ACTIVATIONS)),
    help="In place of the model's own activation.",
)
@click.option("--backend", **_default("backend"), metavar="SPEC", help="What the layers run on.")
@click.option(
    "--calibration",
    **_default("calibration"),
    metavar="FILE",
    help="The record of the chip that --backend names, from photonic calibrate.",
)
@click.option(
    "--allow-failed", is_flag=True, help="Take the record even if its verification did not pass; the run says so."
)
@click.option(
    "--route",
    "routes",
    multiple=True,
    metavar="GLOB=SPEC",
    callback=_parse_routes,
    help="Another backend for the layers that match; repeatable, the last match wins.",
)
@click.option("--epochs", **_default("epochs"), type=click.IntRange(min=1))
@click.option("--batch-size", **_default("batch_size"), type=click.IntRange(min=1))
@click.option("--lr", **_default("lr"), type=click.FloatRange(min=0, min_open=True), help="Adam's first learning rate.")
@click.option(
    "--seed", **_default("seed"), type=click.IntRange(min=0), help="Of the run; ?device=N in SPEC is the chip's."
)
@click.option("--limit", **_default("limit"), type=click.IntRange(min=1), help="Train on N images, test on at most N.")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder, new or empty; default runs/...")
@click.option(
    "--resume", "run", type=click.Path(path_type=Path), help="Go on with an interrupted run; its options are kept."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_context
def train_command(
    context: click.Context, /, download: bool, out: Path | None, run: Path | None, as_json: bool, **options: Any
) -> None:
    """Train a network through a photonic chip, beside a digital control.

    Without options: a small network on scikit-learn's 8 x 8 digits, through the simulated chip, in seconds.
    """
    with TerminalProgress(begun=context.ensure_object(HeldWarnings).release) as progress:
        try:
            if run is None:
                result = train(TrainConfig(**options), out=out, download=download, progress=progress)
            else:
                _refuse_contradictions(context, run, {**options, "out": out and out.resolve()})
                result = resume(run, download=download, progress=progress)
        except KeyboardInterrupt as error:
            raise Interrupted(_how_to_resume(progress.path)) from error
    if as_json:
        click.echo(json.dumps(result.model_dump(mode="json")))
    else:
        print_result(result)


def _refuse_contradictions(context: click.Context, run: Path, options: dict[str, Any]) -> None:
    """What was given on the command line must be what the run was started with.

    Raises:
        RunError: it is not; the option is named.
    """
    saved = {**RunFolder.open(run).config().model_dump(), "out": run.resolve()}
    names = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name, value in options.items():
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and value != saved[name]:
            raise RunError(
                f"{names[name]} {value} contradicts {saved[name]}, which {run} was started with; "
                "leave it out, or start a new run without --resume"
            )


def _how_to_resume(path: Path | None) -> str:
    if path is None:
        return "interrupted before anything was written"
    kept = "" if (path / CHECKPOINT).exists() else " (from its start: no epoch was finished)"
    return f"interrupted; go on{kept} with: photonic train --resume {path}"
