"""What a setting says about activations, or why it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from photonic.study.cell import DIGITAL
from photonic.study.intervals import NOISE, SETTING, Group, Setting, paired, skill
from photonic.study.outcome import Outcome

# half of the images of 10 classes
LEARNT = (0.5 - 0.1) / 0.9
# this near to chance nothing was learnt
AT_CHANCE = 0.02


def last(outcome: Outcome) -> float:
    """Accuracy at the last epoch."""
    return outcome.last


def maximum(outcome: Outcome) -> float:
    """Largest accuracy of all epochs."""
    return outcome.maximum


@dataclass(frozen=True)
class Verdict:
    """Of one setting.

    Attributes:
        better: activations whose difference to the reference is above 0, interval and all, at the last epoch.
        worse: below 0.
        undecided: the interval holds 0.
        uninformative: why the setting says nothing; empty: it does say something.
    """

    better: tuple[str, ...]
    worse: tuple[str, ...]
    undecided: tuple[str, ...]
    uninformative: str


def verdict(
    groups: Mapping[str, Group], reference: str, settings: Mapping[Setting, Mapping[str, Group]]
) -> Verdict | None:
    """Judges a setting; None: it has no reference, or nothing else to compare with it."""
    if reference not in groups or len(groups) < 2:
        return None
    better, worse, undecided = list[str](), list[str](), list[str]()
    for name, group in groups.items():
        if name == reference:
            continue
        difference = paired(group, groups[reference], last)
        if difference is None or not difference.decided:
            undecided.append(name)
        else:
            (better if difference.mean > 0 else worse).append(name)
    why = _uninformative(groups, settings)
    return Verdict(tuple(better), tuple(worse), tuple(undecided), why)


def _uninformative(groups: Mapping[str, Group], settings: Mapping[Setting, Mapping[str, Group]]) -> str:
    some = next(iter(next(iter(groups.values())).by_seed.values()))
    if max(len(group.by_seed) for group in groups.values()) < 2:
        return "a single seed has no interval"
    tops = [group.interval(last) for group in groups.values()]
    if all(skill(top.mean + (top.half or 0.0), some.n_classes) < AT_CHANCE for top in tops):
        return "no activation is above chance"
    clean = _without_noise(next(iter(groups.values())), settings)
    if clean:
        best = max(group.interval(maximum).mean for group in clean.values())
        if skill(best, some.n_classes) < LEARNT:
            return f"the network does not learn these images without noise either: {100 * best:.1f} % at the best epoch"
    return ""


def _without_noise(group: Group, settings: Mapping[Setting, Mapping[str, Group]]) -> Mapping[str, Group] | None:
    """The digital cells of the same network and images."""
    for setting, groups in settings.items():
        fields = dict(zip(SETTING, setting, strict=True))
        alike = all(value == getattr(group.cell, name) for name, value in fields.items() if name not in NOISE)
        if alike and fields["backend"] == DIGITAL:
            return groups
    return None
