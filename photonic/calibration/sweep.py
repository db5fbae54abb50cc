"""The sweep: measures the readings of a plan in order and keeps each before the next is measured.

Stops at what makes the data worthless (the chip fails or becomes another one, or nothing answers); only notes what one
reading may well be (all counts at the rails, no output moved). What was measured is kept whatever ends the sweep, and
``sweep`` goes on behind it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.calibration.raw import Note, RawStore
from photonic.calibration.reading import Reading, Taken
from photonic.errors import CalibrationError, WrongChipError
from photonic.records import ChipSpec

# called with the readings that are done, those in all, and what is being done; of this call, not of an earlier one
Progress = Callable[[int, int, str], None]

RAILS, DEAD, WELL = "rails", "dead", ""
# readings that must all look wrong before the sweep stops: one of them may
_PATIENCE = 8
_WHY = {
    RAILS: "every count is at a rail of the ADC: lower the analog gain, and look at the offset",
    DEAD: "no output moves with the inputs: is the laser on, and is the chip connected?",
}


def sweep(chip: Chip, plan: Sequence[Reading], store: RawStore, *, progress: Progress | None = None) -> None:
    """Measures what the store does not hold yet.

    A chip whose state JSON can hold takes it back first, so that an interrupted sweep of a simulated chip draws the
    noise that an uninterrupted one would have drawn.

    Args:
        chip: whose spec is the store's.
        plan: the one that the store was made for.
        store: takes each reading; also after an error it holds all that was measured.
        progress: called before each reading and after the last.

    Raises:
        WrongChipError: the chip is not the store's, or becomes another one.
        CalibrationError: another plan; the chip failed (its error is the cause); or it answers nothing: of the first
            readings that could tell, all were at the rails or none moved.
    """
    _check_chip(chip.spec, store, "")
    store.check_plan(plan)
    _check_alive(store)
    done, shots = store.done, sum(len(reading.inputs) for reading in plan)
    measured = sum(len(reading.inputs) for reading in plan[:done])
    if done == len(plan):
        return
    try:
        session = _Session.begin(chip, store)
        for index in range(done, len(plan)):
            reading = plan[index]
            if progress is not None:
                progress(index - done, len(plan) - done, f"sweep: {reading.purpose}, {measured:,} of {shots:,} shots")
            session.measure(reading)
            measured += len(reading.inputs)
        if progress is not None:
            progress(len(plan) - done, len(plan) - done, f"sweep: {measured:,} of {shots:,} shots")
        store.flush()
    except BaseException as error:
        _keep(store, error)
        raise


def verdict(spec: ChipSpec, reading: Reading, counts: Tensor) -> str | None:
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


class _Session:
    """The readings of one call of ``sweep``.

    Args:
        chip: that measures.
        store: that keeps.
    """

    def __init__(self, chip: Chip, store: RawStore) -> None:
        self.chip, self.store = chip, store
        # whether the chip has a clock, and what is added to it, for it may have begun anew since the last reading
        self._shift: tuple[bool, float] | None = None

    @classmethod
    def begin(cls, chip: Chip, store: RawStore) -> _Session:
        """Gives the chip back the state that it had after the last reading."""
        state = store.last_note.state
        if state:
            try:
                chip.restore(state)
            except Exception as error:
                raise CalibrationError(
                    f"chip {chip.spec.chip_id} does not take back the state that it had after reading "
                    f"{store.done - 1} of {store.folder}: {error}"
                ) from error
        return cls(chip, store)

    def measure(self, reading: Reading) -> None:
        """Measures and keeps one reading."""
        chip, store = self.chip, self.store
        utc, started = time.time(), time.perf_counter()
        try:
            counts, telemetry = _called(chip, reading)
        except Exception as error:
            raise CalibrationError(
                f"chip {store.spec.chip_id} failed in reading {store.done} ({reading.purpose}) of "
                f"{store.header.readings}: {error}; {_kept(store)}"
            ) from error
        seconds = time.perf_counter() - started
        _check_chip(chip.spec, store, f"after reading {store.done} was measured, ")
        clock = self._clock(telemetry, utc)
        note = Note(verdict(store.spec, reading, counts), _plain_state(chip.state()))
        store.append(Taken(reading, counts, clock, telemetry, utc, seconds), note)
        if note.flag:
            _check_alive(store)

    def _clock(self, telemetry: Mapping[str, float], utc: float) -> float:
        """Seconds on the chip's clock where it has one, else since the sweep began; running on over a restart."""
        own = "clock_s" in telemetry
        clock = telemetry["clock_s"] if own else time.monotonic()
        if self._shift is None:
            self._shift = own, self._shifted(clock, utc, own)
        if self._shift[0] != own:
            raise CalibrationError(
                f"chip {self.store.spec.chip_id} gives clock_s with some readings and not with others, so that drift "
                f"cannot be told; {_kept(self.store)}"
            )
        return clock + self._shift[1]

    def _shifted(self, clock: float, utc: float, own: bool) -> float:
        last = self.store.last_times
        if last is None:
            return 0.0 if own else -clock
        if own and clock >= last[0]:
            return 0.0
        return last[0] + max(0.0, utc - last[1]) - clock


