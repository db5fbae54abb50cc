"""A fringe sweep made up of known parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import lfilter

from photonic.calibration.fringe import FringeSweep

V_PI, LAG, PHASE = 2.7, 0.05, 0.6


def triangle(samples: int, reach: float = 5.0) -> np.ndarray:
    """Down, up, down: as a function generator drives."""
    quarter = samples // 4
    parts = [np.linspace(0, -1, quarter), np.linspace(-1, 1, samples - 2 * quarter), np.linspace(1, 0, quarter)]
    return reach * np.concatenate(parts)


def fringe_sweep(rng: np.random.Generator, samples: int = 800, rho: float = 0.0, reach: float = 5.0, **more: Any):
    """A sweep with AR(1) noise of standard deviation 2."""
    drive = triangle(samples, reach)
    direction = np.sign(np.gradient(drive))
    noise = lfilter([1], [1, -rho], rng.standard_normal(samples + 500))[500:] * np.sqrt(1 - rho**2) * 2
    output = 10 + 40 * np.cos(np.pi * (drive - LAG * direction) / V_PI + PHASE) + noise
    return FringeSweep(drive, output, direction, **more)
