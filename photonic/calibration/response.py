"""The response of a chip: zero, gain, input transfer, programming and crosstalk, from the raw readings.

Parts take turns until none moves: matrices of all settings given the transfer of the inputs, the transfer given the
matrices, and last the programming curves that make matrices of codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from photonic.calibration import programming
from photonic.calibration.effective import Effective, Setting, effective_matrices
from photonic.calibration.model import NO_NEIGHBOURS, Array, ChipModel, Inputs
from photonic.calibration.programming import Crosstalk, Programming
from photonic.calibration.reading import Taken
from photonic.calibration.rows import RowErrors, fit_rows
from photonic.calibration.transfer import TransferStep, improve_transfer
from photonic.errors import CalibrationError
from photonic.records import ChipSpec

_STEPS = 8
_NEAR = 0.85  # of the ADC's range
_MOST_DARK = 0.5  # of full light, at the dark code: no modulator is as bad as that
_SETTLED = 0.3  # of a standard error
# elements times settings that shared curves are fitted to, and on which hypotheses are compared
_SHARED, _COMPARED = 260_000, 80_000
_LEAST_ROWS = 256  # elements of the rows among them
_HELD_OUT = 5
# standard errors by which a hypothesis with more neighbours must predict held-out settings better
_CLEAR = 3.0
_REACH = 4  # elements to either side that may take light, once the next ones do


@dataclass(frozen=True)
class ResponseFit:
    """A response and what is known of it.

    Attributes:
        model: with the nominal ADC and power law.
        programming: of the elements.
        transfer: last step, with its errors; None: linear inputs.
        zero_se: (M,).
        errors: of gains, powers and elements.
        extinction: whether T_min was identified.
        misfits: held-out mean square over variance by hypothesis, 1 at best.
        noise: (M,) variance of a shot in counts^2.
    """

    model: ChipModel
    programming: Programming
    transfer: TransferStep | None
    zero_se: Array
    errors: RowErrors
    extinction: bool
    misfits: dict[str, float]
    noise: Array


def settings_of(spec: ChipSpec, taken: Sequence[Taken]) -> list[Setting]:
    """The readings that a first response is fitted to: counts as they are, all alike.

    Shots whose nominal results lie near a rail are left out: chosen by what was sent and not by what was seen, so that
    noise has no part in the choice.
    """
    low, high = spec.count_range
    nominal, found = ChipModel.nominal(spec), []
    for item in taken:
        codes = item.reading.weights.double().numpy().reshape(spec.n_outputs, spec.n_inputs)
        inputs, counts = item.reading.inputs.double().numpy(), item.counts.double().numpy()
        inside = (np.abs(nominal.results(codes, inputs)) < _NEAR * spec.adc_full_scale).all(axis=1)
        if inside.sum() > 2 * spec.n_inputs:
            inputs, counts = inputs[inside], counts[inside]
        usable = np.asarray(((counts > low) & (counts < high)).all(axis=0))
        found.append(Setting(codes, inputs, counts, usable, np.ones(len(counts))))
    return found


def fit_response(
    spec: ChipSpec,
    settings: Sequence[Setting],
    dark: tuple[Array, Array] | None,
    known: ResponseFit | None = None,
) -> ResponseFit:
    """Fits everything that makes the mean of a count.

    Args:
        spec: of the chip.
        settings: random weights with random inputs.
        dark: (M,) volts without light and their standard errors; None: the source cannot be switched off.
        known: an earlier fit, to begin with, and whose hypothesis on crosstalk is kept; None: nothing is known.

    Raises:
        CalibrationError: an output does not answer to its weights.
    """
    inputs = Inputs.nominal(spec) if known is None else known.model.inputs
    if known is not None and not known.extinction:
        dark = None
    # readings without light say less of the zeros than all others together, but are free of the inputs' least level
    zero = None if dark is None else dark[0] if known is None else known.model.zero
    data = _matrices(settings, inputs, zero)
    _refuse_silent(spec, data)
    step, data, dark = _transferred(inputs, settings, data, dark)
    inputs = inputs if step is None else step.inputs
    if known is None:
        found, misfits = _choose(spec, data)
    else:
        found, misfits = _again(spec, data, known.programming), known.misfits
    rows = fit_rows(spec, data, found, dark)
    found = replace(found, raw=rows.raw, raw_se=np.sqrt(np.einsum("mjqjq->mjq", rows.covariance)))
    gain, power = programming.rank_one(found.raw[..., 1])
    n, errors = spec.n_inputs, _with_light(rows.errors(gain, power), gain, power, step)
    model = ChipModel(
        spec=spec,
        inputs=inputs,
        gain=gain * n,
        zero=rows.zero,
        power=power,
        curves=found.curves,
        element=found.raw / (gain[:, None] * power)[..., None],
        offsets=found.offsets,
        neighbour=found.neighbour,
        target=found.crosstalk.target,
    )
    return ResponseFit(
        model=model,
        programming=found,
        transfer=step,
        zero_se=rows.zero_se,
        errors=replace(errors, gain=errors.gain * n),
        extinction=dark is not None and inputs.curved,
        misfits=misfits,
        noise=data.noise,
    )


def _transferred(
    inputs: Inputs, settings: Sequence[Setting], data: Effective, dark: tuple[Array, Array] | None
) -> tuple[TransferStep | None, Effective, tuple[Array, Array] | None]:
    """The inputs' transfer, from ``inputs`` on, and the matrices with it; None: linear inputs.

    Without noise a count's rounding may pass for light at the dark code: where that would be most of the light, nothing
    is known of it, and readings in the dark are not used (None).
    """
    step, start, found = None, inputs, data
    for _ in range(_STEPS if inputs.curved else 0):
        step = improve_transfer(inputs, settings, found.matrix, found.zero, found.noise, dark)
        if dark is not None and not abs(step.inputs.level_min) < _MOST_DARK:
            return _transferred(start, settings, _matrices(settings, start, None), None)
        inputs = step.inputs
        found = _matrices(settings, inputs, None if dark is None else step.zero)
        if step.largest < _SETTLED:
            break
    return step, found, dark


def _with_light(errors: RowErrors, gain: Array, power: Array, step: TransferStep | None) -> RowErrors:
    """Errors of gains and powers, with those that the inputs' transfer, taken as known by the rows, makes of them."""
    if step is None:
        return errors
    light = step.scale_covariance
    common = light.mean()  # the mean power is 1, so that what channels share is the gains'
    own = np.diag(light) - 2 * light.mean(1) + common
    return replace(
        errors,
        gain=np.hypot(errors.gain, gain * math.sqrt(max(common, 0.0))),
        power=np.hypot(errors.power, power * np.sqrt(np.maximum(own, 0.0))),
    )


