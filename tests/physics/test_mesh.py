"""Meshes make the matrices that they are programmed for, and their errors follow the closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from photonic.errors import RangeError, ShapeError
from photonic.physics import clements, svdmesh
from photonic.physics.clements import Phases

TURN = 2 * math.pi


def _haar(tiles: int, n: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    """QR of a Gaussian matrix, with R's diagonal made positive (Mezzadri, Notices AMS 54, 592)."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(tiles, n, n, generator=generator, dtype=dtype))
    diagonal = r.diagonal(dim1=1, dim2=2)
    return q * (diagonal / diagonal.abs()).unsqueeze(1)


def _normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _assert_round_trip(matrix: Tensor) -> Phases:
    phases = clements.decompose(matrix)
    assert (clements.unitary(phases) - matrix).abs().max().item() < 1e-12
    for part in (phases.theta, phases.phi, phases.output):
        assert ((part >= 0) & (part < TURN)).all()
    return phases


# ---------------------------------------------------------------- one mesh


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 16, 64])
def test_a_unitary_comes_back(n: int) -> None:
    """Haar-random, and real orthogonal of both signs of the determinant."""
    phases = _assert_round_trip(_haar(3, n))
    assert phases.theta.shape == phases.phi.shape == (3, n * (n - 1) // 2)
    assert phases.output.shape == (3, n)
    real = _haar(2, n, dtype=torch.float64)
    real[1, 0] *= -torch.linalg.det(real[1]).sign()
    assert torch.linalg.det(real[1]).item() == pytest.approx(-1.0)
    _assert_round_trip(real)


@pytest.mark.parametrize("n", [2, 3, 6, 9])
@pytest.mark.parametrize("kind", ["diagonal", "reversed", "shift", "blocks", "nearly diagonal", "Fourier"])
def test_matrices_with_zeros_come_back(n: int, kind: str) -> None:
    """Nothing to zero, nothing to zero it with, and elements of rounding size."""
    eye = torch.eye(n, dtype=torch.complex128)
    blocks = eye.clone()
    blocks[: n // 2, : n // 2] = _haar(1, n // 2)[0]
    generator = 1e-9j * (_normal(n, n) + _normal(n, n).T)
    index = torch.arange(n, dtype=torch.float64)
    matrix = {
        "diagonal": torch.polar(torch.ones(n, dtype=torch.float64), index * 2.5).diag(),
        "reversed": -eye.flip(0),
        "shift": eye.roll(1, 0),
        "blocks": blocks,
        "nearly diagonal": torch.linalg.matrix_exp(generator),
        "Fourier": torch.exp(1j * TURN / n * torch.outer(index, index)) / math.sqrt(n),
    }[kind]
    _assert_round_trip(matrix.unsqueeze(0))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 9))
def test_signed_permutations_come_back(data: st.DataObject, n: int) -> None:
    """With any quarter-turn phases."""
    order = data.draw(st.permutations(range(n)))
    quarters = torch.tensor(data.draw(st.lists(st.sampled_from([1, 1j, -1, -1j]), min_size=n, max_size=n)))
    _assert_round_trip((torch.eye(n)[order] * quarters).to(torch.complex128).unsqueeze(0))


def test_the_identity_is_a_mesh_of_bar_states() -> None:
    """An MZI that has nothing to do lets both modes pass."""
    assert clements.decompose(torch.eye(8).unsqueeze(0)).theta == pytest.approx(math.pi)


def test_an_angle_just_below_zero_is_not_a_whole_turn() -> None:
    """Adding 2 pi to it would round to 2 pi, which is outside [0, 2 pi)."""
    angles = torch.tensor([-1e-17, -0.5, TURN, 7.0], dtype=torch.float64)
    assert clements.wrapped(angles).tolist() == pytest.approx([0.0, TURN - 0.5, 0.0, 7.0 - TURN])


