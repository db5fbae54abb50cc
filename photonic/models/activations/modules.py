"""Curves as modules, also with the derivative of another curve in backward."""

from __future__ import annotations

from torch import Tensor, nn

from photonic.errors import ShapeError, SpecError
from photonic.models.activations.curves import Curve, Gelu, Interpolated, Rectifier, Silu

SMOOTH: dict[str, type[Gelu] | type[Silu]] = {"gelu": Gelu, "silu": Silu}


class CurveActivation(nn.Module):
    """Applies a curve; backward multiplies with its derivative, or with that of another curve.

    Forward and backward of two curves is the causal test of the study: is it the value or the derivative that helps?

    Args:
        curve: of the forward pass.
        backward: whose derivative the backward pass takes; None: the same curve's.
    """

    def __init__(self, curve: Curve, backward: Curve | None = None) -> None:
        super().__init__()
        self.curve, self.backward = curve, curve if backward is None else backward

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, the same shape; where the derivative is not autograd's own there is no second one."""
        if not x.requires_grad or (self.backward == self.curve and self.curve.native):
            return self.curve.value(x)
        still = x.detach()
        # x - still is exactly 0 and has the derivative 1
        return self.curve.value(still) + self.backward.derivative(still) * (x - still)

    def extra_repr(self) -> str:
        """The curves."""
        return f"{self.curve}" if self.backward == self.curve else f"{self.curve}, backward={self.backward}"


class GatedActivation(nn.Module):
    """a I(b) with x = [a, b] split in halves on the last dimension (GeGLU, where I is GELU).

    Args:
        activation: I.
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 N) to (..., N).

        Raises:
            ShapeError: the last dimension is odd.
        """
        if x.ndim == 0 or x.shape[-1] % 2:
            raise ShapeError(f"a gated activation halves the last dimension, found {tuple(x.shape)}")
        a, b = x.chunk(2, dim=-1)
        gated: Tensor = a * self.activation(b)
        return gated


def study_curve(
    name: str,
    *,
    interpolation: float = 1.0,
    scale: float = 1.0,
    leak: float = 0.0,
    derivative_at_zero: float | None = None,
) -> Curve:
    """A curve of the study by its parameters.

    Args:
        name: relu, gelu or silu.
        interpolation: i, of gelu and silu: 0 is the rectifier, 1 the smooth curve.
        scale: s, of gelu and silu.
        leak: of the rectifier.
        derivative_at_zero: of the rectifier; None: the slope of its negative side, as in PyTorch.

    Raises:
        SpecError: another name, a value out of bounds, or one that the curve does not have.
    """
    rectifier = Rectifier(leak, derivative_at_zero)
    if name == "relu":
        if (interpolation, scale) != (1.0, 1.0):
            raise SpecError("relu has neither interpolation nor scale; interpolate gelu or silu instead")
        return rectifier
    if name not in SMOOTH:
        raise SpecError(f"the study's activations are relu, {', '.join(SMOOTH)}, found {name!r}")
    smooth = SMOOTH[name](scale)
    if interpolation == 1:
        if rectifier != Rectifier():
            raise SpecError(f"{name} at interpolation 1 has no rectifier for a leak or a derivative at zero")
        return smooth
    return Interpolated(smooth, interpolation, rectifier)


def study_activation(
    name: str,
    *,
    backward: str | None = None,
    gated: bool = False,
    interpolation: float = 1.0,
    scale: float = 1.0,
    leak: float = 0.0,
    derivative_at_zero: float | None = None,
) -> nn.Module:
    """A new module with a curve of the study.

    Args:
        name: as of ``study_curve``, and so are the rest.
        backward: relu, gelu or silu, whose derivative backward takes in place of the curve's own.
        gated: the GeGLU form.
        interpolation: i.
        scale: s.
        leak: of the rectifier.
        derivative_at_zero: of the rectifier, in forward's curve and in ``backward="relu"``.

    Raises:
        SpecError: as ``study_curve``.
    """
    other = None
    if backward is not None:
        other = study_curve(backward, derivative_at_zero=derivative_at_zero if backward == "relu" else None)
        if name != "relu" and interpolation == 1:
            derivative_at_zero = None  # it was the backward curve's
    curve = study_curve(
        name, interpolation=interpolation, scale=scale, leak=leak, derivative_at_zero=derivative_at_zero
    )
    activation = CurveActivation(curve, other)
    return GatedActivation(activation) if gated else activation