def _matrices(settings: Sequence[Setting], inputs: Inputs, zero: Array | None) -> Effective:
    return effective_matrices(settings, [inputs.levels(setting.inputs) for setting in settings], zero)


def _refuse_silent(spec: ChipSpec, data: Effective) -> None:
    """An output or an input whose matrix does not follow its codes at all, or was never usable, ends the fit."""
    centred = data.codes / spec.response.weight_code_one
    known = ~np.isnan(data.matrix)
    # an output that is at a rail in all settings has no variance either
    weight = np.where(known, 1 / np.nan_to_num(data.variance, nan=1.0)[..., None], 0.0)
    moves = np.where(known, data.matrix, 0.0) * centred * weight
    strength = centred**2 * weight
    slope, error = moves.sum((0, 2)), np.sqrt(strength.sum((0, 2)))
    dead = [str(i) for i in np.flatnonzero(~(np.abs(slope) > 5 * error))]
    if dead:
        raise CalibrationError(
            f"chip {spec.chip_id}: output {', '.join(dead)} does not answer to its weights in any usable reading; "
            "look at its detector, its order among the outputs, and its ADC's range"
        )
    by_input = (moves * np.sign(slope)[:, None]).sum((0, 1))
    dark = [str(j) for j in np.flatnonzero(~(by_input > 5 * np.sqrt(strength.sum((0, 1)))))]
    if dark:
        raise CalibrationError(
            f"chip {spec.chip_id}: the light of input {', '.join(dark)} reaches no output, or moves with none "
            "of its weights; look at its modulator, its source, and whether its weights move"
        )


def _choose(spec: ChipSpec, data: Effective) -> tuple[Programming, dict[str, float]]:
    """The hypothesis that predicts settings it has not seen best, and the fit of all data with it.

    First whether anything is taken by the elements beside, and how; then whether more of them do.
    """
    train, test = _halves(_shared(spec, data, _COMPARED))
    misfits: dict[str, Array] = {}

    def judged(hypothesis: Crosstalk) -> Array:
        if hypothesis.name not in misfits:
            fit = programming.fit_programming(spec, train, hypothesis)
            misfits[hypothesis.name] = programming.misfit(spec, test, fit)
        return misfits[hypothesis.name]

    def better(best: Crosstalk, others: Sequence[Crosstalk], clear: float = _CLEAR) -> Crosstalk:
        for other in others:
            if _clearly(judged(best) - judged(other), clear):
                best = other
        return best

    best = programming.NO_CROSSTALK
    targets = (1.0, programming.FAR)
    if spec.n_inputs > 1:
        best = better(best, [programming.beside(1, target) for target in targets])
    if spec.n_inputs > 1 and train.matrix.shape[1] > 1:
        best = better(best, [programming.around(best.target if best.offsets else programming.FAR)])
    if best.offsets and best.offsets[-1][0] == 0:
        # what elements farther away take is too little to be seen by itself, and moves gains all the same
        best = better(best, [programming.beside(min(_REACH, spec.n_inputs - 1), best.target)], -_CLEAR)
    found = programming.fit_elements(spec, data, programming.fit_programming(spec, _shared(spec, data), best))
    return found, {name: float(each.mean()) for name, each in misfits.items()}