def test_tiles_do_not_touch_each_other() -> None:
    """A stack decomposes as its members do; an empty one gives nothing; the argument is left alone."""
    matrix = _haar(5, 6)
    kept = matrix.clone()
    together, alone = clements.decompose(matrix), clements.decompose(matrix[3:4])
    assert torch.equal(matrix, kept)
    assert together.theta[3].numpy() == pytest.approx(alone.theta[0].numpy(), abs=1e-12)
    assert clements.unitary(clements.decompose(matrix[:0])).shape == (0, 6, 6)


def test_one_mzi_is_the_product_in_the_docstring() -> None:
    """Phase, coupler, phase, coupler, with couplers that are off by their errors."""
    theta, phi, errors = 0.7, 2.1, (0.05, -0.08)

    def coupler(error: float) -> Tensor:
        generator = torch.tensor([[0, 1j], [1j, 0]], dtype=torch.complex128)
        return torch.linalg.matrix_exp((math.pi / 4 + error) * generator)

    def shift(angle: float) -> Tensor:
        return torch.tensor([complex(math.cos(angle), math.sin(angle)), 1], dtype=torch.complex128).diag()

    phases = Phases(*(torch.tensor([row], dtype=torch.float64) for row in ([theta], [phi], [0.0, 0.0])))
    found = clements.unitary(phases, splitter=torch.tensor([errors], dtype=torch.float64))[0]
    expected = coupler(errors[1]) @ shift(theta) @ coupler(errors[0]) @ shift(phi)
    assert (found - expected).abs().max().item() < 1e-15
    s, c, common = math.sin(theta / 2), math.cos(theta / 2), 1j * torch.exp(torch.tensor(0.5j * theta))
    ideal = common * torch.tensor([[s, c], [c, -s]]) @ shift(phi).to(torch.complex64)
    assert (clements.unitary(phases)[0] - ideal).abs().max().item() < 1e-6


@pytest.mark.parametrize("n", [5, 6])
def test_an_mzi_stands_where_the_physical_order_says(n: int) -> None:
    """A single cross state among bar states swaps the two modes that ``places`` names."""
    places = clements.places(n)
    assert places[:, 0].tolist() == sorted(places[:, 0].tolist())
    assert ((places.sum(dim=1) % 2) == 0).all()
    for index, (_, mode) in enumerate(places.tolist()):
        theta = torch.full((1, len(places)), math.pi, dtype=torch.float64)
        theta[0, index] = 0.0
        power = clements.unitary(Phases(theta, torch.zeros_like(theta), theta.new_zeros(1, n)))[0].abs().square()
        order = list(range(n))
        order[mode], order[mode + 1] = mode + 1, mode
        assert power.numpy() == pytest.approx(torch.eye(n)[order].numpy(), abs=1e-12)


@pytest.mark.parametrize(
    ("matrix", "error"),
    [
        (torch.eye(3), ShapeError),
        (torch.ones(1, 2, 3), ShapeError),
        (torch.ones(1, 3, 3), RangeError),
        (torch.full((1, 2, 2), math.nan), RangeError),
        (_haar(1, 8).to(torch.complex64), RangeError),
    ],
)
def test_what_is_not_unitary_is_refused(matrix: Tensor, error: type[Exception]) -> None:
    """In single precision too: its phases would be good to six digits only."""
    with pytest.raises(error, match="expected"):
        clements.decompose(matrix)


def test_phases_of_the_wrong_size_are_refused() -> None:
    """Of the MZIs, and of the couplers."""
    phases = clements.decompose(_haar(2, 4))
    with pytest.raises(ShapeError, match="theta and phi"):
        clements.unitary(replace(phases, phi=phases.phi[:, :5]))
    with pytest.raises(ShapeError, match="splitter"):
        clements.unitary(phases, splitter=torch.zeros(6))


# ---------------------------------------------------------------- errors, against reference/sim.md e.9


def _relative_error(found: Tensor, meant: Tensor) -> float:
    """||dU||_F / sqrt(N), root mean square over the draws."""
    return math.sqrt((found - meant).abs().square().sum().item() / (len(meant) * meant.shape[-1]))


