"""The sweep: measures the readings of a plan in order and keeps each before the next is measured.

Stops at what makes the data worthless (the chip fails or becomes another one, or nothing answers any more, see
``alive``); only notes what one reading may well be (all counts at the rails, no output moved). What was measured is
kept whatever ends the sweep, and ``sweep`` goes on behind it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.calibration.alive import DEAD, RAILS, REFERENCE, WELL, ReferenceWatch, flag_of, stop_of
from photonic.calibration.raw import Note, RawStore
from photonic.calibration.reading import Reading, Taken
from photonic.errors import CalibrationError, ChipError, PhotonicError, WrongChipError
from photonic.records import ChipSpec

__all__ = ["DEAD", "RAILS", "WELL", "Progress", "sweep"]

# called with the readings that are done, those in all, and what is being done; of this call, not of an earlier one
Progress = Callable[[int, int, str], None]


def sweep(
    chip: Chip, plan: Sequence[Reading], store: RawStore, *, progress: Progress | None = None, lasting: bool = True
) -> None:
    """Measures what the store does not hold yet.

    A chip whose state JSON can hold takes it back first, so that an interrupted sweep of a simulated chip draws the
    noise that an uninterrupted one would have drawn.

    Args:
        chip: whose spec is the store's.
        plan: the one that the store was made for.
        store: takes each reading; also after an error it holds all that was measured.
        progress: called before each reading and after the last.
        lasting: whether the store's folder outlives this call, so that errors may point to it.

    Raises:
        WrongChipError: the chip is not the store's, or becomes another one.
        CalibrationError: another plan; the chip failed (its error is the cause); or it answers nothing: of the first
            readings that could tell, or of many in a row, all were at the rails or none moved; or its references moved.
            Readings since it answered last are dropped.
    """
    kept = _Kept(store, lasting)
    _check_chip(chip.spec, kept, "")
    store.check_plan(plan)
    _check_alive(kept)
    done, shots = store.done, sum(len(reading.inputs) for reading in plan)
    measured = sum(len(reading.inputs) for reading in plan[:done])
    if done == len(plan):
        return
    try:
        session = _Session.begin(chip, kept)
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


@dataclass(frozen=True)
class _Kept:
    """A store, and what an error says of it."""

    store: RawStore
    lasting: bool

    def __str__(self) -> str:
        done, folder = self.store.done, self.store.folder
        if not self.lasting:
            return f"the {done} readings before it are lost, for no folder was given for them"
        return f"the {done} readings before it are kept in {folder}; the calibration can be resumed from there"


class _Session:
    """The readings of one call of ``sweep``.

    Args:
        chip: that measures.
        kept: the store that keeps.
    """

    def __init__(self, chip: Chip, kept: _Kept) -> None:
        self.chip, self.store, self._kept = chip, kept.store, kept
        # whether the chip has a clock, and what is added to it, for it may have begun anew since the last reading
        self._shift: tuple[bool, float] | None = None
        self._watch = _first_reference(kept.store)

    @classmethod
    def begin(cls, chip: Chip, kept: _Kept) -> _Session:
        """Gives the chip back the state that it had after the last reading."""
        store = kept.store
        state = store.last_note.state
        if state:
            try:
                chip.restore(state)
            except Exception as error:
                raise CalibrationError(
                    f"chip {chip.spec.chip_id} does not take back the state that it had after reading "
                    f"{store.done - 1} of {store.folder}: {_said(error)}"
                ) from error
        return cls(chip, kept)

    def measure(self, reading: Reading) -> None:
        """Measures and keeps one reading."""
        chip, store = self.chip, self.store
        utc, started = time.time(), time.perf_counter()
        try:
            counts, telemetry = _called(chip, reading)
            seconds = time.perf_counter() - started
            state = _plain_state(chip.state())
        except (Exception, SystemExit) as error:  # some drivers end the program where they should raise
            raise CalibrationError(
                f"chip {store.spec.chip_id} failed in reading {store.done} ({reading.purpose}) of "
                f"{store.header.readings}: {_said(error)}; {self._kept}"
            ) from error
        _check_chip(chip.spec, self._kept, f"after reading {store.done} was measured, ")
        clock = self._clock(telemetry, utc)
        note = Note(self._flag(reading, counts), state)
        store.append(Taken(reading, counts, clock, telemetry, utc, seconds), note)
        if note.flag:
            _check_alive(self._kept)

    def _flag(self, reading: Reading, counts: Tensor) -> str | None:
        found = flag_of(self.store.spec, reading, counts)
        if found is not None or reading.purpose != REFERENCE:
            return found
        if self._watch is None:
            self._watch = ReferenceWatch.of(self.store.spec, counts)
        return self._watch.flag(counts)

    def _clock(self, telemetry: Mapping[str, float], utc: float) -> float:
        """Seconds on the chip's clock where it has one, else since the sweep began; running on over a restart."""
        own = "clock_s" in telemetry
        clock = telemetry["clock_s"] if own else time.monotonic()
        if self._shift is None:
            self._shift = own, self._shifted(clock, utc, own)
        if self._shift[0] != own:
            raise CalibrationError(
                f"chip {self.store.spec.chip_id} gives clock_s with some readings and not with others, so that drift "
                f"cannot be told; {self._kept}"
            )
        return clock + self._shift[1]

    def _shifted(self, clock: float, utc: float, own: bool) -> float:
        last = self.store.last_times
        if last is None:
            return 0.0 if own else -clock
        if own and clock >= last[0]:
            return 0.0
        return last[0] + max(0.0, utc - last[1]) - clock


