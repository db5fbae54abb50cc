"""Fits of measured DACs, heaters and drift: against known truth on synthetic ones; real captures where present."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from examples.measured import dac, drift, heaters, modulators
from photonic.calibration import dactable, tracking
from photonic.calibration import heaters as heater
from photonic.errors import CalibrationError, RangeError, ShapeError
from tests.calibration.fringesweeps import V_PI, fringe_sweep

# ---------------------------------------------------------------- DAC


def bent_levels(rng: np.random.Generator, bend: float, noise: float = 0.02) -> np.ndarray:
    """4,096 levels of 2 mV with an INL of ``bend`` LSB."""
    x = np.linspace(-1, 1, 4096)
    return -4 + 2e-3 * (np.arange(4096) + bend * (x**3 - 0.6 * x) * 5 + noise * rng.standard_normal(4096))


def test_inl_of_known_levels() -> None:
    """Best line and end points; DNL is the INL's difference; a straight DAC has none."""
    codes = np.arange(256.0)
    best, ends = dactable.inl(0.1 * codes**2 / 255), dactable.inl(0.1 * codes**2 / 255, "ends")
    assert ends.inl[[0, -1]] == pytest.approx([0, 0], abs=1e-9)
    assert ends.inl.min() == pytest.approx(-(255 / 4), rel=1e-3)
    assert best.rms < ends.rms
    assert best.inl @ codes == pytest.approx(0, abs=1e-6)
    assert np.diff(ends.inl) == pytest.approx(ends.dnl)
    assert dactable.inl(-1 + 0.01 * codes).rms < 1e-9


def test_a_table_carries_to_what_is_alike_and_says_where_it_does_not() -> None:
    """To withheld codes in between, to a channel of the same shape with another line; not to one bent otherwise."""
    rng = np.random.default_rng(13)
    levels = bent_levels(rng, 1.0)
    spacing = dactable.choose_spacing(levels)
    every_second = dactable.carry_to_codes(levels, np.arange(4096) % 2 == 1, spacing)
    assert every_second.before > 0.3
    assert every_second.after == pytest.approx(0.02, rel=0.2)
    table = dactable.fit_table(np.arange(4096.0), levels, spacing)
    alike = dactable.carry_to_channel(table, 0.3 + 1.7 * bent_levels(rng, 1.0))
    assert alike.helps
    assert alike.after < 0.03
    opposite = dactable.carry_to_channel(table, bent_levels(rng, -1.0))
    assert not opposite.helps
    assert opposite.after == pytest.approx(2 * opposite.before, rel=0.05)


def test_codes_for_volts_undo_the_inl() -> None:
    """The error of a requested voltage is that of rounding, 0.289 LSB, where the line alone has the INL too."""
    rng = np.random.default_rng(14)
    levels = bent_levels(rng, 3.0, noise=0)
    table = dactable.fit_table(np.arange(4096.0), levels, 16.0)
    volts = rng.uniform(levels[2], levels[-3], 4000)
    error = levels[table.codes(volts, 4096)] - volts
    assert np.sqrt(np.mean(error**2)) / 2e-3 == pytest.approx(12**-0.5, rel=0.05)
    line = np.round((volts - table.offset) / table.lsb).astype(int).clip(0, 4095)
    assert np.std(levels[line] - volts) / 2e-3 > 0.8
    with pytest.raises(RangeError, match="reaches"):
        table.codes(np.array([levels[-1] + 0.1]), 4096)


def test_levels_that_are_none() -> None:
    with pytest.raises(ShapeError):
        dactable.inl(np.zeros((2, 20)))
    with pytest.raises(RangeError, match="alike"):
        dactable.inl(np.ones(64))
    with pytest.raises(RangeError, match="finite"):
        dactable.inl(np.full(64, np.nan))
    with pytest.raises(RangeError, match="rise"):
        dactable.fit_table(np.zeros(32), np.arange(32.0), 4)
    with pytest.raises(CalibrationError, match="withheld"):
        dactable.carry_to_codes(np.arange(32.0), np.ones(32, bool), 4)


# ---------------------------------------------------------------- heaters


