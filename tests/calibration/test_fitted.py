"""A chip from a record: its counts against the model's equations, written out once more in numpy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import photonic
from photonic.analysis.switches import SwitchedChip
from photonic.backends.base import ConvGeometry
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.simulated import SimulatedChip
from photonic.backends.twin import TwinBackend
from photonic.calibration.model import ChipModel
from photonic.errors import ArraysError, CalibrationError, RangeError, SpecError
from photonic.records import Calibration, InputTransfer, NoiseModel, Response
from tests.calibration.synthetic import NOISE, QUIET, M, N, arrays_of, calibration_of, spec_of
from tests.twin.pairs import compare, rand, randn, repeats

FLOATING: dict[str, Any] = {
    "weight_bits": None,
    "input_bits": None,
    "adc_bits": None,
    "count_range": (-1e30, 1e30),
}


def _levels(record: Calibration, codes: np.ndarray) -> np.ndarray:
    """p_j T_j(u_j) (B, N)."""
    assert record.spec is not None
    a, t = record.arrays, record.spec.response.inputs
    drive = (codes - t.code_zero) / (t.code_one - t.code_zero)
    if t.shape == "mzm":
        least = a["level_min"][0]
        drive = least + (1 - least) * np.sin(math.pi / 2 * drive * a["inverse_v_pi"] + a["bias_rad"]) ** 2
    return np.asarray(drive * a["power"])


def _weights(record: Calibration, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w and w0 (M, N), element by element."""
    assert record.spec is not None
    a = record.arrays
    nodes = np.linspace(*record.spec.weight_code_range, a["curves"].shape[1])
    curves = [np.interp(codes, nodes, curve) for curve in a["curves"]]
    alone = sum(a["element"][..., q] * curve for q, curve in enumerate(curves))
    found = np.array(alone)
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            left = 1.0
            for (down, right), n in zip(a["neighbour_offsets"].astype(int), a["neighbour"], strict=True):
                if 0 <= i + down < codes.shape[0] and 0 <= j + right < codes.shape[1]:
                    s = curves[1][i + down, j + right]
                    left *= 1 - sum(coefficient * s ** (q + 1) for q, coefficient in enumerate(n))
            found[i, j] = a["neighbour_target"][0] - (a["neighbour_target"][0] - found[i, j]) * left
    return found, np.array(alone)


