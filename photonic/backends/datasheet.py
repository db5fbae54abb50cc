"""What a simulated chip says of itself, from its parameters; and parameters from names and options."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from photonic.errors import RecordError, SpecError
from photonic.physics.parameters import ChipParameters
from photonic.physics.presets import PRESETS
from photonic.records import ChipSpec

GAINS = (1.0, 2.0, 4.0, 8.0)


def data_sheet(parameters: ChipParameters, chip_id: str, limits: Mapping[str, Any]) -> ChipSpec:
    """The data sheet: nothing of the hidden spread."""
    if parameters.sheet is not None:
        return ChipSpec(**{**parameters.sheet.model_dump(), "chip_id": chip_id, "seeded": True, **limits})
    adc, transfer = parameters.adc_bits, parameters.input_transfer
    mesh = len(parameters.drive_shape) == 1
    return ChipSpec(
        chip_id=chip_id,
        n_outputs=parameters.n_outputs,
        n_inputs=parameters.n_inputs,
        layout="program" if mesh else "elementwise",
        n_drives=parameters.drive_shape[0] if mesh else None,
        decomposition="clements_svd" if mesh else None,
        partial_tiles=not mesh,
        weight_bits=parameters.weight_bits,
        weight_code_range=parameters.weight_code_range,
        input_bits=parameters.input_bits,
        input_code_range=(-transfer.code_one if parameters.coherent else 0.0, transfer.code_one),
        adc_bits=adc,
        # without a converter a count is D itself, and nothing clips
        count_range=(-1e30, 1e30) if adc is None else (-(2.0 ** (adc - 1)), 2.0 ** (adc - 1) - 1),
        adc_full_scale=parameters.adc_full_scale,
        shot_time_s=1.0 / parameters.symbol_rate_hz,
        settle_time_s=parameters.settle_time_s,
        conditions={"laser_power": (0.0, 0.25, 0.5, 1.0), "analog_gain": GAINS},
        tile_conditions=("analog_gain",),
        seeded=True,
        response=parameters.response,
        energy=parameters.energy,
        **limits,
    )


def preset_parameters(
    scheme: str, preset: str, options: Mapping[str, Any], others: Sequence[str] = ()
) -> ChipParameters:
    """A preset with some of its quantities replaced.

    Args:
        scheme: for messages.
        preset: its name.
        options: fields of its architecture's parameters; ``laser_power_w`` takes the place of ``power_per_pair_w``.
        others: options that the caller knows besides, for the hint.

    Raises:
        SpecError: an unknown preset or option, or a value out of bounds.
    """
    if preset not in PRESETS:
        raise SpecError(f"unknown preset {preset!r}; the presets are {', '.join(PRESETS)}")
    base, name = PRESETS[preset], f"{scheme}:{preset}"
    fields = type(base).model_fields
    unknown = sorted(set(options) - set(fields))
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*fields, *others], n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise SpecError(f"unknown option {', '.join(unknown)} of {name}{hint}")
    for key, value in options.items():
        if isinstance(value, bool) and fields[key].annotation is not bool:
            raise SpecError(f"{key} of {name} is a number, found {value}")
    given = dict(options)
    if given.get("laser_power_w") is not None:
        given.setdefault("power_per_pair_w", None)
    try:
        return type(base)(**{**base.model_dump(), **given})
    except RecordError as error:
        raise SpecError(f"{name}: {error}") from error
