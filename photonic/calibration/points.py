"""Repeated vectors of a sweep as operating points, with what a model says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from photonic.calibration.model import Array, ChipModel
from photonic.calibration.noise import receivers
from photonic.calibration.predicted import Prediction
from photonic.calibration.quantised import gaussian_moments
from photonic.calibration.reading import Taken
from photonic.calibration.secondmoments import Flags, NoiseData
from photonic.records import ChipSpec, NoiseModel


class MeanModel(Protocol):
    """What predicts means: of a chip with a code for each weight, or of a mesh."""

    @property
    def gain(self) -> Array:
        """(M,) counts per D."""

    @property
    def zero(self) -> Array:
        """(M,) counts."""

    @property
    def transitions(self) -> Array | None:
        """(M or 1, K) of the ADCs; None: ideal."""

    @property
    def own_noise(self) -> Array | None:
        """(2, M) thermal and shot noise of each output, relative to those of all; None: alike."""

    @property
    def mean_se(self) -> float:
        """Standard error of a mean count that it predicts; 0: not known, or of no account."""

    def results(self, codes: Array, inputs: Array) -> Array:
        """D (B, M) of the codes of one tile and input codes (B, N)."""

    def powers(self, codes: Array, inputs: Array) -> Array:
        """S (B, M)."""


@dataclass(frozen=True)
class Points:
    """P points of R repeats.

    Attributes:
        spec: of the chip.
        counts: (P, R, M).
        weights: (P, M, N) codes, or (P, drives) of a mesh.
        inputs: (P, N) codes.
    """

    spec: ChipSpec
    counts: Array
    weights: Array
    inputs: Array

    @classmethod
    def of(cls, spec: ChipSpec, taken: Sequence[Taken]) -> Points:
        """Readings of one vector each, all with the same number of repeats."""
        shape = (spec.n_outputs, spec.n_inputs) if spec.layout == "elementwise" else (spec.drives,)
        return cls(
            spec=spec,
            counts=np.stack([item.counts.double().numpy() for item in taken]),
            weights=np.stack([item.reading.weights.double().numpy().reshape(shape) for item in taken]),
            inputs=np.stack([item.reading.inputs[0].double().numpy() for item in taken]),
        )

    def only(self, kept: Flags) -> Points:
        """Some of the points (P,)."""
        return replace(self, counts=self.counts[kept], weights=self.weights[kept], inputs=self.inputs[kept])

    def results(self, model: MeanModel) -> Array:
        """D (P, M)."""
        return np.concatenate(
            [model.results(w, u[None]) for w, u in zip(self.weights, self.inputs, strict=True)], axis=0
        )

    def powers(self, model: MeanModel) -> Array:
        """S (P, M)."""
        return np.concatenate(
            [model.powers(w, u[None]) for w, u in zip(self.weights, self.inputs, strict=True)], axis=0
        )

    def lines(self, model: ChipModel) -> Array:
        """(P, M, N) what each input's own light adds to D."""
        n = self.spec.n_inputs
        light = model.inputs.levels(self.inputs) * model.power
        return np.asarray(model.weights(self.weights) * light[:, None, :] / n)

    def noise_data(self, model: ChipModel, volts: Array) -> NoiseData:
        """For the fit of the noise terms.

        Args:
            model: says S and D.
            volts: (P, M) mean before the ADC, as it was measured.
        """
        ranged = self.spec.adc_bits is not None
        return NoiseData(
            counts=self.counts,
            volts=volts,
            S=self.powers(model),
            D=self.results(model),
            gain=model.gain,
            count_range=self.spec.count_range if ranged else None,
            transitions=model.transitions,
            lines=self.lines(model),
            own=model.own_noise,
        )

    def measured(self, model: ChipModel) -> NoiseData:
        """For the fit of the noise terms, with means as they were measured, as far as the counts tell them."""
        ranged = self.spec.adc_bits is not None
        moments = gaussian_moments(
            self.counts.transpose(0, 2, 1),
            None if model.transitions is None else model.transitions[None],
            self.spec.count_range if ranged else None,
        )
        modelled = self.results(model) * model.gain + model.zero
        return self.noise_data(model, np.where(moments.identified, moments.mean, modelled))

    def prediction(self, model: MeanModel, noise: NoiseModel) -> Prediction:
        """What the record predicts for these counts."""
        d, s = self.results(model), self.powers(model)
        own = receivers(noise, s, model.own_noise)
        shared, gain = noise.rin * d**2 + noise.common_mode * s**2, np.abs(model.gain)
        return Prediction(
            counts=self.counts,
            volts=d * model.gain + model.zero,
            sigma=gain * np.sqrt(own + shared),
            common=model.gain * np.sqrt(noise.rin) * d,
            balance=model.gain * np.sqrt(noise.common_mode) * s if noise.common_mode else None,
            count_range=self.spec.count_range if self.spec.adc_bits is not None else None,
            transitions=model.transitions,
            volts_se=model.mean_se,
        )