def _expected(record: Calibration, weights: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """D, S and the counts before the ADC, (B, M) each."""
    a, light = record.arrays, _levels(record, inputs)
    w, alone = _weights(record, weights)
    d = light @ w.T / light.shape[1]
    s = light @ (a["power_law"][0] + a["power_law"][1] * np.abs(alone)).T / light.shape[1]
    return d, s, d * a["counts_per_d"] + a["zero_count"]


def _codes(chip: SimulatedChip, m: int = M, n: int = N, shots: int = 20, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Random codes of 2 x 3 tiles."""
    g, spec = torch.Generator().manual_seed(seed), chip.spec
    (low, high), (dark, full) = spec.weight_code_range, spec.input_code_range
    weights = low + (high - low) * torch.rand(2, 3, m * n, generator=g, dtype=torch.float64)
    inputs = dark + (full - dark) * torch.rand(3, shots, n, generator=g, dtype=torch.float64)
    if spec.adc_bits is not None:
        weights, inputs = weights.round(), inputs.round()
    return weights.to(spec.code_dtype), inputs.to(spec.code_dtype)


def _assert_means(record: Calibration, m: int = M, n: int = N) -> None:
    """Counts of a chip without converters, all tiles, to rounding; what is not in use is dark and has a weight of 0."""
    assert record.spec is not None
    chip = photonic.twin(record)
    weights, inputs = _codes(chip, m, n)
    counts = chip.measure(weights, inputs).counts.numpy()
    for r in range(2):
        for c in range(3):
            whole = np.zeros((M, N))
            whole[:m, :n] = weights[r, c].view(m, n).numpy()
            lit = np.full((inputs.shape[1], N), record.spec.dark_code)
            lit[:, :n] = inputs[c].numpy()
            volts = _expected(record, whole, lit)[2]
            np.testing.assert_allclose(counts[r, c], volts[:, :m], rtol=0, atol=1e-9)


INPUTS = {
    "mzm": InputTransfer(shape="mzm", extinction_ratio_db=25.0),
    "mzm from code 40": InputTransfer(shape="mzm", code_zero=40.0, code_one=240.0, extinction_ratio_db=25.0),
    "linear": InputTransfer(shape="linear"),
    "linear from code 40": InputTransfer(shape="linear", code_zero=40.0, code_one=240.0),
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("size", [(M, N), (5, 11), (1, 1)], ids=str)
def test_without_noise_counts_are_the_model_s(name: str, size: tuple[int, int]) -> None:
    """Spreads, curves, neighbours, zeros and gains; whole tiles and parts of them; any dark code."""
    transfer = INPUTS[name]
    response = Response(inputs=transfer, counts_per_d=(512.0,))
    spec = spec_of(**FLOATING, response=response, dark_code=transfer.code_zero)
    _assert_means(calibration_of(spec, noise=QUIET), *size)


def test_the_model_of_the_fit_has_the_same_equations() -> None:
    """What is fitted is what is simulated."""
    record = calibration_of(spec_of(**FLOATING), noise=QUIET)
    assert record.spec is not None
    model, generator = ChipModel.of(record, record.spec), np.random.default_rng(1)
    weights, inputs = generator.uniform(-127, 127, (M, N)), generator.uniform(0, 255, (7, N))
    d, s, volts = _expected(record, weights, inputs)
    np.testing.assert_allclose(model.results(weights, inputs), d, atol=1e-12)
    np.testing.assert_allclose(model.powers(weights, inputs), s, atol=1e-12)
    np.testing.assert_allclose(model.volts(weights, inputs), volts, atol=1e-9)


@pytest.mark.parametrize("inl", [False, True])
def test_the_adc_s_transitions_make_the_counts(inl: bool) -> None:
    """Each output by its own table; beyond it, the rails."""
    record = calibration_of(noise=QUIET, inl=inl)
    chip = photonic.twin(record)
    weights, inputs = _codes(chip, shots=200)
    counts = chip.measure(weights, inputs).counts.numpy()
    ideal = np.broadcast_to(np.arange(1, 256) - 128.5, (M, 255))
    table = record.arrays.get("transitions", ideal)
    differ = []
    for r in range(2):
        for c in range(3):
            volts = _expected(record, weights[r, c].view(M, N).numpy().astype(float), inputs[c].numpy().astype(float))[
                2
            ]
            found = np.stack([np.searchsorted(table[i], volts[:, i], side="right") - 128 for i in range(M)], axis=1)
            differ.append(counts[r, c] - found)
    # float32 inside the chip: a count next to a transition may fall to the other side
    assert np.abs(differ).max() <= 1
    assert np.mean(np.array(differ) != 0) < 0.002


def _covariance(record: Calibration, weights: np.ndarray, inputs: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """(M, M) of counts at one operating point and analog gain, as the record's noise model says."""
    d, s, _ = (values[0] for values in _expected(record, weights, inputs[None]))
    noise, g = record.response.noise, record.arrays["counts_per_d"] * gain
    shared = noise.rin * np.outer(d, d) + noise.common_mode * np.outer(s, s)
    # ADCs are alike in counts, whatever the gain before them
    converter = noise.converter * np.mean(record.arrays["counts_per_d"] ** 2)
    thermal, shot = record.arrays.get("own_noise", np.ones((2, len(d))))
    own = thermal * noise.thermal + shot * noise.shot * s
    return np.asarray(np.outer(g, g) * (shared + np.diag(own)) + converter * np.eye(len(d)))


@pytest.mark.parametrize("gain", [1.0, 4.0])
@pytest.mark.parametrize("lit", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("own_noise", [False, True])
def test_noise_is_the_record_s(gain: float, lit: float, own_noise: bool) -> None:
    """Variance of each output, and covariance of any two, in the dark, at half and at full light."""
    record = calibration_of(spec_of(**FLOATING), own_noise=own_noise)
    chip = photonic.twin(record, seed=5)
    weights = torch.linspace(-20, 127, M * N, dtype=torch.float64)
    inputs = torch.full((N,), 255.0 * lit, dtype=torch.float64)
    shots = 60_000
    volts = chip.measure(weights.view(1, 1, -1), inputs.expand(1, shots, -1), {"analog_gain": gain}).counts[0, 0]
    found, expected = np.cov(volts.numpy().T), _covariance(record, weights.view(M, N).numpy(), inputs.numpy(), gain)
    ratio = np.diag(found) / np.diag(expected)
    assert ratio == pytest.approx(1.0, abs=0.03)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((found - expected) / scale).max() < 0.03
    # what outputs share is large enough to be seen wherever there is light
    off = ~np.eye(M, dtype=bool)
    assert (np.abs(expected[off] / scale[off]).max() > 0.3) == (lit > 0)


@pytest.mark.parametrize("follows", [0.0, 0.4])
@pytest.mark.parametrize("shots", [20, 500, 60_000])
def test_each_output_has_its_own_noise_behind_an_adc(follows: float, shots: int) -> None:
    """Where S is that of all inputs, and where it hangs on the weights; in compiled loops, and in few shots a call."""
    record = calibration_of(own_noise=True)
    record = record.replaced(arrays={**record.arrays, "power_law": np.array([1 - follows, follows])})
    chip = photonic.twin(record, seed=6)
    weights = torch.randint(-40, 41, (M * N,), dtype=torch.int16, generator=torch.Generator().manual_seed(1))
    inputs = torch.full((N,), 120, dtype=torch.int16)
    parts = [
        chip.measure(weights.view(1, 1, -1), inputs.expand(1, shots, -1), {"analog_gain": 4.0}).counts[0, 0]
        for _ in range(60_000 // shots)
    ]
    counts = torch.cat(parts).double().numpy()
    assert np.abs(counts).max() < 128
    expected = _covariance(record, weights.view(M, N).double().numpy(), inputs.double().numpy(), 4.0)
    ratio = counts.var(0) / (np.diag(expected) + 1 / 12)
    assert ratio == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("follows", [0.0, 0.4])
def test_few_shots_have_the_same_noise(follows: float) -> None:
    """Sample for sample, whatever way the counts are made."""
    record = calibration_of(own_noise=True)
    record = record.replaced(arrays={**record.arrays, "power_law": np.array([1 - follows, follows])})
    weights, inputs = torch.full((1, 1, M * N), 30, dtype=torch.int16), torch.full((1, 3, N), 120, dtype=torch.int16)
    one, other = photonic.twin(record, seed=6), photonic.twin(record, seed=6)
    for _ in range(2):
        one.measure(weights, inputs), other.measure(weights, inputs)
    grid = one.ready(weights, N)
    assert grid is not None
    found = one.measure_few(grid, inputs.numpy(), {})
    assert found is not None
    assert torch.equal(torch.from_numpy(found[0]), other.measure(weights, inputs).counts)


def test_the_dark_shows_the_zeros_at_any_gain() -> None:
    """Without light there is no D; zeros are the ADCs', behind the gain."""
    record = calibration_of(spec_of(**FLOATING), noise=QUIET)
    chip = photonic.twin(record)
    for gain in (1.0, 4.0):
        counts = chip.measure(*_codes(chip), {"laser_power": 0.0, "analog_gain": gain}).counts
        np.testing.assert_allclose(counts.numpy(), np.broadcast_to(record.arrays["zero_count"], counts.shape))


def test_the_data_sheet_is_the_measured_chip_s_with_the_fitted_response() -> None:
    """Apart from its name and its seeds, and from conditions that it would not heed."""
    record = calibration_of()
    assert record.spec is not None
    chip = photonic.twin(record)
    differing = {
        name for name in type(record.spec).model_fields if getattr(chip.spec, name) != getattr(record.spec, name)
    }
    assert differing == {"chip_id", "seeded", "response", "conditions"}
    assert chip.spec.response == record.response
    assert set(chip.spec.conditions) == {"laser_power", "analog_gain"}
    assert chip.calibration == record.replaced(chip_id=chip.spec.chip_id)
    with pytest.raises(RangeError, match="electrical_input"):
        chip.measure(*_codes(chip), {"electrical_input": "sine"})


def test_seeds_fix_the_noise() -> None:
    """Equal for equal seeds and purposes, another for others."""
    record = calibration_of()
    codes = _codes(photonic.twin(record))
    counts = [photonic.twin(record, seed=seed).measure(*codes).counts for seed in (None, 0, 1)]
    assert torch.equal(counts[0], counts[1])
    assert not torch.equal(counts[0], counts[2])
    other = photonic.twin(record, purpose="verify").measure(*codes).counts
    assert not torch.equal(counts[0], other)


# ---------------------------------------------------------------- the fast twin


def _pair(record: Calibration, folder: Path) -> tuple[CalibratedBackend, TwinBackend]:
    """The exact chip and the fast twin of one record, which encode alike."""
    record.save(folder / "chip7.json")
    chip = photonic.twin(record, seed=1)
    fast = photonic.open_backend(f"twin:{folder}/chip7.json", seed=2)
    assert isinstance(fast, TwinBackend)
    assert not fast.spec.nominal
    return CalibratedBackend(chip, chip.calibration), fast


@pytest.mark.parametrize(
    ("kind", "signed"),
    [
        ("plain", False),
        ("plain", True),
        ("inl", False),
        ("quiet inputs", True),
        ("linear", False),
        ("own noise", True),
        ("own noise, one S", True),
        ("own noise, tiles", False),
    ],
)
def test_the_fast_twin_is_the_exact_one(kind: str, signed: bool, tmp_path: Path) -> None:
    """Products over 2 x 3 tiles, the last ones not full."""
    spec = spec_of()
    if kind == "linear":
        spec = spec_of(response=Response(inputs=InputTransfer(shape="linear"), counts_per_d=(512.0,)))
    noise = NOISE.model_copy(update={"rin": 0.0, "common_mode": 0.0}) if kind == "quiet inputs" else NOISE
    record = calibration_of(spec, noise=noise, inl=kind in ("inl", "own noise, tiles"), own_noise="own noise" in kind)
    if kind == "own noise, one S":
        record = record.replaced(arrays={**record.arrays, "power_law": np.array([1.0, 0.0])})
    exact, fast = _pair(record, tmp_path)
    x = randn(1, 4, 40) if signed else rand(1, 4, 40)
    weight = randn(1, 20, 40, seed=1)
    found = compare(repeats(exact, x, weight, 600), repeats(fast, x, weight, 600), M)
    assert found.common[1] == pytest.approx(found.common[0], abs=0.03), found
    assert found.mean < 1.3, found
    assert found.variance == pytest.approx(1.0, abs=0.06), found
    assert found.spread < 1.3, found


def test_the_fast_twin_s_convolutions_are_the_exact_one_s(tmp_path: Path) -> None:
    """Pixels meet a modulator of their own at each place of the kernel, and are encoded for it."""
    noise = NOISE.model_copy(update={"rin": 0.0, "common_mode": 0.0})
    exact, fast = _pair(calibration_of(noise=noise), tmp_path)
    x, weight, geometry = rand(2, 4, 6, 6), randn(8, 4, 3, 3, seed=1), ConvGeometry((1, 1), (1, 1), (1, 1), 1)
    ways: list[str] = []
    fast.site.judge = lambda said: ways.append(said.way)
    found = compare(repeats(exact, x, weight, 500, geometry), repeats(fast, x, weight, 500, geometry), 8)
    assert set(ways) == {"all at once"}
    assert found.mean == pytest.approx(1.0, abs=0.15), found
    assert found.variance == pytest.approx(1.0, abs=0.03), found


def test_a_twin_of_another_record_is_told_apart(tmp_path: Path) -> None:
    """Elements of another chip, or a fifth more noise."""
    record = calibration_of(noise=NOISE.model_copy(update={"rin": 0.0, "common_mode": 0.0}))
    exact, _ = _pair(record, tmp_path)
    x, weight = rand(1, 4, 40), randn(1, 20, 40, seed=1)
    truth = repeats(exact, x, weight, 300)
    assert record.spec is not None
    other = {**record.arrays, "element": arrays_of(record.spec, seed=9)["element"]}
    assert compare(truth, repeats(_pair(record.replaced(arrays=other), tmp_path)[1], x, weight, 300), M).mean > 1.5
    noise = NoiseModel(thermal=1.8e-6, shot=2.4e-6, converter=2.4e-6)
    louder = record.replaced(response=record.response.model_copy(update={"noise": noise}))
    assert compare(truth, repeats(_pair(louder, tmp_path)[1], x, weight, 300), M).variance > 1.1


# ---------------------------------------------------------------- what is refused


def test_no_watt_is_made_up(tmp_path: Path) -> None:
    """A record has counts: the optical power raises, and an error budget has nothing to switch off."""
    record = calibration_of()
    parameters = photonic.twin(record).parameters
    assert not parameters.states_power
    for name in ("signal_power_w", "source_power_w", "full_scale_current_a", "energy"):
        with pytest.raises(CalibrationError, match="lab:chip7"):
            getattr(parameters, name)
    record.save(tmp_path / "chip7.json")
    with pytest.raises(SpecError, match="is a measured chip"):
        SwitchedChip.from_spec(f"sim:{tmp_path}/chip7.json")
    with pytest.raises(SpecError, match="found shot_noise=False: the chip is what was measured"):
        photonic.open_chip(f"sim:{tmp_path}/chip7.json?shot_noise=false")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"element": None, "curves": None}, "lacks the arrays curves, element"),
        ({"power": np.ones(N + 1)}, r"power \(17,\), expected \(16,\)"),
        ({"zero_count": np.full(M, np.nan)}, "zero_count not finite"),
        ({"element": np.ones((M, N, 2))}, "different numbers of curves"),
        ({"curves": np.stack([np.zeros(9)] * 3)}, "the first of the curves"),
        ({"neighbour": np.ones((3, 2))}, "neighbour and neighbour_offsets"),
        ({"transitions": np.zeros((M, 254))}, "transitions must rise"),
        ({"transitions": -np.arange(255.0)[None]}, "transitions must rise"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, np.ndarray | None], message: str) -> None:
    """By name, with what was found."""
    arrays: dict[str, np.ndarray | None] = {**arrays_of(spec_of()), **change}
    kept = {name: value for name, value in arrays.items() if value is not None}
    record = calibration_of().replaced(arrays=kept)
    with pytest.raises(ArraysError, match=message):
        photonic.twin(record)


def test_chips_without_a_twin_are_refused() -> None:
    """A mesh, fields, a nominal record, noise that follows negative light, and tables for counts from 0."""
    mesh = spec_of(layout="program", n_drives=40)
    with pytest.raises(CalibrationError, match=r"layout 'program'.*no twin"):
        photonic.twin(calibration_of(mesh, arrays_of(spec_of())))
    with pytest.raises(ArraysError, match="nothing was measured"):
        photonic.twin(Calibration.from_spec(spec_of()))
    field = spec_of(response=Response(inputs=InputTransfer(shape="field"), counts_per_d=(512.0,)))
    with pytest.raises(CalibrationError, match="'field'"):
        photonic.twin(calibration_of(field))
    signed = spec_of(
        input_code_range=(-127.0, 127.0),
        response=Response(inputs=InputTransfer(shape="linear", code_one=127.0), counts_per_d=(512.0,)),
    )
    with pytest.raises(CalibrationError, match="negative levels"):
        photonic.twin(calibration_of(signed))
    photonic.twin(calibration_of(signed, noise=NoiseModel(thermal=1e-6, rin=1e-5)))
    with pytest.raises(CalibrationError, match="from -128 to 127"):
        photonic.twin(calibration_of(spec_of(count_range=(0.0, 255.0)), inl=True))


def test_the_fast_twin_refuses_codes_that_it_would_misread(tmp_path: Path) -> None:
    """A dark code that is not 0; the exact chip takes it."""
    response = Response(inputs=INPUTS["mzm from code 40"], counts_per_d=(512.0,))
    calibration_of(spec_of(response=response, dark_code=40.0)).save(tmp_path / "chip7.json")
    photonic.open_chip(f"sim:{tmp_path}/chip7.json")
    with pytest.raises(SpecError, match=r"dark_code 40.*take the exact chip"):
        photonic.open_backend(f"twin:{tmp_path}/chip7.json")
