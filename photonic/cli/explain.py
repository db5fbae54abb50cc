"""``photonic explain``: the error budget of a simulated chip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from torch import nn

from photonic.analysis.budget import Budget, ModelBudget
from photonic.analysis.budget_plot import draw_budget
from photonic.analysis.explain import explain_model, explain_product, standard_product
from photonic.analysis.plan import Progress
from photonic.analysis.switches import SwitchedChip
from photonic.cli.bars import TerminalProgress
from photonic.cli.budgets import print_budget, print_model_budget
from photonic.cli.group import HeldWarnings
from photonic.data import Dataset, load_dataset
from photonic.errors import RunError
from photonic.models.convert import DIGITAL
from photonic.models.networks import build_model
from photonic.train.config import TrainConfig
from photonic.train.result import Result
from photonic.train.runs import RunFolder, replacing

_SIZES = ("outputs", "inputs", "batch", "blocks", "repeats")


def _png(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and (value.suffix.lower() != ".png" or not value.parent.is_dir()):
        raise click.BadParameter(f"expected a .png in a folder that exists, found {value}")
    return value


@click.command("explain")
@click.argument("spec")
@click.option(
    "--model", "run", type=click.Path(path_type=Path), metavar="RUN", help="A finished run of photonic train."
)
@click.option(
    "--out", type=click.Path(path_type=Path), callback=_png, metavar="FILE.png", help="Draw the budget there."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of noise and test product.")
@click.option("--signed", is_flag=True, help="Inputs of both signs, in place of those after a ReLU.")
@click.option("--outputs", type=click.IntRange(min=1), help="Rows of the weight; default 2 row tiles.")
@click.option("--inputs", type=click.IntRange(min=1), help="Columns of the weight; default 3 column tiles.")
@click.option("--batch", type=click.IntRange(min=1), help="Input vectors; default for 200,000 measured outputs.")
@click.option(
    "--blocks", type=click.IntRange(min=2), help="Independent products, from which the errors of figures are."
)
@click.option("--repeats", type=click.IntRange(min=2), help="Of each product: systematic and random part.")
@click.option("--passes", default=10, show_default=True, type=click.IntRange(min=2), help="Over the test images.")
@click.option("--images", type=click.IntRange(min=2), help="Use at most so many test images.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
@click.pass_context
def explain_command(
    context: click.Context,
    /,
    spec: str,
    run: Path | None,
    out: Path | None,
    seed: int,
    signed: bool,
    passes: int,
    images: int | None,
    as_json: bool,
    **sizes: int | None,
) -> None:
    """Say which effect of a simulated chip makes which error.

    Each effect alone and each switched off, with the chip's nominal calibration: at the output of a matmul, and with
    --model for each layer and the accuracy of a trained network. SPEC is a chip such as sim or sim:typical?device=41.
    """
    chip = SwitchedChip.from_spec(spec, seed=seed)
    given = {name: value for name, value in sizes.items() if value is not None}
    product = standard_product(chip.parameters, signed=signed, seed=seed, **given)
    trained = None if run is None else _Trained(run)
    with TerminalProgress(begun=context.ensure_object(HeldWarnings).release) as bars:
        progress = _drawn(bars)
        budget = explain_product(chip, product, progress)
        model = None if trained is None else trained.explain(chip, passes, images, progress)
    if out is not None:
        with replacing(out) as file:
            file.write(draw_budget(budget, model).getbuffer())
    if as_json:
        click.echo(json.dumps(_content(budget, model, out)))
        return
    print_budget(budget)
    if model is not None:
        print_model_budget(model)
    if out is not None:
        click.echo(f"picture: {out}")


class _Trained:
    """The photonically trained model of a finished run, with its test set.

    Args:
        path: the run's folder.

    Raises:
        RunError: not a finished run, or its model and data are no longer what they were.
    """

    def __init__(self, path: Path) -> None:
        folder = RunFolder.open(path)
        result, checkpoint = folder.result(), folder.load_checkpoint()
        if result is None or checkpoint is None:
            raise RunError(f"{path} is not finished; finish it with: photonic train --resume {path}")
        self._config, self._result = folder.config(), result
        self._data = load_dataset(self._config.data, limit=self._config.limit)
        self._model = _rebuilt(path, self._config, self._data, checkpoint["learners"]["photonic"]["model"])

    def explain(self, chip: SwitchedChip, passes: int, images: int | None, progress: Progress) -> ModelBudget:
        """The model's budget; layers that the run kept digital stay so."""
        x, y, config = self._data.test_x[:images], self._data.test_y[:images], self._config
        on_chip = {"*": config.backend != DIGITAL} | {glob: spec != DIGITAL for glob, spec in config.routes}
        if not any(on_chip.values()):
            # the run had no chip at all; the question is what this one would do
            on_chip = {"*": True}
        budget = explain_model(chip, self._model, x, y, on_chip=on_chip, passes=passes, progress=progress)
        self._check(budget, self._result)
        return budget

    def _check(self, budget: ModelBudget, result: Result) -> None:
        """The run has measured the same weights on the same images in exact arithmetic."""
        was = result.accuracy.digital_same_weights
        # another machine may round another way, and one image may tip over
        if budget.images == result.test_images and abs(budget.digital - was) > 1.5 / budget.images:
            raise RunError(
                f"{result.out}: the run's weights had an accuracy of {was:.4f} in exact arithmetic and now have "
                f"{budget.digital:.4f}: data or model changed since"
            )


def _rebuilt(path: Path, config: TrainConfig, data: Dataset, state: dict[str, Any]) -> nn.Module:
    c, h, w = data.test_x.shape[1:]
    model = build_model(config.model, (c, h, w), data.n_classes, config.activation)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(f"{path}: the checkpoint does not fit this version's {config.model}: {error}") from error
    return model


def _drawn(bars: TerminalProgress) -> Progress:
    """Turns steps of an analysis into stages and steps of a bar."""

    def progress(done: int, steps: int, text: str) -> None:
        if done == 0:
            bars.stage(text.partition(":")[0], steps)
        else:
            bars.step(text)

    return progress


def _content(budget: Budget, model: ModelBudget | None, out: Path | None) -> dict[str, Any]:
    return {
        **budget.model_dump(mode="json"),
        "sentence": budget.sentence,
        "model": None if model is None else model.model_dump(mode="json"),
        "picture": None if out is None else str(out),
    }
