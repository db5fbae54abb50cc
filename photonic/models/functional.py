"""Products on a backend, under autograd: forward on the backend, backward in PyTorch.

The only custom ``autograd.Function`` of the project is here. Backward never touches the chip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from photonic.backends.base import Backend, ConvGeometry, Pullback, fold_output, ideal_pullback, unfold
from photonic.errors import GradientError, RecomputeError, ShapeError, SpecError
from photonic.models import compiled

Needs = tuple[bool, bool]
Gradients = tuple[Tensor | None, Tensor | None]


def matmul(x: Tensor, weight: Tensor, backend: Backend, *, gradient: str = "ideal") -> Tensor:
    """Multiplies on a backend, differentiably: y = x @ weight.T.

    Args:
        x: (..., N), or (G, B, N) where the weight has groups.
        weight: (M, N), or (G, M, N) for G products in one call.
        backend: what the product runs on.
        gradient: "ideal" (the plain product's, straight through) or another of ``backend.spec.gradients``.

    Returns:
        (..., M), or (G, B, M); the dtype is what ``torch.nn.functional.linear`` returns, autocast included.

    Raises:
        ShapeError: shapes or dtypes do not fit.
        GradientError: the backend does not offer this gradient.
        RecomputeError: called again inside backward, by activation checkpointing.
        BackendError: whatever the backend or its chip raises; there is no fallback.
    """
    if weight.ndim == 3:
        return _route(_Matmul(backend, gradient), x, weight)
    shape = x.shape
    if weight.ndim != 2 or not shape or shape[-1] != weight.shape[-1]:
        raise ShapeError(f"expected x (..., N) and weight (M, N), found {tuple(shape)} and {tuple(weight.shape)}")
    if len(shape) == 2:
        return _route(_Matmul(backend, gradient), x.unsqueeze(0), weight.unsqueeze(0)).squeeze(0)
    rows = x.reshape(1, shape[:-1].numel(), shape[-1])
    y = _route(_Matmul(backend, gradient), rows, weight.unsqueeze(0))
    return y.reshape(*shape[:-1], weight.shape[0])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, backend: Backend, *, gradient: str = "ideal") -> Tensor:
    """``matmul`` plus a bias (M,), which is added digitally."""
    if _without_gradients(x, weight, bias, backend, gradient):
        return backend.linear(x, weight, bias)
    y = matmul(x, weight, backend, gradient=gradient)
    return y if bias is None else _plus(y, bias.to(y.dtype), backend)


def _without_gradients(x: Tensor, weight: Tensor, bias: Tensor | None, backend: Backend, gradient: str) -> bool:
    """Whether the rules of ``_route`` leave nothing to decide: one dtype, no gradients, no compiler."""
    if torch.is_grad_enabled() or gradient != "ideal" or torch.compiler.is_compiling():
        return False
    if x.ndim != 2 or weight.ndim != 2 or not isinstance(backend, Backend) or backend.spec.differentiable:
        return False
    dtype = x.dtype
    if (
        dtype != weight.dtype
        or (bias is not None and bias.dtype != dtype)
        or dtype not in (torch.float32, torch.float64)
    ):
        return False
    if torch.is_autocast_enabled("cpu" if x.is_cpu else x.device.type):
        return False
    _refuse_recompute(backend)
    return True


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    backend: Backend,
    geometry: ConvGeometry,
    *,
    gradient: str = "ideal",
) -> Tensor:
    """Convolves on a backend, differentiably; all groups in one call. The bias (C_out,) is added digitally.

    Args:
        x: (B, C_in, *size), 1 or 2 spatial dimensions.
        weight: (C_out, C_in / groups, *kernel).
        bias: (C_out,) or None.
        backend: what the products run on.
        geometry: stride, zero padding, dilation and groups.
        gradient: as in ``matmul``.

    Returns:
        (B, C_out, *output_size).

    Raises:
        PhotonicError: as ``matmul``.
    """
    if gradient == "ideal":
        y = _route(_Convolution(backend, gradient, geometry), x, weight)
    else:
        # other gradients are defined for the product; unfolding is differentiable
        patches = unfold(x, tuple(weight.shape[2:]), geometry)
        y = matmul(patches, weight.reshape(geometry.groups, -1, patches.shape[-1]), backend, gradient=gradient)
        y = fold_output(y, x, weight, geometry)
    return y if bias is None else _plus(y, bias.to(y.dtype).reshape(-1, *[1] * len(geometry.stride)), backend)


def _plus(y: Tensor, bias: Tensor, backend: Backend) -> Tensor:
    """Adds a bias, in place where nobody else holds y: a second tensor of its size costs more than the sum."""
    if torch.compiler.is_compiling() or not backend.results_are_new or y.dtype != bias.dtype:
        return y + bias
    if y._is_view():  # noqa: SLF001 - autograd changes no view that was made inside a Function
        return y + bias
    return y.add_(bias)


@dataclass(slots=True)
class _Matmul:
    """``Backend.matmul`` and its gradients."""

    backend: Backend
    gradient: str

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Pullback | None]:
        if self.gradient == "ideal":
            return self.backend.matmul(x, weight), None
        return self.backend._matmul_vjp(x, weight)  # noqa: SLF001 - the seam's optional method, called only here

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, needs: Needs) -> Gradients:
        return ideal_pullback(grad, x, weight, needs)

    def compiled(self, x: Tensor, weight: Tensor) -> Tensor:
        _only_ideal(self.gradient)
        y: Tensor = compiled.matmul(x, weight, self.backend.handle)
        return y


@dataclass(slots=True)
class _Convolution:
    """``Backend.convolve`` and its ideal gradient: torch's own, never unfolded."""

    backend: Backend
    gradient: str
    geometry: ConvGeometry

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Pullback | None]:
        return self.backend.convolve(x, weight, self.geometry), None

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, needs: Needs) -> Gradients:
        g = self.geometry
        zeros, mask = [0] * len(g.stride), [*needs, False]
        grads = torch.ops.aten.convolution_backward(
            grad, x, weight, None, g.stride, g.padding, g.dilation, False, zeros, g.groups, mask
        )
        return grads[0], grads[1]

    def compiled(self, x: Tensor, weight: Tensor) -> Tensor:
        _only_ideal(self.gradient)
        g = self.geometry
        y: Tensor = compiled.convolve(x, weight, self.backend.handle, g.stride, g.padding, g.dilation, g.groups)
        return y


