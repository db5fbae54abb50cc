"""The record of a fitted chip."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from photonic.calibration.adc import Inl
from photonic.calibration.fit import ChipFit
from photonic.calibration.model import Array
from photonic.calibration.noise import Term
from photonic.calibration.ownnoise import OwnNoise
from photonic.calibration.points import MeanModel
from photonic.calibration.table import family, response_errors, response_rows, unknown
from photonic.records import Calibration, ChipSpec, NoiseModel, Parameter, Provenance, Response, Verification

_JOINT = "count what rows share"
_ALONE = "of each row with what rows share taken as known: too narrow, those of gains above all"
_UNITS = {"thermal": "D^2", "shot": "D^2 per S", "rin": "relative, squared", "common_mode": "D^2 per S^2"}


def fitted_response(spec: ChipSpec, model: MeanModel, noise: NoiseModel) -> Response:
    """Gains, zeros and noise as they were found; codes and the shape of the inputs as the data sheet has them."""
    return Response(
        inputs=spec.response.inputs,
        weight_code_one=spec.response.weight_code_one,
        counts_per_d=tuple(model.gain.tolist()),
        zero_count=tuple(model.zero.tolist()),
        noise=noise,
    )


def make_record(
    spec: ChipSpec, fit: ChipFit, verification: Verification, provenance: Provenance, shown: Mapping[str, Array]
) -> Calibration:
    """Puts a fit, its verdict and where it comes from into a record, with the arrays of its report."""
    model = fit.model
    response = fitted_response(spec, model, fit.noise.model)
    inl = [] if fit.inl is None else [inl_row(spec, fit.inl)]
    alone = fit.rin.best == "per line"
    noise = [
        noise_row(name, term, "of each input's own; the model has one for all" if alone and name == "rin" else "")
        for name, term in fit.noise.terms.items()
    ]
    return Calibration(
        chip_id=spec.chip_id,
        nominal=False,
        response=response,
        spec=spec,
        parameters=(*response_rows(fit.response), *inl, *noise, *own_noise_rows(fit.own_noise)),
        drift=fit.drift,
        goodness=goodness_of(fit),
        verification=verification,
        provenance=provenance,
        model={
            "crosstalk": fit.response.programming.crosstalk.name,
            "noise follows": fit.power.best,
            "rin": fit.rin.best,
        },
        arrays={
            **model.arrays(),
            **response_errors(fit.response),
            **inl_errors(fit.inl),
            **own_noise_errors(fit.own_noise),
            **shown,
        },
    )


def own_noise_rows(own: OwnNoise | None) -> list[Parameter]:
    """Thermal and shot noise of each output, where outputs differ."""
    if own is None:
        return []
    return [
        family(f"{name} noise of outputs", "relative", factors, errors, array="own_noise")
        for name, factors, errors in zip(("thermal", "shot"), own.factors, own.standard_error, strict=True)
    ]


def own_noise_errors(own: OwnNoise | None) -> dict[str, Array]:
    """``own_noise_se`` (2, M)."""
    return {} if own is None else {"own_noise_se": own.standard_error}


def noise_row(name: str, term: Term, note: str) -> Parameter:
    """A noise term, or why it has no value."""
    unit = _UNITS[name]
    if not term.identified:
        high = (
            f"at most {term.high:.2e}" if math.isfinite(term.high) else "these points cannot tell it from another term"
        )
        return unknown(f"noise, {name}", unit, shots=term.shots_needed, note=high)
    return Parameter(
        name=f"noise, {name}",
        unit=unit,
        value=term.value,
        standard_error=term.standard_error,
        low=term.low,
        high=term.high,
        note=note,
    )


def inl_row(spec: ChipSpec, inl: Inl) -> Parameter:
    """The INL at its transitions; those that no reading met are not counted."""
    values = inl.transitions - np.arange(spec.count_range[0] + 0.5, spec.count_range[1])
    known = inl.identified
    note = f"{inl.kind}; {known.mean():.0%} of the transitions were met"
    return family(
        "ADC transitions, INL", "LSB", values[known], inl.standard_error[known], array="transitions", note=note
    )


def inl_errors(inl: Inl | None) -> dict[str, Array]:
    """``transitions_se`` (M, K), LSB; inf where no reading met a transition."""
    return {} if inl is None else {"transitions_se": np.asarray(inl.standard_error, dtype=np.float64)}


def goodness_of(fit: ChipFit) -> dict[str, str]:
    """How well each part fits the readings that it was fitted to."""
    misfit = float(fit.response.programming.residual.mean())
    misfits = fit.response.misfits.values()  # none where there are no neighbours to choose from
    alike = "one model for all" if fit.own_noise is None else "thermal and shot noise of each output"
    best = f"held out {min(misfits):.3f}" if misfits else "no hypotheses to compare"
    return {
        "weights": f"mean square of what is left over its variance: {misfit:.3f}, {best} (1: noise alone)",
        "intervals of the response": _JOINT if fit.joint else _ALONE,
        "noise of the outputs": f"{alike}: p = {fit.noise.outputs_p:.3g}",
        "noise of single readings": fit.noise.singles,
        "what outputs share": f"D D^T and S S^T alone: p = {fit.noise.correlation_p:.3g}",
        "total power": f"{fit.power.best}" + ("" if fit.power.decided else " (not decided)"),
        "drift": fit.drift_said,
        "intensity noise": f"{fit.rin.best}" + ("" if fit.rin.decided else " (not decided)"),
    }
