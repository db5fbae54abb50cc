"""Roles that span several instruments: each holds some of the chip's channels, and all are used at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.roles import Digitizer, InputModulator, Instrument, WeightBank

Array = NDArray[np.float64]
T = TypeVar("T")
I = TypeVar("I", bound=Instrument)  # noqa: E741 - an instrument


class Crew:
    """Threads in which instruments work at the same time.

    Args:
        size: instruments that can be busy at once.
    """

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(max(1, size), thread_name_prefix="photonic-bench")

    def each(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Results in order; when several fail, the first error is raised with the others as notes.

        All calls have ended when this returns, in whatever way: no instrument is still busy.
        """
        if len(calls) == 1:
            return [calls[0]()]
        futures: list[Future[T]] = [self._begun(call) for call in calls]
        wait(futures)
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"and {type(other).__name__}: {other}")
            raise errors[0]
        return [future.result() for future in futures]

    def _begun(self, call: Callable[[], T]) -> Future[T]:
        try:
            return self._pool.submit(call)
        except RuntimeError:  # the program ends, and takes no more threads: one after the other
            done: Future[T] = Future()
            try:
                done.set_result(call())
            except Exception as error:
                done.set_exception(error)
            return done

    def close(self) -> None:
        """Lets the threads end; calls that are under way have deadlines of their own."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Part(Generic[I]):
    """An instrument and the logical channels that it holds, in the order of its own."""

    instrument: I
    channels: NDArray[np.intp]


class Span(Generic[I]):
    """Instruments that share a role.

    Args:
        parts: instruments with their channels; together they hold each channel once.
        n_channels: logical channels of the role; those that no part holds are unconnected.
        crew: threads.
    """

    def __init__(self, parts: Sequence[Part[I]], n_channels: int, crew: Crew) -> None:
        self.parts, self.n_channels, self._crew = tuple(parts), n_channels, crew
        whole = len(parts) == 1 and np.array_equal(parts[0].channels, np.arange(n_channels))
        self._whole = whole

    def _shares(self, values: NDArray[np.generic], axis: int) -> list[NDArray[np.generic]]:
        """The values of each part's channels, along an axis; not copied where one instrument holds all."""
        if self._whole:
            return [values]
        return [np.take(values, part.channels, axis=axis) for part in self.parts]

    def _each(self, call: Callable[[I], T]) -> list[T]:
        return self._crew.each([lambda part=part: call(part.instrument) for part in self.parts])  # type: ignore[misc]

    def instruments(self) -> tuple[I, ...]:
        """In the order of the bench file."""
        return tuple(part.instrument for part in self.parts)


class WeightSpan(Span[WeightBank]):
    """All weight banks as one, of P channels."""

    @property
    def list_length(self) -> int:
        """Tiles that all of them can step through in one play."""
        return min(part.instrument.list_length for part in self.parts)

    def levels_v(self) -> Array:
        """(P,) volts, read back."""
        found = np.empty(self.n_channels)
        for part, levels in zip(self.parts, self._each(lambda bank: bank.levels_v()), strict=True):
            found[part.channels] = levels
        return found

    def program(self, levels_v: Array) -> None:
        """Sets (P,) volts."""
        shares = self._shares(levels_v, 0)
        self._crew.each([
            lambda part=part, share=share: part.instrument.program(share)  # type: ignore[misc]
            for part, share in zip(self.parts, shares, strict=True)
        ])  # fmt: skip

    def program_list(self, levels_v: Array, dwell_s: float) -> None:
        """Sets (tiles, P) volts that a play steps through."""
        shares = self._shares(levels_v, 1)
        self._crew.each([
            lambda part=part, share=share: part.instrument.program_list(share, dwell_s)  # type: ignore[misc]
            for part, share in zip(self.parts, shares, strict=True)
        ])  # fmt: skip

    def enabled(self) -> list[bool]:
        """Whether outputs are on, of each bank."""
        return self._each(lambda bank: bank.enabled())

    def enable(self) -> None:
        """Switches all outputs on."""
        self._each(lambda bank: bank.enable())

    def disable(self) -> None:
        """Ramps to the safe level, then switches all outputs off."""
        self._each(lambda bank: bank.disable())

    def writes(self) -> int | None:
        """Programmings, of the bank that had the most; None: none of them counts."""
        counts = [count for count in self._each(lambda bank: bank.writes()) if count is not None]
        return max(counts, default=None)


