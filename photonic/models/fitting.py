"""Makes images fit a foreign model, and a foreign model's activations the ones that were asked for."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from photonic.errors import PhotonicWarning, SpecError
from photonic.models.activations import activation_factory

Shape = tuple[int, int, int]  # C, H, W

# gates (Sigmoid, Hardsigmoid of squeeze-and-excitation) are no activations in this sense
REPLACED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh)
# image sizes that classification models are made for
IMAGE_SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 288, 299, 320, 384, 480, 512)
# aten operations by which a model could apply an activation outside a module
_FUNCTIONAL = {"relu", "relu_", "hardtanh", "hardtanh_", "gelu", "silu", "silu_", "hardswish", "hardswish_", "tanh"}


@dataclass(frozen=True)
class FitInput:
    """A forward pre-hook that gives a model the images that it takes.

    Attributes:
        repeat: how often one gray channel is repeated.
        size: height and width to resize to (bilinear, antialiased), or None.
    """

    repeat: int = 1
    size: tuple[int, int] | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Gives the images on, fitted."""
        x: Tensor = args[0]
        if self.repeat > 1:
            x = x.expand(-1, self.repeat, -1, -1)
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return x, *args[1:]


def fit_input_(model: nn.Module, name: str, input_shape: Shape) -> None:
    """Registers a ``FitInput`` on a three-channel model where it needs one; images are resized only if they must be.

    One gray channel is repeated three times. A resizing gives a PhotonicWarning that says so: it costs time, and the
    model sees pixels that the data does not have.

    Raises:
        SpecError: neither 1 nor 3 channels, or no size is taken.
    """
    channels, *native = input_shape
    if channels not in (1, 3):
        raise SpecError(
            f"model {name} takes images of 3 channels (1 is repeated), found {channels}; use mlp or convnet"
        )
    height, width = native
    size, probe = None, meta_copy(model)
    if not _takes(probe, (height, width)):
        size = _nearest_size(probe, name, (height, width))
        warnings.warn(
            f"model {name} cannot take {height} x {width} images; they are resized to {size[0]} x {size[1]}",
            PhotonicWarning,
            stacklevel=3,
        )
    if channels == 1 or size is not None:
        model.register_forward_pre_hook(FitInput(3 // channels, size))


def replace_activations_(model: nn.Module, name: str, activation: str, input_shape: Shape) -> None:
    """Replaces every activation module of a model in place.

    Raises:
        SpecError: there is none to replace, or the model also calls activations as functions, out of reach.
    """
    factory = activation_factory(activation)
    replaced = _swap(model, factory)
    if not replaced:
        raise SpecError(f"model {name} has no activation modules to replace; leave out --activation")
    probe = meta_copy(model)
    # whatever activation is still seen when the modules do nothing is called as a function
    _swap(probe, nn.Identity)
    with torch.no_grad(), Watch(_FUNCTIONAL) as watch:
        probe(torch.empty((1, *input_shape), device="meta"))
    if watch.seen:
        raise SpecError(
            f"model {name} calls {', '.join(sorted(watch.seen))} as a function {watch.count} times, which cannot be "
            "replaced; leave out --activation or take another model"
        )


def _swap(model: nn.Module, factory: Callable[[], nn.Module]) -> int:
    count = 0
    for parent in model.modules():
        for key, child in list(parent.named_children()):
            if isinstance(child, REPLACED):
                setattr(parent, key, factory())
                count += 1
    return count


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy for shapes only: on the meta device and in evaluation mode, so nothing is computed or changed."""
    return copy.deepcopy(model).to("meta").eval()


def _takes(probe: nn.Module, size: tuple[int, int]) -> bool:
    try:
        with torch.no_grad():
            probe(torch.empty((1, 3, *size), device="meta"))
    except (RuntimeError, AssertionError, ValueError):
        # how a model refuses a size is up to it: torch's operations and torch._assert raise these
        return False
    return True


def _nearest_size(probe: nn.Module, name: str, native: tuple[int, int]) -> tuple[int, int]:
    """The smallest usual size that is not smaller than the images, else the largest that is."""
    larger = [size for size in IMAGE_SIZES if size >= max(native)]
    smaller = [size for size in reversed(IMAGE_SIZES) if size < max(native)]
    for size in larger + smaller:
        if _takes(probe, (size, size)):
            return size, size
    raise SpecError(f"model {name} takes none of the image sizes {IMAGE_SIZES} and cannot be used here")


class Watch(TorchDispatchMode):
    """Notes which of some aten operations run while it is active.

    Args:
        operations: their names.
    """

    def __init__(self, operations: Collection[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        self._operations = operations
        self.seen: set[str] = set()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = func.overloadpacket.__name__
        if operation in self._operations:
            self.seen.add(operation)
            self.count += 1
        return func(*args, **(kwargs or {}))
