"""The parameters of a fitted response as rows with intervals, and their arrays with standard errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from photonic.calibration.model import Array
from photonic.calibration.response import ResponseFit
from photonic.records import Parameter

_Z = 1.959963984540054  # 95 %, two-sided


def family(
    name: str, unit: str, values: Array, errors: Array, *, note: str = "", array: str | None = None
) -> Parameter:
    """One row for an array: mean, least and most, and the rms of its standard errors."""
    return Parameter(
        name=name,
        unit=unit,
        value=float(values.mean()),
        standard_error=float(np.sqrt(np.mean(errors**2))),
        low=float(values.min()),
        high=float(values.max()),
        entries=values.size,
        array=array or name.replace(" ", "_"),
        note=note,
    )


def number(name: str, unit: str, value: float, error: float, *, note: str = "") -> Parameter:
    """One row for a number with its 95 % interval."""
    low, high = value - _Z * error, value + _Z * error
    return Parameter(name=name, unit=unit, value=value, standard_error=error, low=low, high=high, note=note)


def unknown(name: str, unit: str, *, shots: int | None = None, note: str = "", measured: bool = True) -> Parameter:
    """One row for what the data do not tell."""
    status: Literal["not identified", "not measured"] = "not identified" if measured else "not measured"
    return Parameter(name=name, unit=unit, status=status, entries=0, shots_needed=shots, note=note)


def response_rows(fit: ResponseFit) -> list[Parameter]:
    """Gains, zeros, input transfer, programming and crosstalk."""
    model = fit.model
    element_se = fit.errors.element
    rows = [
        family("gain", "counts per D", model.gain, fit.errors.gain, array="counts_per_d"),
        family("zero", "counts", model.zero, fit.zero_se, array="zero_count"),
        family("channel power", "relative", model.power, fit.errors.power, array="power"),
        family("weight offset", "weight", model.element[..., 0], element_se[..., 0], array="element"),
        family("weight slope", "weight", model.element[..., 1], element_se[..., 1], array="element"),
    ]
    rows += [
        family(f"weight curve {q}", "weight", model.element[..., q], element_se[..., q], array="element")
        for q in range(2, model.element.shape[-1])
    ]
    return rows + _transfer_rows(fit) + [_crosstalk_row(fit)]


def response_errors(fit: ResponseFit) -> Mapping[str, Array]:
    """Standard errors by the names of the arrays that they belong to."""
    found = {
        "counts_per_d": fit.errors.gain,
        "zero_count": fit.zero_se,
        "power": fit.errors.power,
        "element": fit.errors.element,
        "neighbour": fit.programming.neighbour_se,
    }
    if fit.transfer is not None:
        found |= {"inverse_v_pi": fit.transfer.inverse_v_pi_se, "bias_rad": fit.transfer.bias_se}
    stated = {f"{name}_se": errors for name, errors in found.items()}
    if len(fit.model.offsets):
        stated |= dict(zip(("neighbour_added", "neighbour_added_se"), fit.programming.added, strict=True))
    return stated


def _transfer_rows(fit: ResponseFit) -> list[Parameter]:
    step, inputs = fit.transfer, fit.model.inputs
    if step is None:
        return [unknown("input transfer", "", measured=False, note="linear inputs have no curve of their own")]
    rows = [
        family("inverse V_pi", "nominal", inputs.inverse_v_pi, step.inverse_v_pi_se, array="inverse_v_pi"),
        family("modulator bias", "rad, half phase", inputs.bias_rad, step.bias_se, array="bias_rad"),
    ]
    if step.level_min_se is None:
        note = "the source cannot be switched off: light at the dark code is part of the zeros"
        return [*rows, unknown("least level", "T", measured=False, note=note)]
    return [*rows, number("least level", "T", inputs.level_min, step.level_min_se)]


def _crosstalk_row(fit: ResponseFit) -> Parameter:
    model, found = fit.model, fit.programming
    if not len(model.offsets):
        limit = np.sqrt(np.mean((found.raw_se[..., 0] / found.scale) ** 2))
        note = f"no hypothesis predicts held-out settings better; a weight's own error is {limit:.1e}"
        return unknown("crosstalk", "weight", note=note)
    note = f"{found.crosstalk.name}; what a neighbour adds to a weight of 0 at an end of its codes"
    return family("crosstalk", "weight", *found.added, note=note, array="neighbour_added")
