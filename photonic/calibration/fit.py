"""From raw readings to a record, without the chip: what is fitted to what, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from photonic.calibration import noise as noises
from photonic.calibration.adc import Inl, fit_inl
from photonic.calibration.adccolumns import AdcColumns
from photonic.calibration.driftnoise import variance_of_mean
from photonic.calibration.effective import Setting
from photonic.calibration.evidence import drift_with_singles, fit_all_noise, noise_so_far
from photonic.calibration.jointfit import Looked, joint_step
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.noise import NoiseFit
from photonic.calibration.ownnoise import OwnNoise
from photonic.calibration.points import Points
from photonic.calibration.reading import Taken
from photonic.calibration.response import ResponseFit, fit_response, settings_of, with_believed_curves
from photonic.calibration.shots import Shots, followed
from photonic.calibration.timing import drift_of, through_adc
from photonic.calibration.working import working_values
from photonic.errors import CalibrationError
from photonic.records import ChipSpec, DriftModel, NoiseModel

_TURNS = 8  # of INL and response, at most
_SETTLED = 0.1  # of standard errors, rms, from one turn to the next
_NEAR = 0.3  # likewise: then the information is that of the result
_JOINT = 2_500_000  # elements of settings, beyond which a joint step would take longer than all else
_WORSE = 1e-3  # of the misfit: a step that adds more than that is taken back
_LEAST_INL = 0.03  # LSB, rms: less changes no mean by a tenth of what the verification allows
_LEAST_SIGMA = 0.05  # counts; with less, what a count says of a mean is all or nothing
_ANSWERS = 8.0  # standard errors by which an output must move to answer to a row
_ROUGH = 4  # one of so many settings is enough for a first response
_ROUGH_TURNS = 3  # with these; all readings are for the joint steps


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
        joint: whether the errors of the response count what rows share.
        own_noise: thermal and shot noise of each output; None: alike, as far as repeats tell.
        drift_said: what single readings have to do with the drift.
    """

    model: ChipModel
    response: ResponseFit
    noise: NoiseFit
    power: noises.Choice
    rin: noises.Choice
    inl: Inl | None = None
    drift: DriftModel = field(default_factory=DriftModel)
    joint: bool = True
    own_noise: OwnNoise | None = None
    drift_said: str = ""


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
    response = fit_response(spec, settings_of(spec, parts["matrix"])[::_ROUGH], _first_dark(spec, parts))
    points = Points.of(spec, parts["noise"])
    seen = Seen.first(response, points)
    rough = {**parts, "matrix": parts["matrix"][::_ROUGH], "ramp": parts.get("ramp", [])[::_ROUGH]}
    for turn in range(_ROUGH_TURNS):
        if turn == _ROUGH_TURNS - 1:
            seen = seen.believed(rough)
        seen = seen.refined(None, rough, points)
    elements = spec.n_outputs * spec.n_inputs * sum(len(parts.get(name, [])) for name in ("matrix", "ramp"))
    joint = elements <= _JOINT
    seen, inl = (_together if joint else _in_turns)(seen, parts, points)
    drift, said = _drift(seen, parts)
    response = _with_drift(seen.response, drift, parts["matrix"])
    noise = fit_all_noise(response.model, inl, parts, drift)
    return ChipFit(noise.model, response, noise.fit, noise.power, noise.rin, inl, drift, joint, noise.own, said)


def _with_drift(response: ResponseFit, drift: DriftModel, taken: Sequence[Taken]) -> ResponseFit:
    """The response with errors of its gains that count how far the gain drifted, for all outputs alike, meanwhile."""
    times = [item.clock_s for item in taken]
    variance = variance_of_mean(drift, max(times) - min(times))
    gain = np.hypot(response.errors.gain, np.abs(response.model.gain) * variance**0.5)
    return replace(response, errors=replace(response.errors, gain=gain))