# One draw has a relative spread of 11 % (N = 16) or 5 % (N = 64), so these many have a standard error below 0.8 %.
@pytest.mark.parametrize(("n", "draws"), [(16, 400), (64, 48)])
@pytest.mark.parametrize("sigma", [0.005, 0.01])
def test_phase_errors_follow_the_closed_form(n: int, draws: int, sigma: float) -> None:
    """sigma sqrt(N - 1) for the phases of the MZIs; the N output phases make it sigma sqrt(N)."""
    meant = _haar(draws, n)
    ideal = clements.decompose(meant)
    theta, phi = (part + sigma * _normal(*part.shape, seed=seed) for seed, part in enumerate((ideal.theta, ideal.phi)))
    without = clements.unitary(Phases(theta, phi, ideal.output))
    assert _relative_error(without, meant) == pytest.approx(sigma * math.sqrt(n - 1), rel=0.03)
    output = ideal.output + sigma * _normal(*ideal.output.shape, seed=9)
    whole = clements.unitary(Phases(theta, phi, output))
    assert _relative_error(whole, meant) == pytest.approx(sigma * math.sqrt(n), rel=0.03)


@pytest.mark.parametrize(("n", "devices"), [(16, 60), (64, 8)])
def test_splitter_errors_follow_the_closed_form(n: int, devices: int) -> None:
    """sigma sqrt(2 (N - 1)); 4 tiles on each device."""
    meant, sigma = _haar(4, n), 0.01
    ideal = clements.decompose(meant)
    errors = sigma * _normal(devices, clements.mzi_count(n), 2)
    found = torch.cat([clements.unitary(ideal, splitter=device) for device in errors])
    expected = sigma * math.sqrt(2 * (n - 1))
    assert _relative_error(found, meant.repeat(devices, 1, 1)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("n", "draws"), [(16, 400), (64, 48)])
@pytest.mark.parametrize("bits", [6, 8, 12])
def test_rounded_phases_follow_the_closed_form(n: int, draws: int, bits: int) -> None:
    """All N^2 phases on 2^b levels: sigma sqrt(N) with sigma = 2 pi / (2^b sqrt(12))."""
    meant, step = _haar(draws, n), TURN / 2**bits
    ideal = clements.decompose(meant)
    rounded = Phases(*((part / step).round() * step for part in (ideal.theta, ideal.phi, ideal.output)))
    expected = step / math.sqrt(12) * math.sqrt(n)
    assert _relative_error(clements.unitary(rounded), meant) == pytest.approx(expected, rel=0.03)


# ---------------------------------------------------------------- loss


@pytest.mark.parametrize("n", [2, 3, 8, 9])
def test_loss_lies_between_the_shortest_and_the_longest_path(n: int) -> None:
    """Every singular value: at most N MZIs, at least N // 2. Without loss the mesh is unitary."""
    phases = clements.decompose(_haar(4, n))
    without = clements.unitary(phases)
    assert (without.mH @ without - torch.eye(n)).abs().max().item() < 1e-12
    db = -20 * torch.linalg.svdvals(clements.unitary(phases, loss_db=0.3)).log10()
    assert (db > 0.3 * (n // 2) - 1e-9).all()
    assert (db < 0.3 * n + 1e-9).all()


@pytest.mark.parametrize(("n", "passed"), [(2, [1, 1]), (3, [2, 3, 1]), (5, [3, 5, 5, 5, 2]), (6, [3, 6, 6, 6, 6, 3])])
def test_modes_at_the_edge_lose_less(n: int, passed: list[int]) -> None:
    """In bar states every mode stays where it is, and meets the MZIs that touch it."""
    lossy = clements.unitary(clements.decompose(torch.eye(n).unsqueeze(0)), loss_db=0.5)[0]
    assert (-20 * lossy.diagonal().abs().log10()).tolist() == pytest.approx([0.5 * count for count in passed])


# ---------------------------------------------------------------- two meshes and attenuators

SHAPES = [(1, 1), (1, 5), (5, 1), (2, 2), (3, 2), (4, 7), (16, 8), (64, 64)]


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_a_real_matrix_comes_back(m: int, n: int) -> None:
    """Random, of rank one, orthogonal columns or rows, and very small."""
    random = _normal(1, m, n)
    rank_one = _normal(1, m, 1) @ _normal(1, 1, n, seed=2)
    cases = torch.cat([random, rank_one, torch.eye(m, n, dtype=torch.float64).unsqueeze(0), 1e-200 * random])
    drives, largest = svdmesh.program(cases)
    assert drives.shape == (4, svdmesh.drive_count(m, n))
    assert ((drives >= 0) & (drives < TURN)).all()
    assert largest.numpy() == pytest.approx(torch.linalg.matrix_norm(cases, 2).numpy())
    expected = cases / largest[:, None, None]
    assert (svdmesh.transfer(drives, m, n) - expected).abs().max().item() < 1e-11


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 5), (6, 2)])
def test_a_matrix_of_zeros_closes_the_attenuators(m: int, n: int) -> None:
    """No NaN, and no light."""
    drives, largest = svdmesh.program(torch.zeros(2, m, n))
    assert largest.tolist() == [0.0, 0.0]
    assert (drives[:, n * n : n * n + min(m, n)] == 0).all()
    assert (svdmesh.transfer(drives, m, n) == 0).all()


