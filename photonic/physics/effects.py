"""The effects that a chip has, each with its switch."""

from __future__ import annotations

import difflib
from typing import Any

from photonic.errors import SpecError
from photonic.physics.parameters import ChipParameters


def effects(parameters: ChipParameters) -> dict[str, dict[str, Any]]:
    """The effects that are on: name -> the fields that switch it off, with their values.

    An effect whose every field stands at its "off" value already does nothing, and is left out.
    """
    return {
        effect: off
        for effect, off in _switches(parameters).items()
        if any(getattr(parameters, name) != value for name, value in off.items())
    }


def without(parameters: ChipParameters, *names: str) -> ChipParameters:
    """The same chip with these effects off; one that is off already stays off.

    Raises:
        SpecError: the architecture has no effect of that name.
        RecordError: no chip has the others without these.
    """
    known = _switches(parameters)
    off: dict[str, Any] = {}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or sorted(known)
            raise SpecError(
                f"a {parameters.architecture} chip has no effect {name!r} to switch off; it has {', '.join(near)}"
            )
        off.update(known[name])
    # a converter that is gone takes its own faults with it
    for side in ("input", "adc"):
        if f"{side}_bits" in off:
            off |= {f"{side}_enob": None, f"{side}_inl_lsb": None, f"{side}_dnl_lsb": None, f"{side}_mismatch": 0.0}
    return type(parameters)(**{**parameters.model_dump(), **off})


def _switches(parameters: ChipParameters) -> dict[str, dict[str, Any]]:
    """All effects of the architecture: name -> fields with their "off" values."""
    found: dict[str, dict[str, Any]] = {}
    for name, info in type(parameters).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and "effect" in extra:
            found.setdefault(str(extra["effect"]), {})[name] = extra["off"]
    return found
