"""``photonic bench``: a virtual laboratory to try everything on, without a laboratory."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

import click

from photonic.testing.bench.virtual import DEFAULT_CHIP, VirtualBench

FILE = "bench.toml"


@click.command("bench")
@click.option("--dir", "folder", type=click.Path(path_type=Path), required=True, help="Where bench.toml is written.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The device behind the bench.")
@click.option("--chip", default=DEFAULT_CHIP, show_default=True, help="Spec string of the chip behind the instruments.")
@click.option("--physics", type=click.Choice(["ideal", "lab"]), default="lab", show_default=True)
@click.option("--weight-boxes", type=click.IntRange(min=1), default=1, show_default=True, help="Boxes of weight DACs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when ready instead of the line.")
def bench_command(folder: Path, seed: int, chip: str, physics: str, weight_boxes: int, as_json: bool) -> int:
    """Serve a virtual laboratory until SIGTERM or Ctrl-C: SCPI instruments on TCP ports, with a chip behind them.

    Prints one line when it is ready. Use it as any chip: photonic calibrate DIR/bench.toml -o chip.json
    """
    laws: Literal["ideal", "lab"] = "ideal" if physics == "ideal" else "lab"
    # SIGTERM ends it in the same way as Ctrl-C: that is how it is meant to end
    with suppress(KeyboardInterrupt), VirtualBench(chip, seed=seed, physics=laws, weight_boxes=weight_boxes) as bench:
        path = bench.write(folder / FILE)
        if as_json:
            click.echo(json.dumps({"bench": str(path), "ports": bench.ports}))
        else:
            click.echo(f"virtual bench ready: {path} ({len(bench.ports)} instruments)")
        threading.Event().wait()
    return 0
