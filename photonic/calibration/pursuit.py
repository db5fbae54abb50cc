"""Which few of many possible changes explain what a record leaves: matching pursuit with a rule for the simpler one.

Step by step, every change is fitted alone to what those before have left, by weighted least squares. Of those that
explain nearly as much as the best, the one with the fewest coefficients is taken (a change of all outputs alike before
one of each weight), and all that were taken are fitted again together (orthogonal matching pursuit: Pati, Rezaiifar and
Krishnaprasad, Asilomar Conf. 27, 40 (1993)). A change is named only if it is

- significant: what it explains, for each coefficient, is ``CLEAR`` squared times what is left where it acts, and
- of size: rms over the outputs of some point, or over the points of some output, at least ``WORTH`` margins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.model import Array
from photonic.calibration.moves import Family
from photonic.calibration.suspects import CLEAR, WORTH
from photonic.records import Suspect

MOST = 8  # names
_NEARLY = 0.9  # of what the best explains
_AS_WELL = 0.97
_RIVALS = 2
_SPENT = 0.1
_BESIDE = 0.02  # of what the first explains
_OWN_SHARE = 0.5  # of what is left where it acts, where it explains less than that
_BESIDE_OWN = 0.35  # of the largest that happened to the same output alone: less is how two changes go together
_FLAT = 1e-9
_TINY = 1e-30


@dataclass(frozen=True)
class Left:
    """What a record leaves of points.

    Attributes:
        rest: (P, M) measured less predicted.
        weight: (P, M) one over its variance; 0: says nothing.
        margin: (P, M) in the unit of ``rest``.
    """

    rest: Array
    weight: Array
    margin: Array


@dataclass(frozen=True)
class Explained:
    """What was taken.

    Attributes:
        suspects: in the order in which they were taken.
        sizes: first coefficient of each.
        left: mean square of the rest over its variance: 1 where all is explained.
    """

    suspects: tuple[Suspect, ...]
    sizes: tuple[float, ...]
    left: float


@dataclass(frozen=True)
class _Fitted:
    """One change of a family, fitted alone."""

    family: Family
    index: int
    explained: float
    share: float  # of all that is to explain where it acts
    left: float  # over its degrees of freedom, where it acts; 1 at least
    rivals: tuple[str, ...] = ()  # that explain as much

    @property
    def coefficients(self) -> int:
        return int(self.family.design.shape[1])

    @property
    def name(self) -> str:
        nothing = np.zeros(self.coefficients)
        return self.family.told[self.index](nothing, nothing)[0]

    @property
    def single(self) -> int | None:
        """The output, if it acts on one alone."""
        where = self.family.outputs[self.index]
        return int(where[0]) if len(where) == 1 else None

    def full(self, shape: tuple[int, ...]) -> Array:
        """(Q, P, M) its design."""
        found = np.zeros((self.coefficients, *shape))
        found[:, :, self.family.outputs[self.index]] = self.family.design[self.index]
        return found


class _FittedFamily(NamedTuple):
    """All of a family, (K,): what each explains, that over all there is where it acts, and what it leaves."""

    family: Family
    explained: Array
    share: Array
    left: Array


def explain(given: Left, families: Sequence[Family]) -> Explained:
    """Names the changes that explain what is left, the first one first; none where nothing of size is."""
    taken, first = list[_Fitted](), 0.0
    found = [_fitted(given, given.rest, family) for family in families]
    while len(taken) < MOST:
        near = _nearly(found)
        if not near or _z(near[0]) < CLEAR or _same(near[0], taken):
            break
        if near[0].explained < _BESIDE * first and near[0].share < _OWN_SHARE:
            break  # more likely a part of the first that is not as its model has it
        best = near[0]
        first = first or best.explained
        taken.append(best)
        rest = given.rest - _together(given, taken)[0]
        found = [_fitted(given, rest, family) for family in families]
        taken[-1] = replace(best, rivals=_rivals(best, near[1:], found))
    return _told(given, taken)


def _fitted(given: Left, rest: Array, family: Family) -> _FittedFamily:
    """Each of a family, alone."""
    where = np.asarray(family.outputs)
    r, w = (np.moveaxis(each[:, where], 0, 1) for each in (rest, given.weight))  # (K, P, m)
    weighted = family.design * w[:, None]
    moments = np.einsum("kqpm,kpm->kq", weighted, r, optimize=True)
    squares = np.einsum("kqpm,krpm->kqr", weighted, family.design, optimize=True)
    size = np.einsum("kqr,kr->kq", np.linalg.pinv(squares, rcond=_FLAT, hermitian=True), moments)
    explained = np.einsum("kq,kq->k", size, moments)
    whole = (w * r**2).sum((1, 2))
    freedom = np.maximum((w > 0).sum((1, 2)) - family.design.shape[1], 1)
    share = explained / np.maximum(whole, _TINY)
    return _FittedFamily(family, explained, share, np.maximum((whole - explained) / freedom, 1.0))


def _nearly(found: Sequence[_FittedFamily]) -> list[_Fitted]:
    """Those that explain nearly as much as the best, the simplest first."""
    most = max((float(each.explained.max()) for each in found if len(each.explained)), default=0.0)
    if most <= 0:
        return []
    near = [
        _Fitted(each.family, int(k), float(each.explained[k]), float(each.share[k]), float(each.left[k]))
        for each in found
        for k in np.flatnonzero(each.explained >= _NEARLY * most)
    ]
    return sorted(near, key=lambda each: (each.coefficients, -each.explained))


def _rivals(best: _Fitted, near: Sequence[_Fitted], after: Sequence[_FittedFamily]) -> tuple[str, ...]:
    """Names of those that would do as well, and explain nothing more when the best one is taken out."""
    rest = {id(each.family): each.explained for each in after}
    names = [
        each.name
        for each in near
        if each.coefficients == best.coefficients
        and each.explained >= _AS_WELL * best.explained
        and rest[id(each.family)][each.index] < _SPENT * best.explained
    ]
    return tuple(name for name in dict.fromkeys(names) if name != best.name)[:_RIVALS]


def _z(found: _Fitted) -> float:
    return float(np.sqrt(found.explained / found.coefficients / found.left))


def _same(found: _Fitted, taken: Sequence[_Fitted]) -> bool:
    return any(found.family is each.family and found.index == each.index for each in taken)


def _together(given: Left, taken: Sequence[_Fitted]) -> tuple[Array, Array, Array, float]:
    """Change (P, M), coefficients (Q,) and standard errors (Q,) of all that were taken, and what they leave."""
    if not taken:
        return np.zeros_like(given.rest), np.zeros(0), np.zeros(0), _misfit(given, given.rest, 0)
    design = np.concatenate([each.full(given.rest.shape) for each in taken]).reshape(-1, given.rest.size)
    weight = given.weight.ravel()
    inverse = np.linalg.pinv((design * weight) @ design.T, rcond=_FLAT, hermitian=True)
    size = inverse @ ((design * weight) @ given.rest.ravel())
    change: Array = (size @ design).reshape(given.rest.shape)
    left = _misfit(given, given.rest - change, len(size))
    return change, size, np.sqrt(np.diagonal(inverse) * max(left, 1.0)), left


def _misfit(given: Left, rest: Array, taken: int) -> float:
    """Mean square over the variance."""
    return float((given.weight * rest**2).sum()) / max(int((given.weight > 0).sum()) - taken, 1)


def _told(given: Left, taken: Sequence[_Fitted]) -> Explained:
    _, size, error, left = _together(given, taken)
    suspects, sizes, at = list[Suspect](), list[float](), 0
    largest = dict[int | None, float]()
    for each in taken:
        own = slice(at, at + each.coefficients)
        at += each.coefficients
        effect = np.abs(np.tensordot(size[own], each.full(given.rest.shape), 1)) / given.margin
        reach = _largest(np.where(given.weight > 0, effect, 0.0), given.weight > 0)
        if reach < max(WORTH, _BESIDE_OWN * largest.get(each.single, 0.0)):
            continue
        if each.single is not None:
            largest[each.single] = max(reach, largest.get(each.single, 0.0))
        name, note = each.family.told[each.index](size[own], error[own])
        note = "; or ".join((note, *each.rivals))
        suspects.append(Suspect(name=name, z=_z(each), threshold=CLEAR, size=reach, least=WORTH, note=note))
        sizes.append(float(size[own][0]))
    return Explained(tuple(suspects), tuple(sizes), left)


def _largest(effect: Array, seen: NDArray[np.bool_]) -> float:
    """The largest rms over outputs of a point, and over points of an output, of those that say something."""
    return max(float(np.sqrt(((effect**2).sum(axis) / np.maximum(seen.sum(axis), 1)).max())) for axis in (0, 1))