def _only_ideal(gradient: str) -> None:
    if gradient != "ideal":
        raise GradientError(f"compiled code has gradient='ideal' alone, found {gradient!r}; do not compile this layer")


class _OnBackend(torch.autograd.Function):
    """Forward on the backend, backward in PyTorch; what backward needs is pinned at forward time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, product: _Matmul | _Convolution) -> Tensor:
        y, ctx.pullback = product.forward(x, weight)
        ctx.product = product
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors  # torch raises here if either was changed in place since the forward
        with torch.autocast(x.device.type, enabled=False):
            if ctx.pullback is None:
                return *ctx.product.backward(grads[0], x, weight, ctx.needs_input_grad[:2]), None
            if torch.is_grad_enabled():
                raise GradientError(
                    f"gradient {ctx.product.gradient!r} has no second derivative; gradient='ideal' has one"
                )
            return *ctx.pullback(grads[0], ctx.needs_input_grad[:2]), None


def _route(product: _Matmul | _Convolution, x: Tensor, weight: Tensor) -> Tensor:
    """Runs a product with the dtype rules of torch's own operation and the gradient that was asked for."""
    backend = product.backend
    if not isinstance(backend, Backend):
        raise SpecError(
            f"expected a backend, found {backend!r} ({type(backend).__name__}); open one with photonic.open_backend"
        )
    if product.gradient not in backend.spec.gradients:
        raise GradientError(
            f"backend {backend.spec.name} offers the gradients {backend.spec.gradients}, found {product.gradient!r}"
        )
    device, dtype = x.device.type, x.dtype
    autocast = torch.is_autocast_enabled(device)
    if autocast:
        common = torch.promote_types(x.dtype, weight.dtype)
        x, weight = x.to(common), weight.to(common)
        # torch's autocast leaves float64 as it is
        dtype = common if common == torch.float64 else torch.get_autocast_dtype(device)
    elif x.dtype != weight.dtype:
        raise ShapeError(f"expected x and weight of one dtype outside autocast, found {x.dtype} and {weight.dtype}")
    if backend.spec.differentiable:
        return product.forward(x, weight)[0].to(dtype)
    if not torch.compiler.is_compiling():
        _refuse_recompute(backend)
    # inside, nothing may fall to half precision: neither by autocast nor by a half-precision operand
    x, weight = _wide(x), _wide(weight)
    if autocast:
        with torch.autocast(device, enabled=False):
            y = _run(product, x, weight)
    else:
        y = _run(product, x, weight)
    return y if y.dtype == dtype else y.to(dtype)


def _run(product: _Matmul | _Convolution, x: Tensor, weight: Tensor) -> Tensor:
    """Forward, with the gradient where one is asked for."""
    if torch.compiler.is_compiling():
        return product.compiled(x, weight)
    if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
        return product.forward(x, weight)[0]
    y: Tensor = _OnBackend.apply(x, weight, product)
    return y


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _refuse_recompute(backend: Backend) -> None:
    if torch._C._current_graph_task_id() != -1:  # noqa: SLF001 - torch.utils.checkpoint asks it too; nothing public does
        raise RecomputeError(
            f"layer {backend.site.name or '(unnamed)'} ran again inside backward, as activation checkpointing does: "
            f"{backend.spec.name} would measure a second time, with other noise. Take this layer out of the checkpoint"
        )
