"""A response after a joint step, with the errors of everything that is made of it (``joint``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.adccolumns import AdcColumns
from photonic.calibration.joint import Information, Joint, Layout, Scores, information, scores, solve
from photonic.calibration.model import Array
from photonic.calibration.programming import gauged, rank_one
from photonic.calibration.response import ResponseFit
from photonic.calibration.rowdesign import Shared
from photonic.calibration.rows import RowErrors
from photonic.calibration.shots import Shots
from photonic.calibration.transfer import TransferStep

_LEAST_NOISE, _SURE = 1e-8, 1e-6  # counts^2 and counts: without noise, what is taken for it


@dataclass(frozen=True)
class Looked:
    """What a step is made of.

    Attributes:
        shots: of all settings, as the response explains them.
        dark: (M,) zeros from readings without light, and their standard errors; None: there are none.
        adc: changes of the transitions; None: they are known.
    """

    shots: Sequence[Shots]
    dark: tuple[Array, Array] | None
    adc: AdcColumns | None

    @property
    def misfit(self) -> float:
        """Mean square of what the counts say that values are away by, counts^2."""
        total = sum(float((each.weight @ each.rest**2).sum()) for each in self.shots)
        return total / sum(each.rest.size for each in self.shots)


@dataclass(frozen=True)
class Step:
    """A response after a step.

    Attributes:
        fit: with its errors.
        moved: rms of the changes over their standard errors.
        adc_errors: (M, K) part of the transitions' standard errors that the response's own make, counts; None: no ADC.
        information: that the step was made with.
    """

    fit: ResponseFit
    moved: float
    adc_errors: Array | None
    information: Information


def joint_step(fit: ResponseFit, looked: Looked, known: Information | None = None) -> Step:
    """Takes one step from a response.

    Args:
        fit: so far.
        looked: what its shots say.
        known: information at a response as good as this one; None: it is computed.
    """
    model = fit.model
    found = replace(fit.programming, raw=model.element * _scale(fit)[..., None], scale=_scale(fit))
    shared = Shared(model.spec, found, model.inputs, dark=fit.extinction)
    layout, noise = Layout(shared, looked.adc), np.maximum(fit.noise, _LEAST_NOISE)
    seen = scores(shared, looked.adc, looked.shots, noise)
    every = known
    if every is None:
        every = _with_dark(information(shared, looked.adc, looked.shots, noise), looked, model.zero, layout)
    dark = _dark_scores(looked, model.zero, layout)
    joint = solve(shared, [seen, *dark[:1]], [seen, *dark[1:]], every)
    spread = np.sqrt((joint.shared_pulls**2).sum(0))
    shown = spread[: layout.transfer.stop] > 0
    moved = joint.shared[: layout.transfer.stop][shown] / spread[: layout.transfer.stop][shown]
    return Step(
        fit=_stated(fit, shared, joint, layout),
        moved=float(np.sqrt((moved**2).mean())),
        adc_errors=None if looked.adc is None else _adc_errors(joint, every, layout, looked.adc),
        information=every,
    )


def _scale(fit: ResponseFit) -> Array:
    """(M, N) counts of an input at full level and a weight of 1."""
    found: Array = fit.model.gain[:, None] * fit.model.power / len(fit.model.power)
    return found


def _dark_columns(looked: Looked, zero: Array, layout: Layout, i: int) -> tuple[Array, Array]:
    """(P,) and (S,) change of the mean count without light."""
    own, together = np.zeros(layout.own), np.zeros(layout.shared)
    own[layout.zero] = 1.0
    if looked.adc is not None:
        mine, common = looked.adc.at(zero[i : i + 1], i)
        own[layout.own_adc], together[layout.shared_adc] = mine[0], common[0]
    return own, together


def _with_dark(found: Information, looked: Looked, zero: Array, layout: Layout) -> Information:
    """Information with that of the readings without light."""
    if looked.dark is None:
        return found
    own, cross, shared = found.own.copy(), found.cross.copy(), found.shared.copy()
    for i, error in enumerate(np.maximum(looked.dark[1], _SURE)):
        mine, common = _dark_columns(looked, zero, layout, i)
        own[i] += np.outer(mine, mine) / error**2
        cross[i] += np.outer(mine, common) / error**2
        shared += np.outer(common, common) / error**2
    return Information(own, cross, shared)


def _dark_scores(looked: Looked, zero: Array, layout: Layout) -> list[Scores]:
    """Scores of the readings without light, as they are, and as large as their standard errors are; or none."""
    if looked.dark is None:
        return []
    m, values, errors, found = len(zero), looked.dark[0], np.maximum(looked.dark[1], _SURE), []
    for size in ((values - zero) / errors**2, 1 / errors):
        own, together = np.zeros((m, m, layout.own)), np.zeros((m, layout.shared))
        for i in range(m):
            mine, common = _dark_columns(looked, zero, layout, i)
            own[i, i], together[i] = mine * size[i], common * size[i]
        found.append(Scores(own, together))
    return found


def _stated(fit: ResponseFit, shared: Shared, joint: Joint, layout: Layout) -> ResponseFit:
    """The response with its changes, in the documented gauge, and its errors there."""
    found, n, size = shared.found, len(shared.power), shared.found.raw.shape
    line = np.linspace(*shared.spec.weight_code_range, found.curves.shape[1]) / shared.spec.response.weight_code_one
    curves = found.curves.copy()
    for q, (hat, place) in enumerate(zip(shared.hats, shared.curves, strict=True), 1):
        curves[q] += hat @ joint.shared[place]
    own = (found.raw + joint.own[:, : layout.zero].reshape(size)) @ curves
    curves = gauged(curves, line)
    raw = own @ _along(curves).T
    gain, power = rank_one(raw[..., 1])
    scale = gain[:, None] * power
    neighbour = found.neighbour.copy()
    neighbour_pulls = np.zeros((len(joint.shared_pulls), *neighbour.shape))
    pulls = np.sqrt((joint.shared_pulls**2).sum(0))
    if found.crosstalk.offsets:
        neighbour[found.crosstalk.free] += joint.shared[shared.neighbours]
        neighbour_pulls[:, found.crosstalk.free] = joint.shared_pulls[:, shared.neighbours]
    transfer = _transfer(fit, shared, joint.shared, pulls)
    element, errors = raw / scale[..., None], _errors(shared, joint, layout, scale, raw)
    inputs = shared.inputs if transfer is None else transfer.inputs
    model = replace(
        fit.model, inputs=inputs, gain=gain * n, zero=fit.model.zero + joint.own[:, layout.zero], power=power,
        curves=curves, element=element, neighbour=neighbour,
    )  # fmt: skip
    changed = replace(
        found, raw=raw, scale=scale, curves=curves, neighbour=neighbour, neighbour_pulls=neighbour_pulls,
        raw_se=errors.element * np.abs(scale)[..., None],
    )  # fmt: skip
    zero_se = _spread(joint.own_pulls[:, :, layout.zero], 1)
    return replace(fit, model=model, programming=changed, transfer=transfer, zero_se=zero_se, errors=errors)


def _spread(pulls: NDArray[np.floating], axis: int) -> Array:
    """Standard errors, from the pulls of settings along an axis."""
    return np.asarray(np.sqrt((pulls**2).sum(axis, dtype=np.float64)), dtype=np.float64)


def _along(curves: Array) -> Array:
    """(Q, nodes) that takes values at the nodes to their least-squares coefficients along the curves."""
    return np.asarray(np.linalg.solve(curves @ curves.T, curves))


def _transfer(fit: ResponseFit, shared: Shared, change: Array, errors: Array) -> TransferStep | None:
    if fit.transfer is None:
        return None
    v_pi, bias = np.split(change[shared.transfer], 2)
    v_pi_se, bias_se = np.split(errors[shared.transfer], 2)
    level = shared.level_min
    inputs = replace(
        shared.inputs,
        inverse_v_pi=shared.inputs.inverse_v_pi + v_pi,
        bias_rad=shared.inputs.bias_rad + bias,
        level_min=shared.inputs.level_min + (0.0 if level is None else float(change[level])),
    )
    return replace(
        fit.transfer, inputs=inputs, inverse_v_pi_se=v_pi_se, bias_se=bias_se,
        level_min_se=None if level is None else float(errors[level]),
    )  # fmt: skip


def _errors(shared: Shared, joint: Joint, layout: Layout, scale: Array, raw: Array) -> RowErrors:
    """Standard errors in the documented gauge, from what each setting's pull makes of it (delta method).

    Coefficients are those of what an element does along the curves that are stated, so a change of the curves is one of
    the coefficients, too.
    """
    m, n, q = raw.shape
    along = _along(shared.found.curves)
    pulls = joint.own_pulls[:, :, : layout.zero].reshape(m, -1, n, q).copy()
    for a, (hat, place) in enumerate(zip(shared.hats, shared.curves, strict=True), 1):
        bent = joint.shared_pulls[:, place] @ (along @ hat).T  # (K, Q)
        pulls += shared.found.raw[:, None, :, a, None] * bent[:, None, :]
    pulls /= scale[:, None, :, None]
    log_gain = pulls[..., 1].mean(2)  # (M, K)
    log_power = (pulls[..., 1] - log_gain[..., None]).mean(0)  # (K, N)
    log_power -= log_power.mean(1, keepdims=True)
    element = raw / scale[..., None]
    pulls -= element[:, None] * (log_gain[:, :, None, None] + log_power[..., None])
    return RowErrors(
        gain=np.abs(scale.mean(1)) * n * _spread(log_gain, 1),
        element=_spread(pulls, 1),
        power=np.abs(scale).mean(0) / np.abs(scale).mean() * _spread(log_power, 0),
    )


def _adc_errors(joint: Joint, found: Information, layout: Layout, adc: AdcColumns) -> Array:
    """(M, K) of transitions, from the errors of the response that they were found with.

    Given the response, a change of it is made up for by the transitions' numbers c: I_cc dc = -I_cr dr.
    """
    m, a, b = len(joint.own), layout.own_adc, layout.shared_adc
    mine, ours = a.stop - a.start, b.stop - b.start
    square = np.zeros((m * mine + ours, m * mine + ours))
    right = np.zeros((m * mine + ours, len(joint.shared_pulls)))
    square[m * mine :, m * mine :] = found.shared[b, b]
    right[m * mine :] = found.shared[b, : b.start] @ joint.shared_pulls[:, : b.start].T
    for i in range(m):
        at = slice(i * mine, (i + 1) * mine)
        square[at, at], square[at, m * mine :] = found.own[i][a, a], found.cross[i][a, b]
        square[m * mine :, at] = found.cross[i][a, b].T
        right[at] = found.own[i][a, : a.start] @ joint.own_pulls[i, :, : a.start].T
        right[at] += found.cross[i][a, : b.start] @ joint.shared_pulls[:, : b.start].T
        right[m * mine :] += found.cross[i][: a.start, b].T @ joint.own_pulls[i, :, : a.start].T
    change = np.linalg.pinv(square, rcond=1e-9, hermitian=True) @ right
    common = adc.shared_changes @ change[m * mine :]
    moved = [adc.own_changes @ change[i * mine : (i + 1) * mine] + common for i in range(m)]
    return np.asarray(np.sqrt((np.array(moved) ** 2).sum(2)))
