"""Modules of others that multiply with their children's weights instead of calling the children.

torchvision's window attention calls ``F.linear`` on ``self.qkv.weight``; torch's encoder layer has a fused kernel for
inference that reads all weights at once. Converted children would be passed by without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

# torch's fused inference, and the attribute without which it is not taken
FUSED = {nn.TransformerEncoderLayer: "activation_relu_or_gelu", nn.TransformerEncoder: "use_nested_tensor"}
KEPT = "_photonic_kept"


class CallChildren(TorchFunctionMode):
    """While active, ``F.linear`` with the weight of one of the given layers calls that layer instead.

    Args:
        layers: linear layers, converted or not; a converted one runs on its backend.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self._layers = layers

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Passes everything on but ``F.linear``; inside, the mode is off."""
        kwargs = kwargs or {}
        if func is F.linear:
            x, weight, *rest = args
            for layer in self._layers:
                if layer.weight is weight:
                    return _call(layer, x, rest[0] if rest else kwargs.get("bias"))
        return func(*args, **kwargs)


def _call(layer: nn.Module, x: Tensor, bias: Tensor | None) -> Tensor:
    """Calls the layer with the bias that its parent wants (window attention V2 masks a part of it)."""
    y: Tensor = layer(x)
    if bias is layer.bias or bias is None:
        return y
    return y + (bias - layer.bias).to(y.dtype)  # type: ignore[operator]  # a bias is a tensor here


class WindowAttention:
    """Mixed in before torchvision's ``ShiftedWindowAttention`` (both versions): calls its projections as layers."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a context around a graph break does not compile
    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        # cached: a parametrized weight is then the same tensor each time that it is read
        with parametrize.cached(), CallChildren(self.qkv, self.proj):  # type: ignore[attr-defined]
            y: Tensor = super().forward(x)  # type: ignore[misc]
        return y


def is_window_attention(module: nn.Module) -> bool:
    """Whether this is torchvision's window attention; torchvision need not be installed to ask."""
    return any(
        base.__module__ == "torchvision.models.swin_transformer" and base.__name__.startswith("ShiftedWindowAttention")
        for base in type(module).__mro__
    )


def settle(model: nn.Module, is_converted: Callable[[nn.Module], bool]) -> None:
    """Makes every bypassing parent in a model call its converted children, and restores those without any.

    Args:
        model: just converted or unconverted.
        is_converted: whether a module runs on a backend.
    """
    for module in model.modules():
        converted = any(is_converted(child) for child in module.modules() if child is not module)
        if is_window_attention(module):
            _settle_window(module, converted)
        for kind, attribute in FUSED.items():
            if isinstance(module, kind):
                _settle_fused(module, attribute, converted)


def _settle_window(module: nn.Module, converted: bool) -> None:
    ours = isinstance(module, WindowAttention)
    if converted and not ours:
        module.__class__ = _with_children(type(module))
    elif ours and not converted:
        module.__class__ = type(module).__bases__[1]


def _with_children(base: type) -> type:
    """The photonic class of one of torchvision's, which is known only when torchvision is there."""
    return type(f"Photonic{base.__name__}", (WindowAttention, base), {"__reduce_ex__": _reduce})


def _reduce(self: nn.Module, protocol: SupportsIndex) -> tuple[Any, ...]:
    # pickle cannot find a class made at run time by its name: it makes it again from torchvision's
    return _rebuild, (type(self).__bases__[1],), self.__dict__


def _rebuild(base: type) -> Any:
    return object.__new__(_with_children(base))


def _settle_fused(module: nn.Module, attribute: str, converted: bool) -> None:
    """Switches torch's fused inference off, or back to what it was."""
    kept = module.__dict__.get(KEPT)
    if converted and kept is None:
        module.__dict__[KEPT] = getattr(module, attribute)
        setattr(module, attribute, 0)
    elif not converted and kept is not None:
        setattr(module, attribute, module.__dict__.pop(KEPT))
