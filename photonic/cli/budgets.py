"""Error budgets as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

import click

from photonic.analysis.budget import Budget, Error, Estimate, Interval, ModelBudget, Share
from photonic.cli.tables import print_table

_TOP = 3


def print_budget(budget: Budget) -> None:
    """Prints the budget of a matmul, the answer first."""
    p = budget.product
    signs = "of both signs" if p.signed else "of at least 0, half of them 0"
    click.echo(budget.sentence)
    click.echo(f"{budget.chip}, nominal calibration; inputs {p.batch} x {p.inputs} {signs},")
    click.echo(f"weights {p.outputs} x {p.inputs}, {p.blocks} blocks, {p.repeats} repeats, seed {p.seed}\n")
    whole = budget.total.total
    rows = [("effect", "systematic", "random", "total", "total", "taken away"), *_effects(budget, whole)]
    click.echo("error in % of the exact output's rms; taken away: of the mean-square error with all effects")
    print_table([("", "alone", "alone", "alone", "without it", "without it"), *rows])
    if budget.effects:
        _print_sum(budget, whole)
        _print_notes(budget.effects)


def _print_sum(budget: Budget, whole: Estimate) -> None:
    parts = Estimate(value=whole.value - budget.interaction.value, standard_error=budget.interaction.standard_error)
    click.echo("")
    print_table(
        [
            ("mean-square error", "of all effects"),
            ("  the effects alone, summed", _fraction(parts, whole)),
            ("  interaction (all effects less that sum)", _fraction(budget.interaction, whole)),
        ]
    )


def print_model_budget(budget: ModelBudget) -> None:
    """Prints the budget of a model: its layers, then its accuracy."""
    click.echo(f"\nlayers on exact inputs, {budget.layer_images} images; error in % of the rms of the exact product")
    head = ("layer", "systematic", "random", "total", "interaction", "largest alone")
    rows = []
    for layer in budget.layers:
        largest = list(layer.alone.items())[:_TOP]
        names = ", ".join(f"{name} {_rms(error.total)}" for name, error in largest)
        share = _fraction(layer.interaction, layer.total.total)
        rows.append((layer.layer or "(model)", *_parts(layer.total), share, names))
    print_table([head, *rows], left=(0, 5))
    click.echo(f"\naccuracy on {budget.images} test images in %, {budget.passes} passes, 95 % intervals of the noise")
    click.echo(f"digital {100 * budget.digital:.2f}")
    table: list[tuple[str, ...]] = [("effect", "alone", "lost", "without it", "gained without it")]
    table += [(s.effect, *(_accuracy(i) for i in (s.alone, s.loss, s.off, s.change))) for s in budget.effects]
    table.append(("all effects", _accuracy(budget.total), "", "", ""))
    table.append(("none", _accuracy(budget.ideal), "", "", ""))
    print_table(table)
    click.echo(f"interaction (loss with all effects less the losses alone, summed): {_accuracy(budget.interaction)}")


def _effects(budget: Budget, whole: Estimate) -> list[tuple[str, ...]]:
    rows = [
        (share.label, *_parts(share.alone), _rms(share.off.total), _fraction(share.change, whole))
        for share in budget.effects
    ]
    return [*rows, ("all effects", *_parts(budget.total), "", ""), ("none (rounding)", *_parts(budget.ideal), "", "")]


def _print_notes(shares: Sequence[Share]) -> None:
    for share in shares:
        if share.alone_beside:
            others = ", ".join(share.alone_beside)
            click.echo(f"* {share.effect} cannot be on without {others}: alone is what it adds to that")
        if share.off_beside:
            click.echo(f"* without {share.effect} there is no {', '.join(share.off_beside)} either: both are off")


def _parts(error: Error) -> tuple[str, str, str]:
    return _rms(error.systematic), _rms(error.random), _rms(error.total)


def _rms(found: Estimate) -> str:
    """In %, with its standard error; a bound where the two cannot be told apart."""
    if found.value <= 2 * found.standard_error:
        bound = 100 * (max(found.value, 0.0) + 2 * found.standard_error) ** 0.5
        return "0" if bound == 0 else f"< {bound:.1g}"
    percent, error = 100 * found.rms, 100 * found.standard_error / (2 * found.rms)
    return f"{percent:.1e}" if percent < 1e-3 else f"{percent:.3f} ± {error:.3f}"


def _fraction(found: Estimate, whole: Estimate) -> str:
    if whole.value <= 0:
        return "-"
    return f"{100 * found.value / whole.value:.1f} ± {100 * found.standard_error / whole.value:.1f} %"


def _accuracy(found: Interval) -> str:
    return f"{100 * found.mean:.2f} ± {100 * found.ci95:.2f}"
