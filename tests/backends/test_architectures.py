"""What holds for every architecture behind the same chip: exact products, kept tiles, streams of noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import worker as worker_process

from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.simulated import SimulatedChip, open_simulated
from photonic.physics import svdmesh
from photonic.physics.crossbar import Crossbar
from photonic.physics.mesh import Mesh
from photonic.physics.optics import Optics, Surroundings
from photonic.physics.ringbank import RingBank

IDEAL = ("ideal", "crossbar-ideal", "mesh-ideal")
TYPICAL = ("typical", "crossbar-typical", "mesh-typical")
SIZE = {"n_outputs": 5, "n_inputs": 7}
# (G, B, N, M): less than a tile, exactly one, one more than it, several that do not fill, groups
SHAPES = [(1, 1, 1, 1), (1, 4, 3, 2), (1, 3, 7, 5), (1, 3, 8, 6), (1, 6, 40, 23), (3, 5, 9, 11)]
Matrices = Callable[[Optics, Tensor, Surroundings], tuple[Tensor, Tensor]]
EPSILON = {torch.float32: 2e-6, torch.float64: 3e-14}


def _operands(shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g, b, n, m = shape
    generator = torch.Generator().manual_seed(g + 10 * b + 100 * n + 1000 * m)
    x = torch.randn(g, b, n, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.randn(g, m, n, generator=generator, dtype=torch.float64).to(dtype)


def _assert_exact(backend: Backend, x: Tensor, weight: Tensor) -> None:
    """Within rounding of the largest sum of magnitudes, whatever cancels."""
    found = backend.matmul(x, weight)
    assert found.dtype == x.dtype
    error = (found.double() - x.double() @ weight.double().mT).abs().max()
    assert error.item() <= EPSILON[x.dtype] * (x.double().abs() @ weight.double().abs().mT).max().item()


# ---------------------------------------------------------------- exact


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preset", IDEAL)
def test_an_ideal_chip_multiplies_as_torch_does(
    preset: str, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    """To rounding: every tiling, groups, inputs of one sign and of both, averaged shots, every sign encoding."""
    chip = open_simulated(preset, **SIZE)
    x, weight = _operands(shape, dtype)
    for sign in ("auto", "time", "space", "offset"):
        for shots in (1, 3):
            backend = CalibratedBackend(chip, sign=sign, shots=shots)
            for inputs in (x, x.abs(), -x.abs(), x.clamp(min=0)):
                _assert_exact(backend, inputs, weight)


@pytest.mark.parametrize("preset", IDEAL)
def test_weights_of_every_size_are_exact(preset: str) -> None:
    """Rank one, equal singular values, zeros, rows of zeros, and far from 1."""
    backend = CalibratedBackend(open_simulated(preset, **SIZE))
    x, weight = _operands((1, 6, 14, 10))
    one = torch.outer(torch.arange(1.0, 11), torch.linspace(-1, 1, 14)).double()[None]
    rows = weight.clone()
    rows[:, 2:7] = 0
    for case in (one, torch.eye(10, 14, dtype=torch.float64)[None], weight * 0, rows, weight * 1e-9, weight * 1e9):
        _assert_exact(backend, x, case)


@pytest.mark.parametrize("preset", IDEAL)
def test_a_gain_for_each_tile_is_taken_off_again(preset: str) -> None:
    """Before the ADC, where there is none, it changes nothing."""
    backend = CalibratedBackend(open_simulated(preset, **SIZE))
    x, weight = _operands((2, 4, 20, 12))
    rows, columns = backend.tiles(2, 12, 20)
    gains = torch.tensor([1.0, 2.0, 4.0, 8.0])[torch.arange(rows * columns) % 4].view(rows, columns)
    view = backend.bind(Site("layer", gains=gains))
    _assert_exact(view, x, weight)


@pytest.mark.parametrize("preset", IDEAL)
def test_convolutions_are_exact(preset: str) -> None:
    """Grouped, strided and padded."""
    backend = CalibratedBackend(open_simulated(preset, **SIZE))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 9, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 2, 3, 2, generator=generator, dtype=torch.float64)
    y = backend.convolve(x, weight, ConvGeometry((2, 1), (1, 0), (1, 1), 2))
    exact = torch.nn.functional.conv2d(x, weight, None, (2, 1), (1, 0), (1, 1), 2)
    torch.testing.assert_close(y, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("preset", TYPICAL)
def test_a_typical_chip_multiplies_about_as_torch_does(preset: str) -> None:
    """With all effects on; not exactly, or an effect was lost."""
    backend = CalibratedBackend(open_simulated(preset), shots=8)
    x, weight = _operands((1, 64, 70, 40))
    exact = x @ weight.mT
    error = ((backend.matmul(x, weight) - exact).norm() / exact.norm()).item()
    assert 0.005 < error < 0.5


# ---------------------------------------------------------------- noise of sums


@pytest.mark.parametrize("columns", [2, 8])
def test_rin_of_a_sum_of_tiles_is_the_sum_of_their_variances(columns: int) -> None:
    """c sum D_c^2, as every tile's shot has a factor of its own, and not c (sum D_c)^2."""
    rin = 10**-13.5 * 5e9
    backend = CalibratedBackend(open_simulated("ideal", n_outputs=3, n_inputs=4, rin_db_per_hz=-135.0))
    x = torch.ones(1, 20_000, 4 * columns, dtype=torch.float64)
    y = backend.matmul(x, torch.full((1, 3, 4 * columns), 0.5, dtype=torch.float64))[0]
    assert y.mean(0).numpy() == pytest.approx(2.0 * columns, rel=1e-3)
    covariance = torch.cov(y.T)
    assert covariance.numpy() == pytest.approx(rin * columns * 2.0**2, rel=0.06)  # standard error 1 %


