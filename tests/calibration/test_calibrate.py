"""From a chip to its record and back: sweep, fit, verdict, and what must fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import photonic
from photonic.backends.chip import Conditions, Measurement
from photonic.calibration.checks import verify_counts
from photonic.calibration.fit import ChipFit, by_purpose, fit_readings
from photonic.calibration.plan import least_budget, make_plan
from photonic.calibration.points import Points
from photonic.calibration.reading import Taken
from photonic.calibration.record import goodness_of
from photonic.calibration.timing import allan_check
from photonic.cli import main
from photonic.errors import CalibrationError, FailedCalibrationError, WrongChipError
from photonic.physics import seeds
from photonic.records import Calibration, ChipSpec, InputTransfer, Response
from photonic.testing import OnlyMeasured

CHIP = "sim:typical?n_inputs=16&n_outputs=16&channel_leakage=false"


@pytest.fixture(scope="module")
def record() -> Calibration:
    with photonic.open_chip(CHIP, seed=7) as chip:
        return photonic.calibrate(OnlyMeasured(chip), seed=1)


def test_a_calibrated_chip_passes(record: Calibration) -> None:
    """Every check inside its margin, and every parameter with an interval or a reason."""
    assert record.verification is not None
    assert record.verification.verdict == "pass", record.verification
    assert not record.nominal
    names = {parameter.name for parameter in record.parameters}
    assert {"gain", "zero", "channel power", "inverse V_pi", "noise, thermal", "noise, shot", "noise, rin"} <= names
    for parameter in record.parameters:
        assert (parameter.value is None) == (parameter.status != "fitted")
        assert parameter.value is None or parameter.standard_error is not None


def test_noise_is_the_chip_s(record: Calibration) -> None:
    """Thermal, shot and intensity noise within 5 %, of a chip that the fit knows only by its counts."""
    true = photonic.open_chip(CHIP, seed=7).parameters.noise  # type: ignore[attr-defined]
    found = record.response.noise
    for name in ("thermal", "shot", "rin"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=0.05), name


def test_what_elements_differ_by_is_nothing_on_average(record: Calibration) -> None:
    """The gauge: the curve of all elements in the middle, and mean slopes and powers of 1."""
    further = record.arrays["element"][..., 2:]
    assert further.shape[-1] > 0
    assert np.abs(further.mean((0, 1))).max() < 0.05 * further.std((0, 1)).max()
    assert record.arrays["element"][..., 1].mean(1) == pytest.approx(1.0, abs=1e-9)
    assert record.arrays["power"].mean() == pytest.approx(1.0)


@pytest.mark.slow
def test_noise_that_balancing_lets_through_passes() -> None:
    """It is a second factor that all outputs share, beside the laser's intensity noise."""
    with photonic.open_chip(f"{CHIP}&cmrr_db=10", seed=7) as chip:
        found = photonic.calibrate(OnlyMeasured(chip), seed=1)
        assert found.verification is not None
        assert found.verification.verdict == "pass", found.verification
        assert photonic.verify(OnlyMeasured(chip), found, seed=2).verdict == "pass"
        rows = {row.name: row for row in found.parameters}
        assert rows["noise, common_mode"].value == pytest.approx(chip.parameters.noise.common_mode, rel=0.1)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_products_are_ten_times_nearer(record: Calibration) -> None:
    """Random matrices and inputs on the same chip, with this calibration and with the nominal one."""
    spread = f"{CHIP}&gain_spread=0.1&channel_spread=0.1&resonance_spread_nm=0.002"
    with photonic.open_chip(spread, seed=3) as chip:
        calibration = photonic.calibrate(chip, seed=2)
        generator = torch.Generator().manual_seed(0)
        weight, x = torch.randn(1, 40, 50, generator=generator), torch.rand(1, 30, 50, generator=generator)
        exact = x @ weight.mT
        errors = {}
        for name, given in (("measured", calibration), ("nominal", Calibration.from_spec(chip.spec))):
            backend = photonic.CalibratedBackend(chip, given)
            mean = sum(backend.matmul(x, weight) for _ in range(60)) / 60
            errors[name] = float((mean - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    assert errors["measured"] < errors["nominal"] / 10, errors


@pytest.mark.slow
def test_linear_inputs_are_calibrated() -> None:
    """They have no transfer to fit: whatever takes its columns gets none."""

    class Linear(photonic.Chip):
        def __init__(self) -> None:
            response = Response(counts_per_d=(512.0,))
            super().__init__(ChipSpec(chip_id="linear", n_outputs=8, n_inputs=8, response=response))
            self._rng = np.random.default_rng(0)

        def _measure(self, weights: torch.Tensor, inputs: torch.Tensor, conditions: Conditions) -> Measurement:
            tiles, light = weights.double().unflatten(-1, (8, 8)) / 127, inputs.double() / 255
            counts = 512 * torch.einsum("rcmn,cbn->rcbm", tiles, light) / 8
            counts += torch.from_numpy(self._rng.standard_normal(tuple(counts.shape)))
            return Measurement(counts.round().clamp(-128, 127).short())

    found = photonic.calibrate(Linear(), budget=140_000).verification
    assert found is not None
    assert found.verdict != "fail", found


def test_its_twin_matches_the_chip(record: Calibration, tmp_path: Path) -> None:
    """The exact twin is verified against the record of the chip that it stands for; another device fails."""
    record.save(tmp_path / "chip.json")
    with photonic.twin(record, seed=5) as twin:
        own = record.replaced(chip_id=twin.spec.chip_id)
        assert photonic.verify(twin, own, seed=9).verdict == "pass"
    with photonic.open_chip(CHIP, seed=8) as other:
        with pytest.raises(WrongChipError):
            photonic.verify(other, record)
        found = photonic.verify(other, record.replaced(chip_id=other.spec.chip_id), seed=9)
    assert found.verdict == "fail"
    assert "response" in found.causes


@pytest.fixture(scope="module")
def fitted() -> tuple[ChipSpec, list[Taken], ChipFit]:
    chip = photonic.open_chip(CHIP, seed=11)
    plan = make_plan(chip.spec, 200_000, seeds.generator("test", 1))
    taken = []
    for reading in plan:
        measured = chip.measure(reading.weights[None, None], reading.inputs[None], dict(reading.conditions))
        clock = float(measured.telemetry["clock_s"])
        taken.append(Taken(reading, measured.counts[0, 0], clock, {}, 0.0, 0.0))
    return chip.spec, taken, fit_readings(chip.spec, taken)


def _verdict(spec: ChipSpec, taken: list[Taken], fit: ChipFit, **noise: float) -> tuple[str, tuple[str, ...]]:
    points = Points.of(spec, by_purpose(taken, 1)["verify"])
    model = fit.noise.model.model_copy(update=noise)
    found = verify_counts(points.prediction(fit.model, model))
    return found.verdict, found.causes


@pytest.mark.slow
def test_a_record_says_whether_its_intervals_count_what_rows_share(
    fitted: tuple[ChipSpec, list[Taken], ChipFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chip that is too large for joint steps has narrower intervals, and a record that says so."""
    spec, taken, fit = fitted
    monkeypatch.setattr("photonic.calibration.fit._JOINT", 0)
    alone = fit_readings(spec, taken)
    assert (fit.joint, alone.joint) == (True, False)
    said = [goodness_of(each)["intervals of the response"] for each in (fit, alone)]
    assert "too narrow" not in said[0]
    assert "too narrow" in said[1]


def test_wrong_twins_fail(fitted: tuple[ChipSpec, list[Taken], ChipFit]) -> None:
    """Variance a quarter up, a fixed pattern in the gains, intensity noise as if it were each output's own."""
    spec, taken, fit = fitted
    true = fit.noise.model
    assert _verdict(spec, taken, fit)[0] == "pass"
    louder = {name: 1.25 * getattr(true, name) for name in ("thermal", "shot", "rin")}
    assert _verdict(spec, taken, fit, **louder) == ("fail", ("noise",))
    pattern = 1.0 + 0.05 * np.where(np.arange(16) % 2, 1.0, -1.0)
    skewed = replace(fit, model=replace(fit.model, gain=fit.model.gain * pattern))
    verdict, causes = _verdict(spec, taken, skewed)
    assert verdict == "fail"
    assert "response" in causes
    # the same spread on average, without what outputs share
    points = Points.of(spec, by_purpose(taken, 1)["verify"])
    prediction = points.prediction(fit.model, true)
    alone = verify_counts(replace(prediction, common=np.zeros_like(prediction.common)))
    assert (alone.verdict, alone.causes) == ("fail", ("common mode",))


def test_the_plan_keeps_its_budget() -> None:
    """Shots, blocks, and the held-out part in a later block."""
    spec = photonic.open_chip(CHIP).spec
    plan = make_plan(spec, 200_000, seeds.generator("test", 2))
    shots = sum(len(reading.inputs) for reading in plan)
    assert 0.9 * 200_000 < shots <= 200_000
    blocks = [reading.block for reading in plan]
    assert blocks == sorted(blocks)
    assert {reading.purpose for reading in plan if reading.block == 1} == {"verify", "allan", "reference"}
    with pytest.raises(CalibrationError, match="at least"):
        make_plan(spec, least_budget(spec) - 1, seeds.generator("test", 2))


def test_outputs_in_another_order_are_named() -> None:
    """A driver that mixes up its outputs is no chip with odd weights."""

    class Swapped(OnlyMeasured):
        def _measure(self, weights: torch.Tensor, inputs: torch.Tensor, conditions: Conditions) -> Measurement:
            measured = super()._measure(weights, inputs, conditions)
            return replace(measured, counts=measured.counts.roll(1, dims=-1))

    with photonic.open_chip(CHIP, seed=7) as chip, pytest.raises(CalibrationError, match="not in the order"):
        photonic.calibrate(Swapped(chip), seed=1)


@pytest.mark.slow
def test_the_commands(tmp_path: Path) -> None:
    """calibrate, refit, verify and what they refuse: exit codes and JSON."""
    run, record, page = CliRunner(), tmp_path / "chip.json", tmp_path / "chip.html"
    first = run.invoke(main, ["calibrate", CHIP, "-o", str(record), "--seed", "7", "--report", str(page), "--json"])
    assert first.exit_code == 0, first.output
    content = json.loads(first.stdout)
    assert content["verdict"] == "pass"
    assert {"parameters", "causes", "shots", "seconds", "checks"} <= set(content)
    assert page.stat().st_size > 10_000
    again = run.invoke(
        main, ["calibrate", "--raw", str(tmp_path / "chip.raw"), "-o", str(tmp_path / "b.json"), "--json"]
    )
    assert again.exit_code == 0, again.output
    one, two = Calibration.load(record), Calibration.load(tmp_path / "b.json")
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)
    assert run.invoke(main, ["verify", CHIP, str(record), "--seed", "7"]).exit_code == 0
    other = run.invoke(main, ["verify", CHIP, str(record), "--seed", "8"])
    assert other.exit_code == 2
    assert "belongs to" in other.stderr
    assert run.invoke(main, ["calibrate", "-o", str(record)]).exit_code == 2
    assert run.invoke(main, ["calibrate", CHIP, "-o", str(tmp_path / "no" / "x.json")]).exit_code == 2


def test_a_chip_that_states_other_codes_is_refused(record: Calibration) -> None:
    """Arrays of a record are for one size of tile and one set of codes."""
    with photonic.open_chip(f"{CHIP}&adc_bits=10", seed=7) as other:
        renamed = record.replaced(chip_id=other.spec.chip_id)
        with pytest.raises(WrongChipError, match="count_range"):
            photonic.verify(other, renamed)


@pytest.mark.slow
def test_drift_is_fitted_without_the_held_out_references(fitted: tuple[ChipSpec, list[Taken], ChipFit]) -> None:
    """Whatever the later references say, the fit is the same."""
    spec, taken, fit = fitted
    spoilt = [
        replace(item, counts=item.counts // 2) if item.reading.purpose == "reference" and item.reading.block else item
        for item in taken
    ]
    assert fit_readings(spec, spoilt).drift == fit.drift


def test_outputs_at_a_rail_say_nothing_of_time(fitted: tuple[ChipSpec, list[Taken], ChipFit]) -> None:
    """They are left out of the Allan deviation; without any other there is no such check."""
    spec, taken, fit = fitted
    series = by_purpose(taken, 1)["allan"][0]
    offset = np.where(np.arange(spec.n_outputs) < 3, 1000.0, 0.0)
    some = replace(fit.model, zero=fit.model.zero + offset)
    check = allan_check(spec, series, some, fit.noise.model, fit.drift)
    assert check is not None
    assert check.readings.shape[1] == spec.n_outputs - 3
    none = replace(fit.model, zero=fit.model.zero + 1000.0)
    assert allan_check(spec, series, none, fit.noise.model, fit.drift) is None


@pytest.mark.slow
def test_a_laser_for_each_input_is_named_and_fails() -> None:
    """Noise that inputs do not share: the record's model has no such term, and says so."""
    alone = f"{CHIP}&rin_per_line=true&rin_db_per_hz=-140"
    with photonic.open_chip(alone, seed=3) as chip:
        found = photonic.calibrate(chip, seed=1)
    assert found.verification is not None
    assert found.verification.verdict == "fail"
    assert "common mode" in found.verification.causes
    assert found.model["rin"] == "per line"
    assert "each input's own" in next(row.note for row in found.parameters if row.name == "noise, rin")


def test_a_failed_record_is_refused_unless_it_is_allowed(record: Calibration) -> None:
    """By name, and then the record says so."""
    assert record.verification is not None
    failed = record.replaced(verification=record.verification.model_copy(update={"verdict": "fail"}))
    with photonic.open_chip(CHIP, seed=7) as chip:
        with pytest.raises(FailedCalibrationError):
            photonic.open_backend(chip, calibration=failed)
        backend = photonic.open_backend(chip, calibration=failed, allow_failed=True)
        assert "failed" in backend.calibration.overrides  # type: ignore[attr-defined]


@pytest.mark.slow
def test_signed_inputs_have_power_too() -> None:
    """A source of both signs, as an electrical one: shot noise follows the size of its inputs."""

    class Signed(photonic.Chip):
        def __init__(self) -> None:
            response = Response(inputs=InputTransfer(code_one=127.0), counts_per_d=(512.0,))
            super().__init__(
                ChipSpec(
                    chip_id="lab:signed", n_outputs=8, n_inputs=8, input_code_range=(-127.0, 127.0), shot_time_s=1e-6,
                    response=response,
                )
            )  # fmt: skip
            self._rng = np.random.default_rng(3)

        def _measure(self, weights: torch.Tensor, inputs: torch.Tensor, conditions: Conditions) -> Measurement:
            (rows, columns), m, n = weights.shape[:2], self.spec.n_outputs, self.spec.n_inputs
            w, x = weights.double().numpy().reshape(rows, columns, m, n) / 127, inputs.double().numpy() / 127
            d = np.einsum("rcmn,cbn->rcbm", w, x) / n
            s = np.broadcast_to(np.abs(x).mean(-1)[None, :, :, None], d.shape)
            noisy = d + np.sqrt(1e-6 + 2e-6 * s) * self._rng.standard_normal(d.shape)
            low, high = self.spec.count_range
            counts = torch.from_numpy(np.clip(np.rint(512 * noisy), low, high)).to(self.spec.count_dtype)
            return Measurement(counts)

    chip = Signed()
    record = photonic.calibrate(OnlyMeasured(chip), seed=2)
    assert record.verification is not None
    assert record.verification.verdict == "pass", record.verification
    assert record.response.noise.shot == pytest.approx(2e-6, rel=0.05)
    with pytest.raises(CalibrationError, match="no twin"):
        photonic.twin(record)
