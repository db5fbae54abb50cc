"""The chip's own clock, and what drifts on it; it advances by shots and settling times, never by wall time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from photonic.errors import ChipError
from photonic.physics import drift, memory
from photonic.physics.drift import OrnsteinUhlenbeck
from photonic.physics.parameters import ChipParameters


@dataclass(frozen=True)
class Moment:
    """What has drifted at the start of a call.

    Attributes:
        clock_s: the chip's clock.
        kelvin: deviation of the temperature.
        laser: relative power.
        gain: (M,) relative, or None.
        bias_rad: (N,) of the modulators, or None.
        phase_rad: (M,) of the local oscillators, or None.
    """

    clock_s: float
    kelvin: float
    laser: float
    gain: Tensor | None
    bias_rad: Tensor | None
    phase_rad: Tensor | None


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
        self._drifts = {
            name: OrnsteinUhlenbeck(sigma, p.drift_s, width) for name, (sigma, width) in widths.items() if sigma > 0
        }

    @property
    def steady(self) -> bool:
        """Whether nothing changes from call to call."""
        return not self._drifts and self._parameters.warm_up_k == 0 and self._parameters.thermal_memory_k == 0

    def begin(self, generator: torch.Generator) -> Moment:
        """What holds for the call that starts now."""
        p = self._parameters
        passed = self.clock_s - (self.clock_s if self._drawn_s is None else self._drawn_s)
        self._drawn_s = self.clock_s
        if not self._drifts and p.warm_up_k == 0:
            return Moment(self.clock_s, p.temperature_error_k, 1.0, None, None, None)
        step = torch.tensor([passed], dtype=torch.float64)
        now = {name: process.advance(step, generator)[0] for name, process in self._drifts.items()}
        warm = float(drift.warm_up(torch.tensor(self.clock_s, dtype=torch.float64), p.warm_up_k, p.warm_up_s))
        gain = now.get("gain")
        return Moment(
            clock_s=self.clock_s,
            kelvin=p.temperature_error_k + warm + (float(now["kelvin"]) if "kelvin" in now else 0.0),
            # log-normal: power and gain are positive
            laser=math.exp(float(now["laser"])) if "laser" in now else 1.0,
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
