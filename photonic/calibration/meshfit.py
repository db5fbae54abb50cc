"""From raw readings of a mesh to what its record holds: matrices of programs, gains, INL, noise, drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from photonic.calibration.adc import Inl, fit_inl
from photonic.calibration.fit import by_purpose
from photonic.calibration.meshmatrices import Matrices, Shots, fit_matrices, summed_errors
from photonic.calibration.meshmodel import MeshModel, check_mesh, middles, programmed_matrices
from photonic.calibration.meshnoise import MeshNoise, fit_mesh_noise, rough_noise
from photonic.calibration.model import Array, Inputs
from photonic.calibration.noise import NoiseFit
from photonic.calibration.reading import Taken
from photonic.calibration.timing import drift_of, through_adc
from photonic.errors import CalibrationError
from photonic.records import ChipSpec, DriftModel, NoiseModel

_TURNS = 2  # of noise, INL and matrices
_ROUNDS = 20  # of gains and amplitudes
_CLEAR = 5.0  # standard errors of a gain, that an output must have to count as alive
_LEAST_SIGMA = 0.05  # counts; with less, what a count says of a mean is all or nothing


@dataclass(frozen=True)
class MeshFit:
    """Everything that was fitted to a mesh.

    Attributes:
        model: of the mean.
        matrices: how it was found.
        gain_se: (M,).
        amplitude_se: (N,).
        noise: of one shot.
        light: what the noise says of oscillators and source.
        inl: transitions of the ADCs; None: ideal ones, as far as held-out readings tell.
        drift: between references.
    """

    model: MeshModel
    matrices: Matrices
    gain_se: Array
    amplitude_se: Array
    noise: NoiseFit
    light: MeshNoise
    inl: Inl | None
    drift: DriftModel


def fit_mesh(spec: ChipSpec, taken: Sequence[Taken]) -> MeshFit:
    """Fits response and noise to the readings that are not held out.

    Raises:
        CalibrationError: readings are missing, an output does not answer, or one reaches a rail.
    """
    check_mesh(spec)
    parts = by_purpose(taken)
    for needed in ("matrix", "noise"):
        if needed not in parts:
            raise CalibrationError(f"expected readings for {needed!r}, found {sorted(parts) or 'none'}; sweep again")
    read = _Read.of(spec, parts["matrix"])
    shots, inl = read.shots(None, None), None
    matrices = fit_matrices(Inputs.nominal(spec), shots)
    for turn in range(_TURNS):
        # shots are weighed by their noise, which transitions are found with, too; both as the matrices predict it
        model = scaled(spec, read.programs, matrices, inl)
        sigma = read.sigma(model, rough_noise(model, parts))
        inl = read.inl(matrices, sigma) if turn == 0 or inl is not None else None
        shots = read.shots(inl, sigma)
        matrices = fit_matrices(matrices.inputs, shots)
    model = scaled(spec, read.programs, matrices, inl)
    gain_se, amplitude_se = scale_errors(model, matrices, shots)
    light = fit_mesh_noise(model, parts)
    model = replace(model, s_per_d2=light.s_per_d2)
    series = parts.get("allan", [])
    drift = drift_of(spec, parts.get("reference", []), series[0] if series else None, model.zero).model
    if series:
        drift = through_adc(spec, series[0], model, light.fit.model, drift)
    return MeshFit(model, matrices, gain_se, amplitude_se, light.fit, light, inl, drift)


@dataclass(frozen=True)
class _Read:
    """The readings with random inputs, by program.

    Attributes:
        spec: of the chip.
        programs: (K, P) codes.
        inputs: (B, N) codes of each.
        counts: (B, M) of each.
    """

    spec: ChipSpec
    programs: Array
    inputs: Sequence[Array]
    counts: Sequence[Array]

    @classmethod
    def of(cls, spec: ChipSpec, taken: Sequence[Taken]) -> _Read:
        """Sorts readings, each program's in order of time.

        Raises:
            CalibrationError: a count is at a rail.
        """
        groups: dict[bytes, list[Taken]] = {}
        for item in taken:
            groups.setdefault(item.reading.weights.numpy().tobytes(), []).append(item)
        each = [groups[key] for key in sorted(groups)]  # whatever the order of the sweep
        counts = [np.concatenate([item.counts.double().numpy() for item in items]) for items in each]
        _check_rails(spec, np.concatenate(counts))
        return cls(
            spec,
            np.array([items[0].reading.weights.double().numpy() for items in each]),
            [np.concatenate([item.reading.inputs.double().numpy() for item in items]) for items in each],
            counts,
        )

    def shots(self, inl: Inl | None, sigma: Sequence[Array] | None) -> list[Shots]:
        """Counts as the ADC saw them, weighed by noise and rounding; without ``sigma`` (B, M) of each all alike."""
        table = None if inl is None else inl.transitions
        rounding = 0.0 if self.spec.adc_bits is None else 1 / 12
        weights = [np.ones(len(counts)) for counts in self.counts]
        if sigma is not None:
            weights = [1 / ((each**2).mean(1) + rounding) for each in sigma]
        return [
            Shots(inputs, middles(self.spec, counts, table), weight)
            for inputs, counts, weight in zip(self.inputs, self.counts, weights, strict=True)
        ]

    def sigma(self, model: MeshModel, noise: NoiseModel) -> list[Array]:
        """Standard deviation (B, M) before the ADC of the shots of each program, counts."""
        found = []
        for program, inputs in zip(self.programs, self.inputs, strict=True):
            d, s = model.results(program, inputs), model.powers(program, inputs)
            variance = noise.thermal + noise.shot * s + noise.rin * d**2 + noise.common_mode * s**2
            found.append(np.maximum(np.abs(model.gain) * np.sqrt(variance), _LEAST_SIGMA))
        return found

    def inl(self, matrices: Matrices, sigma: Sequence[Array]) -> Inl | None:
        """Transitions of the ADCs, where counts differ from what a straight line makes of the predicted results."""
        if self.spec.adc_bits is None:
            return None
        volts = np.concatenate([matrices.volts(k, inputs) for k, inputs in enumerate(self.inputs)])
        found = fit_inl(volts, np.concatenate(self.counts), np.concatenate(sigma), self.spec.count_range)
        if found.kind == "none":
            return None
        return found._replace(transitions=np.maximum.accumulate(found.transitions, axis=1))


def scaled(spec: ChipSpec, programs: Array, found: Matrices, inl: Inl | None = None) -> MeshModel:
    """The model with gains and amplitudes: the g_i a_j that make B nearest to what was programmed.

    g_i is that of the least squares of B_ij on a_j W_ij, a_j that of B_ij / g_i on W_ij, over all programs alike.

    Raises:
        CalibrationError: an output does not follow the programs.
    """
    nominal, b, amplitude = programmed_matrices(spec, programs), found.matrix, np.ones(spec.n_inputs)
    for _ in range(_ROUNDS):
        rows = nominal * amplitude
        gain = (b * rows).sum((0, 2)) / (rows**2).sum((0, 2))
        error = np.sqrt(((found.matrix_se * rows) ** 2).sum((0, 2))) / (rows**2).sum((0, 2))
        dead = [str(i) for i in np.flatnonzero(np.abs(gain) < _CLEAR * error)]
        if dead:
            raise CalibrationError(
                f"chip {spec.chip_id}: output {', '.join(dead)} does not answer to the programs; look at its detector, "
                "its local oscillator and its order among the outputs"
            )
        amplitude = (b / gain[:, None] * nominal).sum((0, 1)) / (nominal**2).sum((0, 1))
        amplitude /= amplitude.mean()
    return MeshModel(
        spec, found.inputs, gain, found.zero, amplitude, programs, b, found.quadrature,
        transitions=None if inl is None else inl.transitions, mean_se=found.mean_se,
    )  # fmt: skip


def scale_errors(model: MeshModel, found: Matrices, shots: Sequence[Shots]) -> tuple[Array, Array]:
    """Standard errors of gains (M,), amplitudes taken as known, and of amplitudes (N,), gains taken as known."""
    nominal = programmed_matrices(model.spec, model.programs)
    rows = nominal * model.amplitude
    return summed_errors(
        found,
        shots,
        rows / (rows**2).sum((0, 2), keepdims=True),
        nominal / model.gain[:, None] / (nominal**2).sum((0, 1)),
    )


def _check_rails(spec: ChipSpec, counts: Array) -> None:
    low, high = spec.count_range
    railed = ((counts <= low) | (counts >= high)).mean(0)
    if spec.adc_bits is not None and railed.any():
        which = ", ".join(f"{i} ({railed[i]:.2%})" for i in np.flatnonzero(railed)[:5])
        raise CalibrationError(
            f"chip {spec.chip_id}: counts at a rail of the ADC at output {which}, although nominal results stay within "
            "0.6 of the range: gain or zero are far from the data sheet. Lower the analog gain, and look at the offset"
        )
