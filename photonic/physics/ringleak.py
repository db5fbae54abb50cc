"""What the rings of a bus take from each other's channels: a serial product of Lorentzians.

Ring i, in its place on a bus of N, drops L_ij = 1 / (1 + z_ij^2) of channel j, so prod_i (1 - L_ij) of the channel
stays on the bus (Bogaerts et al., Laser Photonics Rev. 6, 47; reference/sim.md e.12). z_ij is the distance of channel j
from the ring's nearest resonance in half linewidths of that ring; resonances repeat every FSR.

A product over all pairs costs N passes over the weights. Far from its resonance a ring's -log(1 - L) = log(1 + 1/z^2)
is a smooth function of its tuning: a polynomial of low degree, times the square of the ring's linewidth. So the pairs
that are close are multiplied out, and those that are far are one matmul over the rings for each power of the tuning.
Which is which, and which degree, follows from the worst case of the polynomials' errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.physics.many import many

# of the sum of logarithms; a weight changes by at most twice that
_TOLERANCE = {torch.float32: 2.5e-6, torch.float64: 2.5e-10}
_HIGHEST_DEGREE = 6
_SAMPLES = 65  # of the range of tunings, where the polynomials are fitted and their errors taken
_PLANS_KEPT = 8


@dataclass(frozen=True)
class Plan:
    """How the product is evaluated over a range of tunings.

    Attributes:
        near: the i - j of the pairs that are multiplied out.
        middle: of the range of tunings.
        half: half its width.
        terms: (degree + 1, N, N) minus the polynomials' coefficients in tuning - middle, of base 2, from ring i to
            channel j, 0 for near pairs; empty where all pairs are near.
    """

    near: tuple[int, ...]
    middle: float
    half: float
    terms: Tensor


class RingLeakage:
    """The product for the rings of one device. All lengths are in nominal half linewidths.

    Channels are numbered towards longer wavelengths, and heat shifts a ring towards them: ring i, tuned by v, is at
    i spacing + v.

    Args:
        spacing: of the channels.
        fsr: free spectral range; N channels lie within one.
        lowest: tuning, hidden offset included, that a ring of this device can have.
        highest: the same.
        inverse_width: (M, N) nominal over actual linewidth.
    """

    def __init__(self, spacing: float, fsr: float, lowest: float, highest: float, inverse_width: Tensor) -> None:
        self._spacing, self._fsr = spacing, fsr
        self._lowest, self._highest = lowest, highest
        self._inverse_width = inverse_width
        self._plans: dict[tuple[torch.dtype, float, float], Plan] = {}

    def remaining(self, tuning: Tensor, common: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """What is left of each channel after all rings of its bus.

        Args:
            tuning: (T, m, N) of the rings, hidden offset and common shift included; not changed.
            common: least and greatest shift that all rings of a tile share.

        Returns:
            (T, m, N), from 0 to 1, within 2.5e-6 in float32, 2.5e-10 in float64, and the rounding of the tunings.
        """
        plan = self.plan(tuning.dtype, *common)
        width = self._inverse_width[: tuning.shape[1]].to(tuning.dtype)
        if not plan.terms.numel():
            return self._near(tuning, width, plan, torch.ones_like(width)).reciprocal_()
        factor = width.square().reciprocal()
        if many(tuning, width):
            return self._remaining(tuning, width, factor, plan)
        lost = self._near(tuning, width, plan, torch.exp2(-(factor @ plan.terms[0])))
        if len(plan.terms) == 1:
            return lost.reciprocal_()
        return _far(tuning, factor, plan).exp2_().div_(lost)

    def _remaining(self, tuning: Tensor, width: Tensor, factor: Tensor, plan: Plan) -> Tensor:
        """The same in one compiled loop, but for what far rings take."""
        from photonic.physics.compiled import leakage  # numba takes a while to import

        far = None if len(plan.terms) == 1 else _far(tuning, factor, plan)
        start = torch.exp2(factor @ plan.terms[0])
        pairs = [(k, *self._shift(k, plan)) for k in plan.near]
        return leakage.remaining(tuning, width, start, far, pairs, self._fsr)

    def _shift(self, k: int, plan: Plan) -> tuple[float, bool]:
        """What is added to the tuning of rings i - j = k, and whether their nearest resonance is not always one."""
        apart = k * self._spacing
        first, last = self._turns(apart + plan.middle - plan.half), self._turns(apart + plan.middle + plan.half)
        return (apart, True) if first != last else (apart - first * self._fsr, False)

    def plan(self, dtype: torch.dtype, least: float = 0.0, greatest: float = 0.0) -> Plan:
        """The cheapest way within tolerance, from a few that are kept."""
        # in steps, so that a temperature that drifts a little meets the same plan again
        step = self._spacing / 16
        key = dtype, math.floor(least / step) * step, math.ceil(greatest / step) * step
        if key not in self._plans:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = self._make_plan(dtype, self._lowest + key[1], self._highest + key[2])
        return self._plans[key]

    def _make_plan(self, dtype: torch.dtype, low: float, high: float) -> Plan:
        n = self._inverse_width.shape[1]
        middle, half = (low + high) / 2, max((high - low) / 2, 1e-6)
        u = torch.linspace(-1, 1, _SAMPLES, dtype=torch.float64)
        apart = torch.arange(1 - n, n, dtype=torch.float64) * self._spacing
        z = self._wrapped((middle + half * u).unsqueeze(1) + apart)
        logarithm = torch.log1p(z.square().reciprocal())
        fits, errors = [], []
        for degree in range(_HIGHEST_DEGREE + 1):
            powers = u.unsqueeze(1) ** torch.arange(degree + 1)
            fit = torch.linalg.pinv(powers) @ logarithm
            fits.append(fit)
            errors.append(self._error(z, powers @ fit))
        degree, near = _cheapest(torch.stack(errors), _TOLERANCE[dtype])
        pairs = tuple(int(k) - (n - 1) for k in near.nonzero().flatten())
        if near.all():
            return Plan(pairs, middle, half, torch.empty(0, dtype=dtype))
        fit = torch.where(near, 0.0, fits[degree])
        index = torch.arange(n)
        # of base 2, whose exponential takes a third of the time
        fit = fit / (math.log(2) * half ** torch.arange(len(fit), dtype=fit.dtype).unsqueeze(1))
        terms = -fit[:, index.unsqueeze(1) - index + (n - 1)]
        return Plan(pairs, middle, half, terms.to(dtype))

    def _error(self, z: Tensor, fitted: Tensor) -> Tensor:
        """Largest error over tunings and linewidths of the device, for each i - j; where there is a pole, 1."""
        error = torch.zeros(z.shape[1], dtype=z.dtype)
        for g in (1.0, float(self._inverse_width.min()), float(self._inverse_width.max())):
            deviation = torch.log1p((g * z).square().reciprocal()) - fitted / g**2
            error = torch.maximum(error, deviation.abs().nan_to_num(nan=1.0).amax(dim=0))
        error = error.clamp(max=1.0)
        error[len(error) // 2] = 1.0  # a ring on its own channel is never far
        return error

    def _wrapped(self, distance: Tensor) -> Tensor:
        """To the nearest of the ring's resonances."""
        return distance - self._fsr * torch.round(distance / self._fsr)

    def _near(self, tuning: Tensor, width: Tensor, plan: Plan, start: Tensor) -> Tensor:
        """start (m, N) prod (1 + 1 / z^2) over near pairs, (T, m, N)."""
        n = tuning.shape[-1]
        scaled = tuning * width
        # a ring on its own channel is always near
        product = self._squared(0, tuning, scaled, width, plan)
        torch.addcdiv(start, start, product, out=product)
        for k in plan.near:
            if k != 0:
                part = product[..., max(-k, 0) : n - max(k, 0)]
                part.addcdiv_(part, self._squared(k, tuning, scaled, width, plan))
        return product

    def _squared(self, k: int, tuning: Tensor, scaled: Tensor, width: Tensor, plan: Plan) -> Tensor:
        """z^2 of the rings that have a channel i - j = k, a new tensor; ``scaled`` is tuning x width."""
        shift, wraps = self._shift(k, plan)
        n = tuning.shape[-1]
        rings = slice(max(k, 0), n + min(k, 0))
        if wraps:
            return self._wrapped(tuning[..., rings] + shift).mul_(width[:, rings]).square_()
        if shift == 0:
            return scaled.square()
        return (scaled[..., rings] + shift * width[:, rings]).square_()

    def _turns(self, distance: float) -> int:
        return round(distance / self._fsr)


