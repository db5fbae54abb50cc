"""The spec string of a twin."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from photonic.backends.datasheet import preset_parameters
from photonic.backends.plans import EncodingOptions
from photonic.backends.twin.backend import TwinBackend
from photonic.errors import SpecError


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
    """Opens the spec string ``twin`` or ``twin:PRESET``; options are those of a backend, or fields of the parameters.

    Raises:
        SpecError: an unknown preset or option, a value out of bounds, or an effect that a twin cannot carry.
    """
    preset = preset or "typical"
    if preset.endswith(".json"):
        raise SpecError(f"twin:{preset}: this version opens no twin from a calibration; take twin:PRESET")
    chosen = EncodingOptions(sign, shots, weight_scale, analog_gain)
    parameters = preset_parameters("twin", preset, options, [field.name for field in fields(EncodingOptions)])
    standard = EncodingOptions()
    given = {**options, **{f.name: getattr(chosen, f.name) for f in fields(chosen)}}
    text = "".join(
        f"&{key}={value}" for key, value in given.items() if key in options or value != getattr(standard, key)
    )
    return TwinBackend(
        parameters,
        device=device,
        seed=seed,
        purpose=purpose,
        options=chosen,
        name=f"twin:{preset}?device={device}{text}",
    )