# ---------------------------------------------------------------- what is kept


@pytest.fixture
def programmed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tiles each decomposition was asked for."""
    asked: list[int] = []
    original = svdmesh.program

    def counting(weights: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(weights))
        return original(weights)

    monkeypatch.setattr(svdmesh, "program", counting)
    return asked


def test_a_mesh_decomposes_a_weight_once_until_it_changes(programmed: list[int]) -> None:
    """Freshness is decided by the numbers, not by the tensor; the site says how often and how long."""
    backend = CalibratedBackend(open_simulated("mesh-typical", **SIZE))
    view = backend.bind(Site("layer"))
    x, weight = _operands((1, 3, 14, 10))
    for _ in range(3):
        view.matmul(x.abs(), weight)
    view.matmul(x.abs() * 2, weight.clone())  # other inputs, and equal numbers elsewhere
    assert programmed == [4]
    assert view.site.encodings == 1
    first = view.site.encode_seconds
    assert first > 0
    weight[0, 3, 2] += 1e-12
    view.matmul(x.abs(), weight)
    assert programmed == [4, 4]
    assert view.site.encodings == 2
    assert view.site.encode_seconds > first
    assert backend.site.encodings == 0


def test_every_layer_keeps_its_own_weight(programmed: list[int]) -> None:
    """Two layers that take turns do not push each other out."""
    backend = CalibratedBackend(open_simulated("mesh-typical", **SIZE))
    layers = [backend.bind(Site(name)) for name in ("one", "two")]
    x, weight = _operands((1, 3, 7, 5))
    for _ in range(3):
        for k, layer in enumerate(layers):
            layer.matmul(x, weight + k)
    assert programmed == [1, 1]
    assert [layer.site.encodings for layer in layers] == [1, 1]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tiles the optics were asked for, call by call."""
    asked: list[int] = []
    for optics in (RingBank, Crossbar, Mesh):

        def counting(
            self: Optics, codes: Tensor, around: Surroundings, original: Matrices = optics.matrices
        ) -> tuple[Tensor, Tensor]:
            asked.append(len(codes))
            return original(self, codes, around)

        monkeypatch.setattr(optics, "matrices", counting)
    return asked


@pytest.mark.parametrize("preset", TYPICAL)
def test_what_tiles_do_to_light_is_kept_while_their_codes_stay(computed: list[int], preset: str) -> None:
    """Not computed for every call; and never stale: other codes are other tiles."""
    backend = CalibratedBackend(open_simulated(preset, **SIZE))
    x, weight = _operands((1, 3, 7, 5))
    for _ in range(6):
        backend.matmul(x.abs(), weight)
    assert 1 <= sum(computed) <= 3
    turned = backend.matmul(x.abs(), -weight)
    assert ((turned + x.abs() @ weight.mT).norm() / turned.norm()).item() < 0.5


@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        ("typical", {"temperature_drift_k": 0.1}),
        ("typical", {"bias_drift_rad": 0.1}),
        ("crossbar-typical", {"read_spread": 0.01}),
        ("mesh-typical", {"lo_phase_drift_rad": 0.1}),
    ],
)
def test_what_changes_from_call_to_call_is_computed_for_every_call(
    computed: list[int], preset: str, fields: dict[str, float]
) -> None:
    """Nothing is kept of a tile that drifts."""
    backend = CalibratedBackend(open_simulated(preset, **SIZE, **fields))
    x, weight = _operands((1, 3, 7, 5))
    for _ in range(6):
        backend.matmul(x.abs(), weight)
    assert sum(computed) == 6


