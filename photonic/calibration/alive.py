"""Whether a chip still answers while it is swept, from what the readings so far show.

| seen | flag | stops the sweep |
| --- | --- | --- |
| every count at a rail | rails | the first 8 readings that could tell, or later 16 in a row |
| no count moves with the inputs | dead | the same |
| the reference vector differs from the first one by more than half of its pattern | moved | two references in a row |

A source that failed behind noise, and a chip that drifts faster than it is swept, show in the references alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from photonic.calibration.reading import Reading
from photonic.records import ChipSpec

RAILS, DEAD, WELL, MOVED = "rails", "dead", "", "moved"
# readings that must all look wrong before a sweep stops: at its beginning, and after others that looked well
_PATIENCE, _PATIENCE_LATER = 8, 16
_REFERENCES = 2
REFERENCE = "reference"
_MOVED = 0.5  # of the rms of the pattern
_CLEAR = 8.0  # standard errors of a mean that a pattern must have to be watched
_WHY = {
    RAILS: "every count is at a rail of the ADC: lower the analog gain, and look at the offset",
    DEAD: "no output moves with the inputs: is the laser on, and is the chip connected?",
    MOVED: "the reference vector gives other counts than at the beginning, by more than half of them: the source "
    "failed, or the chip drifts faster than it is measured; let it settle, or take a smaller budget",
}


def flag_of(spec: ChipSpec, reading: Reading, counts: Tensor) -> str | None:
    """What one reading says of the chip's life: RAILS, DEAD or WELL; None where it cannot tell.

    Args:
        spec: of the chip.
        reading: that was asked; with equal inputs, or without light, even a live chip gives equal counts.
        counts: (B, M).
    """
    if spec.adc_bits is not None and counts.numel():
        low, high = spec.count_range
        if bool(((counts == low) | (counts == high)).all()):
            return RAILS
    inputs = reading.inputs
    if reading.conditions.get("laser_power") == 0 or len(inputs) < 2 or bool((inputs == inputs[0]).all()):
        return None
    return DEAD if bool((counts == counts[0]).all()) else WELL


@dataclass(frozen=True)
class ReferenceWatch:
    """The first reference reading, which later ones are compared with.

    Attributes:
        mean: (M,) of its counts.
        pattern: rms over outputs of what they differ by; of a single output, of how far it is from its nominal zero.
        clear: whether the pattern stands out of the noise; where not, nothing is watched.
    """

    mean: Tensor
    pattern: float
    clear: bool

    @classmethod
    def of(cls, spec: ChipSpec, counts: Tensor) -> ReferenceWatch:
        """Of counts (B, M)."""
        values = counts.double()
        mean = values.mean(0)
        offsets = mean - (mean.mean() if len(mean) > 1 else spec.response.zero_count[0])
        rounding = 0.0 if spec.adc_bits is None else 1 / 12
        variance = (values.var(0, correction=0).mean() + rounding) / len(values)
        pattern = float(offsets.square().mean().sqrt())
        return cls(mean, pattern, pattern > _CLEAR * float(variance.sqrt()))

    def flag(self, counts: Tensor) -> str | None:
        """MOVED, or None: later counts (B, M) of the same vector are about what they were."""
        off = float((counts.double().mean(0) - self.mean).square().mean().sqrt())
        return MOVED if self.clear and off > _MOVED * self.pattern else None


@dataclass(frozen=True)
class Stop:
    """Why a sweep cannot go on.

    Attributes:
        why: in words.
        good: how many readings from the beginning on are still of use.
    """

    why: str
    good: int


def stop_of(flags: Sequence[str | None], purposes: Sequence[str]) -> Stop | None:
    """Whether the readings so far, by their flags and purposes, end the sweep."""
    told = [(index, flag) for index, flag in enumerate(flags) if flag in (RAILS, DEAD, WELL)]
    if len(told) >= _PATIENCE and all(flag for _, flag in told[:_PATIENCE]):
        return Stop(f"in the first {_PATIENCE} readings that could tell, {_WHY[str(told[-1][1])]}", 0)
    last_well = max((at for at, (_, flag) in enumerate(told) if not flag), default=-1)
    if len(told) - 1 - last_well >= _PATIENCE_LATER:
        good = told[last_well][0] + 1
        return Stop(f"in {_PATIENCE_LATER} readings after reading {good - 1}, {_WHY[str(told[-1][1])]}", good)
    references = [index for index, purpose in enumerate(purposes) if purpose == REFERENCE]
    moved = [flags[index] == MOVED for index in references]
    if len(moved) > _REFERENCES and all(moved[-_REFERENCES:]):
        at = max(index for index, wrong in zip(references, moved, strict=True) if not wrong)
        return Stop(f"after reading {at}, {_WHY[MOVED]}", at + 1)
    return None
