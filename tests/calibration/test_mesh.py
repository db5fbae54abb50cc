"""Calibration of meshes: what their programs do, through counts alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import photonic
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.calibration.checks import verify_counts
from photonic.calibration.fit import by_purpose
from photonic.calibration.meshfit import MeshFit, fit_mesh
from photonic.calibration.meshmatrices import Shots, fit_matrices
from photonic.calibration.meshmodel import MeshModel, programmed_matrices
from photonic.calibration.meshplan import least_mesh_budget, make_mesh_plan
from photonic.calibration.model import Inputs
from photonic.calibration.noise import fit_noise
from photonic.calibration.points import Points
from photonic.calibration.predicted import Prediction
from photonic.calibration.raw import RawStore
from photonic.calibration.report import report_html
from photonic.calibration.secondmoments import NoiseData
from photonic.cli import main
from photonic.errors import ArraysError, CalibrationError, ShapeError, WrongChipError
from photonic.physics import seeds
from photonic.physics.optics import Surroundings
from photonic.records import Calibration, InputTransfer, NoiseModel
from photonic.testing import OnlyMeasured

QUIET = "sim:mesh-typical?n_outputs=8&n_inputs=8"  # a tenth of a count of noise
CHIP = f"{QUIET}&adc_bits=10"


@dataclass(frozen=True)
class Case:
    """A calibrated mesh and what is hidden in it."""

    record: Calibration
    truth: dict[str, np.ndarray]
    folder: Path


def hidden(chip: Chip, programs: np.ndarray) -> dict[str, np.ndarray]:
    """What a record should hold, in its gauge, from the device itself."""
    device = chip._evaluation.device
    w = device.optics.matrices(torch.tensor(programs), Surroundings(torch.Generator()))[0].double().numpy()
    n, t, per_d = chip.spec.n_inputs, device.transmitter, chip.spec.response.counts_per_d[0]
    gain, root = device.receiver.gain.numpy()[:, None] * per_d, t.power.sqrt().numpy()
    in_phase, leak = w[..., :n] * root * gain, w[..., n:] * root * gain * t.level_min
    turn = np.arctan((in_phase * leak).sum((0, 1)) / (in_phase**2).sum((0, 1)))
    # a turn so small that the gauge, sum of B Q, is met to second order
    matrix = in_phase * np.cos(turn) + leak * np.sin(turn)
    wanted = programmed_matrices(chip.spec, programs)
    amplitude = np.ones(n)
    for _ in range(50):
        g = (matrix * wanted * amplitude).sum((0, 2)) / ((wanted * amplitude) ** 2).sum((0, 2))
        amplitude = (matrix / g[:, None] * wanted).sum((0, 1)) / (wanted**2).sum((0, 1))
        amplitude /= amplitude.mean()
    return {
        "matrix": matrix,
        "quadrature": leak * np.cos(turn) - in_phase * np.sin(turn),
        "bias_rad": t.bias_rad.numpy() + turn,
        "inverse_v_pi": t.inverse_v_pi.numpy(),
        "zero_count": device.receiver.offset_d.numpy() * per_d,
        "counts_per_d": g,
        "power": amplitude**2,
    }


def calibrated(spec: str, seed: int, folder: Path) -> Case:
    with photonic.open_chip(spec, seed=seed) as chip:
        record = photonic.calibrate(OnlyMeasured(chip), seed=seed + 100, raw=folder)
        return Case(record, hidden(chip, record.arrays["programs"]), folder)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return [calibrated(CHIP, seed, tmp_path_factory.mktemp("raw") / "sweep") for seed in (20, 21, 22)]


def deviations(cases: list[Case], name: str) -> np.ndarray:
    """Errors over their standard errors."""
    return np.concatenate(
        [((c.record.arrays[name] - c.truth[name]) / c.record.arrays[f"{name}_se"]).ravel() for c in cases]
    )


def verdict_of(record: Calibration) -> str:
    assert record.verification is not None
    return record.verification.verdict


def test_a_mesh_passes(cases: list[Case]) -> None:
    """On readings of the same programs that the fit has not seen; never a fail, and mostly decided."""
    verdicts = [verdict_of(case.record) for case in cases]
    assert "fail" not in verdicts
    assert verdicts.count("pass") >= 2


def test_every_parameter_has_an_interval_or_a_reason(cases: list[Case]) -> None:
    """Gains, noise, converters and matrices; the parts of the mesh are named as not identified."""
    rows = {row.name: row for row in cases[0].record.parameters}
    for name in ("gain", "zero", "channel power", "inverse V_pi", "modulator bias", "matrices of programs"):
        assert rows[name].status == "fitted"
    for name in ("heater phases", "splitter angles", "losses of interferometers", "thermal crosstalk"):
        assert rows[name].status == "not identified"
        assert rows[name].note
    for row in rows.values():
        assert (row.value is None) == (row.status != "fitted")
        assert row.value is None or row.standard_error is not None


def test_intervals_hold_the_truth(cases: list[Case]) -> None:
    """95 % of the matrices' elements, and of all else about as many."""
    for name, low, high in (("matrix", 0.92, 0.98), ("quadrature", 0.92, 0.98)):
        assert low < (np.abs(deviations(cases, name)) < 1.96).mean() < high, name
    for name in ("bias_rad", "inverse_v_pi", "zero_count", "counts_per_d", "power"):
        z = deviations(cases, name)
        assert 0.6 < np.sqrt((z**2).mean()) < 1.4, name
        assert np.abs(z).max() < 4.5, name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_coverage_over_many_meshes(tmp_path: Path) -> None:
    """10 devices of the quiet kind: 93 to 97 % of the matrices' elements; no verdict of fail."""
    many = [calibrated(QUIET, seed, tmp_path / str(seed)) for seed in range(40, 50)]
    for name in ("matrix", "quadrature"):
        assert 0.93 < (np.abs(deviations(many, name)) < 1.96).mean() < 0.97, name
    assert all(verdict_of(case.record) != "fail" for case in many)