def test_the_same_matrix_gets_the_same_drives() -> None:
    """In any company, at any scale, and whichever signs the singular vectors had."""
    weights = _normal(3, 6, 4)
    drives, largest = svdmesh.program(weights)
    again, _ = svdmesh.program(weights[1:2].clone())
    assert torch.cos(drives[1] - again[0]).min().item() == pytest.approx(1.0, abs=1e-12)
    scaled, twice = svdmesh.program(2 * weights)
    assert torch.equal(scaled, drives)
    assert torch.equal(twice, 2 * largest)
    u, _, vh = torch.linalg.svd(weights)
    flip_u, flip_v = torch.tensor([1.0, -1, 1, -1, -1, 1]), torch.tensor([1.0, -1, 1, -1])
    for one, other in zip(svdmesh._signed(u, vh), svdmesh._signed(u * flip_u, vh * flip_v[:, None]), strict=True):
        assert torch.equal(one, other)


def test_every_part_of_the_drives_acts_where_the_order_says() -> None:
    """A heater of V turns an input's path, one of U an output's, an attenuator one singular value."""
    m, n = 3, 2
    weights = _normal(1, m, n)
    drives, largest = svdmesh.program(weights)
    u, s, vh = torch.linalg.svd(weights[0])
    halved = drives.clone()
    halved[0, n * n + 1] = 2 * math.asin(0.5 * (s[1] / s[0]).item())
    expected = (s[0] * torch.outer(u[:, 0], vh[0]) + s[1] / 2 * torch.outer(u[:, 1], vh[1])) / largest
    assert (svdmesh.transfer(halved, m, n)[0] - expected).abs().max().item() < 1e-12
    turned = drives.clone()
    turned[0, -1] += math.pi  # the last output of U
    expected = weights[0] / largest * torch.tensor([[1.0], [1.0], [-1.0]])
    assert (svdmesh.transfer(turned, m, n)[0] - expected).abs().max().item() < 1e-12
    turned = drives.clone()
    turned[0, 1] += math.pi  # phi of V's only MZI, on the first input
    expected = weights[0] / largest * torch.tensor([-1.0, 1.0])
    assert (svdmesh.transfer(turned, m, n)[0] - expected).abs().max().item() < 1e-12


@pytest.mark.parametrize(("m", "n", "mzis"), [(1, 1, 1), (2, 2, 3), (2, 4, 6), (8, 8, 17), (3, 5, 9)])
def test_the_nominal_loss_is_that_of_the_longest_path(m: int, n: int, mzis: int) -> None:
    """Elements that differ from it differ upwards."""
    assert svdmesh.nominal_loss_db(m, n, 0.2) == pytest.approx(0.2 * mzis)
    drives, _ = svdmesh.program(torch.eye(m, n).unsqueeze(0))
    db = -20 * svdmesh.transfer(drives, m, n, loss_db=0.2)[0].diagonal().abs().log10()
    assert db.max().item() <= 0.2 * mzis + 1e-9
    if min(m, n) > 2 or max(m, n) <= 2:  # otherwise no path is inside both meshes
        assert db.max().item() == pytest.approx(0.2 * mzis)