def _drift(seen: Seen, parts: Mapping[str, list[Taken]]) -> tuple[DriftModel, str]:
    """The drift of the gain, and what single readings have to do with it."""
    spec, model, series = seen.response.model.spec, seen.response.model, parts.get("allan", [])
    found = drift_of(spec, parts.get("reference", []), series[0] if series else None, model.zero)
    if not series:
        return found.model, "of references alone"
    found = found._replace(model=through_adc(spec, series[0], model, seen.noise, found.model))
    return drift_with_singles(model, seen.noise, parts, found)


def _together(seen: Seen, parts: Mapping[str, list[Taken]], points: Points) -> tuple[Seen, Inl | None]:
    """Response and transitions in joint steps, each of which knows what the other makes of it, until neither moves.

    The last step moves the response alone, so that it is at its best with the transitions as they are stated.
    """
    inl, known, step, before, least = _inl(seen, parts), None, None, seen, np.inf
    for turn in range(_TURNS):
        seen = seen.reading_with(inl)
        looked = seen.looked(parts, inl)
        if not looked.misfit < least * (1 + _WORSE):
            seen = before  # where nothing is as it was assumed, a step can miss
            break
        before, least = seen, looked.misfit
        step = joint_step(seen.response, looked, known)
        seen = seen.improved(step.fit, parts, points)
        settled, found = step.moved < _SETTLED, inl
        if turn == 0 or (inl is not None and not settled):
            found = _inl(seen, parts)
        if settled and _same(inl, found):
            break
        # information hardly changes once the response is near, but each hypothesis on the ADCs has its own
        known = step.information if step.moved < _NEAR and _kind(found) == _kind(inl) else None
        inl = found
    if inl is None or step is None or step.adc_errors is None:
        return seen, inl
    return seen, inl._replace(standard_error=np.hypot(inl.standard_error, step.adc_errors))


def _in_turns(seen: Seen, parts: Mapping[str, list[Taken]], points: Points) -> tuple[Seen, Inl | None]:
    """Response and transitions in turns, where joint steps take too long.

    What they share is then less sure than is stated: errors are those of rows with everything else known.
    """
    seen = seen.refined(None, parts, points)
    inl, found = None, _inl(seen, parts)
    for _ in range(_TURNS):
        if found is None or (inl is not None and _same(inl, found)):
            break
        # what the response does not know yet is taken for INL
        inl, seen = found, seen.refined(found, parts, points)
        found = _inl(seen, parts)
    if found is None and inl is not None:
        inl, seen = None, seen.refined(None, parts, points)
    return seen, inl


def _kind(inl: Inl | None) -> str:
    return "none" if inl is None else inl.kind


def by_purpose(taken: Sequence[Taken], block: int = 0) -> dict[str, list[Taken]]:
    """Readings of one block of time, by what they are for."""
    found: dict[str, list[Taken]] = {}
    for item in taken:
        if item.reading.block == block:
            found.setdefault(item.reading.purpose, []).append(item)
    return found


