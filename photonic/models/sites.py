"""Which parts of a model can run on a backend, which cannot, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize

from photonic.models.attention import PhotonicMultiheadAttention
from photonic.models.layers import PhotonicConv1d, PhotonicConv2d, PhotonicLinear

# torch's class: its photonic one. MultiheadAttention's own product is its in-projection; out_proj is a layer
PHOTONIC: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: PhotonicLinear,
    NonDynamicallyQuantizableLinear: PhotonicLinear,
    nn.Conv1d: PhotonicConv1d,
    nn.Conv2d: PhotonicConv2d,
    nn.MultiheadAttention: PhotonicMultiheadAttention,
}
PHOTONIC_CLASSES = tuple(set(PHOTONIC.values()))

UNSUPPORTED: dict[type, str] = {
    nn.Conv3d: "three spatial dimensions are not supported",
    nn.ConvTranspose1d: "transposed convolutions are not supported",
    nn.ConvTranspose2d: "transposed convolutions are not supported",
    nn.ConvTranspose3d: "transposed convolutions are not supported",
    nn.RNNBase: "recurrent layers run in one fused operation",
    nn.RNNCellBase: "recurrent cells are not supported",
    nn.Bilinear: "a bilinear form is no matmul with one weight",
    nn.modules.lazy.LazyModuleMixin: "a lazy layer has no weight yet; run one forward first",
}


@dataclass(frozen=True)
class Location:
    """A product of a model: a layer, or the in-projection of an attention.

    Attributes:
        name: qualified name; an attention's in-projection is ``<name>.in_proj``.
        module: what is converted.
        aliases: further names that a glob may use: other paths to a shared module, the attention's own name.
        reason: why it must stay digital, or None.
    """

    name: str
    module: nn.Module
    aliases: tuple[str, ...]
    reason: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All names that a glob may match."""
        return (self.name, *self.aliases)


def is_photonic(module: nn.Module) -> bool:
    """Whether this module was converted."""
    return isinstance(module, PHOTONIC_CLASSES)


def on_chips(model: nn.Module) -> list[tuple[str, Any]]:
    """Names and modules of the converted layers whose backend has a chip; these have the attributes of OnBackend."""
    found: list[tuple[str, Any]] = [(location.name, location.module) for location in locations(model)]
    return [(name, module) for name, module in found if is_photonic(module) and module.backend.spec.chip is not None]


def torch_class(module: nn.Module) -> type[nn.Module]:
    """The module's class without the one that torch's parametrizations make on top of it."""
    kind = type(module)
    return kind.__bases__[0] if parametrize.is_parametrized(module) else kind


def locations(model: nn.Module) -> list[Location]:
    """Everything in a model that multiplies with a weight, in the order of its modules; shared modules once."""
    found: dict[int, Location] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for location in _at(path, module):
            seen = found.get(id(location.module))
            if seen is None:
                found[id(module)] = location
            else:
                aliases = (*seen.aliases, *location.names)
                found[id(module)] = replace(seen, aliases=aliases)
    return [_with_attention_alias(location, model) for location in found.values()]


def _at(path: str, module: nn.Module) -> Iterator[Location]:
    kind = torch_class(module)
    if kind in PHOTONIC or kind in PHOTONIC_CLASSES:
        if issubclass(kind, nn.MultiheadAttention):
            yield Location(f"{path}.in_proj" if path else "in_proj", module, (path,))
        else:
            yield Location(path, module, ())
        return
    for base, reason in UNSUPPORTED.items():
        if isinstance(module, base):
            yield Location(path, module, (), reason)
            return
    for base in PHOTONIC:
        if isinstance(module, base):
            name = f"{kind.__module__}.{kind.__qualname__}"
            yield Location(path, module, (), f"{name} subclasses {base.__name__}; what it adds would be lost")
            return


def _with_attention_alias(location: Location, model: nn.Module) -> Location:
    """An attention's out_proj also answers to the attention's name, or names where it is shared."""
    parents = [name.rpartition(".")[0] for name in location.names if name.rpartition(".")[2] == "out_proj"]
    attentions = [name for name in parents if isinstance(model.get_submodule(name), nn.MultiheadAttention)]
    return replace(location, aliases=(*location.aliases, *attentions))
