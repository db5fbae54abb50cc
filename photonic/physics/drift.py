"""What changes with time, on the chip's own clock (reference/sim.md e.14)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from photonic.errors import RangeError, ShapeError

# values are held still while they move by less than this, rms: as a share of a drift's standard deviation, and for a
# walk of a relative power, of 1; at full scale 1/80 LSB of 8 bits, less than a fortieth of any receiver's noise there
HELD = 0.01
HELD_WALK = 1e-4
_FORGOTTEN = 1e-18  # below the rounding of float64


def warm_up(t_s: Tensor, amplitude: float, tau_s: float) -> Tensor:
    """What is left of a deviation at times t after switching on: amplitude exp(-t / tau), any unit.

    Raises:
        RangeError: ``tau_s`` is not positive.
    """
    if not tau_s > 0:
        raise RangeError(f"tau_s must be positive, found {tau_s}")
    return amplitude * torch.exp(-t_s / tau_s)


def power_law(age_s: Tensor, exponent: float, t0_s: float) -> Tensor:
    """(age / t0)^-exponent: the drift of a phase-change cell after programming, relative to its value at t0.

    Ages below t0 are legal and give more than 1; nothing is clamped, since the law has no value at age 0.

    Args:
        age_s: since programming, any shape.
        exponent: nu, 0.05 to 0.11 measured for GST's resistance; no number for light was found.
        t0_s: age at which the value is 1.

    Raises:
        RangeError: an age or ``t0_s`` is not positive.
    """
    if not (t0_s > 0 and bool((age_s > 0).all())):
        youngest = age_s.min().item() if age_s.numel() else "none"
        raise RangeError(f"ages and t0_s must be positive, found {youngest} s at least and t0_s = {t0_s} s")
    return (age_s / t0_s) ** -exponent


class Process(ABC):
    """Independent processes of one kind, followed step by step.

    Args:
        width: how many.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._theta: Tensor | None = None

    @abstractmethod
    def held_s(self) -> float:
        """How long values may be held still: until they have moved by little, rms."""

    @abstractmethod
    def _begin(self, generator: torch.Generator) -> Tensor:
        """Values (width,) before the first step."""

    @abstractmethod
    def _step(self, steps_s: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of a value over each step (K, 1), and the standard deviation of what is added (K, 1)."""

    def advance(self, steps_s: Tensor, generator: torch.Generator) -> Tensor:
        """Values after each of K steps, exact for any dt.

        Args:
            steps_s: (K,) lengths of the steps, 0 or more; the first starts where the last call ended.
            generator: owned by the caller; draws K x width samples, before the first of all what ``_begin`` takes.

        Returns:
            (K, width) float64.

        Raises:
            ShapeError: the steps are not (K,).
            RangeError: a step is negative.
        """
        if steps_s.ndim != 1:
            raise ShapeError(f"steps must be (K,), found {tuple(steps_s.shape)}")
        if not bool((steps_s >= 0).all()):
            raise RangeError(f"steps must be 0 s or more, found {steps_s.min().item()} s")
        if self._theta is None:
            self._theta = self._begin(generator)
        if not len(steps_s):
            return self._theta.new_empty(0, self.width)
        kept, added = self._step(steps_s.to(torch.float64).unsqueeze(1))
        kicks = torch.randn(len(steps_s), self.width, generator=generator, dtype=torch.float64).mul_(added)
        kicks[0] += kept[0] * self._theta
        values = _accumulate(kept, kicks)
        self._theta = values[-1].clone()
        return values

    def state(self) -> list[float]:
        """The current values, for a checkpoint; empty before the first ``advance``. The generator is the caller's."""
        return [] if self._theta is None else self._theta.tolist()

    def restore(self, state: list[float]) -> None:
        """Takes back what ``state()`` gave.

        Raises:
            ShapeError: the state is of another width.
        """
        if len(state) not in (0, self.width):
            raise ShapeError(f"the state of {self.width} processes has 0 or {self.width} values, found {len(state)}")
        self._theta = torch.tensor(state, dtype=torch.float64) if state else None


class OrnsteinUhlenbeck(Process):
    """Independent AR(1) processes, stationary from the start: covariance sigma^2 exp(-|dt| / tau).

    Args:
        sigma: stationary standard deviation, any unit.
        tau_s: correlation time.
        width: how many processes.

    Raises:
        RangeError: ``sigma`` is negative or ``tau_s`` or ``width`` not positive.
    """

    def __init__(self, sigma: float, tau_s: float, width: int) -> None:
        if not (sigma >= 0 and tau_s > 0 and width > 0):
            raise RangeError(f"sigma must be 0 or more, tau_s and width positive, found {sigma}, {tau_s} s and {width}")
        super().__init__(width)
        self.sigma, self.tau_s = sigma, tau_s

    def held_s(self) -> float:
        """Until 2 sigma^2 (1 - exp(-dt / tau)), the mean square of a change, is ``HELD``^2 sigma^2."""
        return -self.tau_s * math.log1p(-(HELD**2) / 2)

    def _begin(self, generator: torch.Generator) -> Tensor:
        return self.sigma * torch.randn(self.width, generator=generator, dtype=torch.float64)

    def _step(self, steps_s: Tensor) -> tuple[Tensor, Tensor]:
        """theta exp(-dt / tau) + sigma sqrt(1 - exp(-2 dt / tau)) xi."""
        passed = steps_s / self.tau_s
        # expm1, because 1 - exp(-2 dt / tau) cancels for the short steps of single shots
        return torch.exp(-passed), self.sigma * torch.sqrt(-torch.expm1(-2 * passed))


class RandomWalk(Process):
    """Independent random walks from 0: variance ``per_root_s``^2 t.

    Args:
        per_root_s: standard deviation after one second, any unit.
        width: how many processes.

    Raises:
        RangeError: ``per_root_s`` is negative or ``width`` not positive.
    """

    def __init__(self, per_root_s: float, width: int) -> None:
        if not (per_root_s >= 0 and width > 0):
            raise RangeError(f"per_root_s must be 0 or more, width positive, found {per_root_s} and {width}")
        super().__init__(width)
        self.per_root_s = per_root_s

    def held_s(self) -> float:
        """Until values have moved by ``HELD_WALK``: a walk has no standard deviation of its own to compare with."""
        return (HELD_WALK / self.per_root_s) ** 2 if self.per_root_s > 0 else math.inf

    def _begin(self, generator: torch.Generator) -> Tensor:
        return torch.zeros(self.width, dtype=torch.float64)

    def _step(self, steps_s: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(steps_s), self.per_root_s * torch.sqrt(steps_s)


def _accumulate(kept: Tensor, kicks: Tensor) -> Tensor:
    """theta_k = kept_k theta_(k-1) + kicks_k from 0, by windows that double; overwrites (K, 1) and (K, n)."""
    window = 1
    while window < len(kicks) and bool((kept[window:] > _FORGOTTEN).any()):
        # products are complete before sums write where they were read
        kicks[window:] += kept[window:] * kicks[:-window]
        kept[window:] *= kept[:-window].clone()
        window *= 2
    return kicks
