"""``photonic explain``: the error budget of a simulated chip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from photonic.analysis.budget import Budget, ModelBudget
from photonic.analysis.budget_plot import draw_budget
from photonic.analysis.explain import explain_model, explain_product, standard_product
from photonic.analysis.plan import Progress
from photonic.analysis.switches import SwitchedChip
from photonic.cli.bars import TerminalProgress, drawn
from photonic.cli.budgets import print_budget, print_model_budget
from photonic.cli.group import HeldWarnings
from photonic.cli.trained import Trained
from photonic.errors import RunError
from photonic.train.result import Result
from photonic.train.runs import replacing

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
    trained = None if run is None else Trained(run)
    with TerminalProgress(begun=context.ensure_object(HeldWarnings).release) as bars:
        progress = drawn(bars)
        budget = explain_product(chip, product, progress)
        model = None if trained is None else _explain_model(trained, chip, passes, images, progress)
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


def _explain_model(
    trained: Trained, chip: SwitchedChip, passes: int, images: int | None, progress: Progress
) -> ModelBudget:
    """The budget of a run's model; layers that the run kept digital stay so."""
    x, y = trained.data.test_x[:images], trained.data.test_y[:images]
    budget = explain_model(chip, trained.model, x, y, on_chip=trained.on_chip, passes=passes, progress=progress)
    _check(budget, trained.result)
    return budget


def _check(budget: ModelBudget, result: Result) -> None:
    """The run has measured the same weights on the same images in exact arithmetic."""
    was = result.accuracy.digital_same_weights
    # another machine may round another way, and one image may tip over
    if budget.images == result.test_images and abs(budget.digital - was) > 1.5 / budget.images:
        raise RunError(
            f"{result.out}: the run's weights had an accuracy of {was:.4f} in exact arithmetic and now have "
            f"{budget.digital:.4f}: data or model changed since"
        )


def _content(budget: Budget, model: ModelBudget | None, out: Path | None) -> dict[str, Any]:
    return {
        **budget.model_dump(mode="json"),
        "sentence": budget.sentence,
        "model": None if model is None else model.model_dump(mode="json"),
        "picture": None if out is None else str(out),
    }