def spectra(phases: np.ndarray, rng: np.random.Generator, sign: float = 1.0) -> tuple[np.ndarray, ...]:
    """Wavelengths, spectra and reference of an interferometer with 15 fringes in 30 nm, on a grating's slope."""
    wavelength = np.linspace(1520, 1580, 3001)
    turns = 1 / wavelength * 1550**2 / 2.0
    reference = -30 - ((wavelength - 1550) / 20) ** 2
    wave = 0.5 + 0.48 * sign * np.cos(2 * np.pi * turns + phases[:, None])
    return wavelength, reference + 10 * np.log10(wave) + 0.1 * rng.standard_normal(wave.shape), reference


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_phase_of_a_fringe_is_followed(sign: float) -> None:
    """Over more than a turn, the same at both outputs, with the sign of the model in the docstring."""
    phases = np.array([0, 1.5, 3.2, 5.5, 7.9])
    wavelength, power, reference = spectra(phases, np.random.default_rng(15), sign)
    found = heater.fringe_phase(wavelength, power, reference, (1535, 1565))
    assert found == pytest.approx(phases, abs=0.01)


def test_spectra_without_a_phase_are_refused() -> None:
    """No fringe, jumps that cannot be followed, shapes, windows."""
    rng = np.random.default_rng(16)
    wavelength, power, reference = spectra(np.array([0, 3.1]), rng)
    window = (1535.0, 1565.0)
    with pytest.raises(CalibrationError, match="more drives"):
        heater.fringe_phase(wavelength, power, reference, window)
    with pytest.raises(CalibrationError, match="no fringe"):
        heater.fringe_phase(wavelength, reference + 0.1 * rng.standard_normal((2, 3001)), reference, window)
    with pytest.raises(RangeError, match="inside the spectra"):
        heater.fringe_phase(wavelength, power, reference, (1500.0, 1565.0))
    with pytest.raises(ShapeError):
        heater.fringe_phase(wavelength, power[:, 1:], reference, window)


def test_leave_one_out_is_what_refitting_gives() -> None:
    """The short cut by leverage equals the definition; errors of the coefficients cover the truth."""
    rng = np.random.default_rng(17)
    power = np.array([0, 2, 10, 25, 50]) * 1e-3
    scores = []
    for degree in (1, 2):
        for _ in range(200):
            phase = 30 * power + (degree - 1) * 100 * power**2 + 0.02 * rng.standard_normal(5)
            fit = heater.fit_heater(power, phase, degree)
            scores.append((fit.coefficients[1] - 30) / 0.02)
        left = [
            phase[i] - np.polyval(np.polyfit(np.delete(power, i), np.delete(phase, i), degree), power[i])
            for i in range(5)
        ]
        assert fit.left_out_rms == pytest.approx(np.sqrt(np.mean(np.square(left))), rel=1e-6)
    exact = heater.fit_heater(power, 0.1 + 30 * power + 100 * power**2, 2)
    assert exact.coefficients == pytest.approx([0.1, 30, 100])
    assert np.mean(scores) == pytest.approx(0, abs=4 * np.std(scores) / 20)
    with pytest.raises(CalibrationError, match="different heater powers"):
        heater.fit_heater(power[:3], power[:3], 2)


def test_a_curvature_that_devices_share() -> None:
    """Found with an error that holds, from devices of either sign."""
    rng = np.random.default_rng(18)
    power = np.array([0, 2, 10, 25, 50]) * 1e-3
    scores = []
    for _ in range(100):
        slopes = rng.choice([-1, 1], 20) * rng.uniform(20, 40, 20)
        fits = [
            heater.fit_heater(power, slope * (power + 6 * power**2) + 0.02 * rng.standard_normal(5), 2)
            for slope in slopes
        ]
        kappa, error = heater.pooled_curvature(fits)
        scores.append((kappa - 6) / error)
    assert np.std(scores) == pytest.approx(1, abs=0.3)
    with pytest.raises(CalibrationError):
        heater.pooled_curvature(fits[:1])


def test_the_power_of_the_driven_heater() -> None:
    """Volts times amperes of the one that changes; two at once belong to no single phase."""
    volts, amperes = np.array([[0, 0], [0, -1], [0, -2]]), np.array([[0, 0], [0, -0.01], [0, -0.02]])
    power, which = heater.heater_power(volts, amperes)
    assert power == pytest.approx([0, 0.01, 0.04])
    assert which == 1
    with pytest.raises(CalibrationError, match="one heater"):
        heater.heater_power(np.arange(6.0).reshape(3, 2), np.arange(6.0).reshape(3, 2))


# ---------------------------------------------------------------- tracking


def calm_readings(rng: np.random.Generator, count: int, wander: float = 0.1) -> np.ndarray:
    """Readings of 4 vectors at 32 outputs: a common phase, and a change of its own in each reading."""
    truth = rng.standard_normal((4, 32)) + 1j * rng.standard_normal((4, 32))
    change = rng.standard_normal((2, count, 1, 1)) * rng.standard_normal((2, 1, 4, 32))
    noise = 0.02 * (rng.standard_normal((count, 4, 32)) + 1j * rng.standard_normal((count, 4, 32)))
    phase = np.exp(2j * np.pi * rng.random((count, 1, 1)))
    return (truth + wander * change.sum(0) / 2 + noise) * phase


