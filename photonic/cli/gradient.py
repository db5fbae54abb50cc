"""``photonic study gradient-error``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from photonic.cli.bars import TerminalProgress, drawn
from photonic.cli.group import HeldWarnings
from photonic.cli.tables import print_table
from photonic.study.gradientplot import FIGURES
from photonic.study.gradientstudy import INTERPOLATIONS, RECTIFIER, SMOOTH, GradientPlan, GradientStudy
from photonic.study.gradientstudy import run_gradient_study as run
from photonic.train.runs import replacing

_STANDARD = GradientPlan()
_PRE_ACTIVATIONS = (-0.5, -(2.0**-6), 0.0, 2.0**-6, 0.5)


@click.command("gradient-error")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.IntRange(1, 1024),
    default=_STANDARD.precisions,
    show_default=True,
    help="Steps per unit p; 6 bits of the study are 64.",
)
@click.option(
    "--ep",
    "eps",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=_STANDARD.eps,
    show_default=True,
    help="Error probability; the first is reported in full.",
)
@click.option("--draws", default=_STANDARD.draws, show_default=True, type=click.IntRange(min=2), help="Of the noise.")
@click.option("--inputs", default=_STANDARD.inputs, show_default=True, type=click.IntRange(min=1), help="Of the layer.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of all draws.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Draw the figures there."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
@click.pass_context
def gradient_error_command(
    context: click.Context,
    precisions: tuple[int, ...],
    eps: tuple[float, ...],
    draws: int,
    inputs: int,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure how far quantised noise throws the derivative of ReLU, GELU and SiLU.

    Ratios are of ReLU's errors over those of the smooth activation; ReLU'(0) = 0.
    """
    began = time.monotonic()
    plan = GradientPlan(tuple(dict.fromkeys(precisions)), tuple(dict.fromkeys(eps)), draws, inputs, seed=seed)
    with TerminalProgress(begun=context.ensure_object(HeldWarnings).release) as bars:
        study = run(plan, drawn(bars))
    figures = [] if out is None else _draw(study, out)
    if as_json:
        click.echo(json.dumps({**study.content(), "seconds": time.monotonic() - began, "figures": figures}))
        return
    _print_ratios(study)
    _print_closed_forms(study)
    _print_layer(study)
    for path in figures:
        click.echo(f"picture: {path}")


def _draw(study: GradientStudy, out: Path) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in FIGURES.items():
        with replacing(out / name) as file:
            file.write(draw(study).getbuffer())
        paths.append(str(out / name))
    return paths


def _print_ratios(study: GradientStudy) -> None:
    plan = study.plan
    click.echo(
        f"error of the derivative, ReLU over a smooth activation: largest of each draw, mean and rms over the region, "
        f"averaged over {plan.draws} draws (the square: a tenth), ± one standard error"
    )
    rows = [("EP", "region", "p", *(f"{name} {each}" for name in SMOOTH for each in ("max", "mean", "rms")))]
    for ep in plan.eps:
        for where in study.errors[ep] if ep == study.ep else ("zoom",):
            ratios = study.ratios(ep, where)
            for p in plan.precisions:
                cells = (str(each) for name in SMOOTH for each in ratios[name][p].values())
                rows.append((f"{ep:g}", where, str(p), *cells))
    print_table(rows, left=(1,))
    click.echo("regions: zoom |a|, |w| <= 0.25; near |a w| <= 1 / p; square all digital values in [-1, 1]")
    gelu = study.ratios(study.ep, "zoom")["gelu"]
    found = ", ".join(f"{gelu[p]['max']} at p = {p}" for p in sorted(plan.precisions))
    click.echo(
        'the "100x" of the study is one of these numbers: the largest error near zero (gelu max of the zoom) at 8 '
        f"bits, p = 256, and EP 0.5; here, at EP {study.ep:g}: {found}"
    )


def _print_closed_forms(study: GradientStudy) -> None:
    click.echo(f"\nclosed forms at EP {study.ep:g}: rms error at z = 0, its bound L rms(z~ - z), ratio, p / L")
    rows = [("p", "relu", *(f"{n} {each}" for n in SMOOTH for each in ("rms", "bound", "ratio", "p/L")))]
    for p in study.plan.precisions:
        cells = []
        for name in SMOOTH:
            found = study.amplified[name][p]
            cells += [f"{found.smooth:.4f}", f"{found.bound:.4f}", f"{found.ratio:.1f}", f"{found.one_step:.1f}"]
        rows.append((str(p), f"{study.amplified['gelu'][p].rectified:.3f}", *cells))
    print_table(rows, left=())
    click.echo("\nmean error within one step of zero, ReLU + i (GELU - ReLU), closed form")
    rows = [("p", *(f"i = {i:g}" for i in INTERPOLATIONS))]
    rows += [(str(p), *(f"{row[i]:.4f}" for i in INTERPOLATIONS)) for p, row in study.near_zero.items()]
    print_table(rows, left=())


def _print_layer(study: GradientStudy) -> None:
    click.echo(
        f"\nlinear layer of {study.plan.inputs} inputs, EP {study.ep:g}: rms error of the weight gradient / |x|, at a "
        "pre-activation z; last, what the noise of the inputs alone makes"
    )
    rows = [("p", "activation", *(f"z = {z:g}" for z in _PRE_ACTIVATIONS), "inputs")]
    for p, found in study.layers.items():
        for name in (RECTIFIER, *SMOOTH):
            cells = (str(found.whole[name][found.pre_activations.index(z)]) for z in _PRE_ACTIVATIONS)
            rows.append((str(p), name, *cells, f"{found.operands.value:.3g}"))
    print_table(rows, left=(1,))