def _clearly(gained: Array, clear: float) -> bool:
    """Whether (K,) settings are predicted better, by so many standard errors."""
    return bool(gained.mean() > clear * gained.std(ddof=1) / len(gained) ** 0.5)


def _halves(data: Effective) -> tuple[Effective, Effective]:
    """Settings to fit, and settings to judge."""
    held = np.arange(len(data.codes)) % _HELD_OUT == 0
    return _part(data, slice(None), ~held), _part(data, slice(None), held)


def with_believed_curves(spec: ChipSpec, settings: Sequence[Setting], known: ResponseFit) -> ResponseFit:
    """The start of another fit, without neighbours and curves that do not clearly predict unseen settings better.

    Neighbours were chosen when counts were taken as they are, where an output that comes near its rails bends like one
    that neighbours take from; settings are read better now. A curve that was fitted to noise has coefficients of
    nothing but noise, and larger ones than by chance.
    """
    data = _matrices(settings, known.model.inputs, known.model.zero)
    train, test = _halves(_shared(spec, data, _COMPARED))
    # from curves that have not seen the settings that judge
    curve = known.programming.curves[1]
    line = np.linspace(*spec.weight_code_range, len(curve)) / spec.response.weight_code_one
    start = replace(known.programming, curves=programming.first_curves(curve, line))
    found = programming.sorted_curves(programming.fit_programming(spec, train, start.crosstalk, start))
    if found.crosstalk.offsets:
        bare = replace(start, crosstalk=programming.NO_CROSSTALK, neighbour=NO_NEIGHBOURS)
        alone = programming.sorted_curves(programming.fit_programming(spec, train, bare.crosstalk, bare))
        if not _clearly(programming.misfit(spec, test, alone) - programming.misfit(spec, test, found), _CLEAR):
            found = alone
    # in the documented gauge: else the curve of all has a part of those that go, and misses them
    found = programming.fit_elements(spec, train, replace(found, curves=programming.centred(found, line)))
    while len(found.curves) > 2:
        less = replace(found, curves=found.curves[:-1], raw=found.raw[..., :-1])
        fewer = programming.fit_elements(spec, train, less)
        whole = programming.fit_elements(spec, train, found)
        if _clearly(programming.misfit(spec, test, fewer) - programming.misfit(spec, test, whole), _CLEAR):
            break
        found = fewer
    kept = replace(
        known.programming, curves=found.curves, crosstalk=found.crosstalk, neighbour=found.neighbour,
        neighbour_pulls=found.neighbour_pulls, raw=known.programming.raw[..., : len(found.curves)],
    )  # fmt: skip
    every = programming.fit_elements(spec, data, kept)
    return replace(known, programming=replace(kept, curves=programming.centred(every, line)))


def _again(spec: ChipSpec, data: Effective, known: Programming) -> Programming:
    """The fit of other data with a hypothesis that was chosen before."""
    shared = programming.fit_programming(spec, _shared(spec, data), known.crosstalk, known)
    return programming.fit_elements(spec, data, shared)


def _shared(spec: ChipSpec, data: Effective, most: int = _SHARED) -> Effective:
    """Enough for what all elements have in common: some rows of settings of all kinds, ``most`` elements in all."""
    k, n = len(data.codes), spec.n_inputs
    rows = min(spec.n_outputs, max(2, _LEAST_ROWS // n, most // (k * n)))
    some = np.zeros(k, dtype=bool)
    some[np.linspace(0, k - 1, min(k, max(50, most // (rows * n)))).astype(int)] = True
    return _part(data, slice(0, rows), some)


def _part(data: Effective, rows: slice, settings: NDArray[np.bool_]) -> Effective:
    """Some rows of some settings."""
    return replace(
        data,
        codes=data.codes[settings][:, rows],
        matrix=data.matrix[settings][:, rows],
        variance=data.variance[settings][:, rows],
    )