# ---------------------------------------------------------------- streams of noise


def _codes(chip: SimulatedChip) -> tuple[Tensor, Tensor]:
    low, high = chip.spec.weight_code_range
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(int(low), int(high) + 1, (1, 1, chip.spec.drives), generator=generator)
    light = torch.randint(0, int(chip.spec.input_code_range[1]) + 1, (1, 200, chip.spec.n_inputs), generator=generator)
    return weights.to(chip.spec.code_dtype), light.to(chip.spec.code_dtype)


def _counts(preset: str, **fields: object) -> Tensor:
    chip = open_simulated(preset, **{"adc_full_scale": 1.0, "adc_bits": 10} | SIZE | fields, seed=4, device=2)
    return chip.measure(*_codes(chip)).counts.double()


def _of_ranks(monkeypatch: pytest.MonkeyPatch, preset: str, **fields: object) -> list[Tensor]:
    """What a single process measures, and then the ranks 0, 1 and 2."""
    found = [_counts(preset, **fields)]
    with monkeypatch.context() as patch:
        patch.setattr(dist, "is_initialized", lambda: True)
        for rank in range(3):
            patch.setattr(dist, "get_rank", lambda rank=rank: rank)
            found.append(_counts(preset, **fields))
    return found


@pytest.mark.parametrize("preset", TYPICAL)
@pytest.mark.parametrize("fields", [{}, {"input_enob": 6.0}])
def test_every_rank_has_its_own_noise(monkeypatch: pytest.MonkeyPatch, preset: str, fields: dict[str, float]) -> None:
    """The rank is asked at the call, and rank 0 has what a single process has."""
    alone, *ranks = _of_ranks(monkeypatch, preset, **fields)
    assert torch.equal(ranks[0], alone)
    noise = torch.stack([counts.flatten() for counts in ranks])
    # what is left of three independent ones without their mean correlates by -1/2
    correlation = torch.corrcoef(noise - noise.mean(0))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert correlation[i, j].item() == pytest.approx(-0.5, abs=0.15)


@pytest.mark.parametrize("preset", TYPICAL)
def test_every_rank_drifts_by_itself_and_has_the_same_device(monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """Without noise and drift all ranks measure the same counts; with drift alone, each its own."""
    quiet = {"shot_noise": False, "thermal_noise_a_per_rthz": 0.0, "rin_db_per_hz": None}
    still = _of_ranks(monkeypatch, preset, **quiet)
    assert all(torch.equal(counts, still[0]) for counts in still)
    alone, *ranks = _of_ranks(monkeypatch, preset, gain_drift=0.1, **quiet)
    assert torch.equal(ranks[0], alone)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(ranks[one], ranks[other])


def test_every_worker_of_a_loader_has_its_own_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is asked at the call, and the main process is none of them."""
    found = [_counts("typical")]
    for worker in range(2):
        monkeypatch.setattr(worker_process, "_worker_info", SimpleNamespace(id=worker))
        found.append(_counts("typical"))
        assert torch.equal(_counts("typical"), found[-1])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[2])


class _Measured(Dataset[Tensor]):
    """Items that the chip measures where they are loaded."""

    def __init__(self) -> None:
        self._chip = open_simulated("typical", **SIZE)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return self._chip.measure(*_codes(self._chip)).counts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")  # torch's own workers fork
def test_workers_that_hold_a_copy_of_one_chip_do_not_repeat_each_other() -> None:
    """Two processes; each item once."""
    items = list(DataLoader(_Measured(), batch_size=None, num_workers=2))
    assert len(items) == 4
    for i, one in enumerate(items):
        for other in items[i + 1 :]:
            assert not torch.equal(one, other)


def _streams(preset: str) -> Iterator[Tensor]:
    for purpose in ("run", "calibrate", "verify"):
        for seed in (0, 1):
            chip = open_simulated(preset, **SIZE, seed=seed, purpose=purpose)
            codes = _codes(chip)
            yield chip.measure(*codes).counts
            yield chip.measure(*codes).counts


@pytest.mark.parametrize("preset", TYPICAL)
def test_no_two_calls_share_noise(preset: str) -> None:
    """Of any purpose, run seed or index of the call."""
    found = list(_streams(preset))
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            assert not torch.equal(one, other)