def test_false_alarms_come_as_often_as_promised() -> None:
    """5 % within 100 readings, the error of a baseline of 12 included: the limit of a known baseline gives 23 %."""
    rng = np.random.default_rng(19)
    alarms = 0
    for _ in range(80):
        readings = 1 + 0.1 * rng.standard_normal((112, 2, 64))
        monitor = tracking.DriftMonitor.learn(readings[:12], rng)
        alarms += monitor.first_alarm(readings[12:]) is not None
    assert alarms <= 10  # 4 expected; 10 or fewer in 99.7 % of such tests


def test_a_drift_raises_the_alarm_and_a_common_phase_does_not() -> None:
    """Turning every reading by any phase changes nothing; a part of another matrix that grows is found."""
    rng = np.random.default_rng(20)
    readings = calm_readings(rng, 60)
    monitor = tracking.DriftMonitor.learn(readings[:20], rng)
    calm = monitor.sums(readings[20:])
    turned = monitor.sums(readings[20:] * 3 * np.exp(2j * np.pi * rng.random((40, 1, 1))))
    assert turned == pytest.approx(calm)
    assert monitor.first_alarm(readings[20:40]) is None
    other = rng.standard_normal((4, 32)) + 1j * rng.standard_normal((4, 32))
    growing = monitor.expected + np.linspace(0, 1, 40)[:, None, None] * other
    alarm = monitor.first_alarm(growing)
    assert alarm is not None
    assert 0 < alarm < 20


def test_updates_recover_gains_and_offsets() -> None:
    """Each output's own; chosen only where it predicts unseen vectors better than one gain."""
    rng = np.random.default_rng(21)
    expected = rng.standard_normal((8, 32)) + 1j * rng.standard_normal((8, 32))
    gain = np.exp(0.3 * (rng.standard_normal(32) + 1j * rng.standard_normal(32)))
    offset = 0.5 * rng.standard_normal(32)
    noise = 0.01 * rng.standard_normal((8, 32))
    update = tracking.fit_outputs(expected, gain * expected + offset + noise)
    assert np.abs(update.gain - gain).max() < 0.05
    assert np.abs(update.offset - offset).max() < 0.05
    chosen = {
        "outputs and offsets": gain * expected + offset + noise,
        "outputs": gain * expected + noise,
        "common": gain[0] * expected + noise * 30,
        "none": expected + noise * 30,
    }
    for name, reading in chosen.items():
        best, update = tracking.best_update(expected, reading)
        assert best == name or name == "none"
        assert np.linalg.norm(update(expected) - reading) <= np.linalg.norm(expected - reading) * 1.001


def test_input_gains_from_few_vectors() -> None:
    """Two vectors tell 24 inputs apart at 32 outputs; a vector that leaves inputs dark does not."""
    rng = np.random.default_rng(22)
    matrix, vectors = rng.standard_normal((32, 24)), rng.standard_normal((2, 24))
    gains = 1 + 0.2 * rng.standard_normal(24)
    assert tracking.fit_inputs(matrix, vectors, (vectors * gains) @ matrix.T) == pytest.approx(gains)
    vectors[:, 3] = 0
    with pytest.raises(CalibrationError, match="23 of 24"):
        tracking.fit_inputs(matrix, vectors, vectors @ matrix.T)


def test_readings_that_cannot_be_tracked() -> None:
    """Few, dark, alike, of other shapes."""
    rng = np.random.default_rng(23)
    readings = calm_readings(rng, 12)
    with pytest.raises(CalibrationError, match="at least 8"):
        tracking.DriftMonitor.learn(readings[:4], rng)
    with pytest.raises(RangeError):
        tracking.DriftMonitor.learn(readings, rng, false_alarm=0)
    with pytest.raises(CalibrationError, match="all zero"):
        tracking.distance(readings[0], 0 * readings[0])
    with pytest.raises(ShapeError):
        tracking.distance(readings[0], readings[0, 1:])
    with pytest.raises(CalibrationError, match="3 reference vectors"):
        tracking.fit_outputs(readings[0, :2], readings[0, :2])


# ---------------------------------------------------------------- measured


