"""What seeds allow to say: means with 95 % intervals, differences seed by seed, and a test of linearity."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from photonic.study.cell import FIELDS, Activation, Cell, Noise, label
from photonic.study.outcome import Outcome

Metric = Callable[[Outcome], float]

# settings are told apart by all that is neither of the activation nor the seed
SETTING = tuple(name for name in FIELDS if name not in Activation.model_fields and name != "seed")
NOISE = tuple(Noise.model_fields)
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half: half of its 95 % interval by Student's t; None of a single seed.
        seeds: how many.
    """

    mean: float
    half: float | None
    seeds: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.half is not None and abs(self.mean) > self.half


@dataclass(frozen=True)
class Group:
    """The seeds of one activation in one setting.

    Attributes:
        label: the activation, for people.
        cell: one of the cells.
        by_seed: what each seed found.
    """

    label: str
    cell: Cell
    by_seed: Mapping[int, Outcome]

    def interval(self, metric: Metric) -> Interval:
        """The mean of a figure over the seeds."""
        return t_interval([metric(outcome) for outcome in self.by_seed.values()])


Setting = tuple[object, ...]


def setting_of(cell: Cell) -> Setting:
    """What a cell has in common with those that it may be compared to."""
    return tuple(getattr(cell, name) for name in SETTING)


def grouped(outcomes: Iterable[Outcome]) -> dict[Setting, dict[str, Group]]:
    """Settings, in each the activations by label; two spellings of one activation (i = 0 is ReLU) are one group."""
    found: dict[Setting, dict[str, dict[int, Outcome]]] = {}
    for outcome in outcomes:
        seeds = found.setdefault(setting_of(outcome.cell), {}).setdefault(label(outcome.cell), {})
        seeds.setdefault(outcome.cell.seed, outcome)
    return {
        setting: {
            text: Group(text, next(iter(seeds.values())).cell, seeds)
            for text, seeds in sorted(groups.items(), key=lambda item: _order(item[0], item[1]))
        }
        for setting, groups in found.items()
    }


def _order(text: str, seeds: Mapping[int, Outcome]) -> tuple[object, ...]:
    """ReLU first, then by smooth curve, nearest to ReLU first."""
    cell = next(iter(seeds.values())).cell
    return text != "ReLU", cell.activation, cell.backward or "", cell.interpolation, cell.leak, cell.scale


def t_interval(values: Sequence[float]) -> Interval:
    """Mean and half of the 95 % interval, normal errors assumed; none of a single value."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Interval(mean, None, n)
    return Interval(mean, t_quantile(n - 1) * statistics.stdev(values) / math.sqrt(n), n)


def t_quantile(degrees: int) -> float:
    """Student's t that leaves out 2.5 % on each side."""
    from scipy.stats import t

    return float(t.ppf(0.5 + LEVEL / 2, degrees))


def paired(group: Group, reference: Group, metric: Metric) -> Interval | None:
    """Difference to the reference, seed by seed: the same first weights, batches and dropout; None: no common seed."""
    common = sorted(set(group.by_seed) & set(reference.by_seed))
    if not common:
        return None
    return t_interval([metric(group.by_seed[seed]) - metric(reference.by_seed[seed]) for seed in common])


@dataclass(frozen=True)
class Linearity:
    """Accuracy against a factor, in one setting.

    Attributes:
        slope: of the straight line, per unit.
        bend: second coefficient of the parabola a + b x + c x^2; where its interval leaves out 0, the line is bent.
        points: values of the factor.
    """

    slope: Interval
    bend: Interval
    points: tuple[float, ...]


def linearity(curves: Mapping[float, Group], metric: Metric) -> Linearity | None:
    """Fits line and parabola to each seed by itself, so that what seeds share is in no interval.

    Returns:
        None with fewer than 3 values of the factor, or no seed that has all of them.
    """
    import numpy as np

    points = tuple(sorted(curves))
    seeds = sorted(set.intersection(*(set(group.by_seed) for group in curves.values()))) if curves else []
    if len(points) < 3 or not seeds:
        return None
    y = np.array([[metric(curves[x].by_seed[seed]) for seed in seeds] for x in points])
    line, parabola = np.polyfit(points, y, 1)[0], np.polyfit(points, y, 2)[0]
    return Linearity(t_interval(line.tolist()), t_interval(parabola.tolist()), points)


def skill(accuracy: float, n_classes: int) -> float:
    """0 at chance, 1 where all is right: (a - 1/k) / (1 - 1/k)."""
    chance = 1 / n_classes
    return (accuracy - chance) / (1 - chance)
