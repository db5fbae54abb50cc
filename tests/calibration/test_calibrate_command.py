"""``photonic calibrate`` and ``verify`` where something goes wrong: what is said, what is kept, which code."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from numpy.linalg import LinAlgError
from torch import Tensor

import photonic
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.calibration.model import ChipModel
from photonic.calibration.raw import RawStore
from photonic.cli import calibrate as command
from photonic.cli import main
from photonic.errors import CalibrationError
from photonic.records import Calibration, Check, Parameter, Provenance, Verification

CHIP = "sim:typical?n_inputs=8&n_outputs=8&device=3"
BUDGET = "140000"


class Bench(Chip):
    """A simulated chip behind a driver that closes badly."""

    def __init__(self, seed: int = 0) -> None:
        self._inner = photonic.open_chip(CHIP, seed=seed)
        super().__init__(self._inner.spec.model_copy(update={"chip_id": "bench"}))

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Measurement:
        found = self._inner.measure(weights, inputs, conditions)
        return Measurement(found.counts, telemetry={"temperature": torch.tensor(float("nan"))})

    def _close(self) -> None:
        raise OSError("port is gone")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> str:
    """Its spec string."""
    module = ModuleType("bench_of_a_test")
    module.Bench = Bench  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bench_of_a_test", module)
    return "bench_of_a_test:Bench"


def fitted(store: RawStore) -> Calibration:
    """A record without a fit: these tests are of the command around it."""
    provenance = Provenance(
        started=store.started,
        ended=store.started,
        code_version="x",
        raw_sha256=store.sha256,
        budget=1,
        shots=1,
        seconds=0.0,
        telemetry_start=dict(store.reading(0).telemetry),
    )
    check = Check(name="a", cause="a", verdict="pass", value=0, low=0, high=0, margin_low=0, margin_high=1)
    return Calibration.from_spec(store.spec).replaced(
        nominal=False,
        spec=store.spec,
        parameters=(Parameter(name="gain", unit="counts", value=1.0, standard_error=0.1),),
        verification=Verification(verdict="pass", checks=(check,), shots=1),
        provenance=provenance,
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fit."""
    monkeypatch.setattr("photonic.calibration.run.refit", fitted)
    monkeypatch.setattr(command, "refit", fitted)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("quick")
def test_a_chip_that_does_not_close_loses_no_record(bench: str, tmp_path: Path) -> None:
    """It is said; and a monitor that shows NaN is left out of the record, not a reason to refuse it."""
    record = tmp_path / "chip.json"
    found = run("calibrate", bench, "-o", record, "--budget", BUDGET, "--json")
    assert found.exit_code == 0, found.output
    assert "chip bench could not be closed: OSError: port is gone" in found.stderr
    assert json.loads(found.stdout)["flags"] == {}
    provenance = Calibration.load(record).provenance
    assert provenance is not None
    assert provenance.telemetry_start == {}


@pytest.mark.usefixtures("quick")
def test_a_finished_sweep_is_not_measured_again_unnoticed(bench: str, tmp_path: Path) -> None:
    """The second time the same command says that it fits old readings; the first time and after a stop it does not."""
    asked = "calibrate", bench, "-o", tmp_path / "chip.json", "--budget", BUDGET, "--json"
    assert "nothing is measured" not in run(*asked).stderr
    again = run(*asked)
    assert again.exit_code == 0
    assert "holds a finished sweep, begun 20" in again.stderr
    assert "nothing is measured" in again.stderr


@pytest.mark.usefixtures("quick")
def test_readings_that_look_wrong_are_counted(bench: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Bench._measure
    calls = iter(range(100_000))

    def still(self: Bench, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Measurement:
        found = measure(self, weights, inputs, conditions)
        return Measurement(found.counts * 0 + 3) if next(calls) in range(60, 66) else found

    monkeypatch.setattr(Bench, "_measure", still)
    found = run("calibrate", bench, "-o", tmp_path / "chip.json", "--budget", BUDGET, "--json")
    assert found.exit_code == 0, found.output
    flags = json.loads(found.stdout)["flags"]
    assert flags.keys() == {"dead"}
    assert 1 <= flags["dead"] <= 6
    assert f"{flags['dead']} of " in found.stderr
    assert "readings look wrong (dead" in found.stderr


def test_equations_without_a_solution_are_no_traceback(
    bench: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured now or read again: exit code 2, the folder's name, and the readings are there."""

    def fails(store: RawStore) -> Calibration:
        raise LinAlgError("Singular matrix")

    monkeypatch.setattr("photonic.calibration.run._refitted", fails)
    raw = tmp_path / "chip.raw"
    for asked in ((bench, "--budget", BUDGET), ("--raw", raw)):
        found = run("calibrate", *asked, "-o", tmp_path / "chip.json")
        assert found.exit_code == 2
        assert f"the readings in {raw} cannot be fitted: LinAlgError: Singular matrix" in found.stderr
        assert "Traceback" not in found.output
        store = RawStore.open(raw)
        assert store.done == store.header.readings


def test_verify_says_that_a_record_expired_or_failed(bench: str, tmp_path: Path) -> None:
    """The nominal model as a record: whatever the test finds, the record's own state is told beside it."""
    with photonic.open_chip(CHIP, seed=0) as chip:
        spec, arrays = Bench().spec, dict(ChipModel.nominal(chip.spec).arrays())
    record = Calibration.from_spec(spec).replaced(
        nominal=False, spec=spec, arrays=arrays, verification=Verification(verdict="fail", shots=1)
    )
    record.save(tmp_path / "a.json")
    record.replaced(valid_until=datetime(2020, 1, 1, tzinfo=UTC)).save(tmp_path / "b.json")
    found = [run("verify", bench, tmp_path / name, "--json") for name in ("a.json", "b.json")]
    contents = [json.loads(each.stdout) for each in found]
    assert [content["expired"] for content in contents] == [False, True]
    for content in contents:
        assert {"verdict", "parameters", "causes", "shots", "seconds"} <= set(content)
    assert "valid until" not in found[0].stderr
    assert "valid until 2020-01-01" in found[1].stderr
    assert all("its own verdict is fail" in each.stderr for each in found)


def test_a_fit_that_fails_says_where_the_readings_are(
    bench: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(store: RawStore) -> Calibration:
        raise CalibrationError("output 3 does not answer")

    monkeypatch.setattr("photonic.calibration.run.refit", fails)
    found = run("calibrate", bench, "-o", tmp_path / "chip.json", "--budget", BUDGET)
    assert found.exit_code == 2
    assert f"output 3 does not answer; the readings are kept in {tmp_path / 'chip.raw'}" in found.stderr


@pytest.mark.parametrize(
    ("out", "report"), [("x.JSON", None), ("x.txt", None), ("no/x.json", None), ("x.json", "no/x.html")]
)
def test_names_are_refused_before_the_sweep(bench: str, tmp_path: Path, out: str, report: str | None) -> None:
    more = [] if report is None else ["--report", tmp_path / report]
    found = run("calibrate", bench, "-o", tmp_path / out, *more)
    assert found.exit_code == 2
    assert ("--out" if report is None else "--report") in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_readings_get_a_folder_of_their_own(bench: str, tmp_path: Path) -> None:
    found = run("calibrate", bench, "-o", tmp_path / "x.json", "--raw", tmp_path / "x.json")
    assert found.exit_code == 2
    assert "--raw" in found.stderr
    assert list(tmp_path.iterdir()) == []
