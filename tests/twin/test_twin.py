"""What a twin refuses, draws, keeps, and differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import photonic
from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.backends.registry import open_backend
from photonic.backends.twin import TwinBackend, validity
from photonic.errors import ChipError, RangeError, SpecError
from photonic.physics.compiled import outputs, readout
from photonic.physics.draws import NormalDraws
from tests.twin.pairs import opened, rand, randn

PADDED = ConvGeometry((1, 1), (1, 1), (1, 1), 1)


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize("scheme", ["product", "convolution"])
def test_clipping_is_refused_with_layer_and_fraction(scheme: str) -> None:
    """The fraction is what the exact chip counts at its rails."""
    options = {"adc_full_scale": 0.05}
    twin = opened("twin", "typical", 0, **options).bind(Site("features.3"))
    exact = opened("sim", "typical", 0, **options).bind(Site())

    def run(backend: Backend) -> None:
        if scheme == "product":
            backend.matmul(rand(1, 300, 128), randn(1, 64, 128))
        else:
            backend.convolve(rand(2, 8, 12, 12), randn(16, 8, 3, 3), PADDED)

    run(exact)
    said: list[float] = []
    twin.site.judge = lambda found: said.append(found.clipped_fraction)
    run(twin)
    assert said[0] == pytest.approx(exact.site.usage.saturated_fraction, rel=0.1)
    twin.site.judge = None
    with pytest.raises(RangeError, match=rf"layer features.3: {100 * said[0]:.2f}% of the tile outputs are beyond"):
        run(twin)


def test_coarse_quantisation_is_refused_with_layer_and_fraction() -> None:
    """Four bits have 0.03 counts of noise."""
    twin = opened("twin", "typical", 0, adc_bits=4).bind(Site("fc"))
    with pytest.raises(RangeError, match=r"layer fc: 100.00% of the tile outputs are converted too coarsely"):
        twin.matmul(rand(1, 10, 64), randn(1, 10, 64))


def test_a_few_counts_at_the_rails_are_not_refused() -> None:
    """One tile output in a thousand may clip."""
    weight = randn(1, 64, 64)
    x = 0.3 * rand(1, 2000, 64)
    x[0, 0] = 1.0  # with weights of one sign in the first row, and one output of it
    weight[0, 0] = weight[0, 0].abs()
    opened("twin", "typical", 0).matmul(x, weight)


@pytest.mark.parametrize(
    "field",
    [
        "modulator_bandwidth_hz=1e9",
        "warm_up_k=1",
        "temperature_drift_k=0.1",
        "laser_drift=0.01",
        "gain_drift=0.01",
        "bias_drift_rad=0.01",
        "thermal_memory_k=1",
    ],
)
def test_what_changes_in_time_is_refused_when_it_is_opened(field: str) -> None:
    """The message names the field and the way out."""
    with pytest.raises(SpecError, match=rf"{field.partition('=')[0]}.*take the exact chip"):
        open_backend(f"twin:typical?{field}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("twin:typicla", "unknown preset"),
        ("twin?bandwith_hz=1e9", "did you mean bandwidth_hz"),
        ("twin?sing=time", "did you mean sign"),
        ("twin?sign=both", "sign must be one of"),
        ("twin?shots=0", "shots must be"),
        ("twin?analog_gain=3", "offers the analog gains"),
        ("twin?adc_bits=99", "adc_bits"),
    ],
)
def test_what_cannot_be_opened_says_why(spec: str, message: str) -> None:
    """As for the chip itself."""
    with pytest.raises(SpecError, match=message):
        open_backend(spec)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    """In the input and in the weight."""
    x, weight = rand(1, 4, 10), randn(1, 3, 10)
    x[0, 0, 0] = bad
    with pytest.raises(RangeError, match="input of layer fc"):
        opened("twin", "typical", 0).bind(Site("fc")).matmul(x, weight)
    weight[0, 0, 0] = bad
    with pytest.raises(RangeError, match="weight of layer fc"):
        opened("twin", "typical", 0).bind(Site("fc")).matmul(rand(1, 4, 10), weight)


# ---------------------------------------------------------------- what it draws


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all tensors of outputs that got noise, however they did."""
    sizes: list[int] = []

    def count(owner: object, name: str, which: int) -> None:
        original = getattr(owner, name)

        def counting(*arguments: Any) -> Any:
            sizes.append(arguments[which].numel())
            return original(*arguments)

        monkeypatch.setattr(owner, name, counting)

    count(NormalDraws, "fill_", 1)
    count(readout, "read", 2)
    count(outputs, "add_noise_", 0)
    return sizes


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [("twin", 32 * 130), ("sim", 3 * 64 * 3 * 32)],  # an output; a tile output, three column tiles of three row tiles
)
def test_every_output_has_a_fresh_draw(drawn: list[int], scheme: str, expected: int) -> None:
    """One for each output of a twin, one for each tile output of the chip; none is used twice."""
    backend = opened(scheme, "typical", 0)
    x, weight = rand(1, 32, 150), randn(1, 130, 150)
    first, second = backend.matmul(x, weight), backend.matmul(x, weight)
    # what all outputs of a tile's shot share is one draw for each of these, 3 x 3 x 32 of them
    assert sum(size for size in drawn if size > 3 * 3 * 32) == 2 * expected
    assert bool((first != second).double().mean() > 0.9)