def test_the_error_of_each_program_lies_in_its_interval(cases: list[Case]) -> None:
    """Relative Frobenius norm of what the mesh does less what it was programmed for."""
    inside = []
    for case in cases:
        a, truth = case.record.arrays, case.truth
        wanted = a["programmed"] * np.sqrt(truth["power"])
        apart = truth["matrix"] / truth["counts_per_d"][:, None] - wanted
        true = np.sqrt((apart**2).sum((1, 2)) / (wanted**2).sum((1, 2)))
        inside += list((a["matrix_error_low"] < true) & (true < a["matrix_error_high"]))
        np.testing.assert_allclose(a["matrix_error"], true, rtol=0.02)
    assert np.mean(inside) > 0.7


def test_noise_is_the_chip_s(cases: list[Case]) -> None:
    """V in counts at small and at large results within 7 %; a gauge of the gains moves the terms in D."""
    true = photonic.open_chip(CHIP, seed=20).parameters.noise  # type: ignore[attr-defined]
    nominal = photonic.open_chip(CHIP, seed=20).spec.response.counts_per_d[0]
    for case in cases:
        found, mean = case.record.response.noise, np.sqrt(np.mean(case.truth["counts_per_d"] ** 2))
        for d in (0.0, 0.7):
            # the gain of the nominal chip is that of a path through all interferometers; edges lose less
            at = d * mean / nominal
            expected = nominal**2 * true.variance(0.5 + at**2 / 2, at)
            assert mean**2 * found.variance(0.5 + d**2 / 2, d) == pytest.approx(expected, rel=0.07)


@pytest.fixture(scope="module")
def fitted(cases: list[Case]) -> tuple[MeshFit, Points]:
    store = RawStore.open(cases[0].folder)
    taken = store.taken()
    return fit_mesh(store.spec, taken), Points.of(store.spec, by_purpose(taken, 1)["verify"])


def test_wrong_twins_fail(fitted: tuple[MeshFit, Points]) -> None:
    """Variance 1.3 times as large; a pattern of 5 % in the gains; intensity noise of each output's own."""
    fit, points = fitted
    noise = fit.noise.model
    assert verify_counts(points.prediction(fit.model, noise)).verdict == "pass"
    louder = NoiseModel(**{name: 1.3 * value for name, value in noise.model_dump().items()})
    found = verify_counts(points.prediction(fit.model, louder))
    assert (found.verdict, found.causes[0]) == ("fail", "noise")
    pattern = np.where(np.arange(8) % 2, 1.05, 0.95)[:, None]
    skewed = replace(fit.model, matrix=fit.model.matrix * pattern)
    found = verify_counts(points.prediction(skewed, noise))
    assert found.verdict == "fail"
    assert "response" in found.causes
    prediction = points.prediction(fit.model, noise)
    alone = verify_counts(replace(prediction, common=np.zeros_like(prediction.common)))
    assert (alone.verdict, alone.causes) == ("fail", ("common mode",))


def test_a_program_that_was_not_measured_is_refused(fitted: tuple[MeshFit, Points]) -> None:
    """Nothing is said of it."""
    model = fitted[0].model
    with pytest.raises(CalibrationError, match="none of the 6 programs"):
        model.results(model.programs[0] + 1, np.zeros((1, 8)))


