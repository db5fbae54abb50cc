"""Linear layers and convolutions whose products run on a backend.

They are torch's own layers with another product: parameters, hooks, initialisation and ``state_dict`` are inherited.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.backends.limits import clamped
from photonic.errors import GradientError
from photonic.models import compiled, functional


class OnBackend(Protocol):
    """What a converted layer holds besides torch's own attributes.

    Attributes:
        backend: a view of the backend, bound to this layer; a plain attribute, not in ``state_dict``.
        gradient: which gradient backward uses.
        input_range: None (each batch's absolute maximum), a buffer (static) or a parameter (learned).
    """

    backend: Backend
    gradient: str
    input_range: Tensor | None
    _buffers: dict[str, Tensor | None]


def place_on(layer: nn.Module, backend: Backend, name: str, gradient: str) -> None:
    """Gives a layer its own view of a backend.

    Args:
        layer: a photonic layer.
        backend: shared; the layer gets ``backend.bind``.
        name: of the layer in its model, for messages and counters.
        gradient: "ideal", or another that the backend offers.
    """
    if gradient not in backend.spec.gradients:
        offered = ", ".join(backend.spec.gradients)
        raise GradientError(f"backend {backend.spec.name} offers the gradients {offered}, found {gradient!r}")
    layer.backend = backend.bind(Site(name))  # type: ignore[assignment]  # a plain attribute, as its annotation says
    layer.gradient = gradient  # type: ignore[assignment]
    if not hasattr(layer, "input_range"):
        layer.register_buffer("input_range", None, persistent=False)


def within_range(layer: OnBackend, x: Tensor) -> Tensor:
    """Clamps x to the layer's input range, if it has one, and counts what was clamped.

    Differentiable in x and in a learned range: where x is clamped, its gradient goes to the range.

    Raises:
        RangeError: the range is not finite and above 0, as a learned one may become.
    """
    site, buffers = layer.backend.site, layer._buffers  # noqa: SLF001 - torch's own, see below
    # a layer without a range has a buffer that is None: found where torch's attribute access looks at last
    limit = buffers["input_range"] if "input_range" in buffers else layer.input_range  # noqa: SIM401 - get() is slower
    if limit is None:
        if site.input_range is not None:
            site.input_range = None
        return x
    if torch.compiler.is_compiling():
        within: Tensor = compiled.within_range(x, limit, layer.backend.handle)
        return within
    return clamped(site, x, limit)


class PhotonicLinear(nn.Linear):
    """``nn.Linear`` on a backend; the bias is added digitally.

    Args:
        in_features: N.
        out_features: M.
        bias: whether to learn a bias (M,).
        backend: what the product runs on.
        gradient: "ideal", or another that the backend offers.
        factory: ``device`` and ``dtype``, as for ``nn.Linear``.
    """

    backend: Backend
    gradient: str
    input_range: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        backend: Backend,
        gradient: str = "ideal",
        **factory: Any,
    ) -> None:
        super().__init__(in_features, out_features, bias, **factory)
        place_on(self, backend, "", gradient)

    def forward(self, input: Tensor) -> Tensor:
        """(..., N) to (..., M)."""
        x = within_range(self, input)
        # where torch's own attribute access looks at last, which of a single input takes longer than an addition
        own = self._parameters
        weight: Tensor | None = own.get("weight")
        if weight is None:  # a parametrization makes it anew
            weight = self.weight
        bias = own["bias"] if "bias" in own else self.bias  # noqa: SIM401 - get() would look the default up first
        return functional.linear(x, weight, bias, self.backend, gradient=self.gradient)

    def extra_repr(self) -> str:
        """Torch's own, and the backend."""
        return f"{super().extra_repr()}, backend={self.backend.spec.name}"


class PhotonicConv1d(nn.Conv1d):
    """``nn.Conv1d`` on a backend; takes ``backend`` and ``gradient`` besides torch's own arguments."""

    backend: Backend
    gradient: str
    input_range: Tensor | None

    def __init__(self, *args: Any, backend: Backend, gradient: str = "ideal", **options: Any) -> None:
        super().__init__(*args, **options)
        place_on(self, backend, "", gradient)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolve(self, self, input, weight, bias)

    def extra_repr(self) -> str:
        """Torch's own, and the backend."""
        return f"{super().extra_repr()}, backend={self.backend.spec.name}"  # type: ignore[no-untyped-call]


class PhotonicConv2d(nn.Conv2d):
    """``nn.Conv2d`` on a backend; takes ``backend`` and ``gradient`` besides torch's own arguments."""

    backend: Backend
    gradient: str
    input_range: Tensor | None

    def __init__(self, *args: Any, backend: Backend, gradient: str = "ideal", **options: Any) -> None:
        super().__init__(*args, **options)
        place_on(self, backend, "", gradient)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolve(self, self, input, weight, bias)

    def extra_repr(self) -> str:
        """Torch's own, and the backend."""
        return f"{super().extra_repr()}, backend={self.backend.spec.name}"  # type: ignore[no-untyped-call]


def _convolve(layer: OnBackend, shape: nn.Conv1d | nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Any padding mode, batched or not: what zero padding on both sides cannot say is padded before."""
    batched = x.ndim == len(shape.kernel_size) + 2
    x = within_range(layer, x if batched else x.unsqueeze(0))
    x, padding = _padded(shape, x)
    geometry = ConvGeometry(shape.stride, padding, shape.dilation, shape.groups)
    y = functional.convolve(x, weight, bias, layer.backend, geometry, gradient=layer.gradient)
    return y if batched else y.squeeze(0)


def _padded(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The input, and the zero padding on both sides that is left for the convolution."""
    # torch's own list, last dimension first: (left, right, top, bottom)
    sides: list[int] = layer._reversed_padding_repeated_twice  # noqa: SLF001 - what its own forward pads with
    if layer.padding_mode != "zeros":
        return F.pad(x, sides, mode=layer.padding_mode), (0,) * len(layer.kernel_size)
    before, after = tuple(sides[0::2][::-1]), tuple(sides[1::2][::-1])
    if before == after:
        return x, before
    return F.pad(x, sides), (0,) * len(layer.kernel_size)  # "same" with an even reach is one-sided
