"""The study's activations: values, exact derivatives, the derivative at zero, two curves in one."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F

from photonic.errors import ShapeError, SpecError
from photonic.models.activations import (
    CurveActivation,
    GatedActivation,
    Gelu,
    Interpolated,
    Rectifier,
    Silu,
    study_activation,
    study_curve,
)

CURVES = [
    Rectifier(),
    Rectifier(leak=0.3),
    Gelu(),
    Gelu(scale=2.5),
    Silu(),
    Silu(scale=0.5),
    Interpolated(Gelu(), 0.25),
    Interpolated(Silu(2.0), 0.75, Rectifier(leak=0.1)),
]


def _gradient(f, x):
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(f(x).sum(), x)
    return found


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_derivatives_are_those_of_autograd(curve):
    """In float64, near zero, at zero and far away."""
    edges = torch.tensor([0.0, 1e-300, -1e-300, 30.0, -30.0, 745.0, -745.0], dtype=torch.float64)
    x = torch.cat([torch.linspace(-9, 9, 2001, dtype=torch.float64), edges])
    torch.testing.assert_close(curve.derivative(x), _gradient(curve.value, x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_derivatives_stay_finite_and_reach_their_limits(curve, dtype):
    """1 on the right, the leak's part on the left, up to the largest numbers of the dtype."""
    limit = torch.finfo(dtype).max / 4  # the scale must not overflow
    x = torch.tensor([50.0, 1e4, 1e19, limit], dtype=dtype)
    leak = curve.leak if isinstance(curve, Rectifier) else 0.0
    if isinstance(curve, Interpolated):
        leak = (1 - curve.interpolation) * curve.rectifier.leak
    torch.testing.assert_close(curve.derivative(x), torch.ones_like(x))
    torch.testing.assert_close(curve.derivative(-x), torch.full_like(x, leak))
    assert bool(curve.value(torch.cat([x, -x])).isfinite().all())


def test_values_are_the_formulas():
    """R + i (A - R), x Phi(s x), x sigmoid(s x)."""
    x = torch.linspace(-4, 4, 801, dtype=torch.float64)
    torch.testing.assert_close(Gelu(2.0).value(x), x * 0.5 * (1 + torch.erf(2 * x / math.sqrt(2))))
    torch.testing.assert_close(Silu(3.0).value(x), x / (1 + torch.exp(-3 * x)))
    expected = F.relu(x) + 0.3 * (F.gelu(x) - F.relu(x))
    torch.testing.assert_close(Interpolated(Gelu(), 0.3).value(x), expected)
    assert torch.equal(Interpolated(Silu(), 0.0).value(x), F.relu(x))
    assert torch.equal(Interpolated(Silu(), 1.0).value(x), F.silu(x))


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("interpolation", [0.0, 0.25, 0.5])
def test_the_derivative_at_zero_is_the_one_asked_for(interpolation, at_zero):
    """In the formula and in backward; elsewhere nothing changes."""
    curve = study_curve("gelu", interpolation=interpolation, derivative_at_zero=at_zero)
    x = torch.tensor([-0.0, 0.0, 0.5, -0.5], dtype=torch.float64)
    expected = _gradient(Interpolated(Gelu(), interpolation).value, x)
    expected[:2] = (1 - interpolation) * at_zero + interpolation * 0.5
    torch.testing.assert_close(_gradient(CurveActivation(curve), x), expected)
    torch.testing.assert_close(curve.derivative(x), expected)


def test_relu_is_pytorch_s_unless_told_otherwise():
    """The derivative at zero is 0, as the gradient figures need it."""
    assert float(Rectifier().derivative(torch.zeros(()))) == 0.0


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_the_step_is_the_jump_of_the_derivative(curve):
    """Measured on both sides of zero."""
    h = torch.tensor([1e-9], dtype=torch.float64)
    jump = float(curve.derivative(h) - curve.derivative(-h))
    assert jump == pytest.approx(curve.step, abs=1e-7)


@pytest.mark.parametrize("curve", [Gelu(), Gelu(3.0), Silu(), Silu(0.5)], ids=str)
def test_steepness_bounds_the_derivative_s_slope_and_is_reached_at_zero(curve):
    """The Lipschitz constant of the bound on the gradient's error."""
    x = torch.linspace(-8, 8, 16001, dtype=torch.float64)
    slopes = curve.derivative(x).diff() / x.diff()
    assert float(slopes.abs().max()) <= curve.steepness * (1 + 1e-9)
    assert float(slopes[8000]) == pytest.approx(curve.steepness, rel=1e-4)


def test_a_leak_of_i_has_the_step_of_the_interpolation_by_i():
    """Leaky ReLU at matched discontinuity."""
    for i in (0.0, 0.25, 0.5, 0.75, 1.0):
        assert Rectifier(leak=i).step == Interpolated(Gelu(), i).step == 1 - i


@pytest.mark.parametrize(("forward", "backward"), [("relu", "gelu"), ("gelu", "relu"), ("silu", "gelu")])
def test_forward_and_backward_may_be_of_two_curves(forward, backward):
    """The causal test: the value of one, the derivative of the other, in every bit."""
    activation = study_activation(forward, backward=backward)
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = activation(x)
    assert torch.equal(y, study_curve(forward).value(x.detach()))
    (found,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(found, study_curve(backward).derivative(x.detach()))
    with torch.no_grad():
        assert torch.equal(activation(x), y)


def test_the_derivative_at_zero_goes_to_the_curve_that_has_one():
    """GELU forward with ReLU' backward, ReLU'(0) chosen."""
    x = torch.zeros(1, requires_grad=True)
    for value in (0.0, 1.0):
        y = study_activation("gelu", backward="relu", derivative_at_zero=value)(x)
        assert float(torch.autograd.grad(y.sum(), x)[0]) == value


def test_geglu_gates_the_first_half_with_the_second():
    """a I(b) on the last dimension; an odd one is refused."""
    gate = study_activation("gelu", gated=True)
    assert isinstance(gate, GatedActivation)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gate(x), x[..., :4] * F.gelu(x[..., 4:]))
    with pytest.raises(ShapeError, match="halves the last dimension"):
        gate(x[..., :5])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tanh", {}, "relu, gelu, silu"),
        ("relu", {"interpolation": 0.5}, "neither interpolation nor scale"),
        ("gelu", {"interpolation": 1.5}, r"interpolation must lie in \[0, 1\]"),
        ("gelu", {"leak": 0.1}, "no rectifier"),
        ("silu", {"scale": 0.0}, "above 0"),
        ("relu", {"leak": -0.1}, "leak must lie"),
        ("relu", {"derivative_at_zero": 2.0}, "derivative_at_zero must lie"),
    ],
)
def test_what_a_curve_does_not_have_is_refused(name, options, message):
    """By name, before anything is trained."""
    with pytest.raises(SpecError, match=message):
        study_curve(name, **options)


def test_activations_can_be_copied_and_pickled():
    """They are part of models."""
    activation = study_activation("silu", interpolation=0.5, leak=0.2)
    x = torch.randn(10, generator=torch.Generator().manual_seed(0))
    for other in (copy.deepcopy(activation), pickle.loads(pickle.dumps(activation))):
        assert torch.equal(other(x), activation(x))
    assert "interpolation=0.5" in repr(activation)