def test_a_quiet_mesh_is_not_called_wrong(tmp_path: Path) -> None:
    """With a tenth of a count of noise, where a mean lies between two codes decides its variance: undecided."""
    case = calibrated(QUIET, 4, tmp_path / "raw")
    assert verdict_of(case.record) != "fail"
    coverage = (np.abs(deviations([case], "matrix")) < 1.96).mean()
    assert 0.9 < coverage < 0.99


def test_products_are_nearer(cases: list[Case]) -> None:
    """Gains, zeros and inputs are made up for; what else the programs do wrong is not."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 12, 20, generator=generator)
    x = torch.randn(1, 40, 20, generator=generator).clamp(-3, 3)
    exact = x @ weight.mT
    for seed, case in zip((20, 21, 22), cases, strict=True):
        with photonic.open_chip(CHIP, seed=seed) as chip:
            errors = []
            for given in (case.record, Calibration.from_spec(chip.spec)):
                backend = photonic.open_backend(chip, calibration=given, allow_failed=True)
                mean = sum(backend.matmul(x, weight) for _ in range(10)) / 10
                errors.append(float((mean - exact).norm() / exact.norm()))
        assert errors[0] < 0.8 * errors[1], errors
        assert errors[0] < 0.03


def test_the_caller_s_matrices_are_programmed() -> None:
    """They come first to a plan that keeps its budget, in blocks of time; other sizes are refused."""
    spec = photonic.open_chip(CHIP).spec
    wanted = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plan = make_mesh_plan(spec, 200_000, seeds.generator("test", 1), wanted)
    shots = sum(len(reading.inputs) for reading in plan)
    assert 0.9 * 200_000 < shots <= 200_000
    blocks = [reading.block for reading in plan]
    assert blocks == sorted(blocks)
    assert {reading.purpose for reading in plan if reading.block == 1} == {"verify", "allan", "reference"}
    programs = {tuple(r.weights.tolist()) for r in plan}
    assert programs == {tuple(r.weights.tolist()) for r in plan if r.purpose == "matrix"}
    made = programmed_matrices(spec, np.array(sorted(programs), dtype=np.float64))
    scaled = (wanted / torch.linalg.matrix_norm(wanted, 2)[:, None, None]).numpy()
    apart = np.abs(made[:, None] - scaled).max((2, 3)).min(0)
    assert (apart < 5e-3).all()
    with pytest.raises(ShapeError, match="pad them"):
        make_mesh_plan(spec, 200_000, seeds.generator("test", 1), wanted[:, :4])
    with pytest.raises(CalibrationError, match="at least"):
        make_mesh_plan(spec, least_mesh_budget(spec) - 1, seeds.generator("test", 1))
    with pytest.raises(CalibrationError, match="matrices are for a mesh"):
        photonic.calibrate(photonic.open_chip("sim:typical?n_outputs=8&n_inputs=8"), matrices=wanted)


def test_a_source_of_one_power_is_said_to_be() -> None:
    """Shot and thermal noise are then told apart by little, and the record says by what."""
    with photonic.open_chip(CHIP, seed=5) as chip:
        found = photonic.calibrate(OnlyMeasured(chip, conditions={}, tile_conditions=()), budget=120_000)
    assert verdict_of(found) != "fail"
    notes = {row.name: row.note for row in found.parameters}
    assert notes["noise, shot"] == "" or "one power" in notes["noise, shot"]
    assert any("one power" in notes[f"noise, {name}"] or "cannot tell" in notes[f"noise, {name}"]
               for name in ("shot", "thermal"))  # fmt: skip


def test_rails_and_dead_outputs_are_named() -> None:
    """Counts that clip, or do not follow the programs, are no readings to fit."""

    class Loud(OnlyMeasured):
        def _measure(self, weights: torch.Tensor, inputs: torch.Tensor, conditions: Conditions) -> Measurement:
            measured = super()._measure(weights, inputs, conditions)
            return replace(measured, counts=(measured.counts * 2).clamp(-512, 511))

    class Dead(OnlyMeasured):
        def _measure(self, weights: torch.Tensor, inputs: torch.Tensor, conditions: Conditions) -> Measurement:
            measured = super()._measure(weights, inputs, conditions)
            noise = torch.arange(measured.counts.shape[2]).mul(7919).remainder(3).to(measured.counts.dtype)
            measured.counts[..., 3] = noise
            return measured

    with photonic.open_chip(CHIP, seed=5) as chip:
        with pytest.raises(CalibrationError, match="at a rail"):
            photonic.calibrate(Loud(chip), budget=60_000)
        with pytest.raises(CalibrationError, match="output 3 does not answer"):
            photonic.calibrate(Dead(chip), budget=60_000)


def test_linear_inputs_have_no_transfer() -> None:
    """Fields that follow the code: matrices and zeros as they were made up."""
    generator = np.random.default_rng(3)
    transfer = InputTransfer(shape="linear", code_zero=0.0, code_one=100.0)
    matrix, zero = generator.normal(size=(3, 4, 5)) * 20, generator.normal(size=4)
    programs = []
    for each in matrix:
        codes = generator.integers(-100, 101, size=(2000, 5)).astype(np.float64)
        volts = zero + codes / 100 @ each.T + 0.3 * generator.normal(size=(2000, 4))
        programs.append(Shots(codes, volts, np.ones(2000)))
    found = fit_matrices(Inputs(transfer, np.ones(5), np.zeros(5), 0.0), programs)
    assert np.abs((found.matrix - matrix) / found.matrix_se).max() < 4
    assert np.sqrt((((found.zero - zero) / found.zero_se) ** 2).mean()) < 2
    assert not found.quadrature.any()


def test_the_commands(cases: list[Case], tmp_path: Path) -> None:
    """verify against this chip and another one, report, and a backend from the record."""
    run, path = CliRunner(), tmp_path / "mesh.json"
    cases[0].record.save(path)
    same = run.invoke(main, ["verify", CHIP, str(path), "--seed", "20", "--json"])
    assert json.loads(same.stdout)["verdict"] == "pass", same.output
    assert run.invoke(main, ["verify", CHIP, str(path), "--seed", "23"]).exit_code == 2
    page = run.invoke(main, ["report", str(path), "-o", str(tmp_path / "page.html")])
    assert page.exit_code == 0, page.output
    text = (tmp_path / "page.html").read_text()
    assert "Programs of the mesh" in text
    assert "their sine is fitted" in text
    with photonic.open_chip(CHIP, seed=23) as other:
        with pytest.raises(WrongChipError):
            photonic.verify(other, cases[0].record)
        found = photonic.verify(other, cases[0].record.replaced(chip_id=other.spec.chip_id))
    assert found.verdict == "fail"
    assert "response" in found.causes


def test_a_mesh_s_record_has_no_twin(cases: list[Case]) -> None:
    """Of programs that were not measured nothing is known; and arrays that do not fit are refused."""
    record = cases[0].record
    with pytest.raises(CalibrationError, match="nothing of others"):
        photonic.twin(record, allow_failed=True)
    assert "Programs of the mesh" in report_html(record)
    fewer = {name: array for name, array in record.arrays.items() if name != "matrix"}
    assert record.spec is not None
    with pytest.raises(ArraysError, match="matrix"):
        MeshModel.of(record.replaced(arrays=fewer), record.spec)


def _quiet_points(seed: int, sigma: float, off: float) -> Prediction:
    """Counts of 32 points with little noise, and means that are known to ``off``."""
    generator = np.random.default_rng(seed)
    volts = generator.uniform(-50, 50, (32, 8))
    counts = np.round(volts[:, None] + sigma * generator.standard_normal((32, 900, 8)))
    known = volts + off * generator.standard_normal(volts.shape)
    return Prediction(counts, known, np.full(volts.shape, sigma), np.zeros(volts.shape), (-128.0, 127.0), volts_se=off)


def test_means_that_are_hardly_known_decide_nothing_of_variances() -> None:
    """Errors of 0.04 counts beside 0.1 of noise: no fail, stated or seen in the readings; twice the noise is one."""
    found = [_quiet_points(seed, 0.1, 0.04) for seed in range(6)]
    assert [verify_counts(each).verdict for each in found].count("fail") == 0
    assert [verify_counts(replace(each, volts_se=0.0)).verdict for each in found].count("fail") == 0
    assert [verify_counts(replace(each, sigma=each.sigma / 2)).verdict for each in found].count("fail") >= 4
    loud = [verify_counts(_quiet_points(seed, 1.0, 0.04)).verdict for seed in range(6)]
    assert loud.count("pass") >= 4


def test_noise_far_below_a_count_is_found() -> None:
    """Thermal and common noise of a tenth to a third of a count, where fourth cumulants are as negative as can be."""
    generator = np.random.default_rng(5)
    d, repeats, gain = generator.uniform(-0.7, 0.7, (60, 8)), 400, np.full(8, 127.0)
    own, rho = 0.1 / 127, 0.004
    shot = d[:, None] * (1 + rho * generator.standard_normal((60, repeats, 1)))
    volts = 127 * (shot + own * generator.standard_normal((60, repeats, 8)))
    data = NoiseData(np.round(volts), d * 127, np.ones((60, 8)), d, gain, (-128.0, 127.0))
    found = fit_noise(replace(data, volts_se=0.01)).model
    assert found.thermal + found.shot + found.common_mode == pytest.approx(own**2, rel=0.15)
    assert found.rin == pytest.approx(rho**2, rel=0.15)
