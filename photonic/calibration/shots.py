"""Shots as a response explains them: what is left of each count, and how much it says.

A count's score for the value before the ADC is (E[value | count] - value) / sigma^2. Near a rail it follows the value
less than elsewhere, and not at all beyond: what a sample that is censored at c standard deviations says of the mean of
a Gaussian is Phi(c) - c phi(c) + phi(c)^2 / (1 - Phi(c)) of what it says uncensored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from photonic.calibration.model import Array

_CLEAR = 3.5  # standard deviations from a rail


@dataclass(frozen=True)
class Shots:
    """The shots of one weight setting.

    Attributes:
        codes: (M, N) weight codes.
        inputs: (B, N) input codes.
        volts: (B, M) predicted before the ADC, counts.
        rest: (B, M) by how much the counts say that the value is higher.
        follows: (B, M) by how much ``rest`` follows the value; None: wholly, all of them.
        weight: (B,) one over the variance of what a shot says, over that of an average one.
    """

    codes: Array
    inputs: Array
    volts: Array
    rest: Array
    follows: Array | None
    weight: Array


def followed(volts: Array, sigma: Array, rails: tuple[Array, Array]) -> Array | None:
    """How much working values follow the value before the ADC, (B, M); None: wholly.

    Args:
        volts: (B, M) predicted, counts.
        sigma: (B, M) standard deviation, counts.
        rails: lowest and highest transition, (M or 1,).
    """
    low, high = (volts - rails[0]) / sigma, (rails[1] - volts) / sigma
    if min(low.min(), high.min()) > _CLEAR:
        return None
    rounded = 1 + np.minimum(1.0, 1 / (12 * sigma**2))  # as ``working_values`` makes up for rounding
    return np.asarray(_kept(low, rounded) + _kept(high, rounded) - 1)


def _kept(c: Array, rounded: Array) -> Array:
    """What is left of the information of a sample that is censored at ``c`` standard deviations above its mean."""
    c = c.clip(-6.0, 6.0)
    density = np.exp(-0.5 * c * c) / np.sqrt(2 * np.pi)
    return np.asarray(ndtr(c) - c * density + rounded * density**2 / ndtr(-c))
