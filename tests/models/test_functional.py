"""Autograd: forward on the backend, backward in PyTorch, dtypes as torch's own operations give them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from photonic.backends.base import Backend, ConvGeometry, Pullback, Site
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.digital import DigitalBackend
from photonic.backends.simulated import open_simulated
from photonic.errors import GradientError, RecomputeError, ShapeError
from photonic.models.functional import convolve, linear, matmul
from photonic.records import BackendSpec

GEOMETRY = ConvGeometry((2, 1), (1, 0), (1, 1), 2)


def _ideal() -> CalibratedBackend:
    return CalibratedBackend(open_simulated("ideal", n_outputs=4, n_inputs=5)).bind(Site("fc"))


def _random(*shape: int, grad: bool = True, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


class CountingBackend(Backend):
    """Doubles the product, and offers a gradient of its own."""

    def __init__(self) -> None:
        super().__init__(BackendSpec(name="counting", gradients=("ideal", "double")))
        self.calls = 0

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        self.calls += 1
        return 2 * x @ weight.mT

    def _matmul_vjp(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Pullback]:
        y, ideal = super()._matmul_vjp(x, weight)
        return y, lambda grad, needs: ideal(2 * grad, needs)


@pytest.mark.parametrize("backend", [DigitalBackend(), _ideal()], ids=["digital", "ideal"])
def test_gradients_are_those_of_the_plain_product(backend: Backend) -> None:
    """First and second derivatives, of products and of convolutions, by finite differences."""
    x, weight, bias = _random(3, 7), _random(6, 7, seed=1), _random(6, seed=2)
    images, kernel = _random(2, 4, 5, 4), _random(6, 2, 3, 2, seed=1)
    for check in (gradcheck, gradgradcheck):
        assert check(lambda *operands: linear(*operands, backend), (x, weight, bias), fast_mode=True)
        assert check(lambda *operands: convolve(*operands, backend, GEOMETRY), (images, kernel, bias), fast_mode=True)


def test_backward_never_touches_the_chip() -> None:
    """One forward, one call; backward none."""
    backend = CalibratedBackend(open_simulated("typical"))
    x, weight = _random(3, 7).float().detach().requires_grad_(), _random(6, 7).float().detach().requires_grad_()
    matmul(x, weight, backend).square().sum().backward()
    assert backend.chip.usage.calls == 1
    assert x.grad is not None
    assert weight.grad is not None


def test_the_noisy_product_has_the_ideal_gradient() -> None:
    """Straight through: the gradient of a sum is that of the exact product, whatever the noise."""
    backend = CalibratedBackend(open_simulated("pessimistic"))
    x, weight = _random(3, 7), _random(6, 7, seed=1)
    upstream = _random(3, 6, grad=False, seed=2)
    y = matmul(x, weight, backend)
    assert not torch.allclose(y, x @ weight.T, rtol=1e-3)
    torch.testing.assert_close(torch.autograd.grad(y, (x, weight), upstream), (upstream @ weight, upstream.T @ x))


@pytest.mark.parametrize(("x_needs", "weight_needs"), [(True, False), (False, True), (False, False)])
def test_only_the_gradients_that_are_needed_are_computed(x_needs: bool, weight_needs: bool) -> None:
    """Frozen operands get none, and a result of frozen operands needs none."""
    x, weight = _random(3, 7, grad=x_needs), _random(6, 7, grad=weight_needs)
    y = matmul(x, weight, _ideal())
    assert y.requires_grad == (x_needs or weight_needs)
    if y.requires_grad:
        y.sum().backward()
    assert (x.grad is not None, weight.grad is not None) == (x_needs, weight_needs)


def test_a_weight_changed_in_place_before_backward_is_refused() -> None:
    """What backward needs is pinned at forward time: torch raises instead of using the new values."""
    x, weight = _random(3, 7), _random(6, 7)
    y = matmul(x, weight, _ideal())
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (0, 7), (2, 0, 3, 7)])
def test_leading_dimensions_are_as_in_torch(shape: tuple[int, ...]) -> None:
    """Vectors, batches and empty batches, with gradients."""
    x, weight, bias = _random(*shape), _random(6, 7), _random(6)
    y = linear(x, weight, bias, _ideal())
    torch.testing.assert_close(y, torch.nn.functional.linear(x, weight, bias))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_groups_of_products_are_one_call() -> None:
    """x (G, B, N) and weight (G, M, N)."""
    backend = _ideal()
    x, weight = _random(3, 2, 7), _random(3, 6, 7)
    torch.testing.assert_close(matmul(x, weight, backend), x @ weight.mT)
    assert backend.site.usage.calls == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["digital", "ideal"])
def test_dtypes_are_those_of_torch_s_own_operation(dtype: torch.dtype, autocast: torch.dtype | None, name: str) -> None:
    """With and without autocast, for results and for gradients; values to the result's own precision."""
    backend = DigitalBackend() if name == "digital" else _ideal()
    x, weight = (_random(4, 8, seed=s).detach().to(dtype).requires_grad_() for s in (0, 1))
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        y, expected = matmul(x, weight, backend), torch.nn.functional.linear(x, weight)
    assert y.dtype == expected.dtype
    eps = torch.finfo(y.dtype).eps
    torch.testing.assert_close(y, expected, rtol=8 * eps, atol=16 * eps)
    y.float().sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    assert x.grad.dtype == weight.grad.dtype == dtype


