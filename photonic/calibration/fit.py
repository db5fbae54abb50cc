"""From raw readings to a record, without the chip: what is fitted to what, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from photonic.calibration import noise as noises
from photonic.calibration.adc import Inl, fit_inl
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.noise import NoiseFit
from photonic.calibration.points import Points
from photonic.calibration.quantised import gaussian_moments
from photonic.calibration.reading import Taken
from photonic.calibration.response import ResponseFit, fit_response, settings_of, within_range
from photonic.calibration.timing import drift_of
from photonic.errors import CalibrationError
from photonic.records import ChipSpec, DriftModel

_TURNS = 4  # of INL and response
_ROUGH = 4  # one of so many settings is enough to see which readings stay in range
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
        inl: transitions of the ADCs; None: no converter, or nothing that held-out readings can tell from ideal ones.
        drift: between references.
    """

    model: ChipModel
    response: ResponseFit
    noise: NoiseFit
    power: noises.Choice
    rin: noises.Choice
    inl: Inl | None = None
    drift: DriftModel = field(default_factory=DriftModel)


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
    response = fit_response(spec, settings[::_ROUGH], _dark(parts.get("dark", [])))
    inl = _inl(spec, response, parts)
    response = _refined(response, inl, parts)
    for _ in range(0 if inl is None else _TURNS):
        # what the response did not know yet was taken for INL
        inl = _inl(spec, response, parts)
        response = _refined(response, inl, parts)
    fit = _with_noise(spec, response, Points.of(spec, parts["noise"]), inl)
    series = parts.get("allan", [])
    drift = drift_of(spec, parts.get("reference", []), series[0] if series else None, fit.model.zero)
    return replace(fit, drift=drift)


def by_purpose(taken: Sequence[Taken], block: int = 0) -> dict[str, list[Taken]]:
    """Readings of one block of time, by what they are for."""
    found: dict[str, list[Taken]] = {}
    for item in taken:
        if item.reading.block == block:
            found.setdefault(item.reading.purpose, []).append(item)
    return found


def _refined(known: ResponseFit, inl: Inl | None, parts: Mapping[str, list[Taken]]) -> ResponseFit:
    """The response to all readings, with counts corrected for the ADC, and ramps as far as they stay in its range."""
    spec, matrix, ramps = known.model.spec, parts["matrix"], parts.get("ramp", [])
    model = replace(known.model, transitions=None if inl is None else inl.transitions)
    settings = settings_of(spec, matrix, _volts(model, matrix))
    more = within_range(model, settings_of(spec, ramps, _volts(model, ramps)))
    found = fit_response(spec, [*settings, *more], _dark(parts.get("dark", []), model), known)
    return replace(found, model=replace(found.model, transitions=model.transitions))


def _inl(spec: ChipSpec, response: ResponseFit, parts: Mapping[str, list[Taken]]) -> Inl | None:
    """Transitions of the ADCs, where counts differ from what a straight line makes of the predicted results."""
    if spec.adc_bits is None:
        return None
    taken = [*parts.get("ramp", []), *parts["matrix"][::_ROUGH]]
    volts = np.concatenate([_predicted(response.model, item) for item in taken])
    counts = np.concatenate([item.counts.double().numpy() for item in taken])
    sigma = np.broadcast_to(np.sqrt(np.maximum(response.noise - 1 / 12, 0.05)), volts.shape)
    found = fit_inl(volts, counts, sigma, spec.count_range)
    if found.kind == "none":
        return None
    # of a missing code two transitions are equal, and the line that was taken out may have put them the wrong way round
    return found._replace(transitions=np.maximum.accumulate(found.transitions, axis=1))


def _predicted(model: ChipModel, item: Taken) -> Array:
    shape = model.spec.n_outputs, model.spec.n_inputs
    return model.volts(item.reading.weights.double().numpy().reshape(shape), item.reading.inputs.double().numpy())


def _volts(model: ChipModel, taken: Sequence[Taken]) -> list[Array]:
    """Counts (B, M) of each reading as analog values: the middle of the code's width."""
    counts = [item.counts.double().numpy() for item in taken]
    if model.transitions is None:
        return counts
    t = model.transitions
    middles = np.concatenate([t[:, :1] - 0.5, (t[:, 1:] + t[:, :-1]) / 2, t[:, -1:] + 0.5], axis=1)
    low, rows = int(model.spec.count_range[0]), np.arange(t.shape[0])
    return [middles[rows, each.astype(int) - low] for each in counts]


def _dark(taken: Sequence[Taken], model: ChipModel | None = None) -> tuple[Array, Array] | None:
    """Zero of each output and its standard error, from readings without light at several times."""
    if not taken:
        return None
    seen = [item.counts.double().numpy() for item in taken] if model is None else _volts(model, taken)
    counts, each = np.concatenate(seen), np.stack([part.mean(0) for part in seen])
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


def _with_noise(spec: ChipSpec, response: ResponseFit, points: Points, inl: Inl | None) -> ChipFit:
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
    return ChipFit(model, response, fit, power, rin, inl)
