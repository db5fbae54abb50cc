"""The effects that a chip has, each with its switch."""

from __future__ import annotations

from typing import Any

from photonic.physics.parameters import ChipParameters


def effects(parameters: ChipParameters) -> dict[str, dict[str, Any]]:
    """The effects that are on: name -> the fields that switch it off, with their values.

    An effect whose every field stands at its "off" value already does nothing, and is left out.
    """
    found: dict[str, dict[str, Any]] = {}
    active: set[str] = set()
    for name, info in type(parameters).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and "effect" in extra:
            effect = str(extra["effect"])
            found.setdefault(effect, {})[name] = extra["off"]
            if getattr(parameters, name) != extra["off"]:
                active.add(effect)
    return {effect: off for effect, off in found.items() if effect in active}


def without(parameters: ChipParameters, *names: str) -> ChipParameters:
    """The same chip with these effects off."""
    known = effects(parameters)
    off: dict[str, Any] = {}
    for name in names:
        off.update(known.get(name, {}))
    # a converter that is gone takes its own faults with it
    for side in ("input", "adc"):
        if f"{side}_bits" in off:
            off |= {f"{side}_enob": None, f"{side}_inl_lsb": None, f"{side}_mismatch": 0.0}
    return type(parameters)(**{**parameters.model_dump(), **off})
