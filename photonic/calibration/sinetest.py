"""The standard sine test of the ADCs, where a chip can put a sine at their electrical input (IEEE Std 1241).

A chip offers it as a value "sine" of its condition ``electrical_input``. Effective bits and INL of each output are
written down beside what the light says of the converters. The response is not fitted to them: in as many shots as a
calibration has, ramps of light tell transitions better than a sine at random phases does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from photonic.calibration.model import Array
from photonic.calibration.reading import Taken
from photonic.calibration.sine import sine_fit, sine_histogram_inl
from photonic.calibration.table import family, unknown
from photonic.errors import CalibrationError, RangeError
from photonic.records import ChipSpec, Parameter

CONDITION, ON, OFF, PURPOSE = "electrical_input", "sine", "off", "sine"
SHOTS = 4096
_BITS, _INL = "ADC, sine test", "ADC INL, sine test"


@dataclass(frozen=True)
class SineTest:
    """What a sine says of the ADCs.

    Attributes:
        parameters: rows of the record.
        arrays: ``enob_sine`` (M,), ``inl_sine`` (M, K) and their errors, those that were found.
    """

    parameters: tuple[Parameter, ...] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)


def offered(spec: ChipSpec) -> bool:
    """Whether a chip can put a sine at its ADCs."""
    return ON in spec.conditions.get(CONDITION, ()) and spec.adc_bits is not None


def light_only(spec: ChipSpec) -> dict[str, str]:
    """The condition of all other readings, of a chip that says how to leave the electrical input alone."""
    return {CONDITION: OFF} if OFF in spec.conditions.get(CONDITION, ()) else {}


def sine_test(spec: ChipSpec, taken: Sequence[Taken]) -> SineTest:
    """Effective bits and INL of each output, from the readings with a sine; nothing where there are none.

    A sine that cannot be used is no reason to lose a calibration: its rows then say why they have no value.
    """
    readings = [item for item in taken if item.reading.purpose == PURPOSE]
    if not readings or spec.adc_bits is None:
        return SineTest()
    counts, bits = readings[0].counts.double().numpy(), spec.adc_bits
    try:
        _check_range(spec)
        fits = [sine_fit(counts[:, i], bits) for i in range(counts.shape[1])]
        tables = [sine_histogram_inl(counts[:, i], bits) for i in range(counts.shape[1])]
    except (CalibrationError, RangeError) as error:
        return SineTest(tuple(unknown(name, unit, note=str(error)) for name, unit in ((_BITS, "bit"), (_INL, "LSB"))))
    enob, enob_se = (np.array([getattr(each, name) for each in fits]) for name in ("enob", "enob_se"))
    ideal = np.arange(spec.count_range[0] + 0.5, spec.count_range[1])
    inl, inl_se = np.stack([each[0] - ideal for each in tables]), np.stack([each[1] for each in tables])
    known = np.isfinite(inl_se)
    sinad = np.array([each.sinad_db for each in fits])
    rows = (
        family(_BITS, "bit", enob, enob_se, array="enob_sine", note=f"SINAD {sinad.min():.1f} to {sinad.max():.1f} dB"),
        family(_INL, "LSB", inl[known], inl_se[known], array="inl_sine", note=f"{known.mean():.0%} of the transitions"),
    )
    arrays = {"enob_sine": enob, "enob_sine_se": enob_se, "inl_sine": inl, "inl_sine_se": inl_se}
    return SineTest(rows, arrays)


def _check_range(spec: ChipSpec) -> None:
    half = 2.0 ** ((spec.adc_bits or 0) - 1)
    if spec.count_range != (-half, half - 1):
        raise RangeError(f"expected counts from {-half:g} to {half - 1:g}, found {spec.count_range}")