def test_splitter_errors_go_to_their_own_mesh() -> None:
    """Errors of either change the matrix, and none makes or loses power."""
    drives, _ = svdmesh.program(_normal(1, 3, 2))
    ideal = svdmesh.transfer(drives, 3, 2)
    zeros = svdmesh.transfer(drives, 3, 2, splitter_v=torch.zeros(1, 2), splitter_u=torch.zeros(3, 2))
    assert torch.equal(zeros, ideal)
    for errors in ({"splitter_v": 0.1 * _normal(1, 2)}, {"splitter_u": 0.1 * _normal(3, 2)}):
        found = svdmesh.transfer(drives, 3, 2, **errors)
        assert (found - ideal).abs().max().item() > 1e-3
        # a unitary beside the attenuators leaves the singular values alone
        assert torch.linalg.svdvals(found).numpy() == pytest.approx(torch.linalg.svdvals(ideal).numpy(), abs=1e-12)


def test_weights_and_drives_of_the_wrong_form_are_refused() -> None:
    """With what was expected."""
    for weights in (torch.ones(2, 3), torch.ones(1, 0, 3), torch.ones(1, 2, 2, dtype=torch.complex128)):
        with pytest.raises(ShapeError, match="real weights"):
            svdmesh.program(weights)
    with pytest.raises(RangeError, match="finite"):
        svdmesh.program(torch.full((1, 2, 2), math.inf))
    with pytest.raises(ShapeError, match="expected drives"):
        svdmesh.transfer(torch.zeros(1, 9), 2, 2)
    with pytest.raises(ShapeError, match="expected drives"):
        svdmesh.crosstalk(torch.zeros(1, 9), svdmesh.crosstalk_matrix(2, 2, 0.1, 0.1, 50.0))


# ---------------------------------------------------------------- crosstalk


@pytest.mark.parametrize(("m", "n"), [(1, 1), (4, 3), (3, 4)])
def test_every_heater_has_its_own_place(m: int, n: int) -> None:
    """And there are as many as drives."""
    places = svdmesh.heaters(m, n)
    assert len(torch.unique(places, dim=0)) == len(places) == svdmesh.drive_count(m, n)


def test_no_coefficient_no_crosstalk() -> None:
    """phi' = phi, exactly."""
    drives = _normal(5, svdmesh.drive_count(4, 3)).abs()
    assert torch.equal(svdmesh.crosstalk(drives, svdmesh.crosstalk_matrix(4, 3, 0.0, 0.127, 50.0)), drives)


def test_crosstalk_of_one_by_one_by_hand() -> None:
    """V's output, the attenuator and U's output lie in a row at 2, 3 and 6 pitches."""
    a, b, pitch = 0.2, 0.1, 30.0
    drives = torch.tensor([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0]], dtype=torch.float64)
    near, middle, far = a * math.exp(-3.0), a * math.exp(-9.0), a * math.exp(-12.0)
    found = svdmesh.crosstalk(drives, svdmesh.crosstalk_matrix(1, 1, a, b, pitch))
    assert found[0].tolist() == pytest.approx([1.0, near, far])
    assert found[1].tolist() == pytest.approx([0.5 + 2 * near, 2 + 0.5 * near, 2 * middle + 0.5 * far])


def test_the_crosstalk_matrix_is_the_formula_and_sparse() -> None:
    """Against every pair of heaters, also where the matrix is made in more than one piece."""
    m = n = 18  # 666 heaters
    gamma = svdmesh.crosstalk_matrix(m, n, 0.217, 0.127, 50.0)
    where = 50.0 * svdmesh.heaters(m, n)
    distance = (where[:, None] - where[None]).square().sum(dim=-1).sqrt()
    expected = (0.217 * torch.exp(-0.127 * distance)).fill_diagonal_(1.0)
    dense = gamma.to_dense()
    assert (dense - expected).abs().max().item() < 1e-9
    assert torch.equal(dense, dense.T)
    assert gamma.is_sparse
    assert gamma.values().numel() < 0.05 * dense.numel()
