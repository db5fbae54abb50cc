"""Statements on measured over predicted variances: of each point, of each output, and of what outputs share.

Where all outputs of a point lie at a rail no count is predicted to move, and a handful that does or does not decides
nothing: such a point makes no statement, unless more moves than is predicted. Its mean is checked all the same. Where
nothing moves anywhere, as of a chip without noise, variances match or not by less than any reading tells: undecided.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.equivalence import Statements
from photonic.calibration.pooled import NOTHING, Sample, ratio, ratio_bounds, squared_covariances

Array = NDArray[np.float64]

RATIO = 0.1
_LITTLE = 0.05  # of the most that any other varies, predicted and measured: it makes no statement
_ROUNDED = 1 / 12  # counts^2, of rounding


def ratio_statements(sample: Sample) -> tuple[Statements, Statements]:
    """Measured over predicted variance of counts, pooled over outputs and over points (``checks.variance_ratios``)."""
    expected = sample.moments.variance
    weight = 1 / (expected + _ROUNDED)  # all points count alike, but those at a rail, where nothing varies
    single = 2 * expected**2 / (sample.length - 1) + sample.moments.excess / sample.length
    own = weight**2 * single  # variance of a block's weighted variance
    crossed = 2 / (sample.length - 1) * squared_covariances(sample.shared, weight)
    of_blocks = weight[:, None] * sample.block_variances
    by_point = ratio(of_blocks.sum(2), (weight * expected).sum(1), own.sum(1) + crossed)
    each = [ratio(of_blocks[..., i], weight[:, i] * expected[:, i], own[:, i], pool=True) for i in range(own.shape[1])]
    by_output = tuple(np.concatenate(part) for part in zip(*each, strict=True))
    point, output = (
        _statements(
            f"variance ratio by {kind}", "noise", kind, value, np.hypot(error, _unsure(sample, weight, axis)),
            _varies((weight * expected).sum(axis), (weight * sample.variances).sum(axis)), sample.given.shots,
        )
        for kind, axis, (value, error) in (("point", 1, by_point), ("output", 0, by_output))
    )  # fmt: skip
    return point, output


def common_mode_statements(sample: Sample) -> tuple[Statements, Statements]:
    """The variance of the sum, and the same with each output's own variance as predicted: the covariances alone."""
    given, shared = sample.given, sample.shared
    # along the stronger factor of each point
    strongest = np.argmax((given.shared**2).sum(2), axis=0)
    loads = given.shared[strongest, np.arange(given.points)] if given.shared.any() else given.volts
    norm = np.linalg.norm(loads, axis=1, keepdims=True)
    loads = np.where(norm > 0, loads / np.where(norm > 0, norm, 1.0), 1 / np.sqrt(loads.shape[1]))
    crossed = ((loads * shared).sum(2) ** 2 - ((loads * shared) ** 2).sum(2)).sum(0)
    expected = (loads**2 * sample.moments.variance).sum(1) + crossed
    # by covariance, where any is predicted; a point at a rail, where nothing varies, never counts for more than others
    weight = np.maximum(crossed, 0.0) / (expected + NOTHING) ** 2 if (crossed > 0).any() else 1 / (expected + _ROUNDED)
    weight /= weight.max()
    sums = sample.in_blocks(np.einsum("prm,pm->pr", given.counts, loads))
    value, error = ratio(
        weight[:, None] * sums, weight * expected, 2 * (weight * expected) ** 2 / (sample.length - 1), pool=True
    )
    total = (weight * expected).sum(keepdims=True)
    unsure = np.sqrt((weight**2 * (loads**4 * sample.variance_se**2).sum(1)).sum(keepdims=True))
    error = np.hypot(error, unsure / (total + NOTHING))
    own = (loads**2 * (sample.variances - sample.moments.variance)).sum(1)
    alone = np.maximum(value - (weight * own).sum(keepdims=True) / (total + NOTHING), NOTHING)
    moves = _varies(total, (weight * sums.mean(1)).sum(keepdims=True))
    found, covariance = (
        _statements(name, "common mode", "", size, error, moves, given.shots)
        for name, size in (("common mode", value), ("covariance", alone))
    )
    return found, covariance


def _varies(expected: Array, found: Array) -> NDArray[np.bool_]:
    """(K,) whether enough varies, or should, to say anything of a variance."""
    most = float(expected.max())
    least = _LITTLE * most if most > NOTHING else NOTHING
    return np.asarray((expected > least) | (found > least))


def _unsure(sample: Sample, weight: Array, axis: int) -> Array:
    """Relative standard error of a predicted variance that is pooled over ``axis``; means err independently."""
    squares, total = ((weight * sample.variance_se) ** 2).sum(axis), (weight * sample.moments.variance).sum(axis)
    found: Array = np.sqrt(squares) / (total + NOTHING)
    return found


def _statements(
    name: str, cause: str, kind: str, value: Array, error: Array, moves: NDArray[np.bool_], shots: int
) -> Statements:
    """Statements on ratios (K,) of variances with relative standard errors (K,), of those that move."""
    where, note = [f"{kind} {index}" if kind else "all points" for index in np.flatnonzero(moves)], ""
    if not moves.any():
        return _nothing(name, cause, shots)
    if not moves.all():
        note = f"at {(~moves).sum()} of {len(moves)} {kind}s next to nothing varies: no statement"
    value, error = value[moves], error[moves]
    bounds, high = ratio_bounds(value, 2 / np.maximum(error, 1e-4) ** 2), np.full(len(value), 1 + RATIO)
    return Statements(
        name, cause, where, value, error, bounds, 1.0, 1 - RATIO, high, shots, "of predicted", note
    )  # fmt: skip


def _nothing(name: str, cause: str, shots: int) -> Statements:
    """What cannot be decided: no count moves, and none is predicted to."""
    where: Sequence[str] = ("no count moves, and none is predicted to",)
    one = np.ones(1)
    return Statements(
        name, cause, where, one, np.full(1, np.inf), lambda _: (np.zeros(1), np.full(1, np.inf)), 1.0, 1 - RATIO,
        (1 + RATIO) * one, shots, "of predicted",
    )  # fmt: skip
