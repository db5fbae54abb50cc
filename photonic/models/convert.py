"""Converts a user's model in place: each product to its backend, everything else as it was.

A layer is converted by giving it another class, as torch's own parametrizations do. So parameters, hooks, tied weights,
``requires_grad``, optimisers and the user's references to the layer all stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize

from photonic.backends.base import Backend
from photonic.backends.digital import DigitalBackend
from photonic.backends.registry import Opener
from photonic.errors import ConversionError, GradientError
from photonic.models import bypass
from photonic.models.layers import PhotonicLinear, place_on
from photonic.models.ranges import drop_moving
from photonic.models.sites import PHOTONIC, Location, is_photonic, locations, torch_class

Target = Backend | str
DIGITAL = "digital"
_ORIGINAL = "_torch_class"


def convert_(model: nn.Module, backend: Target | Mapping[str, Target], *, gradient: str = "ideal") -> nn.Module:
    """Routes the products of a model to backends, in place.

    Converts ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d``, the projections of ``nn.MultiheadAttention`` (names
    ``<attention>.in_proj`` and ``<attention>.out_proj``, or both by the attention's own name) and of torchvision's
    window attention. Keys and shapes of ``state_dict`` stay what they are.

    Pass the whole model: some parents multiply with their children's weights (torch's encoder layers in inference,
    window attention), and only a parent that is part of ``model`` can be told to call them.

    Args:
        model: any module; a single layer has the name "".
        backend: for every layer, or a mapping from globs over qualified names; the last match wins, and what nothing
            matches stays as it is. Spec strings are opened, equal ones once; "digital" leaves or makes a layer torch's
            own.
        gradient: "ideal", or another that the backends offer.

    Returns:
        The same model.

    Raises:
        ConversionError: a glob matches no layer, only layers that cannot be converted, or is wholly overridden; or a
            target is neither a backend nor a spec string.
        SpecError: a spec string cannot be opened.
        GradientError: a backend does not offer this gradient.
    """
    targets = backend if isinstance(backend, Mapping) else {"*": backend}
    if isinstance(model, NonDynamicallyQuantizableLinear) and not isinstance(model, PhotonicLinear):
        raise ConversionError("an attention's out_proj is multiplied by its attention; convert the attention instead")
    placed = _resolve(locations(model), targets)
    live = _open({glob: target for glob, target in targets.items() if target != DIGITAL}, gradient)
    for location, glob in placed:
        if glob in live:
            _convert(location.module)
            place_on(location.module, live[glob], location.name, gradient)
        else:
            _unconvert(location.module)
    _settle(model)
    return model


def unconvert_(model: nn.Module) -> nn.Module:
    """Makes every layer torch's own again, in place; input ranges and gains are dropped."""
    for location in locations(model):
        _unconvert(location.module)
    _settle(model)
    return model


def attach(model: nn.Module, backend: Target | Mapping[str, Target]) -> nn.Module:
    """Gives converted layers a live backend, in place: after unpickling, or to move them to another chip.

    Layers that were on the exact digital backend get it back by themselves; it needs no chip.

    Args:
        model: with converted layers; others are not touched.
        backend: for all of them, or by glob as in ``convert_``.

    Returns:
        The same model.

    Raises:
        ConversionError: no layer is converted, or a glob matches none that is.
    """
    targets = backend if isinstance(backend, Mapping) else {"*": backend}
    converted = [location for location in locations(model) if is_photonic(location.module)]
    if not converted:
        raise ConversionError("this model has no converted layer; use photonic.convert_(model, backend) first")
    exact = [location for location in converted if location.module.backend.spec.name == DIGITAL]  # type: ignore[union-attr]
    placed = _resolve([location for location in converted if location not in exact] or converted, targets)
    live = _open(targets)
    for location in exact:
        place_on(location.module, DigitalBackend(), location.name, str(location.module.gradient))
    for location, glob in placed:
        place_on(location.module, live[glob], location.name, str(location.module.gradient))
    return model


def _open(targets: Mapping[str, Target], gradient: str | None = None) -> dict[str, Backend]:
    """Each glob's backend, equal spec strings opened once; all or none, so that no model is left half converted."""
    opener = Opener()
    live: dict[str, Backend] = {}
    try:
        for glob, target in targets.items():
            live[glob] = opener.backend(target) if isinstance(target, str) else target
            if not isinstance(live[glob], Backend):
                raise ConversionError(
                    f"{glob!r} goes to a {type(target).__name__}; expected a backend (photonic.open_backend opens a "
                    "chip as one) or a spec string such as 'sim'"
                )
            offered = live[glob].spec.gradients
            if gradient is not None and gradient not in offered:
                raise GradientError(
                    f"backend {live[glob].spec.name} offers the gradients {offered}, found {gradient!r}"
                )
    except BaseException:
        opener.close()
        raise
    return live


def _resolve(found: list[Location], targets: Mapping[str, Target]) -> list[tuple[Location, str]]:
    """Each location and its glob: the last one that matches wins, and every glob must win somewhere."""
    winners: dict[str, int] = dict.fromkeys(targets, 0)
    placed: list[tuple[Location, str]] = []
    for location in found:
        matching = [glob for glob in targets if any(fnmatchcase(name, glob) for name in location.names)]
        if location.reason is None and matching:
            winners[matching[-1]] += 1
            placed.append((location, matching[-1]))
    for glob, wins in winners.items():
        if wins == 0:
            raise ConversionError(_why_unmatched(glob, found))
    return placed


def _why_unmatched(glob: str, found: list[Location]) -> str:
    """A glob that decides nothing is a mistake; says which."""
    matched = [location for location in found if any(fnmatchcase(name, glob) for name in location.names)]
    if not matched:
        names = [location.name for location in found if location.reason is None]
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        return f"the glob {glob!r} matches no layer; the layers are: {some or 'none'}"
    blocked = [location for location in matched if location.reason is not None]
    if len(blocked) == len(matched):
        return f"the glob {glob!r} names {blocked[0].name!r}, which must stay digital: {blocked[0].reason}"
    return f"the glob {glob!r} decides nothing: later globs match all of its layers; the last match wins"


def _convert(module: nn.Module) -> None:
    if not is_photonic(module):
        original = torch_class(module)
        module.__dict__[_ORIGINAL] = original
        _set_class(module, PHOTONIC[original])


def _unconvert(module: nn.Module) -> None:
    if not is_photonic(module):
        return
    # a layer that was made photonic by its constructor has no class to go back to but the one below
    original = module.__dict__.pop(_ORIGINAL, torch_class(module).__bases__[0])
    _set_class(module, original)
    drop_moving(module)
    for name in ("backend", "gradient", "input_range"):
        delattr(module, name)


def _set_class(module: nn.Module, kind: type[nn.Module]) -> None:
    """Swaps the class; under torch's parametrizations, the one below theirs."""
    if parametrize.is_parametrized(module):
        made = {key: value for key, value in vars(type(module)).items() if key not in ("__dict__", "__weakref__")}
        kind = type(f"Parametrized{kind.__name__}", (kind,), made)
    module.__class__ = kind


def _settle(model: nn.Module) -> None:
    """Parents that read their children's weights must call them instead, if these are converted."""
    for module in model.modules():
        # an attention whose in-projection nobody routed multiplies it exactly
        if isinstance(module, nn.MultiheadAttention) and is_photonic(module.out_proj) and not is_photonic(module):
            _convert(module)
            place_on(module, DigitalBackend(), "", "ideal")
    bypass.settle(model, is_photonic)
