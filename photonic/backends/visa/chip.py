"""A chip behind the instruments of a bench: codes become volts and waveforms, records become counts.

Not yet run on hardware: tests run it on the virtual bench, over real sockets. See ``docs/lab.md``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.backends.fromrecord import accepted, loaded
from photonic.backends.visa.assembly import Assembly, Instruments
from photonic.backends.visa.benchfile import BenchFile, load_bench
from photonic.backends.visa.inuse import InUse
from photonic.backends.visa.learning import SPAN, learn_timing, read_reference
from photonic.backends.visa.leaving import Leaving
from photonic.backends.visa.monitors import Monitors
from photonic.backends.visa.options import configured
from photonic.backends.visa.player import Codes, Player
from photonic.backends.visa.plays import Block, blocks
from photonic.backends.visa.power import Power
from photonic.backends.visa.retry import after_rails
from photonic.backends.visa.roles import Instrument
from photonic.backends.visa.warmup import wait_until_warm
from photonic.backends.visa.watchdog import Watchdog
from photonic.errors import LabError, PhotonicError, RangeError, ResponseError, UnsafeError
from photonic.records import Calibration


class VisaChip(Chip):
    """A chip on a bench.

    Opening it switches the bench on, learns where each output's symbols are, and waits until it is warm.

    Args:
        bench: its file's content.
        instruments: opened; closed with the chip.
        folder: that paths of the bench file are relative to.
        allowed: what the caller accepts of the bench's own record (``allow_failed``, ``allow_expired``).
        in_use: the bench's lock; released with the chip.

    Raises:
        LabError: the bench could not be brought up; it was made safe again.
    """

    def __init__(
        self,
        bench: BenchFile,
        instruments: Instruments,
        *,
        folder: str | os.PathLike[str] = ".",
        allowed: Mapping[str, bool] | None = None,
        in_use: InUse | None = None,
    ) -> None:
        super().__init__(bench.spec)
        self.bench, self._instruments, self._in_use = bench, instruments, in_use
        self._folder, self._allowed = Path(folder), dict(allowed or {})
        self._began = time.monotonic()
        self._power = Power(bench, instruments)
        self._monitors = Monitors(bench, instruments, self._power)
        self._player = Player(bench, instruments)
        self._unconnected = list(bench.unconnected)
        self._up, self._expired, self._learned = False, "", SPAN
        self._watchdog: Watchdog | None = None
        self._leaving = Leaving(self.close)
        try:
            self._power.tell_what_is_on()
            self._bring_up()
        except BaseException as error:
            self._give_up(error)
            raise
        if bench.safety.watchdog_s is not None:
            self._watchdog = Watchdog(bench.safety.watchdog_s, self._expire)
            self._watchdog.release()

    @property
    def calibration(self) -> Calibration | None:
        """The record that the bench file names, read when it is asked for; None: it names none.

        Raises:
            CalibrationError: it cannot be read, or may not be used.
        """
        if self.bench.calibration is None:
            return None
        return accepted(loaded(self._folder / self.bench.calibration), **self._allowed)  # type: ignore[arg-type]  # keys were checked

    def instruments(self) -> Mapping[str, str]:
        """Identity and settings of each instrument, by its name, read anew."""
        with self._lock:
            self._check_open()
            return {instrument.name: _told(instrument) for instrument in self._instruments}

    def safe_state(self) -> None:
        """Light, modulators and heaters off, the temperature kept; the next call switches on again.

        Raises:
            UnsafeError: what could not be made safe, by name.
        """
        with self._lock:
            self._up = False
            self._player.forget()
            self._resident.forget()
            self._power.make_safe()

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Measurement:
        if self._expired:
            raise LabError(self._expired)
        if self._watchdog is not None:
            self._watchdog.hold()
        try:
            self._bring_up()
            began = time.monotonic() - self._began
            counts = self._counts(weights.numpy(), self._checked_inputs(inputs.numpy()), conditions)
            telemetry = {"clock_s": began, "weight_writes": float(self._player.programmed), **self._monitors.read()}
        finally:
            if self._watchdog is not None:
                self._watchdog.release()
        return Measurement(torch.from_numpy(counts), telemetry=_tensors(telemetry, counts, self.spec.count_range))

    def _counts(self, weights: Codes, inputs: Codes, conditions: Conditions) -> Codes:
        gain, light = float(conditions.get("analog_gain", 1.0)), float(conditions.get("laser_power", 1.0))
        if light == 0 and self.bench.laser.dark == "inputs":
            inputs = np.full_like(inputs, self.spec.dark_code)
        else:
            self._power.set_light(light)
        rows, columns, shots = *weights.shape[:2], inputs.shape[1]
        dtype = np.float64 if self.spec.adc_bits is None else np.int16
        counts = np.empty((rows, columns, shots, self.spec.n_outputs), dtype=dtype)
        if not shots:
            return counts
        parts = list(blocks(rows, columns, shots, self._player.fits))
        for part in parts:
            found = self._part(weights, inputs, part, gain, light)
            if len(parts) == 1:
                return found
            counts[part.rows, part.columns, part.shots] = found
        return counts

    def _part(self, weights: Codes, inputs: Codes, part: Block, gain: float, light: float) -> Codes:
        codes, shots = weights[part.rows, part.columns], inputs[part.columns, part.shots]
        if shots.shape[1] > 2 * self._learned:
            # the sample clock is known well enough for segments that are not much longer than those it was learned from
            self._learned = shots.shape[1]
            self._player.sampler = learn_timing(self._player, self.bench, self._learned)
        try:
            found = self._player.counts(codes, shots, gain, light=light)
        except ResponseError:
            self._power.check_light()  # names the cause, where that is the laser
            raise
        dead = self.bench.digitizer.dead_symbols_after_rail
        return after_rails(self._player, codes, shots, gain, light, found, self.spec, dead) if dead else found

    def _checked_inputs(self, inputs: Codes) -> Codes:
        if self._unconnected and (inputs[..., self._unconnected] != self.spec.dark_code).any():
            raise RangeError(
                f"chip {self.spec.chip_id}: inputs {self._unconnected[:4]} have no DAC (inputs.unconnected) and take "
                f"no code but the dark one, {self.spec.dark_code:g}"
            )
        return inputs

    def _bring_up(self) -> None:
        """Switches on, learns delays, warms up; nothing where the bench is up."""
        if self._up:
            return
        self._player.forget()
        self._power.on()
        sampler = self._player.sampler = learn_timing(self._player, self.bench, self._learned)
        if self.bench.warm_up is not None:
            wait_until_warm(self.bench.warm_up, lambda: read_reference(self._player, self.bench, sampler))
        self._up = True

    def _expire(self) -> None:
        """The watchdog's: nobody has measured for too long."""
        with self._lock:
            if self._closed:
                return
            self._expired = (
                f"bench {self.bench.name} was not used for {self.bench.safety.watchdog_s:g} s (safety.watchdog_s) and "
                "was made safe; open it again"
            )
            try:
                self.safe_state()
            except LabError as error:
                self._expired += f". {error}"

    def _give_up(self, error: BaseException) -> None:
        """Opening failed: what was switched on is made safe, connections are closed."""
        try:
            self._power.make_safe()
        except PhotonicError as unsafe:
            error.add_note(f"{unsafe}")
        self._release()

    def _close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()
        try:
            if self._up:
                self._park()
        finally:
            self._release()

    def _park(self) -> None:
        """Parks the bench; where that does not end well, makes safe what can still be reached."""
        try:
            self._power.park()
        except UnsafeError as error:
            self._power.make_safe()
            raise LabError(f"{error}; instead of that, all outputs but the temperature's were switched off") from error
        except BaseException as error:  # Ctrl-C in the midst of a ramp
            try:
                self._power.make_safe()
            except UnsafeError as unsafe:
                error.add_note(f"{unsafe}")
            raise

    def _release(self) -> None:
        self._leaving.done()
        self._instruments.close()
        if self._in_use is not None:
            self._in_use.release()


