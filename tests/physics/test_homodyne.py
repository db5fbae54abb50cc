"""A coherent mesh: fields against local oscillators, whose light sets the shot noise and whose phase the result."""

from __future__ import annotations

import math

import pytest
import torch
from measuring import SHOTS, Q, measure, quiet, random, raw_codes, read, weight_codes
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.errors import RecordError
from photonic.physics import svdmesh

EYE = torch.eye(4, 8, dtype=torch.float64)  # its largest singular value is 1: D is the field of the same input


def _each(
    u: float, size: tuple[int, int] = (4, 32), devices: int = 100, power: float = 1.0, **fields: object
) -> Tensor:
    """Fields of every input, or of every output where there are more of these, of many devices, one after the other."""
    m, n = size
    light = torch.full((1, 1, n), u, dtype=torch.float64)
    if n > m:
        light = torch.eye(n, dtype=torch.float64)[None] * u
    found, codes = [], None
    for device in range(devices):  # the standard error of a variance is 2.5 %
        chip = quiet("mesh", device=device, n_outputs=m, n_inputs=n, **fields)
        if codes is None:  # the same for all: a decomposition takes longer than all else
            codes = weight_codes(chip, torch.ones(1, 1, m, n))
        counts = chip.measure(codes, raw_codes(chip, light), {"laser_power": power}).counts[0, 0]
        found.append(counts[:, 0] if n > m else counts[0])
    return torch.cat(found)


def _field(value: float, shots: int = SHOTS) -> Tensor:
    return torch.full((shots, 8), value, dtype=torch.float64)


# ---------------------------------------------------------------- the result


def test_d_is_the_matrix_times_the_fields() -> None:
    """W / sigma_max, signed fields sin(pi/2 u); several tiles."""
    chip = quiet("mesh")
    weights, u = random(2, 3, 4, 8, low=-1.0), random(3, 30, 8, seed=1, low=-1.0)
    counts = chip.measure(weight_codes(chip, weights), raw_codes(chip, u)).counts
    for r in range(2):
        for c in range(3):
            meant = torch.sin(math.pi / 2 * u[c]) @ weights[r, c].T / torch.linalg.matrix_norm(weights[r, c], 2)
            assert (counts[r, c] - meant).abs().max().item() < 1e-12


@pytest.mark.parametrize("bits", [4, 8])
def test_a_signed_code_is_a_signed_field(bits: int) -> None:
    """2^(bits - 1) - 1 steps on either side of the dark."""
    chip = quiet("mesh", input_bits=bits)
    one = 2 ** (bits - 1) - 1
    codes = torch.arange(-one, one + 1, dtype=torch.float64)
    d = read(chip, EYE, codes.unsqueeze(1).expand(-1, 8))
    assert (d[:, 2] - torch.sin(math.pi / 2 * codes / one)).abs().max().item() < 1e-12


@pytest.mark.parametrize("extinction", [10.0, 25.0])
@pytest.mark.parametrize("phase", [0.0, 0.3])
def test_a_finite_extinction_is_a_field_in_quadrature(extinction: float, phase: float) -> None:
    """10^(-ER/20) cos(pi/2 u) beside sin(pi/2 u): a local oscillator in phase does not see it."""
    chip = quiet("mesh", extinction_ratio_db=extinction, temperature_error_k=phase / 0.05)
    weights, u = random(4, 8, low=-1.0), random(50, 8, seed=1, low=-1.0)
    angle = math.pi / 2 * u
    sent = torch.sin(angle) * math.cos(phase) + 10 ** (-extinction / 20) * torch.cos(angle) * math.sin(phase)
    meant = sent @ weights.T / torch.linalg.matrix_norm(weights, 2)
    assert (read(chip, weights, raw_codes(chip, u)) - meant).abs().max().item() < 1e-12


