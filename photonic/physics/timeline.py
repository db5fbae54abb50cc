"""The chip's own clock, and what drifts on it; it advances by shots and settling times, never by wall time.

Drift goes on within a call. Its values are drawn, exactly, at the start of each block of shots, and held to the block's
end; a block is as long as no drift moves by more than ``drift.HELD`` of its standard deviation (rms), and one shot at
least. So a call that is short against the drift has one moment, and one that is long is as so many short ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from photonic.errors import ChipError
from photonic.physics import drift, memory
from photonic.physics.drift import OrnsteinUhlenbeck, Process, RandomWalk
from photonic.physics.parameters import ChipParameters

# what changes a tile's matrices or its light, and not just their size
_PROGRAMMED = ("kelvin", "bias", "phase")


@dataclass(frozen=True)
class Moment:
    """What has drifted, at one time or shot by shot.

    Attributes:
        clock_s: the chip's clock.
        kelvin: deviation of the temperature.
        laser: relative power, or that of each shot (C, B, R, 1).
        gain: (M,) relative, or that of each shot (C, B, R, M); None: 1.
        bias_rad: (N,) of the modulators, or None.
        phase_rad: (M,) of the local oscillators, or None.
    """

    clock_s: float
    kelvin: float
    laser: float | Tensor
    gain: Tensor | None
    bias_rad: Tensor | None
    phase_rad: Tensor | None


@dataclass(frozen=True)
class Span:
    """The time that a call takes: R x C tiles one after the other, row by row, each of which settles and is then read.

    Attributes:
        rows: R.
        columns: C.
        shots: B.
        settle_s: of each tile; where the chip holds some of them already, the mean.
        shot_s: of one shot.
    """

    rows: int
    columns: int
    shots: int
    settle_s: float
    shot_s: float

    @property
    def seconds(self) -> float:
        """In all."""
        return self.rows * self.columns * (self.settle_s + self.shots * self.shot_s)

    def starts(self, block: int) -> Tensor:
        """(R C K,) when each tile's blocks of shots begin, from the start of the call."""
        tile = torch.arange(self.rows * self.columns, dtype=torch.float64).unsqueeze(1)
        shot = torch.arange(0, self.shots, block, dtype=torch.float64)
        return ((tile + 1) * self.settle_s + (tile * self.shots + shot) * self.shot_s).flatten()


@dataclass(frozen=True)
class Part:
    """Shots of some tiles of a call, with what has drifted."""

    rows: slice
    columns: slice
    shots: slice
    moment: Moment


