"""Decisions by equivalence: a match is shown by an interval inside a margin, never by failing to see a difference.

A check holds many statements of one kind, e.g. one for each output, and makes a claim about all of them at once. Its
two ways to be wrong need two kinds of interval:

- *pass* claims that every true value lies inside its margin. Each statement is tested alone at one-sided 1 - level, by
  bounds that hold for one statement. This is the intersection-union test (Berger, Technometrics 24, 295 (1982)): a
  wrong pass needs the one statement that is outside to look inside, so that the level holds for all statements and
  checks together, without a correction. It is Schuirmann's two one-sided tests (TOST) for each of them. Equivalently:
  the largest of the upper bounds covers the largest true value.
- *fail* claims that some true value lies outside. Here one unlucky statement of many would be enough, so the bounds
  are simultaneous by Bonferroni: 1 - level is shared evenly by checks, statements and sides. Holm's steps would only
  say more about the second worst statement, not about whether there is one.

All else is *not distinguishable*: the claim's interval leaves the margin and no simultaneous one lies wholly outside.
So with probability ``level`` at least a verdict of pass is right, and so is one of fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from photonic.errors import RangeError
from photonic.records.calibration import Check, Verdict

Array = NDArray[np.float64]
Bounds = Callable[[float], tuple[Array, Array]]  # tail probability of one side -> low and high (K,)

_SPARE = 1.15  # of shots_needed: the spread from which it is computed is itself an estimate
_MOST = 1e9  # what a record holds of a bound that a handful of shots leaves open: JSON has no infinity
_LEAST_FACTOR = 1.25  # fewer shots more are not worth a second measurement


@dataclass(frozen=True)
class Confidence:
    """How sure verdicts must be.

    Attributes:
        level: probability that the verdict of all checks together is right.
        checks: that share 1 - level where they fail.

    Raises:
        RangeError: a level outside (0.5, 1), or no check.
    """

    level: float = 0.95
    checks: int = 1

    def __post_init__(self) -> None:
        if not 0.5 < self.level < 1 or self.checks < 1:
            raise RangeError(
                f"level must be above 0.5 and below 1, checks at least 1; found {self.level} and {self.checks}"
            )

    @property
    def claim_tail(self) -> float:
        """One-sided, of a statement's bounds that a pass uses."""
        return 1 - self.level

    def fail_tail(self, sides: int) -> float:
        """One-sided, of the bounds that a fail uses; ``sides`` = statements times sides of the check."""
        return (1 - self.level) / (self.checks * sides)


@dataclass(frozen=True)
class Statements:
    """K statements of one kind.

    Attributes:
        name: of the check.
        cause: what is wrong with the model where it fails.
        where: (K) names, e.g. "output 5".
        value: (K,) estimates.
        error: (K,) their standard errors, from which shots are extrapolated; inf: more of the same cannot decide.
        bounds: from the tail probability of one side to low and high (K,).
        ideal: value of a perfect match.
        low: margin, the same for all; at or below ``ideal``.
        high: margin of each, (K,).
        shots: that were measured for them.
        unit: of the values.
        note: added to where the worst is.
    """

    name: str
    cause: str
    where: Sequence[str]
    value: Array
    error: Array
    bounds: Bounds
    ideal: float
    low: float
    high: Array
    shots: int
    unit: str = ""
    note: str = ""

    @property
    def sides(self) -> int:
        """Statements times sides on which they can fail: one, where a perfect match is the lower margin."""
        return len(self.value) * (2 if self.low < self.ideal else 1)


def decide(given: Statements, confidence: Confidence) -> Check:
    """The verdict on all statements, with the interval of the worst of them.

    The interval is the claim's where the verdict is pass, and the simultaneous one otherwise.
    """
    claim = given.bounds(confidence.claim_tail)
    sure = given.bounds(confidence.fail_tail(given.sides))
    inside = (claim[0] >= given.low) & (claim[1] <= given.high)
    outside = (sure[0] > given.high) | (sure[1] < given.low)
    verdict: Verdict = "fail" if outside.any() else "pass" if inside.all() else "not distinguishable"
    worst = _worst(given, sure if verdict == "fail" else claim, outside if verdict == "fail" else ~inside)
    shown = claim if verdict == "pass" else sure
    low, high = (float(np.clip(side[worst], -_MOST, _MOST)) for side in shown)
    needed = None
    if verdict == "not distinguishable":
        undecided = np.flatnonzero(~inside).tolist()
        # where no spread is known, as of what never moves, more of the same shots cannot tell
        if np.isfinite(given.error[undecided]).all():
            needed = max(_shots_needed(given, k, confidence) for k in undecided)
    return Check(
        name=given.name,
        cause=given.cause,
        verdict=verdict,
        value=float(np.clip(given.value[worst], -_MOST, _MOST)),
        low=low,
        high=high,
        margin_low=given.low,
        margin_high=float(given.high[worst]),
        unit=given.unit,
        worst="; ".join(part for part in (given.where[worst], given.note) if part),
        shots_needed=needed,
    )


def overall(checks: Sequence[Check]) -> Verdict:
    """Fail if any check fails, pass if all pass, else not distinguishable."""
    verdicts = {check.verdict for check in checks}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "not distinguishable"


def _worst(given: Statements, bounds: tuple[Array, Array], among: NDArray[np.bool_]) -> int:
    """The statement that reaches farthest, in units of its margin; of those ``among`` where there are any."""
    below = (given.ideal - bounds[0]) / (given.ideal - given.low) if given.low < given.ideal else -np.inf
    reach = np.maximum((bounds[1] - given.ideal) / (given.high - given.ideal), below)
    return int(np.argmax(np.where(among, reach, -np.inf) if among.any() else reach))


def _shots_needed(given: Statements, k: int, confidence: Confidence) -> int:
    """Shots with which statement ``k`` should be decided, its standard error falling as 1 / sqrt(shots).

    What the spread of the worst of K explains is taken for chance, the rest for real. A real deviation below the
    margin needs an interval that fits in what is left, with the chance of the worst of K on top; one that is seen to be
    above needs a simultaneous interval that fits outside. The sooner of the two counts.
    """
    z_claim, z_sure = norm.isf(confidence.claim_tail), norm.isf(confidence.fail_tail(given.sides))
    value = float(given.value[k])
    spread = float(given.error[k])
    rooms = [float(given.high[k]) - given.ideal, given.ideal - given.low]
    off = abs(value - given.ideal)
    real = max(0.0, off - z_sure * spread)
    room = (rooms[0] if value >= given.ideal else rooms[1]) if real else min(side for side in rooms if side > 0)
    needed = []
    if room > real:
        needed.append((z_claim + z_sure) * spread / (room - real))
    if real and off > room:
        needed.append((z_claim + z_sure) * spread / (off - room))
    factor = min(needed, default=1.0) ** 2 * _SPARE
    return math.ceil(given.shots * min(max(factor, _LEAST_FACTOR), _MOST))