def as_json(adapter: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert adapter.main([*map(str, arguments), "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


Measured = Callable[[str], Path]


def test_measured_modulators(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    """Held out at the scatter at equal code; the lag is there; captures differ by far more than their white errors."""
    result = as_json(modulators, capsys, measured("mzm_scope_codes.npz"))
    assert len(result["captures"]) >= 3
    for row in result["captures"].values():
        assert row["held_out_codes"] <= row["scatter_at_equal_code"]
        assert row["periods"] > 1.5
        assert 0 < row["lag_interval"][0] < row["lag"]
    assert "over range" in result["refused"]["overload"]
    pair = [row for name, row in result["captures"].items() if name.startswith("MZ3")]
    assert result["devices"]["MZ3"]["total_error"] > 10 * max(row["white_error"] for row in pair)
    assert all(low < row["v_pi"] < high for row in pair for low, high in [result["devices"]["MZ3"]["interval"]])


def test_measured_dac(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    """INL of half an LSB; a table more than halves it in the other channel and ends it between the codes it knows."""
    result = as_json(dac, capsys, measured("dac_measured_levels.npz"))["ni16"]
    for row in result["channels"]:
        assert 0.4 < row["best_line"]["rms_lsb"] < 0.6 < row["end_points"]["rms_lsb"]
        assert row["every_second_code"]["after_lsb"] < 0.1
        assert any(stretch["after_lsb"] > 0.25 for stretch in row["stretches"])  # and says where it does not carry
    assert all(row["after_lsb"] < 0.5 * row["before_lsb"] for row in result["to_other_channel"].values())


def test_measured_heaters(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    """Both outputs agree, slopes stand far above their errors, left-out points are hit within a tenth of a radian."""
    result = as_json(heaters, capsys, measured("mzi_heater_spectra.npz"))
    assert not result["refused"]
    assert result["pooled"]["outputs_differ_by_rad"] < 0.1
    assert result["pooled"]["left_out_linear_rad"] < 0.1
    assert result["pooled"]["left_out_others_curvature_rad"] < result["pooled"]["left_out_linear_rad"]
    for row in result["series"].values():
        assert abs(row["linear"]["rad_per_mw"]) > 10 * row["linear"]["error_rad_per_mw"]
        assert 0.01 < abs(row["linear"]["rad_per_mw"]) < 0.06


@pytest.mark.parametrize(("references", "noise", "seed"), [(4, 0.01, 1), (8, 0.03, 2), (16, 0.1, 3)])
def test_measured_drift(
    measured: Measured, capsys: pytest.CaptureFixture[str], references: int, noise: float, seed: int
) -> None:
    """Alarm after 5.050 mm and by 5.058, whatever the vectors and their noise; an update never makes it much worse."""
    options = f"--baseline-until 5.0401 --references {references} --noise {noise} --seed {seed}".split()
    result = as_json(drift, capsys, measured("mmf_tm_110x110_vs_position.npz"), *options)
    assert 5.0501 < result["first_alarm"] < 5.0581
    for row in result["positions"]:
        assert row["error_updated"] < 1.1 * row["error"] + noise
    assert result["positions"][-1]["error_updated"] < 0.4 * result["positions"][-1]["error"]


@pytest.mark.parametrize("adapter", [modulators, dac, heaters, drift])
def test_adapters_refuse_what_is_not_theirs(
    adapter: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says what was expected, exit code 1, no traceback."""
    np.savez(tmp_path / "other.npz", something=np.zeros((3, 3)))
    more = ["--baseline-until", "1"] if adapter is drift else []
    with pytest.raises(SystemExit) as stopped:
        adapter.main([str(tmp_path / "other.npz"), *more])
    assert stopped.value.code == 1
    assert "expected" in capsys.readouterr().err


def test_a_file_with_other_names_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names come from the file: three captures of one device, one without volts, one without an output."""
    rng = np.random.default_rng(24)
    arrays: dict[str, np.ndarray] = {"E9_lone_in": np.zeros(100, np.int8)}
    for name in ("E7_a", "E7_b", "E8_c"):
        sweep = fringe_sweep(rng, 1200)
        arrays[f"{name}_in"] = np.round(sweep.drive / 0.08 + 0.3 * rng.standard_normal(1200)).astype(np.int8)
        arrays[f"{name}_out"] = np.round(sweep.output).astype(np.int8)
    arrays["E7_a_volts_per_code"] = arrays["E7_b_volts_per_code"] = np.array([0.01, 0.08])
    np.savez(tmp_path / "captures.npz", **arrays)
    result = as_json(modulators, capsys, tmp_path / "captures.npz")
    assert result["captures"]["E8_c"]["unit"] == "code"
    assert result["captures"]["E8_c"]["v_pi"] * 0.08 == pytest.approx(V_PI, rel=0.01)
    assert list(result["devices"]) == ["E7"]
    assert result["devices"]["E7"]["v_pi"] == pytest.approx(V_PI, rel=0.01)
    assert "no E9_lone_out" in result["refused"]["E9_lone"]