class Timeline:
    """Draws what drifts, call by call.

    Args:
        parameters: of the chip.
    """

    def __init__(self, parameters: ChipParameters) -> None:
        p = self._parameters = parameters
        self.clock_s = 0.0
        self._drawn_s: float | None = None
        self._warmth_k = 0.0  # of the thermal memory
        widths = {
            "kelvin": (p.temperature_drift_k, 1),
            "laser": (p.laser_drift, 1),
            "gain": (p.gain_drift, p.n_outputs),
            "bias": (p.bias_drift_rad, p.n_inputs),
            "phase": (p.phase_drift_rad, p.n_outputs),
        }
        self._drifts: dict[str, Process] = {
            name: OrnsteinUhlenbeck(sigma, p.drift_s, width) for name, (sigma, width) in widths.items() if sigma > 0
        }
        if p.laser_walk_per_root_s > 0:
            self._drifts["laser walk"] = RandomWalk(p.laser_walk_per_root_s, 1)
        held = [process.held_s() for process in self._drifts.values()]
        self._held_s = min([*held, drift.HELD * p.warm_up_s] if p.warm_up_k else held, default=math.inf)
        self._by_parts = p.warm_up_k != 0 or any(name in self._drifts for name in _PROGRAMMED)

    @property
    def steady(self) -> bool:
        """Whether nothing changes from call to call."""
        return not self._drifts and self._parameters.warm_up_k == 0 and self._parameters.thermal_memory_k == 0

    def begin(self, generator: torch.Generator, span: Span) -> tuple[Moment, list[Part]]:
        """What holds at the start of the call that starts now, and for its parts; no parts: for all of it."""
        passed = self.clock_s - (self.clock_s if self._drawn_s is None else self._drawn_s)
        self._drawn_s = self.clock_s
        if not self._drifts and self._parameters.warm_up_k == 0:
            return Moment(self.clock_s, self._parameters.temperature_error_k, 1.0, None, None, None), []
        # the sum of a call's times is rounded
        drawn = self._advance(torch.tensor([max(0.0, passed)], dtype=torch.float64), generator)
        start = self._moment(self.clock_s, {name: values[0] for name, values in drawn.items()})
        if span.seconds <= self._held_s or not span.shots:
            return start, []
        block = span.shots
        if span.shots * span.shot_s > self._held_s:
            block = max(1, int(self._held_s / span.shot_s))
        after = span.starts(block)
        drawn = self._advance(after.diff(prepend=after.new_zeros(1)), generator)
        self._drawn_s = self.clock_s + float(after[-1])
        return start, self._parts(span, block, after, drawn)

    def pass_over(self) -> None:
        """A call of a steady chip, which nobody asks for its moment."""
        self._drawn_s = self.clock_s

    def _advance(self, steps_s: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {name: process.advance(steps_s, generator) for name, process in self._drifts.items()}

    def _parts(self, span: Span, block: int, after: Tensor, drawn: Mapping[str, Tensor]) -> list[Part]:
        """A part for each block where tiles change with the drift; else one, in which shots differ by factors."""
        whole = slice(None)
        if not self._by_parts:
            grid = span.rows, span.columns, -1
            each = {
                name: values.unflatten(0, grid).repeat_interleave(block, 2)[:, :, : span.shots].permute(1, 2, 0, 3)
                for name, values in drawn.items()
            }
            return [Part(whole, whole, whole, self._moment(self.clock_s, each))]
        blocks, found = -(-span.shots // block), []
        for index, seconds in enumerate(after.tolist()):
            tile, k = divmod(index, blocks)
            r, c = divmod(tile, span.columns)
            moment = self._moment(self.clock_s + seconds, {name: values[index] for name, values in drawn.items()})
            shots = slice(k * block, min(span.shots, (k + 1) * block))
            found.append(Part(slice(r, r + 1), slice(c, c + 1), shots, moment))
        return found

    def _moment(self, clock_s: float, now: Mapping[str, Tensor]) -> Moment:
        """Of values (width,), or of those of each shot (C, B, R, width)."""
        p = self._parameters
        warm = float(drift.warm_up(torch.tensor(clock_s, dtype=torch.float64), p.warm_up_k, p.warm_up_s))
        gain, powers = now.get("gain"), [now[name] for name in ("laser", "laser walk") if name in now]
        # log-normal: power and gain are positive
        laser = torch.stack(powers).sum(0).exp() if powers else torch.ones(1)
        return Moment(
            clock_s=clock_s,
            kelvin=p.temperature_error_k + warm + (float(now["kelvin"]) if "kelvin" in now else 0.0),
            laser=float(laser) if laser.ndim == 1 else laser,
            gain=None if gain is None else gain.exp(),
            bias_rad=now.get("bias"),
            phase_rad=now.get("phase"),
        )

    def advance(self, seconds: float) -> None:
        """A call of that length is over."""
        self.clock_s += seconds

    def warmth(self, loads: Tensor, tile_s: float) -> Tensor:
        """Temperature (T,) that earlier tiles leave behind for each of T tiles in a row, in kelvin.

        Args:
            loads: (T,) mean heater drive of each tile, 1 at full drive.
            tile_s: how long each is held.
        """
        p = self._parameters
        a = math.exp(-tile_s / p.thermal_memory_s)
        after = memory.low_pass(loads.reshape(1, -1, 1) * p.thermal_memory_k, a, self._warmth_k).flatten()
        before = torch.cat([after.new_tensor([self._warmth_k]), after[:-1]])
        self._warmth_k = float(after[-1])
        return before

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "clock_s": self.clock_s,
            "drawn_s": self._drawn_s,
            "warmth_k": self._warmth_k,
            "drifts": {name: process.state() for name, process in self._drifts.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what ``state()`` gave.

        Raises:
            ChipError: it is the state of a chip with other drifts; nothing is changed.
        """
        found = state["drifts"]
        widths = {name: process.width for name, process in self._drifts.items()}
        if found.keys() != widths.keys() or any(len(found[name]) not in (0, widths[name]) for name in widths):
            sizes = {name: len(values) for name, values in found.items()}
            raise ChipError(f"expected the state of drifts of these widths, or of none yet: {widths}; found {sizes}")
        self.clock_s, self._drawn_s, self._warmth_k = state["clock_s"], state["drawn_s"], state["warmth_k"]
        for name, process in self._drifts.items():
            process.restore(found[name])
