"""Rows and what they share in one step, and the errors of all of them.

Each row is linear in its own numbers, which are projected out (Schur complement); what is left is a step of Fisher
scoring of curves, neighbours and inputs' transfer from all shots, with the transitions of the ADCs as nuisances. Every
setting's residuals pull at every number (its influence): the spread of these pulls over the settings is the error of
whatever is made of the numbers (the sandwich of White, Econometrica 50, 1 (1982), with settings as clusters: Liang and
Zeger, Biometrika 73, 13 (1986)). So noise that outputs share or that follows the signal, and drift within a setting,
are in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.adccolumns import AdcColumns
from photonic.calibration.model import Array
from photonic.calibration.rowdesign import RowColumns, Settings, Shared
from photonic.calibration.shots import Shots

_NULL = 1e-11  # of the largest eigenvalue of the scaled information: what readings do not fix
_CHUNK = 64  # settings at a time


@dataclass(frozen=True)
class Scores:
    """What each of K settings says, in units of the noise: the gradient of its logarithmic likelihood.

    Attributes:
        own: (M, K, P) of each row's own numbers: coefficients, the zero, those of its ADC.
        shared: (K, S) of what rows share, what their ADCs have in common last.
    """

    own: Array
    shared: Array


@dataclass(frozen=True)
class Information:
    """Expected second derivatives.

    Attributes:
        own: (M, P, P).
        cross: (M, P, S).
        shared: (S, S).
    """

    own: Array
    cross: Array
    shared: Array


@dataclass(frozen=True)
class _Part:
    """Some settings, as every row needs them.

    Attributes:
        shots: of the settings.
        columns: (B, C) of each.
        codes: of all of them.
    """

    shots: Sequence[Shots]
    columns: Sequence[Array]
    codes: Settings

    def gram(self) -> Array:
        """(K, C, C) weighed sums of products of the columns."""
        pairs = zip(self.columns, self.shots, strict=True)
        return np.stack([(x * each.weight[:, None]).T @ x for x, each in pairs])

    def pulled(self) -> Array:
        """(K, C, M) weighed sums of the columns times what the counts say."""
        pairs = zip(self.columns, self.shots, strict=True)
        return np.stack([x.T @ (each.rest * each.weight[:, None]) for x, each in pairs])


def _parts(shared: Shared, shots: Sequence[Shots]) -> Iterator[tuple[slice, _Part]]:
    """The settings, some at a time."""
    for start in range(0, len(shots), _CHUNK):
        some = shots[start : start + _CHUNK]
        columns = [shared.columns(each.inputs) for each in some]
        yield slice(start, start + len(some)), _Part(some, columns, Settings(shared, np.array([x.codes for x in some])))


class Layout:
    """Places of a row's own numbers (coefficients, zero, ADC) and of the shared ones (plain, transfer, ADC)."""

    def __init__(self, shared: Shared, adc: AdcColumns | None) -> None:
        n, q = shared.found.raw.shape[1:]
        self.zero = n * q
        own, together = (0, 0) if adc is None else (adc.own.shape[2], adc.shared.shape[2])
        self.own_adc = slice(self.zero + 1, self.zero + 1 + own)
        self.transfer = shared.transfer
        self.shared_adc = slice(self.transfer.stop, self.transfer.stop + together)
        self.own, self.shared = int(self.own_adc.stop), int(self.shared_adc.stop)


def scores(shared: Shared, adc: AdcColumns | None, shots: Sequence[Shots], noise: Array) -> Scores:
    """Scores of all settings.

    Args:
        shared: the response.
        adc: changes of the transitions; None: they are known.
        shots: of K settings.
        noise: (M,) variance of an average shot, counts^2.
    """
    layout, (m, n, _) = Layout(shared, adc), shared.found.raw.shape
    own, together = np.zeros((m, len(shots), layout.own)), np.zeros((len(shots), layout.shared))
    for part, some in _parts(shared, shots):
        pulls = some.pulled()
        for i in range(m):
            row = some.codes.row(i)
            mine, ours = row.gathered(pulls[:, : n + 1, i] / noise[i])
            own[i, part, : layout.zero + 1] = mine
            together[part, : layout.transfer.start] += ours
            together[part, layout.transfer] += pulls[:, n + 1 :, i] * _twice(row, layout) / noise[i]
            if adc is not None:
                weighed = [each.rest[:, i] * each.weight / noise[i] for each in some.shots]
                mine, ours = adc.gathered([each.volts[:, i] for each in some.shots], weighed, i)
                own[i, part, layout.own_adc] = mine
                together[part, layout.shared_adc] += ours
    return Scores(own, together)


