"""From raw readings to a record, without the chip: what is fitted to what, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from photonic.calibration import noise as noises
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.noise import NoiseFit
from photonic.calibration.points import Points
from photonic.calibration.quantised import gaussian_moments
from photonic.calibration.reading import Taken
from photonic.calibration.response import ResponseFit, fit_response, settings_of, within_range
from photonic.errors import CalibrationError
from photonic.records import ChipSpec

# of the light that each weight keeps, constant and by |weight|
_POWER_LAWS = {
    "input power": (1.0, 0.0),
    "half of the input power, half of the weighted": (0.5, 0.5),
    "weighted power and a fifth of the input power": (0.2, 1.0),
    "weighted power and a twentieth of the input power": (0.05, 1.0),
    "weighted power": (0.0, 1.0),
}


@dataclass(frozen=True)
class ChipFit:
    """Everything that was fitted.

    Attributes:
        model: of the mean.
        response: how it was found.
        noise: of one shot.
        power: which total power the noise follows, and how surely.
        rin: whether the inputs share their intensity noise.
    """

    model: ChipModel
    response: ResponseFit
    noise: NoiseFit
    power: noises.Choice
    rin: noises.Choice


def fit_readings(spec: ChipSpec, taken: Sequence[Taken]) -> ChipFit:
    """Fits response and noise to the readings that are not held out.

    Raises:
        CalibrationError: readings are missing, or an output does not answer.
    """
    parts = by_purpose(taken)
    for needed in ("matrix", "noise"):
        if needed not in parts:
            raise CalibrationError(f"expected readings for {needed!r}, found {sorted(parts) or 'none'}; sweep again")
    _check_order(spec, parts.get("row", []))
    matrix = parts["matrix"]
    settings = settings_of(spec, matrix, [item.counts.double().numpy() for item in matrix])
    dark = _dark(parts.get("dark", []))
    response = fit_response(spec, settings, dark)
    ramps = parts.get("ramp", [])
    more = within_range(response.model, settings_of(spec, ramps, [item.counts.double().numpy() for item in ramps]))
    response = fit_response(spec, [*settings, *more], dark, response.model.inputs)
    return _with_noise(spec, response, Points.of(spec, parts["noise"]))


def by_purpose(taken: Sequence[Taken], block: int = 0) -> dict[str, list[Taken]]:
    """Readings of one block of time, by what they are for."""
    found: dict[str, list[Taken]] = {}
    for item in taken:
        if item.reading.block == block:
            found.setdefault(item.reading.purpose, []).append(item)
    return found


def _dark(taken: Sequence[Taken]) -> tuple[Array, Array] | None:
    """Zero of each output and its standard error, from readings without light at several times."""
    if not taken:
        return None
    counts = np.concatenate([item.counts.double().numpy() for item in taken])
    each = np.stack([item.counts.double().numpy().mean(0) for item in taken])
    # of readings at several times, in which a slow drift shows too
    errors = np.maximum(each.std(0, ddof=1) / len(each) ** 0.5, counts.std(0, ddof=1) / len(counts) ** 0.5)
    return counts.mean(0), errors


def _check_order(spec: ChipSpec, rows: Sequence[Taken]) -> None:
    """Whether each output answers to its own row of weights."""
    wrong = []
    sums = np.array([item.reading.weights.double().numpy().reshape(spec.n_outputs, -1).sum(1) for item in rows])
    means = np.array([item.counts.double().numpy().mean(0) for item in rows])
    for row, seen in zip(sums.argmax(1), means - np.median(means, axis=0), strict=True) if len(rows) > 2 else ():
        strongest = int(np.abs(seen).argmax())
        if strongest != row:
            wrong.append(f"row {row} shows at output {strongest}")
    if len(wrong) > len(rows) // 4:
        raise CalibrationError(
            f"chip {spec.chip_id}: its outputs are not in the order of its weights' rows ({'; '.join(wrong[:3])} ...); "
            "reorder them in the driver"
        )


def _with_noise(spec: ChipSpec, response: ResponseFit, points: Points) -> ChipFit:
    """The noise terms, with the total power that explains them best."""
    model = response.model
    ranged = spec.adc_bits is not None
    table = model.transitions
    moments = gaussian_moments(
        points.counts.transpose(0, 2, 1),
        None if table is None else table[None],
        spec.count_range if ranged else None,
    )
    modelled = points.results(model) * model.gain + model.zero
    volts = np.where(moments.identified, moments.mean, modelled)
    candidates = {name: points.powers(replace(model, power_law=np.array(law))) for name, law in _POWER_LAWS.items()}
    data = points.noise_data(model, volts)
    power, _ = noises.choose_power(data, candidates)
    model = replace(model, power_law=np.array(_POWER_LAWS[power.best]))
    rin, fit = noises.choose_rin(replace(data, S=candidates[power.best]))
    if rin.best == "per line" and not rin.decided:
        fit = noises.fit_noise(replace(data, S=candidates[power.best]))
    return ChipFit(model, response, fit, power, rin)