@dataclass(frozen=True)
class Seen:
    """A response and its noise so far, with which counts are read.

    Attributes:
        response: so far.
        noise: of one shot.
    """

    response: ResponseFit
    noise: NoiseModel

    @classmethod
    def first(cls, response: ResponseFit, points: Points) -> Seen:
        """With the noise that the repeats show if the response is right, and the total power that explains it best."""
        candidates = []
        for share in (0.0, 0.5, 1.0):
            model = replace(response.model, power_law=np.array([1 - share, share]))
            candidates.append((model, noises.fit_noise(points.measured(model))))
        model, fit = max(candidates, key=lambda each: float(each[1].log_likelihood.sum()))
        return cls(replace(response, model=model), fit.model)

    def predicted(self, item: Taken) -> tuple[Array, Array]:
        """Mean and standard deviation (B, M) of a reading's values before the ADC, counts."""
        model, noise = self.response.model, self.noise
        codes = item.reading.weights.double().numpy().reshape(model.spec.n_outputs, model.spec.n_inputs)
        inputs = item.reading.inputs.double().numpy()
        lit = float(item.reading.conditions.get("laser_power", 1.0) != 0)
        d, s = (lit * part for part in model.both(codes, inputs))
        sigma = np.abs(model.gain) * np.sqrt(noises.variance(noise, s, d, model.own_noise))
        return d * model.gain + model.zero, np.maximum(sigma, _LEAST_SIGMA)

    def values(self, item: Taken, predicted: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Counts (B, M) of a reading as analog values, and the weight (B,) of each shot."""
        volts, sigma = predicted or self.predicted(item)
        counts, spec = item.counts.double().numpy(), self.response.model.spec
        weight = 1 / (sigma**2).mean(1)
        if spec.adc_bits is not None:
            counts = working_values(counts, volts, sigma, self.response.model.transitions, spec.count_range)
        return counts, weight / weight.mean()

    def shots(self, item: Taken) -> Shots:
        """A reading's shots, as this response explains them."""
        spec, model = self.response.model.spec, self.response.model
        volts, sigma = self.predicted(item)
        values, weight = self.values(item, (volts, sigma))
        follows = None
        if spec.adc_bits is not None:
            table = model.transitions
            rails = (
                (spec.count_range[0] + 0.5, spec.count_range[1] - 0.5) if table is None else (table[:, 0], table[:, -1])
            )
            follows = followed(volts, sigma, (np.asarray(rails[0]), np.asarray(rails[1])))
        codes = item.reading.weights.double().numpy().reshape(spec.n_outputs, spec.n_inputs)
        return Shots(codes, item.reading.inputs.double().numpy(), volts, values - volts, follows, weight)

    def looked(self, parts: Mapping[str, list[Taken]], inl: Inl | None) -> Looked:
        """All readings of the response, as it explains them."""
        model, noise = self.response.model, self.response.noise
        return Looked(
            shots=[self.shots(item) for item in (*parts["matrix"], *parts.get("ramp", []))],
            dark=self.dark(parts.get("dark", [])) if self.response.extinction or not model.inputs.curved else None,
            adc=None if inl is None else AdcColumns.of(inl, np.sqrt(noise), model.spec.count_range),
        )

    def reading_with(self, inl: Inl | None) -> Seen:
        """The same, with these transitions."""
        model = replace(self.response.model, transitions=None if inl is None else inl.transitions)
        return replace(self, response=replace(self.response, model=model))

    def improved(self, response: ResponseFit, parts: Mapping[str, list[Taken]], points: Points) -> Seen:
        """With another response, and the noise that readings show then."""
        return Seen(response, noise_so_far(response.model, self.noise, parts, points))

    def believed(self, parts: Mapping[str, list[Taken]]) -> Seen:
        """Without the curves that elements do not clearly differ by."""
        settings = [self.setting(item) for item in parts["matrix"]]
        return replace(self, response=with_believed_curves(self.response.model.spec, settings, self.response))

    def refined(self, inl: Inl | None, parts: Mapping[str, list[Taken]], points: Points) -> Seen:
        """With the response to all readings, as they are read with these transitions."""
        transitions = None if inl is None else inl.transitions
        model = replace(self.response.model, transitions=transitions)
        reader = replace(self, response=replace(self.response, model=model))
        settings = [reader.setting(item) for item in (*parts["matrix"], *parts.get("ramp", []))]
        found = fit_response(model.spec, settings, reader.dark(parts.get("dark", [])), self.response)
        kept = replace(found.model, transitions=transitions, power_law=model.power_law)
        return Seen(replace(found, model=kept), noise_so_far(kept, self.noise, parts, points))

    def setting(self, item: Taken) -> Setting:
        """A reading as the response takes it."""
        spec = self.response.model.spec
        values, weight = self.values(item)
        codes = item.reading.weights.double().numpy().reshape(spec.n_outputs, spec.n_inputs)
        everywhere = np.ones(spec.n_outputs, dtype=bool)  # rails are read as what they are: at least, or at most
        return Setting(codes, item.reading.inputs.double().numpy(), values, everywhere, weight)

    def dark(self, taken: Sequence[Taken]) -> tuple[Array, Array] | None:
        """Zeros, and their standard errors, of readings without light."""
        rounded = self.response.model.spec.adc_bits is not None
        return _zeros([self.values(item)[0] for item in taken], taken, rounded=rounded)


def _first_dark(spec: ChipSpec, parts: Mapping[str, list[Taken]]) -> tuple[Array, Array] | None:
    taken = parts.get("dark", [])
    return _zeros([item.counts.double().numpy() for item in taken], taken, rounded=spec.adc_bits is not None)


def _zeros(seen: Sequence[Array], taken: Sequence[Taken], *, rounded: bool) -> tuple[Array, Array] | None:
    """Zero of each output and its standard error, from readings without light at several times; None: none taken.

    Noise much below a count leaves the rounding of the one value that is read, which does not average out: its
    first harmonic has the amplitude exp(-2 pi^2 sigma^2) / pi (Widrow and Kollar, Quantization Noise, 2008, ch. 4).
    """
    if not seen:
        return None
    values, each = np.concatenate(seen), np.stack([part.mean(0) for part in seen])
    # of readings at several times, in which a slow drift shows too
    errors = np.maximum(each.std(0, ddof=1) / len(each) ** 0.5, values.std(0, ddof=1) / len(values) ** 0.5)
    if rounded:
        spread = np.concatenate([item.counts.double().numpy() for item in taken]).var(0, ddof=1)
        errors = np.hypot(errors, np.exp(-2 * np.pi**2 * np.maximum(spread - 1 / 12, 0.0)) / 12**0.5)
    return values.mean(0), errors


def _inl(seen: Seen, parts: Mapping[str, list[Taken]]) -> Inl | None:
    """Transitions of the ADCs, where counts differ from what a straight line makes of the predicted results."""
    spec = seen.response.model.spec
    if spec.adc_bits is None:
        return None
    taken = [*parts.get("ramp", []), *parts["matrix"]]
    volts, sigma = (np.concatenate(each) for each in zip(*(seen.predicted(item) for item in taken), strict=True))
    counts = np.concatenate([item.counts.double().numpy() for item in taken])
    found = fit_inl(volts, counts, sigma, spec.count_range)
    ideal = np.arange(spec.count_range[0] + 0.5, spec.count_range[1])
    size = (
        float(np.sqrt(np.mean(((found.transitions - ideal)[found.identified]) ** 2))) if found.kind != "none" else 0.0
    )
    return found if size > _LEAST_INL else None


def _same(before: Inl | None, after: Inl | None) -> bool:
    """Whether transitions moved by little of their standard errors."""
    if before is None or after is None:
        return before is after
    known = before.identified & after.identified
    moved = (after.transitions - before.transitions)[known] / after.standard_error[known]
    return bool(np.sqrt((moved**2).mean()) < _SETTLED) if known.any() else True


def _check_order(spec: ChipSpec, rows: Sequence[Taken]) -> None:
    """Whether each output answers to its own row of weights; one that answers to none is another matter."""
    if len(rows) < 3:
        return
    sums = np.array([item.reading.weights.double().numpy().reshape(spec.n_outputs, -1).sum(1) for item in rows])
    counts = [item.counts.double().numpy() for item in rows]
    means = np.array([each.mean(0) for each in counts])
    errors = np.array([each.std(0, ddof=1) / len(each) ** 0.5 for each in counts])
    seen = np.abs(means - np.median(means, axis=0)) / np.maximum(errors, _LEAST_SIGMA)
    wrong = []
    for row, answers in zip(np.abs(sums).argmax(1), seen, strict=True):
        strongest = int(answers.argmax())
        if strongest != row and answers[strongest] > _ANSWERS and answers[row] < 0.5 * answers[strongest]:
            wrong.append(f"row {row} shows at output {strongest}")
    if wrong:
        raise CalibrationError(
            f"chip {spec.chip_id}: its outputs are not in the order of its weights' rows ({'; '.join(wrong[:3])}"
            f"{' ...' if len(wrong) > 3 else ''}); reorder them in the driver"
        )