class InputSpan(Span[InputModulator]):
    """All waveform sources as one, of N channels; unconnected ones are left out."""

    @property
    def memory_samples(self) -> int:
        """Samples that every channel holds."""
        return min(part.instrument.memory_samples for part in self.parts)

    @property
    def granularity_samples(self) -> int:
        """A length that is a multiple of all instruments' granularities."""
        return int(np.lcm.reduce([part.instrument.granularity_samples for part in self.parts]))

    @property
    def minimum_samples(self) -> int:
        """A waveform is at least this long."""
        return max(part.instrument.minimum_samples for part in self.parts)

    def load(self, waveforms: NDArray[np.generic], *, segments: int, repeats: int, marker: tuple[int, int]) -> None:
        """Uploads (N, samples) raw codes to all instruments at once."""
        shares = self._shares(waveforms, 0)
        self._crew.each([
            lambda part=part, share=share: part.instrument.load(  # type: ignore[misc]
                share, segments=segments, repeats=repeats, marker=marker
            )
            for part, share in zip(self.parts, shares, strict=True)
        ])  # fmt: skip

    def enabled(self) -> list[bool]:
        """Whether outputs are on, of each."""
        return self._each(lambda source: source.enabled())

    def enable(self) -> None:
        """Switches all outputs on, at the idle code."""
        self._each(lambda source: source.enable())

    def park(self) -> None:
        """All outputs at the idle code."""
        self._each(lambda source: source.park())

    def disable(self) -> None:
        """Switches all outputs off."""
        self._each(lambda source: source.disable())

    def play(self) -> None:
        """Arms all sources and triggers the first, whose trigger line starts the others; returns when it has ended."""
        for part in self.parts:
            part.instrument.arm()
        self.parts[0].instrument.trigger()


class DigitizerSpan(Span[Digitizer]):
    """All digitizers as one, of M channels."""

    def __init__(self, parts: Sequence[Part[Digitizer]], n_channels: int, crew: Crew) -> None:
        super().__init__(parts, n_channels, crew)
        self._own: Mapping[int, tuple[int, int]] = {
            int(channel): (index, own) for index, part in enumerate(parts) for own, channel in enumerate(part.channels)
        }

    @property
    def memory_samples(self) -> int:
        """Samples that every channel holds."""
        return min(part.instrument.memory_samples for part in self.parts)

    def configure(self, samples: int, segments: int, *, rate_hz: float, gain: float) -> None:
        """Sets length and number of segments, rate and analog gain."""
        self._each(lambda digitizer: digitizer.configure(samples, segments, rate_hz=rate_hz, gain=gain))

    def arm(self) -> None:
        """All wait for the trigger."""
        self._each(lambda digitizer: digitizer.arm())

    def fetch(self, channels: Sequence[int]) -> NDArray[np.generic]:
        """(channels, samples) raw codes of logical channels, in their order, fetched from all instruments at once."""
        if self._whole:
            return self.parts[0].instrument.fetch(channels)
        wanted: dict[int, list[tuple[int, int]]] = {}
        for row, channel in enumerate(channels):
            index, own = self._own[channel]
            wanted.setdefault(index, []).append((row, own))
        blocks = self._crew.each([
            lambda index=index, pairs=pairs: self.parts[index].instrument.fetch([own for _, own in pairs])  # type: ignore[misc]
            for index, pairs in wanted.items()
        ])  # fmt: skip
        found = np.empty((len(channels), blocks[0].shape[1]), dtype=np.result_type(*blocks))
        for pairs, block in zip(wanted.values(), blocks, strict=True):
            found[[row for row, _ in pairs]] = block
        return found