def _first_reference(store: RawStore) -> ReferenceWatch | None:
    """Of the readings that are kept already."""
    index = next((index for index, purpose in enumerate(store.purposes) if purpose == REFERENCE), None)
    return None if index is None else ReferenceWatch.of(store.spec, store.reading(index).counts)


def _called(chip: Chip, reading: Reading) -> tuple[Tensor, dict[str, float]]:
    """Counts (B, M) and telemetry, in as many calls as the chip's limit on counts takes.

    A driver gets codes of its own and its counts are copied, so that one that works in place spoils no reading.
    """
    spec = chip.spec
    most = max(1, spec.max_counts_bytes // (spec.n_outputs * spec.count_dtype.itemsize))
    parts, telemetry = [], dict[str, float]()
    for inputs in reading.inputs.split(most):
        measured = chip.measure(reading.weights[None, None].clone(), inputs[None].clone(), reading.conditions)
        parts.append(measured.counts[0, 0].clone())
        telemetry = telemetry or _numbers(measured.telemetry)
    return torch.cat(parts), telemetry


def _numbers(telemetry: Mapping[str, Any]) -> dict[str, float]:
    """One number each: of several, the mean, and least and most beside it; of the clock the first."""
    found = dict[str, float]()
    for name, value in telemetry.items():
        try:
            values = torch.as_tensor(value, dtype=torch.float64).flatten()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ChipError(f"telemetry {name!r} must be a tensor of numbers, found {value!r:.60}") from error
        if name == "clock_s" and len(values):
            found[name] = float(values[0])
        elif len(values):
            found[name] = float(values.mean())
        if name != "clock_s" and len(values) > 1:
            found[f"{name}.min"], found[f"{name}.max"] = float(values.min()), float(values.max())
    return found


def _said(error: BaseException) -> str:
    """A driver's own error with its class, for many have no text, and its notes: that it is not safe, say."""
    text = str(error) if isinstance(error, PhotonicError) else f"{type(error).__name__}: {error}".rstrip(": ")
    return "; ".join([text, *getattr(error, "__notes__", ())])


def _plain_state(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """None where JSON cannot hold it: a sweep that is resumed on such a chip draws other noise, which is no error."""
    try:
        return dict(json.loads(json.dumps(state, allow_nan=False)))
    except (TypeError, ValueError):
        return None


def _check_chip(spec: ChipSpec, kept: _Kept, when: str) -> None:
    store = kept.store
    if spec is store.spec or spec == store.spec:
        return
    if spec.chip_id != store.spec.chip_id:
        raise WrongChipError(
            f"{when}expected chip {store.spec.chip_id}, found {spec.chip_id}; {kept}, for the same chip only"
        )
    other = sorted(name for name in ChipSpec.model_fields if getattr(spec, name) != getattr(store.spec, name))
    raise WrongChipError(
        f"{when}chip {spec.chip_id} says other things of itself than when its sweep began, in {', '.join(other)}; "
        f"open it as it was, or measure into another folder; {kept}"
    )


def _check_alive(kept: _Kept) -> None:
    """Stops where the chip answers nothing any more, and drops what it measured since."""
    store = kept.store
    stop = stop_of([note.flag for note in store.notes], store.purposes)
    if stop is None:
        return
    answers = f"chip {store.spec.chip_id} does not answer as it should: {stop.why}"
    if not stop.good:
        then = f"; then delete {store.folder} and measure anew, for its {store.done} readings are of no use"
        raise CalibrationError(answers + (then if kept.lasting else ""))
    dropped = store.done - stop.good
    store.drop_after(stop.good)
    raise CalibrationError(f"{answers}; the last {dropped} readings are dropped, and {kept}")


def _keep(store: RawStore, error: BaseException) -> None:
    """What was measured goes to the disk; the first error, Ctrl-C perhaps, must not be replaced by another one."""
    try:
        store.flush()
    except CalibrationError as unsaved:
        error.add_note(str(unsaved))
