"""What the study's noise costs a training step, and what workers gain by keeping the memory that torch frees.

    python benchmarks/study_cell.py

A step of the small grid's network (ConvNet 4+1, batches of 64 images of 3 x 32 x 32, one thread) without noise and with
that of the study at p = 64 and EP 0.5, medians of interleaved rounds; in a process as it is, and in one with the
environment that ``photonic.study.local`` gives to its workers (of use with glibc alone).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import torch
import torch.nn.functional as F
from speed import medians, table
from works import Run

from photonic.study.built import Built
from photonic.study.cell import Cell
from photonic.study.local import KEPT_MEMORY

_NETWORK = {"data": "cifar10", "network": "convnet", "n_conv": 4, "n_linear": 1, "activation": "gelu"}
_KINDS = {"no noise": {"backend": "digital"}, "study noise": {"backend": "study", "precision": 64, "ep": 0.5}}


def step(setting: dict[str, object]) -> Run:
    """A training step of a cell's network on random images."""
    built = Built(Cell(**_NETWORK, **setting), (3, 32, 32), 10, None)
    optimizer = torch.optim.Adam(built.network.parameters())
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(64, 3, 32, 32, generator=generator), torch.randint(10, (64,), generator=generator)

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(built.network(x), y).backward()
        optimizer.step()

    return run


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        torch.set_num_threads(1)
        print(json.dumps(medians({name: step(setting) for name, setting in _KINDS.items()}, asked.rounds)))
        return
    command = [sys.executable, __file__, "--one", "--rounds", str(asked.rounds)]
    bare = {name: value for name, value in os.environ.items() if name not in KEPT_MEMORY}
    found = {
        name: json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
        for name, env in (("as it is", bare), ("keeping memory", {**bare, **KEPT_MEMORY}))
    }
    rows, before = [], found["as it is"]
    for process, seconds in found.items():
        for kind, value in seconds.items():
            over, kept = value / seconds["no noise"], value / before[kind]
            rows.append((process, kind, f"{1e3 * value:.1f}", f"{over:.2f}", f"{kept:.2f}"))
    table(("process", "step", "ms", "over no noise", "over the process as it is"), rows)


if __name__ == "__main__":
    main()
