"""Swaps the activations of a model that somebody else wrote, by name, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from photonic.errors import SpecError
from photonic.models.activations import activation_factory, unknown
from photonic.models.fitting import IMAGE_SIZES, Shape, Watch, meta_copy

# name: its module, and the operations that it is when it is called as a function
KINDS: dict[str, tuple[type[nn.Module], frozenset[str]]] = {
    "relu": (nn.ReLU, frozenset({"relu", "relu_"})),
    "relu6": (nn.ReLU6, frozenset({"hardtanh", "hardtanh_"})),
    "leaky_relu": (nn.LeakyReLU, frozenset({"leaky_relu", "leaky_relu_"})),
    "elu": (nn.ELU, frozenset({"elu", "elu_"})),
    "gelu": (nn.GELU, frozenset({"gelu", "gelu_"})),
    "silu": (nn.SiLU, frozenset({"silu", "silu_"})),
    "mish": (nn.Mish, frozenset({"mish", "mish_"})),
    "hardswish": (nn.Hardswish, frozenset({"hardswish", "hardswish_"})),
    "tanh": (nn.Tanh, frozenset({"tanh", "tanh_"})),
}
# torch's own layers that hold a function, and may call it inside a fused operation that shows nothing
_HOLDERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_FUNCTIONS = {F.relu: "relu", F.gelu: "gelu"}


def replace_activations(
    model: nn.Module,
    replacements: Mapping[str, str | Callable[[], nn.Module]],
    *,
    input_shape: Shape | None = None,
) -> nn.Module:
    """Replaces activation modules by others, in place; each gets a new module.

    A model may also call activations as functions (densenet and googlenet do), and these cannot be swapped. So a copy
    is run once on the meta device, where nothing is computed, in training and in evaluation mode; if such a call is
    left, nothing is changed.

    Args:
        model: any module that takes images or, where it has no convolution, vectors.
        replacements: old names (``relu``, ``relu6``, ``leaky_relu``, ``elu``, ``gelu``, ``silu``, ``mish``,
            ``hardswish``, ``tanh``) to new ones, or to what makes a new module.
        input_shape: (C, H, W) that the model takes; None: it is tried out.

    Returns:
        The same model.

    Raises:
        SpecError: an unknown name, a name that the model has no module of, calls as a function, or a model that cannot
            be run to look for them.
    """
    unknown_names = sorted(set(replacements) - set(KINDS))
    if unknown_names:
        raise SpecError(unknown("activation to replace", unknown_names[0], KINDS))
    factories = {name: activation_factory(new) if isinstance(new, str) else new for name, new in replacements.items()}
    for name in factories:
        if not any(isinstance(module, KINDS[name][0]) for module in model.modules()):
            raise SpecError(f"the model has no {KINDS[name][0].__name__} module that could be replaced")
    _refuse_held_functions(model, factories)
    _refuse_functions(model, factories, input_shape)
    _swap(model, factories)
    return model


def _swap(model: nn.Module, factories: Mapping[str, Callable[[], nn.Module]]) -> None:
    kinds = {KINDS[name][0]: factory for name, factory in factories.items()}
    for parent in list(model.modules()):
        for key, child in list(parent.named_children()):
            for kind, factory in kinds.items():
                if isinstance(child, kind):
                    setattr(parent, key, factory())
                    break


def _refuse_held_functions(model: nn.Module, factories: Mapping[str, Callable[[], nn.Module]]) -> None:
    for path, module in model.named_modules():
        if isinstance(module, _HOLDERS):
            name = _FUNCTIONS.get(module.activation)
            if name in factories:
                raise SpecError(
                    f"{path or 'the model'} is torch's {type(module).__name__}, which calls {name} as a function; give "
                    "its constructor the new activation"
                )


def _refuse_functions(
    model: nn.Module, factories: Mapping[str, Callable[[], nn.Module]], input_shape: Shape | None
) -> None:
    """Whatever of these activations is still seen when their modules do nothing is called as a function."""
    probe = meta_copy(model)
    _swap(probe, dict.fromkeys(factories, nn.Identity))
    operations = frozenset().union(*(KINDS[name][1] for name in factories))
    x = _taken(probe, input_shape)
    with torch.no_grad(), Watch(operations) as watch:
        for training in (False, True):
            probe.train(training)
            probe(x)
    if watch.seen:
        raise SpecError(
            f"the model also calls {', '.join(sorted(watch.seen))} as a function, which cannot be replaced: half of "
            "them swapped would be a wrong answer; nothing was changed"
        )


def _taken(probe: nn.Module, input_shape: Shape | None) -> torch.Tensor:
    """Two images, or vectors, that a model takes in both modes."""
    shapes = [input_shape] if input_shape is not None else _candidates(probe)
    for shape in shapes:
        x = torch.empty((2, *shape), device="meta")
        if all(_takes(probe.train(training), x) for training in (False, True)):
            return x
    tried = f"of {input_shape}" if input_shape is not None else "of the usual sizes"
    raise SpecError(
        f"the model takes no images {tried}, and so cannot be searched for activations that it calls as functions; "
        "pass input_shape=(C, H, W)"
    )


def _candidates(probe: nn.Module) -> list[tuple[int, ...]]:
    for module in probe.modules():
        if isinstance(module, nn.Conv2d):
            return [(module.in_channels, size, size) for size in IMAGE_SIZES]
        if isinstance(module, nn.Linear):
            # what flattens images is told from what takes vectors by trying both
            sides = [side for side in (*IMAGE_SIZES, 8, 28) if module.in_features % side**2 == 0]
            return [(module.in_features,), *((module.in_features // side**2, side, side) for side in sides)]
    return []


def _takes(probe: nn.Module, x: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            probe(x)
    except (RuntimeError, AssertionError, ValueError):
        # how a model refuses a size is up to it: torch's operations and torch._assert raise these
        return False
    return True