def test_arithmetic_inside_stays_wide_under_autocast() -> None:
    """A float32 layer under bf16 autocast errs by one rounding of the result, not by bf16 operands."""
    x, weight = _random(64, 500, grad=False).float(), _random(32, 500, grad=False, seed=1).float()
    exact = x.double() @ weight.double().T
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = matmul(x, weight, _ideal())
    torch.testing.assert_close(y, exact.to(torch.bfloat16), rtol=2**-7, atol=1e-4)
    assert (y.double() - exact).norm() / exact.norm() < 2**-9


def test_operands_of_two_dtypes_are_refused_outside_autocast() -> None:
    """As torch.nn.functional.linear refuses them."""
    with pytest.raises(ShapeError, match="one dtype"):
        matmul(torch.ones(2, 3), torch.ones(4, 3, dtype=torch.float64), _ideal())
    with pytest.raises(ShapeError, match=r"x \(\.\.\., N\) and weight \(M, N\)"):
        matmul(torch.ones(2, 3), torch.ones(4, 5), _ideal())
    with pytest.raises(ShapeError, match="floating-point"):
        matmul(torch.ones(2, 3, dtype=torch.int64), torch.ones(4, 3, dtype=torch.int64), _ideal())


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_is_refused(reentrant: bool) -> None:
    """It would measure twice, with other noise; the message names the layer."""
    backend = _ideal()
    x, weight = _random(3, 7), _random(6, 7)
    y = checkpoint(lambda t: matmul(t, weight, backend).tanh(), x, use_reentrant=reentrant)
    with pytest.raises(RecomputeError, match="layer fc ran again inside backward"):
        y.sum().backward()
    assert backend.site.usage.calls == 1


def test_a_gradient_that_the_backend_does_not_offer_is_refused() -> None:
    """gradient="twin" needs a calibrated twin."""
    with pytest.raises(GradientError, match=r"offers the gradients \('ideal',\), found 'twin'"):
        matmul(torch.ones(2, 3), torch.ones(4, 3), _ideal(), gradient="twin")


def test_a_backend_s_own_gradient_is_pinned_at_forward_time() -> None:
    """The pullback is the backend's, for products and convolutions, without another call, and once differentiable."""
    backend = CountingBackend()
    x, weight = _random(3, 7), _random(6, 7)
    (grad,) = torch.autograd.grad(matmul(x, weight, backend, gradient="double").sum(), x)
    torch.testing.assert_close(grad, 2 * weight.sum(0).expand_as(x))
    assert backend.calls == 1
    images, kernel = _random(2, 4, 5, 4), _random(6, 2, 3, 2)
    (plain,) = torch.autograd.grad(convolve(images, kernel, None, DigitalBackend(), GEOMETRY).sum(), images)
    (own,) = torch.autograd.grad(convolve(images, kernel, None, backend, GEOMETRY, gradient="double").sum(), images)
    torch.testing.assert_close(own, 2 * plain)
    y = matmul(x, weight, backend, gradient="double").square().sum()
    with pytest.raises(GradientError, match="no second derivative"):
        torch.autograd.grad(y, x, create_graph=True)


# after a graph break dynamo asks every tensor for its .grad; it hides that warning, but not from "error"
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compile_runs_with_a_graph_break() -> None:
    """A compiled function calls the chip once per forward and keeps its gradient."""
    backend = _ideal()
    weight = _random(6, 7)
    compiled = torch.compile(lambda t: matmul(t, weight, backend).tanh(), backend="eager")
    x = _random(3, 7)
    y = compiled(x)
    torch.testing.assert_close(y, (x @ weight.T).tanh())
    y.sum().backward()
    assert backend.site.usage.calls == 1
    assert x.grad is not None


class HoldingBackend(Backend):
    """Gives the same tensor again and again."""

    def __init__(self) -> None:
        super().__init__(BackendSpec(name="holding"))
        self.held = torch.zeros(0)

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.mT

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        if not self.held.numel():
            self.held = super()._convolve(x, weight, geometry)
        return self.held


@pytest.mark.parametrize("grad", [False, True])
def test_a_bias_is_added_in_place_only_where_results_are_new(grad: bool) -> None:
    """A convolution's bias, to a backend's own tensor and to one that nobody else holds; with its gradient."""
    x, weight = _random(2, 4, 5, 5, grad=grad), _random(6, 2, 3, 2, grad=grad, seed=1)
    bias = _random(6, grad=grad, seed=2)
    holding = HoldingBackend()
    first = convolve(x, weight, bias, holding, GEOMETRY).clone()
    assert torch.equal(convolve(x, weight, bias, holding, GEOMETRY), first)
    ideal = _ideal()
    assert ideal.results_are_new
    assert not holding.results_are_new
    y = convolve(x, weight, bias, ideal, GEOMETRY)
    g = GEOMETRY
    plain = torch.nn.functional.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, g.groups)
    torch.testing.assert_close(y, plain)
    if grad:
        y.square().sum().backward()
        assert bias.grad is not None
        torch.testing.assert_close(bias.grad, 2 * plain.detach().sum((0, 2, 3)))
