"""``photonic bench``: one line when ready, a bench file, and an end on a signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from photonic.backends.visa.benchfile import load_bench
from photonic.cli import main
from photonic.testing import BenchControl, VirtualBench

from .rawdriver import Link

SPEC = "sim:typical?n_inputs=3&n_outputs=2"


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "photonic.cli", "bench", "--dir", str(folder), "--chip", SPEC, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_says_when_it_is_ready_and_ends_on_a_signal(tmp_path: Path) -> None:
    with start(tmp_path / "lab", "--seed", "3", "--weight-boxes", "2", "--fault", "laser:identity@2") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"virtual bench ready: {tmp_path}/lab/bench.toml (7 instruments")
        file = load_bench(tmp_path / "lab" / "bench.toml")
        assert [box.channels for box in file.weights.instruments] == [((0, 2),), ((3, 5),)]
        link = Link(int(file.laser.instruments[0].resource.split("::")[2]))
        assert link.ask(b"*IDN?") == "PHOTONIC,VLASER,V1001,1.0"
        assert link.ask(b"*IDN?") == "PHOTONIC,STRANGER,X9999,9.9"
        link.close()
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, out, errors) == (0, "", "")


def test_the_control_port_ends_it_too(tmp_path: Path) -> None:
    with start(tmp_path, "--json", "--physics", "ideal") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["bench"] == str(tmp_path / "bench.toml")
        with BenchControl(ready["control"]) as control:
            assert set(control.state()["instruments"]) == set(ready["ports"])
            control.stop()
        assert process.wait(60) == 0


def test_a_bench_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text("name = 'mine'\n")
    found = CliRunner().invoke(main, ["bench", "--dir", str(tmp_path), "--chip", SPEC])
    assert found.exit_code == 2
    assert "was not written by photonic bench" in found.stderr
    assert (tmp_path / "bench.toml").read_text() == "name = 'mine'\n"


@pytest.mark.parametrize("more", [["--fault", "laser:nonsense"], ["--weight-boxes", "7"], ["--chip", "digital"]])
def test_mistakes_are_told_in_a_line(tmp_path: Path, more: list[str]) -> None:
    found = CliRunner().invoke(main, ["bench", "--dir", str(tmp_path), "--chip", SPEC, *more])
    assert found.exit_code == 2
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "bench.toml").exists()


def test_the_file_is_the_same_for_a_seed_and_tells_no_secret(tmp_path: Path) -> None:
    """Chips of other seeds have other names; neither the seed nor the chip's own id is in the chip's table."""
    texts, names = [], []
    for seed in (41, 41, 42):
        with VirtualBench(SPEC, seed=seed, physics="ideal") as bench:
            path = bench.write(tmp_path / "bench.toml")
            names.append(load_bench(path).chip.chip_id)
            texts.append(load_bench(path).chip.model_dump_json())
            assert load_bench(path) == bench.file
    assert names[0] == names[1] != names[2]
    assert texts[0] == texts[1]
    assert not any("device" in text or "41" in name for text, name in zip(texts, names, strict=True))
