"""Chips of which the truth is known, their counts, and what is predicted of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from photonic.calibration.predicted import Prediction

RAILS = (-128.0, 127.0)
IDEAL = np.arange(-127.5, 127)[None]
DARK, LIT, RIN = 0.54, 0.66, 0.5  # LSB of `typical`: floor, shot noise at S = 1, RIN at the ADC's full scale


@dataclass(frozen=True)
class Truth:
    """A chip of ``typical`` noise at random points; all in counts."""

    volts: np.ndarray
    sigma: np.ndarray
    common: np.ndarray
    light: np.ndarray
    transitions: np.ndarray | None = None


def truth(seed, points=48, outputs=16, *, noise=1.0, reach=0.9, inl=0.0):
    """A chip at four levels of light; ``reach`` is of full scale, ``noise`` of the typical one, ``inl`` in LSB rms."""
    generator = np.random.default_rng([seed, 1])
    light = np.array([0.0, 0.25, 0.5, 1.0])[np.arange(points) % 4][:, None] * np.ones(outputs)
    result = np.where(light > 0, reach * generator.uniform(-1, 1, light.shape), 0.0)  # of full scale
    gain = 128 * (1 + 0.05 * generator.standard_normal(outputs))
    common = noise * RIN * result * gain / 128
    sigma = np.sqrt(noise**2 * (DARK**2 + LIT**2 * light) + common**2)
    table = None
    if inl:
        place = np.linspace(0, 1, 255)
        wave = np.sqrt(2) * np.sin(2 * np.pi * 3 * place + generator.uniform(0, 6, (outputs, 1)))
        table = np.maximum.accumulate(IDEAL + inl * wave, axis=1)
    return Truth(gain * result + generator.normal(0, 2, outputs), sigma, common, light, table)


def measure(chip, repeats, seed, *, heavy=False, drift=None):
    """Counts of the chip; an independent way to quantise, one output at a time."""
    generator = np.random.default_rng([seed, 2])
    shape = (len(chip.volts), repeats, chip.volts.shape[1])
    draws = generator.laplace(0, np.sqrt(0.5), shape) if heavy else generator.standard_normal(shape)
    own = np.sqrt(chip.sigma**2 - chip.common**2)
    volts = chip.volts[:, None] + own[:, None] * draws
    volts += chip.common[:, None] * generator.standard_normal((*shape[:2], 1))
    if drift is not None:
        volts += drift
    table = IDEAL if chip.transitions is None else chip.transitions
    codes = [np.searchsorted(table[i if len(table) > 1 else 0], volts[..., i], side="right") for i in range(shape[2])]
    return np.stack(codes, -1) + RAILS[0]


def predicted(chip, counts, **changes):
    """The truth as a prediction of these counts; ``changes`` make it wrong."""
    fields = {"volts": chip.volts, "sigma": chip.sigma, "common": chip.common, "transitions": chip.transitions}
    return Prediction(counts=counts, count_range=RAILS, **{**fields, **changes})


def verdicts(verification):
    """Verdict by name of the check."""
    return {check.name: check.verdict for check in verification.checks}