def _far(tuning: Tensor, factor: Tensor, plan: Plan) -> Tensor:
    """Minus the sum of log2(1 + 1 / z^2) over far pairs, (T, m, N), but for what no tuning changes."""
    degree, n = len(plan.terms) - 1, tuning.shape[-1]
    u = tuning - plan.middle
    powers = tuning.new_empty(*tuning.shape[:2], degree, n)
    torch.mul(u, factor, out=powers[:, :, 0])
    for q in range(1, degree):
        torch.mul(powers[:, :, q - 1], u, out=powers[:, :, q])
    # all powers in one product
    return (powers.view(-1, degree * n) @ plan.terms[1:].flatten(0, 1)).view(tuning.shape)


def _cheapest(errors: Tensor, tolerance: float) -> tuple[int, Tensor]:
    """The degree, and which i - j are near, (2 N - 1,), that keep the worst channel within tolerance.

    Args:
        errors: (degrees, 2 N - 1) worst case of each i - j.
        tolerance: of the sum over the rings of a bus.
    """
    width = errors.shape[1]
    n = (width + 1) // 2
    # in passes over the weights for one pair; matmul and exponential as measured beside them
    share = 1 - torch.arange(1 - n, n, dtype=torch.float64).abs() / n
    best, choice = math.inf, (0, torch.ones(width, dtype=torch.bool))
    for degree, error in enumerate(errors):
        rank = error.argsort(descending=True).argsort()
        # row c: the c largest are near
        rest = torch.where(rank >= torch.arange(width + 1).unsqueeze(1), error, 0.0)
        total = F.pad(rest.cumsum(dim=1), (1, 0))
        worst = (total[:, n:] - total[:, :-n]).amax(dim=1)
        count = int((worst <= tolerance).int().argmax())
        near = rank < count
        cost = float(share[near].sum()) + (0.0 if count == width else 2 + degree * (0.3 + n / 32))
        if cost < best:
            best, choice = cost, (degree, near)
    return choice