def _twice(row: RowColumns, layout: Layout) -> Array:
    """(K, 2 N) of the weights, by V_pi and by bias; nothing where inputs have no curve."""
    return np.tile(row.weights, (1, (layout.transfer.stop - layout.transfer.start) // row.weights.shape[1]))


def information(shared: Shared, adc: AdcColumns | None, shots: Sequence[Shots], noise: Array) -> Information:
    """Information of all settings; arguments as of ``scores``."""
    layout, m = Layout(shared, adc), len(shared.found.raw)
    every = np.zeros((m, layout.own, layout.own + layout.shared))
    together = np.zeros((layout.shared, layout.shared))
    for _, part in _parts(shared, shots):
        gram = part.gram()
        for i in range(m):
            mine, ours = _of_row(part, gram, i, layout, adc)
            every[i] += mine / noise[i]
            together += ours / noise[i]
    return Information(every[:, :, : layout.own], every[:, :, layout.own :], together)


def _of_row(part: _Part, gram: Array, i: int, layout: Layout, adc: AdcColumns | None) -> tuple[Array, Array]:
    """(P, P + S) of a row's own numbers with all, and (S, S) of the shared ones."""
    row, n = part.codes.row(i), len(part.shots[0].codes[0])
    own = layout.zero + 1
    plain = row.dense
    seen = _censored(part, gram[:, : n + 1, : n + 1], i) @ plain
    flat = plain.reshape(-1, plain.shape[2])
    square = flat.T @ seen.reshape(flat.shape)
    twice = _twice(row, layout)
    mixed = gram[:, : n + 1, n + 1 :] * twice[:, None, :]
    with_transfer = flat.T @ mixed.reshape(len(flat), twice.shape[1])
    size = layout.own + layout.shared
    found = np.zeros((size, size))
    # order of the plain parameters among all
    place = np.concatenate([np.arange(own), layout.own + np.arange(layout.transfer.start)])
    transfer = np.arange(layout.own + layout.transfer.start, layout.own + layout.transfer.stop)
    found[np.ix_(place, place)] = square
    found[np.ix_(place, transfer)] = with_transfer
    found[np.ix_(transfer, place)] = with_transfer.T
    found[np.ix_(transfer, transfer)] = np.einsum(
        "ka,kab,kb->ab", twice, gram[:, n + 1 :, n + 1 :], twice, optimize=True
    )
    if adc is not None:
        converter = np.concatenate([np.arange(own, layout.own), np.arange(layout.own + layout.transfer.stop, size)])
        for k, (each, columns) in enumerate(zip(part.shots, part.columns, strict=True)):
            moved = np.concatenate(adc.at(each.volts[:, i], i), axis=1) * each.weight[:, None]
            cross = columns.T @ moved
            for at, by in ((place, plain[k].T @ cross[: n + 1]), (transfer, twice[k][:, None] * cross[n + 1 :])):
                found[np.ix_(at, converter)] += by
                found[np.ix_(converter, at)] += by.T
            found[np.ix_(converter, converter)] += moved.T @ (moved / each.weight[:, None])
    return found[: layout.own], found[layout.own :, layout.own :]


def _censored(part: _Part, plain: Array, i: int) -> Array:
    """(K, N + 1, N + 1) products of T_j and 1, less what shots near the rails do not say."""
    found, n = plain, plain.shape[1]
    for k, (each, columns) in enumerate(zip(part.shots, part.columns, strict=True)):
        if each.follows is None:
            continue
        less = (1.0 - each.follows[:, i]) * each.weight
        near = less > 1e-3
        if near.any():
            found = plain.copy() if found is plain else found
            some = columns[near, :n]
            found[k] -= (some * less[near, None]).T @ some
    return found


@dataclass(frozen=True)
class Joint:
    """A step, and how each setting pulls at its result.

    Attributes:
        own: (M, P) change of each row's own numbers.
        shared: (S,) change of what they share.
        own_pulls: (M, K, P) influence of each setting, in single precision.
        shared_pulls: (K, S).
    """

    own: Array
    shared: Array
    own_pulls: NDArray[np.float32]
    shared_pulls: Array


def solve(shared: Shared, seen: Sequence[Scores], spread: Sequence[Scores], found: Information) -> Joint:
    """One step.

    Args:
        shared: the response.
        seen: scores.
        spread: what errors are made of; a reading may have another spread than itself.
        found: information.
    """
    inverses = np.linalg.pinv(found.own, rcond=1e-12, hermitian=True)
    taken = inverses @ found.cross  # (M, P, S)
    reduced = found.shared - np.einsum("mps,mpt->st", found.cross, taken, optimize=True)
    inverse = _inverse(reduced, _fixed(shared, len(reduced)), np.diag(found.shared))

    def together(own: Array, ours: Array) -> Array:
        left = ours - sum(each @ rest for each, rest in zip(own, taken, strict=True))
        return np.asarray(left @ inverse)

    sums = np.sum([each.own.sum(1) for each in seen], axis=0)
    change = together(sums[:, None], np.sum([each.shared.sum(0) for each in seen], axis=0)[None])[0]
    pulls = np.concatenate([together(each.own, each.shared) for each in spread])
    own_pulls = np.empty((len(inverses), len(pulls), len(inverses[0])), dtype=np.float32)
    for i in range(len(inverses)):
        own_pulls[i] = np.concatenate([each.own[i] for each in spread]) @ inverses[i] - pulls @ taken[i].T
    own = np.einsum("mp,mpq->mq", sums, inverses) - taken @ change
    return Joint(own, change, own_pulls, pulls)


def _fixed(shared: Shared, size: int) -> Array:
    """(F, S) changes of the curves that elements take up: none of them is made."""
    curves, line = shared.found.curves, np.linspace(-1, 1, shared.found.curves.shape[1])
    found = []
    for q, (hat, place) in enumerate(zip(shared.hats, shared.curves, strict=True), 1):
        for row in [curves[0], line, *curves[2:]] if q == 1 else list(curves):
            each = np.zeros(size)
            each[place] = (row / np.linalg.norm(row)) @ hat
            found.append(each)
    return np.array(found)


def _inverse(reduced: Array, fixed: Array, size: Array) -> Array:
    """Inverse on the directions that readings fix, and 0 along ``fixed``."""
    scale = np.sqrt(np.maximum(size, 0.0))
    scale = np.where(scale > 1e-8 * scale.max(), scale, np.inf)
    scaled = reduced / np.outer(scale, scale)
    held = np.linalg.qr((fixed / scale).T)[0]
    free = np.eye(len(scaled)) - held @ held.T
    values, vectors = np.linalg.eigh(free @ scaled @ free)
    good = values > _NULL * values.max()
    return np.asarray(((vectors[:, good] / values[good]) @ vectors[:, good].T) / np.outer(scale, scale))
