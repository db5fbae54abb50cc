"""The spec string of a twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from photonic.backends.datasheet import preset_parameters
from photonic.backends.fromrecord import SUFFIX, open_record
from photonic.backends.plans import EncodingOptions
from photonic.backends.twin.backend import TwinBackend


def open_twin(
    preset: str = "typical",
    *,
    seed: int = 0,
    device: int = 0,
    purpose: str = "run",
    sign: str = "auto",
    shots: int = 1,
    weight_scale: str = "row",
    analog_gain: float | None = None,
    **options: Any,
) -> TwinBackend:
    """Opens ``twin`` or ``twin:PRESET``, with options of a backend or fields of the parameters; or ``twin:FILE.json``.

    Raises:
        SpecError: an unknown preset or option, a value out of bounds, or an effect that a twin cannot carry.
        CalibrationError: a record that cannot be read, or may not be used.
    """
    chosen = EncodingOptions(sign, shots, weight_scale, analog_gain)
    if preset.endswith(SUFFIX):
        return _from_record(preset, chosen, seed, purpose, options)
    preset = preset or "typical"
    parameters = preset_parameters("twin", preset, options, [field.name for field in fields(EncodingOptions)])
    text = _text(chosen, options)
    return TwinBackend(
        parameters,
        device=device,
        seed=seed,
        purpose=purpose,
        options=chosen,
        name=f"twin:{preset}?device={device}{text}",
    )


def _from_record(
    path: str, chosen: EncodingOptions, seed: int, purpose: str, options: dict[str, object]
) -> TwinBackend:
    """Opens ``twin:FILE.json``."""
    record, name = open_record("twin", path, options)
    text = _text(chosen, {})
    if text:
        name += text if "?" in name else f"?{text[1:]}"
    return TwinBackend(record.parameters, seed=seed, purpose=purpose, options=chosen, name=name, record=record)


def _text(chosen: EncodingOptions, options: Mapping[str, object]) -> str:
    """Options as a spec string has them, each after an ``&``."""
    standard = EncodingOptions()
    given = {**options, **{field.name: getattr(chosen, field.name) for field in fields(chosen)}}
    return "".join(
        f"&{key}={value}" for key, value in given.items() if key in options or value != getattr(standard, key)
    )
