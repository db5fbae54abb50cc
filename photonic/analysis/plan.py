"""Which chips an error budget asks, and asking each of them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, Self, TypeVar

from photonic.analysis.switches import SwitchedChip, Variant

# what is on, and which effect it is about: ("all", ""), ("ideal", ""), ("alone", effect), ("off", effect)
Key = tuple[str, str]
ALL, IDEAL = ("all", ""), ("ideal", "")
# called with the steps that are done, the steps in all, and what is being done
Progress = Callable[[int, int, str], None]
T = TypeVar("T")


class Difference(Protocol):
    """What a contribution can be computed from."""

    def __sub__(self, other: Self, /) -> Self: ...


D = TypeVar("D", bound=Difference)


def plan_of(chip: SwitchedChip) -> dict[Key, Variant]:
    """All chips of a budget."""
    plan = {ALL: Variant(chip.parameters), IDEAL: chip.ideal()}
    for name in chip.effects:
        plan["alone", name] = chip.alone(name)
        plan["off", name] = chip.off(name)
    return plan


def each_once(
    plan: Mapping[Key, Variant], measure: Callable[[Variant], T], progress: Progress | None, stage: str
) -> dict[Key, T]:
    """Measures each chip of the plan; equal ones once, so that equal chips have equal errors.

    Args:
        plan: what is asked.
        measure: the work.
        progress: called before each chip and after the last.
        stage: for people.
    """
    done: dict[str, T] = {}
    found: dict[Key, T] = {}
    for step, ((kind, name), variant) in enumerate(plan.items()):
        if progress is not None:
            progress(step, len(plan), f"{stage}: {name} {kind}".replace(":  ", ": "))
        same = variant.parameters.model_dump_json()
        if same not in done:
            done[same] = measure(variant)
        found[kind, name] = done[same]
    if progress is not None:
        progress(len(plan), len(plan), stage)
    return found


def contributions(plan: Mapping[Key, Variant], found: Mapping[Key, D]) -> dict[str, D]:
    """What each effect makes alone, by name; what it adds to the effects that it cannot be on without."""
    alone: dict[str, D] = {}
    for (kind, name), variant in plan.items():
        if kind == "alone":
            alone[name] = found[kind, name]
            for other in variant.beside:
                alone[name] = alone[name] - found["alone", other]
    return alone