def test_a_channel_s_power_acts_on_the_field_by_its_root() -> None:
    """The variance of log E is a quarter of that of log P."""
    logs = (_each(1.0, channel_spread=0.1) / _each(1.0, devices=1).repeat(100)).log()
    assert logs.var().item() == pytest.approx(0.1**2 / 4, rel=0.12)  # standard error 2.5 %
    assert abs(logs.mean().item()) < 5 * 0.05 / math.sqrt(len(logs))


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("ratio", [0.5, 10.0])
@pytest.mark.parametrize("field", [0.0, -0.9])
def test_the_local_oscillator_sets_the_shot_noise(ratio: float, field: float) -> None:
    """2 q R (P_lo + P_s E^2) B beside a result of 2 R sqrt(P_s P_lo) E: V = shot (S_0 + k D^2) + thermal + rin D^2."""
    p_s, response, bandwidth, i_n, rin_db = 0.5e-3, 0.8, 8e9, 10e-12, -140.0
    chip = quiet(
        "mesh",
        power_per_pair_w=p_s,
        responsivity_a_per_w=response,
        bandwidth_hz=bandwidth,
        local_oscillator_ratio=ratio,
        shot_noise=True,
        thermal_noise_a_per_rthz=i_n,
        rin_db_per_hz=rin_db,
    )
    signal = 2 * response * math.sqrt(p_s * ratio * p_s)  # amperes of D = 1
    light = response * (ratio * p_s + p_s * field**2)
    expected = (2 * Q * light + i_n**2 + 10 ** (rin_db / 10) * (signal * field) ** 2) * bandwidth / signal**2
    d = measure(chip, EYE, _field(field))
    assert d.var(dim=0).numpy() == pytest.approx(expected, rel=0.02)
    assert d.mean(0).numpy() == pytest.approx(field, abs=5 * math.sqrt(expected / SHOTS))
    common = 10 ** (rin_db / 10) * bandwidth * field**2
    off_diagonal = torch.cov(d.T)[~torch.eye(4, dtype=torch.bool)]
    assert off_diagonal.numpy() == pytest.approx(common, abs=max(0.05 * common, 5 * expected / math.sqrt(SHOTS)))


@pytest.mark.parametrize("power", [0.25, 0.5])
def test_one_laser_feeds_signal_and_oscillator(power: float) -> None:
    """At a part of the light D is that part of it, and so is all shot noise, the signal's own included."""
    chip = quiet("mesh", shot_noise=True, local_oscillator_ratio=0.2)
    signal = 2e-3 * math.sqrt(0.2)
    expected = 2 * Q * power * 1e-3 * (0.2 + 0.8**2) * 5e9 / signal**2
    d = measure(chip, EYE, _field(0.8), laser_power=power)
    assert d.mean(0).numpy() == pytest.approx(0.8 * power, abs=5 * math.sqrt(expected / SHOTS))
    assert d.var(dim=0).numpy() == pytest.approx(expected, rel=0.02)


def test_without_light_only_the_receiver_is_left() -> None:
    """Laser off: no oscillator, no shot noise."""
    chip = quiet("mesh", shot_noise=True, thermal_noise_a_per_rthz=15e-12)
    d = measure(chip, EYE, _field(0.8), laser_power=0.0)
    assert d.var(dim=0).numpy() == pytest.approx(15e-12**2 * 5e9 / 2e-3**2, rel=0.02)


@pytest.mark.parametrize("cmrr_db", [15.0, 30.0])
def test_rin_of_the_oscillator_comes_through_an_imperfect_balance(cmrr_db: float) -> None:
    """rin 10^(-CMRR/10) S_0^2 where there is no signal, common to all outputs."""
    chip = quiet("mesh", rin_db_per_hz=-125.0, cmrr_db=cmrr_db, local_oscillator_ratio=4.0)
    expected = 10**-12.5 * 5e9 * 10 ** (-cmrr_db / 10) * (math.sqrt(4.0) / 2) ** 2
    assert torch.cov(measure(chip, EYE, _field(0.0)).T).numpy() == pytest.approx(expected, rel=0.02)


def test_unequal_arms_read_the_oscillator_as_an_offset() -> None:
    """d/2 S_0, of the whole light: it goes with the laser's power."""
    fields = {"size": (32, 1), "arm_imbalance_spread": 0.02, "local_oscillator_ratio": 4.0}
    offsets = _each(0.0, **fields)
    assert offsets.var().item() == pytest.approx((0.01 * 1.0) ** 2, rel=0.12)  # standard error 2.5 %
    assert (_each(0.0, power=0.5, **fields) - offsets / 2).abs().max().item() < 1e-15


