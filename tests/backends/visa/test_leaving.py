"""A program that ends without closing its bench: parked all the same, SIGTERM included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import photonic
from photonic.backends.visa.leaving import EXIT_TERMINATED, Leaving
from photonic.testing.bench import VirtualBench

CHIP = "sim:typical?n_inputs=4&n_outputs=4"
PROGRAM = """
import os, signal, sys, time
import photonic
from photonic.testing.chip_case import random_codes
chip = photonic.open_chip(sys.argv[1])
chip.measure(*random_codes(chip, 1, 1, 3, 4, 4))
"""
TERMINATED = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"


def test_sigterm_raises_while_a_bench_is_open_and_its_handler_goes_with_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert before == signal.SIG_DFL
    first, second = Leaving(lambda: None), Leaving(lambda: None)
    with pytest.raises(SystemExit) as found:
        os.kill(os.getpid(), signal.SIGTERM)
    assert found.value.code == EXIT_TERMINATED
    second.done()
    first.done()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    def own(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        leaving = Leaving(lambda: None)
        assert signal.getsignal(signal.SIGTERM) is own
        leaving.done()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_closing_a_chip_gives_the_handler_back(tmp_path: Path) -> None:
    with VirtualBench(CHIP, physics="ideal") as served:
        chip = photonic.open_chip(str(served.write(tmp_path / "bench.toml")))
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        chip.close()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "code"), [("", 0), ("raise ValueError", 1), ("sys.exit(3)", 3), (TERMINATED, EXIT_TERMINATED)]
)
def test_a_program_that_ends_parks_its_bench(tmp_path: Path, last: str, code: int) -> None:
    """Two weight boxes, which are parked when the interpreter takes no more threads."""
    with VirtualBench(CHIP, physics="ideal", weight_boxes=2) as served:
        path = str(served.write(tmp_path / "bench.toml"))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM + last, path], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stderr
        assert all(box.writes and not box.levels_v.any() for box in served.model.boxes)