def _told(instrument: Instrument) -> str:
    identity = instrument.identify()
    settings = [f"{name}={value}" for name, value in instrument.snapshot().items()]
    return ", ".join([identity.manufacturer, identity.model, identity.serial, identity.firmware, *settings])


def _tensors(telemetry: Mapping[str, float], counts: Codes, rails: tuple[float, float]) -> dict[str, Tensor]:
    """Numbers as tensors, and rail counts of each output."""
    found = {name: torch.tensor(value, dtype=torch.float64) for name, value in telemetry.items()}
    at_rails = ((counts <= rails[0]) | (counts >= rails[1])).sum((0, 1, 2))
    return {**found, "rail_counts": torch.from_numpy(np.asarray(at_rails, dtype=np.float64))}


def open_bench(path: str, **options: Any) -> VisaChip:
    """Opens the chip of a bench file.

    Args:
        path: of the TOML.
        options: ``on_close`` (park, off), ``transcript`` (a file), ``warm_up`` (false: do not wait for it),
            ``allow_failed`` and ``allow_expired`` (of the record that the file names).

    Raises:
        SpecError: the file, or an option, cannot be honoured.
        LabError: an instrument does not answer, or the bench cannot be brought up.
    """
    bench, allowed = configured(load_bench(path), path, options)
    folder = Path(path).parent
    in_use = InUse.of(path, bench.resources)
    try:
        instruments = Assembly(bench, folder).open()
    except BaseException:
        in_use.release()
        raise
    return VisaChip(bench, instruments, folder=folder, allowed=allowed, in_use=in_use)