# ---------------------------------------------------------------- the oscillators' phase


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_every_oscillator_has_its_own_phase(sigma: float) -> None:
    """D is cos(phase) of what it should be: mean exp(-s^2/2), second moment (1 + exp(-2 s^2)) / 2."""
    cosines = _each(1.0, (32, 1), lo_phase_spread_rad=sigma) / _each(1.0, (32, 1), devices=1).repeat(100)
    spread = cosines.std().item() / math.sqrt(len(cosines))
    assert cosines.mean().item() == pytest.approx(math.exp(-(sigma**2) / 2), abs=5 * spread)
    assert cosines.square().mean().item() == pytest.approx((1 + math.exp(-2 * sigma**2)) / 2, abs=10 * spread)
    assert torch.acos(cosines.clamp(max=1)).square().mean().item() == pytest.approx(sigma**2, rel=0.12)


@pytest.mark.parametrize("sigma", [0.05, 0.4])
def test_the_oscillators_phases_drift(sigma: float) -> None:
    """AR(1): variance s^2 and covariance s^2 exp(-dt / tau), read where the quadrature shows the phase itself."""
    fields = {"n_outputs": 16, "n_inputs": 1, "drift_s": 5.0, "symbol_rate_hz": 1.0, "settle_time_s": 0.0}
    leak_db = 40.0  # a hundredth of the field, at code 0 alone: D = sin(phase) / 100
    chip = quiet("mesh", lo_phase_drift_rad=sigma, extinction_ratio_db=leak_db, **fields)
    weights = weight_codes(chip, torch.ones(1, 1, 16, 1))  # each output gets 1/4 of the field
    dark = torch.zeros(1, 2, 1, dtype=torch.float64)
    d = torch.stack([chip.measure(weights, dark).counts[0, 0, 0] for _ in range(500)])
    phase = torch.asin(d * 4 * 100)
    assert phase.square().mean().item() == pytest.approx(sigma**2, rel=0.12)  # standard error 2.3 %
    kept = math.exp(-2 / 5)
    assert (phase[1:] * phase[:-1]).mean().item() == pytest.approx(sigma**2 * kept, rel=0.15)
    correlation = torch.corrcoef(phase.T)
    assert (correlation.sum() - 16).item() / (16 * 15) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("kelvin", [-4.0, 10.0])
def test_temperature_turns_all_oscillators_alike(kelvin: float) -> None:
    """lo_phase_rad_per_k of path difference: cos(phase) for all, which one gain undoes; the mesh itself stays."""
    weights, fields = random(4, 8, low=-1.0), random(9, 8, seed=1, low=-1.0)
    cold = measure(quiet("mesh"), weights, fields)
    warm = measure(quiet("mesh", temperature_error_k=kelvin, lo_phase_rad_per_k=0.08), weights, fields)
    assert (warm - cold * math.cos(0.08 * kelvin)).abs().max().item() < 1e-12


# ---------------------------------------------------------------- errors of the mesh


def _unitary(n: int, seed: int = 0) -> Tensor:
    """A real matrix whose singular values are 1, but for so little that both of its meshes are random."""
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0] for _ in range(2))
    return (u * torch.linspace(1, 0.9999, n, dtype=torch.float64)) @ v


def _matrix(chip: SimulatedChip, weights: Tensor) -> Tensor:
    """W_D (M, N), input by input."""
    return measure(chip, weights, torch.eye(chip.spec.n_inputs, dtype=torch.float64)).T


def _squared_errors(weights: Tensor, devices: int, **fields: object) -> tuple[float, float]:
    """Mean ||dW||_F^2 / N over devices: of what the oscillators read, and of the quadrature that they miss."""
    quarter = (math.pi / 2) / 0.05  # kelvin that turn the oscillators by as much
    n, codes = len(weights), None
    real, imaginary = 0.0, 0.0
    for device in range(devices):
        for kelvin in (0.0, quarter):
            chip = quiet("mesh", device=device, temperature_error_k=kelvin, n_outputs=n, n_inputs=n, **fields)
            codes = weight_codes(chip, weights[None, None]) if codes is None else codes
            light = torch.eye(n, dtype=torch.float64)[None].to(chip.spec.code_dtype)
            matrix = chip.measure(codes, light).counts[0, 0].T
            if kelvin:
                imaginary += matrix.square().sum().item() / n / devices
            else:
                real += (matrix - weights).square().sum().item() / n / devices
    return real, imaginary


@pytest.mark.parametrize("sigma", [0.005, 0.02])
def test_phase_errors_follow_the_closed_form(sigma: float) -> None:
    """sigma sqrt(N) for each of two meshes (sim.md e.9, and the output phases).

    A real matrix is made of rotations by theta / 2, so only the errors of theta are in phase, sigma^2 (N - 1) / 4 for a
    mesh; all others are in quadrature, which no oscillator reads.
    """
    real, imaginary = _squared_errors(_unitary(16), 80, phase_error_rad=sigma)
    assert real + imaginary == pytest.approx(2 * sigma**2 * 16, rel=0.07)  # standard error below 1.5 %
    assert real == pytest.approx(2 * sigma**2 * 15 / 4, rel=0.07)


