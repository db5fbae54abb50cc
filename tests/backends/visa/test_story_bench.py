"""The story of README, each command in a process of its own: bench, doctor, calibrate, verify, train; and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import photonic
from photonic.errors import OutputsOnWarning
from photonic.testing.bench.client import BenchControl

pytestmark = pytest.mark.slow
# the chip of README: a virtual bench is made so that its record passes
CHIP = "sim:typical?n_inputs=16&n_outputs=16"
PATIENCE_S = 200.0


def photonic_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "photonic.cli", *words]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        photonic_command(*words), cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@contextmanager
def bench(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], BenchControl]]:
    """A bench in its own process, and its control port."""
    command = photonic_command("bench", "--dir", "lab", "--seed", "3", "--chip", CHIP, "--json", *words)
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            with BenchControl(ready["control"]) as control:
                yield process, control
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
        assert process.returncode in (0, -signal.SIGKILL)


def test_bench_calibrate_train(tmp_path: Path) -> None:
    """As README has it, on the physics of a laboratory."""
    with bench(tmp_path):
        doctor = run(tmp_path, "doctor", "lab/bench.toml")
        assert doctor.returncode == 0, doctor.stderr
        made = run(tmp_path, "calibrate", "lab/bench.toml", "-o", "chip.json", "--json")
        assert made.returncode == 0, made.stderr + made.stdout
        assert json.loads(made.stdout)["verdict"] == "pass"
        record = photonic.Calibration.load(tmp_path / "chip.json")
        assert record.provenance is not None
        assert record.provenance.instruments["laser"].startswith("PHOTONIC, VLASER")
        verified = run(tmp_path, "verify", "lab/bench.toml", "chip.json")
        assert verified.returncode == 0, verified.stderr + verified.stdout
        words = ("--backend", "lab/bench.toml", "--calibration", "chip.json", "--epochs", "1", "--json")
        trained = run(tmp_path, "train", *words)
        assert trained.returncode == 0, trained.stderr
        assert json.loads(trained.stdout)["backend"] == "lab/bench.toml"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_the_chip(tmp_path: Path, number: signal.Signals) -> None:
    """Weights parked, exit code of an interruption; the bench can be used at once."""
    with bench(tmp_path, "--physics", "ideal") as (_, control):
        process = started(tmp_path, control)
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert not weights(control)
        photonic.open_chip(str(tmp_path / "lab" / "bench.toml")).close()


def test_a_killed_trainer_is_told_and_a_killed_bench_is_an_error(tmp_path: Path) -> None:
    with bench(tmp_path, "--physics", "ideal") as (served, control):
        process = started(tmp_path, control)
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        assert weights(control)
        with pytest.warns(OutputsOnWarning, match="perhaps killed"):
            photonic.open_chip(str(tmp_path / "lab" / "bench.toml")).close()
        process = started(tmp_path, control)
        served.kill()
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 2
        assert "photonic: error:" in errors
        assert "Traceback" not in errors


def started(folder: Path, control: BenchControl) -> subprocess.Popen[str]:
    """A training on the bench that has begun to measure."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = photonic_command("train", "--backend", "lab/bench.toml", "--epochs", "200", "--limit", "200")
    before = plays(control)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # tests that run in the background ignore Ctrl-C, and their children would as well
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + PATIENCE_S
    while plays(control) < before + 60 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    return process


def plays(control: BenchControl) -> int:
    """Plays so far: opening takes some, measuring more."""
    return int(control.state()["chip"]["plays"])


def weights(control: BenchControl) -> bool:
    """Whether some weight is away from its safe level."""
    state: dict[str, Any] = control.state()["instruments"]
    return any(found["high_v"] > 0 for name, found in state.items() if name.startswith("dac"))
