"""``photonic bench``: a virtual laboratory to try everything on, without a laboratory."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

import click

from photonic.testing.bench.faults import Kind
from photonic.testing.bench.virtual import DEFAULT_CHIP, VirtualBench

FILE = "bench.toml"
FAULT_HELP = (
    "INSTRUMENT:KIND[@N][,key=value...]: what goes wrong at the N-th message of an instrument (laser, awg, dac-1 ..., "
    "digitizer, tec, power_meter), e.g. digitizer:drop@12,bytes=100. Kinds: " + ", ".join(get_args(Kind)) + ". Keys: "
    "times (none: from then on), match, seconds, bytes, channel, amount. May be given several times."
)


@click.command("bench")
@click.option("--dir", "folder", type=click.Path(path_type=Path), required=True, help="Where bench.toml is written.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The device behind the bench.")
@click.option("--chip", default=DEFAULT_CHIP, show_default=True, help="Spec string of the chip behind the instruments.")
@click.option("--physics", type=click.Choice(["ideal", "lab"]), default="lab", show_default=True)
@click.option("--weight-boxes", type=click.IntRange(min=1), default=1, show_default=True, help="Boxes of weight DACs.")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help=FAULT_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when ready instead of the line.")
def bench_command(
    folder: Path, seed: int, chip: str, physics: str, weight_boxes: int, faults: tuple[str, ...], as_json: bool
) -> int:
    """Serve a virtual laboratory until SIGTERM or Ctrl-C: SCPI instruments on TCP ports, with a chip behind them.

    Prints one line when it is ready. Use it as any chip: photonic calibrate DIR/bench.toml -o chip.json
    """
    laws: Literal["ideal", "lab"] = "ideal" if physics == "ideal" else "lab"
    # SIGTERM ends it in the same way as Ctrl-C: that is how it is meant to end
    with (
        suppress(KeyboardInterrupt),
        VirtualBench(chip, seed=seed, physics=laws, weight_boxes=weight_boxes, faults=faults) as bench,
    ):
        path = bench.write(folder / FILE)
        if as_json:
            click.echo(json.dumps({"bench": str(path), "control": bench.control_address, "ports": bench.ports}))
        else:
            click.echo(f"virtual bench ready: {path} ({len(bench.ports)} instruments; control {bench.control_address})")
        bench.wait()
    return 0
