"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

import click

from photonic.train import Result

_WORST_LAYERS = 3


def print_result(result: Result) -> None:
    """Prints what a run found, on stdout."""
    a, chip, seconds = result.accuracy, result.chip, result.seconds
    spread = f"± {100 * a.photonic_ci95:.2f}, one pass ± {100 * a.photonic_std:.2f}"
    title = (
        f"{result.model} on {result.data}: {result.train_images} images, {result.epochs} epochs, seed {result.seed}; "
        f"tested on {result.test_images}"
    )
    click.echo(title)
    print_rows(
        [
            ("test accuracy", ""),
            ("  digital control", f"{100 * a.digital:6.2f} %"),
            (f"  photonic, mean of {len(a.photonic_passes)} noisy passes", f"{100 * a.photonic:6.2f} % ({spread})"),
            ("  photonic weights run digitally", f"{100 * a.digital_same_weights:6.2f} %"),
            (f"backend {result.backend}", " ".join(f"{glob}={spec}" for glob, spec in result.routes)),
            ("  effective bits (enob)", "no chip" if result.enob is None else f"{result.enob:.2f}"),
            ("  saturated ADC counts", f"{100 * result.saturated_fraction:.4f} %"),
            *_worst_layers(result),
            ("  chip calls", f"{chip.calls:,}"),
            ("  programmed tiles", f"{chip.tiles_programmed:,}"),
            ("  shots", f"{chip.shots:,}"),
            ("time", ""),
            ("  in the chip", f"{seconds.chip:.1f} s"),
            ("  outside it", f"{seconds.outside:.1f} s"),
        ]
    )
    if result.nominal:
        click.echo("calibration: nominal, computed from the chip's data sheet; nothing was measured")
    click.echo(f"run folder: {result.out}")


def _worst_layers(result: Result) -> list[tuple[str, str]]:
    """The layers with the most counts at a rail, where there are any; ``--json`` has all."""
    saturated = [use for use in result.layers if use.saturated_fraction > 0]
    worst = sorted(saturated, key=lambda use: use.saturated_fraction, reverse=True)[:_WORST_LAYERS]
    return [(f"    in {use.layer or '(model)'}", f"{100 * use.saturated_fraction:.4f} %") for use in worst]


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Prints two columns; nothing is cut or wrapped, so that paths and commands can be copied."""
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        click.echo(f"{label:<{width}}   {value}".rstrip())


def print_table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> None:
    """Prints columns, right-aligned but for those that are named; nothing is cut or wrapped."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        text = "  ".join(cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in cells)
        click.echo(text.rstrip())