def test_a_convolution_draws_once_for_each_output(drawn: list[int]) -> None:
    """Whatever its column tiles."""
    opened("twin", "typical", 0).convolve(rand(2, 16, 9, 9), randn(8, 16, 3, 3), PADDED)
    assert sum(drawn) == 2 * 8 * 9 * 9


def test_nothing_is_drawn_that_is_zero(drawn: list[int]) -> None:
    """The ideal chip and its twin are exact."""
    x, weight = randn(2, 9, 70).double(), randn(2, 65, 70).double()
    y = opened("twin", "ideal", 0).matmul(x, weight)
    torch.testing.assert_close(y, x @ weight.mT, rtol=1e-12, atol=1e-12)
    images, kernel = randn(2, 6, 8, 8).double(), randn(4, 3, 3, 3).double()
    geometry = ConvGeometry((2, 1), (1, 0), (1, 2), 2)
    y = opened("twin", "ideal", 0).convolve(images, kernel, geometry)
    exact = torch.nn.functional.conv2d(images, kernel, None, (2, 1), (1, 0), (1, 2), 2)
    torch.testing.assert_close(y, exact, rtol=1e-12, atol=1e-12)
    assert drawn == []


# ---------------------------------------------------------------- seeds and state


def test_same_seeds_same_results_and_other_seeds_others() -> None:
    """Run and device each decide."""
    x, weight = rand(1, 50, 100), randn(1, 30, 100)

    def run(seed: int, device: int) -> Tensor:
        return open_backend("twin", seed=seed, device=device).matmul(x, weight)

    assert torch.equal(run(1, 2), run(1, 2))
    assert not torch.equal(run(1, 2), run(2, 2))
    assert not torch.equal(run(1, 2), run(1, 3))


def test_state_resumes_the_noise() -> None:
    """A twin that takes another's state draws what the other would have drawn next."""
    x, weight = rand(1, 50, 100), randn(1, 30, 100)
    first = opened("twin", "typical", 4)
    first.matmul(x, weight)
    state = first.state()
    expected = first.matmul(x, weight)
    resumed = opened("twin", "typical", 4)
    resumed.restore(state)
    assert torch.equal(resumed.matmul(x, weight), expected)
    with pytest.raises(ChipError, match="expected the state"):
        resumed.restore({"calls": -1})


def test_a_twin_s_name_opens_it_again() -> None:
    """With every option that is not the standard one."""
    first = open_backend("twin:pessimistic?shots=4&sign=time&rin_db_per_hz=-138", device=7)
    again = open_backend(first.spec.name, seed=0)
    assert isinstance(first, TwinBackend)
    assert isinstance(again, TwinBackend)
    assert again.spec == first.spec
    assert again.parameters == first.parameters
    assert again.device_seed == first.device_seed == 7


def test_counters_say_what_the_exact_chip_would_have_spent() -> None:
    """Shots, tiles and counts of a layer."""
    x, weight = randn(1, 20, 150), randn(1, 130, 150)
    spent = []
    for scheme in ("sim", "twin"):
        backend = opened(scheme, "typical", 0).bind(Site())
        backend.matmul(x, weight)
        usage = backend.site.usage
        spent.append((usage.calls, usage.shots, usage.tiles_programmed, usage.counts))
    assert spent[0] == spent[1]


def test_tile_by_tile_the_rails_are_counted() -> None:
    """A mesh on its twin clips as the exact one does, and says so."""
    fractions = []
    for scheme in ("sim", "twin"):
        backend = opened(scheme, "mesh-typical", 0, adc_full_scale=0.3).bind(Site())
        backend.matmul(randn(1, 40, 16), randn(1, 16, 16))
        fractions.append(backend.site.usage.saturated_fraction)
    assert 0.05 < fractions[0] < 0.9
    assert fractions[1] == pytest.approx(fractions[0], rel=0.05)


def test_a_changed_weight_is_noticed_also_in_place() -> None:
    """Freshness is decided by comparing numbers."""
    twin = opened("twin", "typical", 0, thermal_noise_a_per_rthz=2e-11)
    x, weight = rand(1, 400, 64), randn(1, 8, 64)
    before = [twin.matmul(x, weight) for _ in range(3)][-1]
    weight.neg_()
    after = twin.matmul(x, weight)
    assert float(torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]) < -0.5


