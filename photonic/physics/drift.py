"""What changes with time, on the chip's own clock (reference/sim.md e.14)."""

from __future__ import annotations

import torch
from torch import Tensor

from photonic.errors import RangeError, ShapeError


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


class OrnsteinUhlenbeck:
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
        self.sigma, self.tau_s, self.width = sigma, tau_s, width
        self._theta: Tensor | None = None

    def advance(self, steps_s: Tensor, generator: torch.Generator) -> Tensor:
        """Values after each of K steps: theta exp(-dt / tau) + sigma sqrt(1 - exp(-2 dt / tau)) xi, exact for any dt.

        Args:
            steps_s: (K,) lengths of the steps, 0 or more; the first starts where the last call ended.
            generator: owned by the caller; draws K x width samples, before the first of all ``width`` more.

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
            self._theta = self.sigma * torch.randn(self.width, generator=generator, dtype=torch.float64)
        if not len(steps_s):
            return self._theta.new_empty(0, self.width)
        passed = steps_s.to(torch.float64).unsqueeze(1) / self.tau_s
        xi = torch.randn(len(passed), self.width, generator=generator, dtype=torch.float64)
        # expm1, because 1 - exp(-2 dt / tau) cancels for the short steps of single calls
        kicks = xi.mul_(self.sigma * torch.sqrt(-torch.expm1(-2 * passed)))
        kept = torch.exp(-passed)
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


def _accumulate(kept: Tensor, kicks: Tensor) -> Tensor:
    """theta_k = kept_k theta_(k-1) + kicks_k from 0, by windows that double; overwrites (K, 1) and (K, n)."""
    window = 1
    while window < len(kicks):
        # products are complete before sums write where they were read
        kicks[window:] += kept[window:] * kicks[:-window]
        kept[window:] *= kept[:-window].clone()
        window *= 2
    return kicks