def _called(chip: Chip, reading: Reading) -> tuple[Tensor, dict[str, float]]:
    """Counts (B, M) and telemetry, in as many calls as the chip's limit on counts takes."""
    spec = chip.spec
    most = max(1, spec.max_counts_bytes // (spec.n_outputs * spec.count_dtype.itemsize))
    parts, telemetry = [], dict[str, float]()
    for inputs in reading.inputs.split(most):
        measured = chip.measure(reading.weights[None, None], inputs[None], reading.conditions)
        parts.append(measured.counts[0, 0])
        telemetry = telemetry or _numbers(measured.telemetry)
    return torch.cat(parts), telemetry


def _numbers(telemetry: Mapping[str, Tensor]) -> dict[str, float]:
    """One number each: of several, the mean, and least and most beside it; of the clock the first."""
    found = dict[str, float]()
    for name, value in telemetry.items():
        values = value.double().flatten()
        if name == "clock_s" and len(values):
            found[name] = float(values[0])
        elif len(values):
            found[name] = float(values.mean())
        if name != "clock_s" and len(values) > 1:
            found[f"{name}.min"], found[f"{name}.max"] = float(values.min()), float(values.max())
    return found


def _plain_state(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """None where JSON cannot hold it: a sweep that is resumed on such a chip draws other noise, which is no error."""
    try:
        return dict(json.loads(json.dumps(state, allow_nan=False)))
    except (TypeError, ValueError):
        return None


def _check_chip(spec: ChipSpec, store: RawStore, when: str) -> None:
    if spec is store.spec or spec == store.spec:
        return
    if spec.chip_id != store.spec.chip_id:
        raise WrongChipError(
            f"{when}expected chip {store.spec.chip_id}, found {spec.chip_id}; {_kept(store)}, for the same chip only"
        )
    other = sorted(name for name in ChipSpec.model_fields if getattr(spec, name) != getattr(store.spec, name))
    raise WrongChipError(
        f"{when}chip {spec.chip_id} says other things of itself than when its sweep began, in {', '.join(other)}; "
        f"open it as it was, or measure into another folder; {_kept(store)}"
    )


def _check_alive(store: RawStore) -> None:
    """Stops where the first readings that could tell all look wrong."""
    told = [note.flag for note in store.notes if note.flag is not None][:_PATIENCE]
    if len(told) == _PATIENCE and all(told):
        raise CalibrationError(
            f"chip {store.spec.chip_id} answers nothing in the first {_PATIENCE} readings that could tell: "
            f"{_WHY[str(told[-1])]}; then delete {store.folder} and measure anew, for its {store.done} readings are of "
            "no use"
        )


def _kept(store: RawStore) -> str:
    return f"the {store.done} readings before it are kept in {store.folder}; the calibration can be resumed from there"


def _keep(store: RawStore, error: BaseException) -> None:
    """What was measured goes to the disk; the first error, Ctrl-C perhaps, must not be replaced by another one."""
    try:
        store.flush()
    except CalibrationError as unsaved:
        error.add_note(str(unsaved))