@pytest.mark.parametrize("sigma", [0.005, 0.02])
def test_splitter_errors_follow_the_closed_form(sigma: float) -> None:
    """sigma sqrt(2 (N - 1)) for each of two meshes; of a real matrix, to first order, all of it in quadrature."""
    real, imaginary = _squared_errors(_unitary(16), 80, splitter_error_rad=sigma)
    assert real + imaginary == pytest.approx(2 * 2 * sigma**2 * 15, rel=0.07)
    assert real < 60 * sigma**2 * imaginary


@pytest.mark.parametrize("bits", [8, 11])
def test_phases_on_a_grid_follow_the_closed_form(bits: int) -> None:
    """As phase errors of sigma = 2 pi / 2^bits / sqrt(12), over 30 matrices."""
    sigma = 2 * math.pi / 2**bits / math.sqrt(12)
    squares = [sum(_squared_errors(_unitary(16, seed), 1, weight_bits=bits)) for seed in range(30)]
    assert sum(squares) / 30 == pytest.approx(2 * sigma**2 * 16, rel=0.08)  # standard error 2 %


def test_heaters_warm_their_neighbours_by_the_exponential() -> None:
    """phi' = Gamma phi over the places of all heaters: the matrix of a chip is that of the warmed phases."""
    a, b, pitch = 0.217, 0.02, 30.0
    chip = quiet("mesh", thermal_crosstalk=a, thermal_decay_per_um=b, heater_pitch_um=pitch)
    weights = random(4, 8, low=-1.0)
    phases, _ = svdmesh.program(weights[None])
    where = svdmesh.heaters(4, 8) * pitch
    distance = (where[:, None] - where[None]).square().sum(-1).sqrt()
    gamma = (a * torch.exp(-b * distance)).fill_diagonal_(1.0)
    expected = svdmesh.transfer(phases @ gamma, 4, 8)[0].real
    found = _matrix(chip, weights)
    assert (found - expected).abs().max().item() < 1e-6  # couplings below 1e-9 are left out
    assert (found - weights / torch.linalg.matrix_norm(weights, 2)).abs().max().item() > 0.01


@pytest.mark.parametrize("loss_db", [0.1, 0.5])
def test_modes_at_the_edge_lose_less_than_the_link_budget_took(loss_db: float) -> None:
    """Loss in every interferometer, times the longest path's, which is paid for: no path is below what it should be."""
    weights = random(4, 8, low=-1.0)
    phases, _ = svdmesh.program(weights[None])
    path_db = (4 + 8 + 1) * loss_db
    expected = svdmesh.transfer(phases, 4, 8, loss_db=loss_db)[0].real * 10 ** (path_db / 20)
    uneven = _matrix(quiet("mesh", device_loss_db=loss_db, uneven_loss=True), weights)
    assert (uneven - expected).abs().max().item() < 1e-12
    even = _matrix(quiet("mesh", device_loss_db=loss_db, uneven_loss=False), weights)
    assert (even - weights / torch.linalg.matrix_norm(weights, 2)).abs().max().item() < 1e-12
    assert (uneven - even).abs().max().item() > 0.1 * loss_db


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"local_oscillator_ratio": 0.0}, "local_oscillator_ratio"),
        ({"phase_error_rad": -0.1}, "phase_error_rad"),
        ({"splitter_error_rad": 0.5}, "splitter_error_rad"),
        ({"lo_phase_spread_rad": 1.0}, "lo_phase_spread_rad"),
        ({"lo_phase_drift_rad": -1.0}, "lo_phase_drift_rad"),
        ({"rin_per_line": True}, "rin_per_line needs a laser for each channel"),
        ({"input_bits": 1}, "input_bits must be at least 2: fields have a sign; found 1"),
        ({"thermal_crosstalk": 0.1, "heater_pitch_um": 20.0}, "heater_pitch_um must be above 23"),
    ],
)
def test_what_no_mesh_can_be_is_refused(fields: dict[str, object], said: str) -> None:
    """At construction, by field and bound."""
    with pytest.raises(RecordError, match=said):
        quiet("mesh", **fields)
