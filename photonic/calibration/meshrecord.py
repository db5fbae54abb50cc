"""The record of a mesh: what its programs do, and what of its parts nobody can tell from that."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from photonic.calibration.meshfit import MeshFit
from photonic.calibration.model import Array
from photonic.calibration.record import fitted_response, inl_errors, inl_row, noise_row
from photonic.calibration.table import family, unknown
from photonic.records import Calibration, ChipSpec, Parameter, Provenance, Verification

_Z = 1.959963984540054  # 95 %, two-sided
_PARTS = "only what all parts of a program do together is seen, at {count} of its endlessly many programs"
_HIDDEN = {
    "heater phases": ("rad", _PARTS),
    "splitter angles": ("rad", _PARTS),
    "losses of interferometers": ("dB", _PARTS + "; what they have in common is in the gains"),
    "thermal crosstalk": ("", _PARTS),
    "local oscillator phases": ("rad", "they turn the field of an output as the mesh's last phases do"),
    "extinction of the modulators": ("dB", "its quadrature is seen only through the mesh's own: their product is Q"),
    "noise, converter": ("D^2", "thermal noise and that of the ADC are one at one analog gain"),
    "unit of S": ("W", "S is counted as if oscillators were as strong as the signal: S = 1/2 without signal"),
}


def make_mesh_record(
    spec: ChipSpec, fit: MeshFit, verification: Verification, provenance: Provenance, shown: Mapping[str, Array]
) -> Calibration:
    """Puts a fit, its verdict and where it comes from into a record, with the arrays of its report."""
    model, errors = fit.model, matrix_errors(fit)
    response = fitted_response(spec, model, fit.noise.model)
    inl = [] if fit.inl is None else [inl_row(spec, fit.inl)]
    return Calibration(
        chip_id=spec.chip_id,
        nominal=False,
        response=response,
        spec=spec,
        parameters=(*_response_rows(fit, errors), *inl, *_noise_rows(spec, fit), *_hidden_rows(fit)),
        drift=fit.drift,
        goodness=_goodness(fit),
        verification=verification,
        provenance=provenance,
        model={"programs": float(len(model.programs)), "local oscillator": fit.light.oscillator.best},
        arrays={**model.arrays(), **_errors(fit), **errors, **inl_errors(fit.inl), **shown},
    )


def matrix_errors(fit: MeshFit) -> Mapping[str, Array]:
    """How far each program's matrix is from g_i a_j W_ij, relative (Frobenius): ``matrix_error`` (K,), its interval.

    The expected square of the noise is taken off the sum of squares, whose standard error is that of squares of normal
    values about their means; gains and amplitudes, averages over all programs, count as known.
    """
    model = fit.model
    wanted = model.arrays()["programmed"] * model.amplitude
    apart, error = model.matrix / model.gain[:, None] - wanted, fit.matrices.matrix_se / np.abs(model.gain)[:, None]
    size = (wanted**2).sum((1, 2))
    square = (apart**2 - error**2).sum((1, 2)) / size
    spread = np.sqrt((4 * np.maximum(apart**2 - error**2, 0) * error**2 + 2 * error**4).sum((1, 2))) / size
    value = np.sqrt(np.maximum(square, 0.0))
    low, high = (np.sqrt(np.maximum(square + side * _Z * spread, 0.0)) for side in (-1, 1))
    return {
        "matrix_error": value,
        "matrix_error_se": (high - low) / (2 * _Z),
        "matrix_error_low": low,
        "matrix_error_high": high,
    }


def _errors(fit: MeshFit) -> Mapping[str, Array]:
    """Standard errors by the names of the arrays that they belong to."""
    found = fit.matrices
    return {
        "counts_per_d_se": fit.gain_se,
        "zero_count_se": found.zero_se,
        "power_se": 2 * fit.model.amplitude * fit.amplitude_se,
        "inverse_v_pi_se": found.inverse_v_pi_se,
        "bias_rad_se": found.bias_se,
        "matrix_se": found.matrix_se,
        "quadrature_se": found.quadrature_se,
    }


def _response_rows(fit: MeshFit, errors: Mapping[str, Array]) -> list[Parameter]:
    model, found = fit.model, fit.matrices
    rows = [
        family("gain", "counts per D", model.gain, fit.gain_se, array="counts_per_d"),
        family("zero", "counts", model.zero, found.zero_se, array="zero_count"),
        family("channel power", "relative", model.amplitude**2, 2 * model.amplitude * fit.amplitude_se, array="power"),
    ]
    if model.inputs.transfer.shape == "linear":
        rows.append(unknown("input transfer", "", measured=False, note="linear inputs have no curve of their own"))
    else:
        bias = "what Q has in common with B is counted as bias"
        rows += [
            family("inverse V_pi", "nominal", model.inputs.inverse_v_pi, found.inverse_v_pi_se, array="inverse_v_pi"),
            family(
                "modulator bias", "rad, half phase", model.inputs.bias_rad, found.bias_se, array="bias_rad", note=bias
            ),
            family("quadrature of programs", "counts", model.quadrature, found.quadrature_se, array="quadrature"),
        ]
    note = "of each program: from gains times amplitudes times what its phases give on a perfect device"
    return [
        *rows,
        family("matrices of programs", "counts", model.matrix, found.matrix_se, array="matrix"),
        family("matrix error", "relative", errors["matrix_error"], errors["matrix_error_se"], note=note),
    ]


def _noise_rows(spec: ChipSpec, fit: MeshFit) -> list[Parameter]:
    light, notes = fit.light, dict[str, str]()
    if not light.dimmed:
        why = (
            "the source has one power" if light.light is None else f"its light is {light.light:.3f} where it was dimmed"
        )
        notes = dict.fromkeys(("thermal", "shot"), f"told apart only by D^2 of the signal's own power: {why}")
    rows = [noise_row(name, term, notes.get(name, "")) for name, term in fit.noise.terms.items()]
    z = {name: value for name, value in light.oscillator.z.items() if name != light.oscillator.best}
    listed = ", ".join(f"{name}: {value:.1f}" for name, value in z.items())
    note = f"{light.oscillator.best}, less likely by so many standard errors: {listed}"
    return [*rows, unknown("oscillator power", "of the signal", note=f"from a list only; {note}")]


def _hidden_rows(fit: MeshFit) -> list[Parameter]:
    count = len(fit.model.programs)
    return [unknown(name, unit, note=note.format(count=count)) for name, (unit, note) in _HIDDEN.items()]


def _goodness(fit: MeshFit) -> dict[str, str]:
    """How well each part fits the readings that it was fitted to."""
    model, oscillator = fit.model, fit.light.oscillator
    shot = float(np.sqrt(fit.matrices.noise.mean()))
    return {
        "matrices": f"a shot is off by {shot:.3f} counts rms, rounding included; a mean by {model.mean_se:.4f}",
        "noise of the outputs": f"one model for all: p = {fit.noise.outputs_p:.3g}",
        "what outputs share": f"D D^T and S S^T alone: p = {fit.noise.correlation_p:.3g}",
        "local oscillator": oscillator.best + ("" if oscillator.decided else " (not decided)"),
    }