# ---------------------------------------------------------------- convolutions and gradients


def test_convolutions_are_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """No patch is written out, except where RIN is large or every shot has light of its own."""

    def refuse(*args: object) -> Tensor:
        raise AssertionError("unfolded")

    monkeypatch.setattr("photonic.backends.twin.backend.unfold", refuse)
    x, weight = rand(2, 16, 9, 9), randn(8, 16, 3, 3)
    for preset in ("typical", "pessimistic", "crossbar-typical"):
        opened("twin", preset, 0).convolve(x, weight, PADDED)
    for options in ({"rin_db_per_hz": -120}, {"input_enob": 6}, {"adc_mismatch": 0.1}):
        with pytest.raises(AssertionError, match="unfolded"):
            opened("twin", "typical", 0, **options).convolve(x, weight, PADDED)


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(100, 30), lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2)], ids=["linear", "convolution"]
)
def test_ideal_gradients_are_those_of_the_plain_layer(make: Callable[[], nn.Module]) -> None:
    """Straight through, for inputs and weights."""
    layer = make()
    x = rand(5, 100) if isinstance(layer, nn.Linear) else rand(5, 4, 9, 9)
    grads = []
    for spec in (None, "twin"):
        here = x.clone().requires_grad_()
        if spec is not None:
            photonic.convert_(layer, spec)
        layer.zero_grad()
        (layer(here) * rand(*layer(here).shape, seed=5)).sum().backward()
        grads.append((here.grad, layer.weight.grad.clone()))  # type: ignore[union-attr, operator]
    for plain, twin in zip(*grads, strict=True):
        torch.testing.assert_close(twin, plain)


@pytest.mark.parametrize("signed", [False, True], ids=["one-sided", "signed"])
def test_twin_gradients_are_those_of_the_mean_response(signed: bool) -> None:
    """Against finite differences of a device without noise and converters, whose spread the plain gradient misses."""
    fields = {"gain_spread": 0.1, "resonance_spread_nm": 0.003, "extinction_ratio_db": 20}
    twin = opened("twin", "ideal", 0, **fields)
    x = (randn(1, 3, 20) if signed else 0.1 + 0.8 * rand(1, 3, 20)).double()
    x[0, 0, 0] = 2.5  # the range, which a difference must not move
    weight = randn(1, 8, 20).double()
    leaf = x.clone().requires_grad_()
    photonic.matmul(leaf, weight, twin, gradient="twin").sum().backward()
    assert leaf.grad is not None
    step = torch.zeros_like(x)
    for index in ((0, 1, 3), (0, 2, 7), (0, 1, 19)):
        step.zero_()[index] = 1e-4
        slope = (twin.matmul(x + step, weight) - twin.matmul(x - step, weight)).sum() / 2e-4
        assert float(leaf.grad[index]) == pytest.approx(float(slope), rel=0.01, abs=0.01)
        assert abs(float(weight[..., index[2]].sum()) - float(slope)) > 0.02


def test_twin_gradients_of_a_convolution() -> None:
    """Weights get the gradient of the levels that the chip saw."""
    x, weight = rand(2, 3, 6, 6), randn(4, 3, 3, 3).requires_grad_()
    twin = opened("twin", "typical", 0)
    photonic.convolve(x, weight, None, twin, PADDED, gradient="twin").sum().backward()
    plain = randn(4, 3, 3, 3).requires_grad_()
    torch.nn.functional.conv2d(x, plain, None, padding=1).sum().backward()
    assert weight.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(weight.grad, plain.grad, rtol=0.02, atol=0.1)
    assert not torch.equal(weight.grad, plain.grad)


def test_the_thresholds_are_where_the_formula_says() -> None:
    """At half a count of noise quantisation adds 1/12 to within 2.5 % of the variance, whatever the signal."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for mean in torch.linspace(0, 0.5, 11):
        noisy = mean + validity.FINE_COUNTS * torch.randn(1_000_000, generator=generator, dtype=torch.float64)
        worst = max(worst, abs(float(noisy.round().var()) / (validity.FINE_COUNTS**2 + 1 / 12) - 1))
    assert 0.015 < worst < 0.03


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_twin_runs_on_a_gpu() -> None:
    """Same mean, and noise of the same size."""
    x, weight = rand(1, 4, 200), randn(1, 70, 200)
    twin = opened("twin", "typical", 0)
    here = torch.stack([twin.matmul(x, weight) for _ in range(200)])
    there = torch.stack([twin.matmul(x.cuda(), weight.cuda()).cpu() for _ in range(200)])
    assert float(there.var(0).mean() / here.var(0).mean()) == pytest.approx(1.0, abs=0.03)
    torch.testing.assert_close(there.mean(0), here.mean(0), atol=6 * float(here.std(0).max()) / 200**0.5, rtol=0)
