"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

import click

from photonic.train import Result


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


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Prints two columns; nothing is cut or wrapped, so that paths and commands can be copied."""
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        click.echo(f"{label:<{width}}   {value}".rstrip())
