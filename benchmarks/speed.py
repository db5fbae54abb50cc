"""The speed table: time of a layer on a backend over the same layer in plain PyTorch, in one run.

    python benchmarks/speed.py              # the tables of the README
    python benchmarks/speed.py --quick      # fewer rounds
    python benchmarks/peers.py              # other simulators, where installed, each in a process of its own

Peers: ``pip install 'torch==2.13.0' aihwkit-lightning analogvnn dataclasses``, in an environment of their own (see
benchmarks/peers.py). Medians over interleaved rounds, on 2 threads. Two chips: the ring bank of the preset
``typical``, where S does not depend on the weights, and ``crossbar-typical``, where S costs a second product.
Non-negative inputs take one shot, signed ones two. A floor is made of bare operations on buffers that stay in cache:
the products, one normal draw for every tile output (exact chip) or every output (twin), and nothing else.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

import torch
from peak import peak_bytes
from works import Run, Work, convolution, linear, network, small_linear

# every one with 8-bit inputs, 8-bit weights, an 8-bit ADC, shot, thermal and intensity noise, 64 x 64 tiles
CHIPS = {
    "ring bank": ("typical", False),
    "ring bank without leakage": ("typical?channel_leakage=false", False),
    "ring bank, one modulator curve": ("typical?channel_leakage=false&v_pi_spread=0&bias_spread_rad=0", False),
    "crossbar": ("crossbar-typical", True),
}
# ratios to plain PyTorch: of the exact chip, of the twin
BARS = {
    "Linear 1024 -> 1024, batch 256, training step": (5.0, 1.9),
    "Linear 1024 -> 1024, batch 256, forward": (None, 2.4),
    "Conv2d 64 -> 64, 3 x 3, 32 x 32, batch 32, forward and backward": (5.0, 1.8),
    "small CNN, batch 128, training step": (5.0, 1.7),
    "Linear 64 -> 64, batch 1, forward": (9.0, 6.0),
}


def medians(runs: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds of each run, one after the other in every round."""
    for run in runs.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in runs.items():
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in times.items()}


def compare(work: Work, chip: str, shots: int, rounds: int) -> tuple[str, ...]:
    """One row of a table."""
    spec, second = CHIPS[chip]
    found = medians(
        {
            "plain": work.plain(),
            "exact": work.on(f"sim:{spec}"),
            "twin": work.on(f"twin:{spec}"),
            "exact floor": work.floors("exact", second, shots),
            "twin floor": work.floors("twin", second, shots),
        },
        rounds,
    )
    ratio = {name: seconds / found["plain"] for name, seconds in found.items()}
    bars = [f"{bar:g}" if bar is not None and shots == 1 else "" for bar in BARS[work.name]]
    return (
        work.name,
        f"{1e3 * found['plain'] / work.repeats:.3g}",
        f"{ratio['exact']:.2f}",
        bars[0],
        f"{ratio['exact floor']:.2f}",
        f"{ratio['exact'] / ratio['exact floor']:.2f}",
        f"{ratio['twin']:.2f}",
        bars[1],
        f"{ratio['twin floor']:.2f}",
        f"{ratio['twin'] / ratio['twin floor']:.2f}",
    )


HEAD = ("work", "plain, ms", "exact", "bar", "floor", "/ floor", "twin", "bar", "floor", "/ floor")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints a table in Markdown."""
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def tile_counts(rounds: int) -> None:
    """The same layer on tiles of other sizes."""
    work = linear(signed=False)[1]
    rows, first = [], {}
    for size in (1024, 512, 256, 128, 64, 32):
        fields = f"n_inputs={size}&n_outputs={size}&channel_leakage=false"
        found = medians({kind: work.on(f"{kind}:typical?{fields}") for kind in ("sim", "twin")}, rounds)
        floor = medians({"floor": tile_floor(size)}, rounds)["floor"]
        first = first or {**found, "floor": floor}
        tiles = (1024 // size) ** 2
        growth = [f"{found[kind] / first[kind]:.2f}" for kind in ("sim", "twin")]
        rows.append((str(tiles), growth[0], f"{floor / first['floor']:.2f}", growth[1]))
    print("Linear 1024 -> 1024, batch 256, forward: time over that with 1 tile (ring bank without leakage)\n")
    table(("tiles", "exact", "its floor", "twin"), rows)


def tile_floor(size: int) -> Run:
    """Products and draws of the exact chip on tiles of one size."""
    columns = 1024 // size
    x, weight = torch.rand(columns, 256, size), torch.rand(columns, 1024, size)
    out, noise = torch.empty(256, 1024), torch.empty(256, 1024)

    def run() -> None:
        for column in range(columns):
            torch.mm(x[column], weight[column].T, out=out)
            noise.normal_()

    return run


def memory() -> None:
    """Peak memory of the 1024 layer's training step, each in a process of its own."""
    rows: list[tuple[str, ...]] = []
    plain = 0.0
    for spec in ("plain", *(f"{kind}:{CHIPS[chip][0]}" for chip in CHIPS for kind in ("sim", "twin"))):
        command = [sys.executable, __file__, "--peak-of", spec]
        found = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        plain = plain or found
        bar = "" if spec == "plain" else "3" if spec.startswith("sim") else "1.5"
        rows.append((spec, f"{found / 2**20:.1f}", f"{found / plain:.2f}", bar))
    print("Linear 1024 -> 1024, batch 256, training step: peak of the tensors alive, weights included\n")
    table(("backend", "MiB", "over plain", "bar"), rows)


def print_peak(spec: str) -> None:
    """Prints the most bytes of tensors that were alive."""
    work = linear(signed=False)[0]
    print(peak_bytes(work.plain if spec == "plain" else lambda: work.on(spec)))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--chip", action="append", choices=sorted(CHIPS), help="default: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-of", metavar="SPEC", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.peak_of:
        print_peak(asked.peak_of)
        return
    rounds = 7 if asked.quick else 21
    print(f"torch {torch.__version__}, {asked.threads} threads; ratios to plain PyTorch, medians of {rounds} rounds\n")
    for chip in asked.chip or CHIPS:
        for shots, kind in ((1, "non-negative inputs, one shot"), (2, "signed inputs, two shots; bar: 1.25 x floor")):
            signed = shots == 2
            works = [*linear(signed), convolution(signed), network(signed), small_linear(signed)]
            print(f"{chip}: {kind}\n")
            table(HEAD, [compare(work, chip, shots, rounds) for work in works])
    tile_counts(rounds)
    memory()


if __name__ == "__main__":
    main()
