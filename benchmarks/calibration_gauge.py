"""The truth in the gauge that a record documents (``photonic.calibration.model``), and errors by family.

The line through an ADC's INL, over the transitions that were identified, is part of gain and zero
(``photonic.calibration.adc``): one that is missing at an end moves it by several standard errors of a gain. An
element's own weights are those with all other elements of its row at the code of s = 0, as the model has them. What
elements have in common is projected onto the record's curves, which are orthogonal to 1 and to s: in that gauge a slope
does not depend on what else is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from calibration_chips import Array, Truth
from scipy.special import ndtri

from photonic.calibration.model import ChipModel
from photonic.calibration.points import Points
from photonic.calibration.programming import rank_one
from photonic.records import Calibration

WEIGHTS_TESTED = 16  # codes of each element
Z95 = float(ndtri(0.975))


@dataclass(frozen=True)
class Gauge:
    """A device as a record's model should have it.

    Attributes:
        codes: (K,) of the curves' nodes.
        curves: (Q, K) of the record.
        own: (K, M, N) counts of an input at full level, each element alone.
        raw: (M, N, Q) its part along the curves.
        gain: (M,) counts per D.
        zero: (M,) counts.
        power: (N,).
        scale: (M,) 1 + slope of the line that was taken out of the INL.
        inl: (M, K) what is left of the INL, LSB.
    """

    codes: Array
    curves: Array
    own: Array
    raw: Array
    gain: Array
    zero: Array
    power: Array
    scale: Array
    inl: Array

    @classmethod
    def of(cls, truth: Truth, model: ChipModel, record: Calibration) -> Gauge:
        """The truth in the gauge of a record: of its curves, and of the transitions that it identified."""
        low, high = truth.spec.weight_code_range
        codes = np.linspace(low, high, model.curves.shape[1])
        errors = record.arrays.get("transitions_se")
        offset, slope, inl = truth.line(None if errors is None else np.isfinite(errors))
        own = own_counts(truth, codes, rest=codes[np.abs(model.curves[1]).argmin()]) / (1 + slope)[:, None]
        raw = np.einsum("qk,kmn->mnq", along(model.curves), own)
        gain, power = rank_one(raw[..., 1])
        return cls(
            codes=codes,
            curves=model.curves,
            own=own,
            raw=raw,
            gain=gain * truth.spec.n_inputs,
            zero=(truth.zero - offset) / (1 + slope),
            power=power,
            scale=1 + slope,
            inl=inl / (1 + slope)[:, None],
        )

    @property
    def counts(self) -> Array:
        """(M, N) of an input at full level and a weight of 1."""
        found: Array = self.gain[:, None] * self.power / len(self.power)
        return found

    @property
    def element(self) -> Array:
        """(M, N, Q) e."""
        found: Array = self.raw / self.counts[..., None]
        return found


def along(curves: Array) -> Array:
    """(Q, K) that takes values at the nodes to their least-squares coefficients along the curves (Q, K)."""
    return np.asarray(np.linalg.solve(curves @ curves.T, curves))


def own_counts(truth: Truth, codes: Array, rest: float) -> Array:
    """(K, M, N) counts of an input at full level, one column at a time with the others at the code ``rest``."""
    m, n = truth.spec.n_outputs, truth.spec.n_inputs
    found = np.empty((len(codes), m, n))
    for j in range(n):
        settings = np.full((len(codes), m, n), rest)
        settings[:, :, j] = codes[:, None]
        found[:, :, j] = truth.matrices(settings)[0][:, :, j]
    return found * truth.gain[:, None] * truth.power


def tested(gauge: Gauge, device: int) -> tuple[np.ndarray, Array]:
    """Places of codes (T, M, N) at which weights are compared, and the true weights there."""
    places = np.random.default_rng(device).integers(0, len(gauge.codes), (WEIGHTS_TESTED, *gauge.counts.shape))
    return places, np.take_along_axis(gauge.own, places, 0) / gauge.counts


def errors(truth: Truth, gauge: Gauge, record: Calibration, held: Points, device: int) -> dict[str, Array]:
    """Fitted less true: gains and V relative, zeros and means in LSB; V and means at the held-out points."""
    assert record.spec is not None
    model = ChipModel.of(record, record.spec)
    places, weights = tested(gauge, device)
    d, s = at_points(truth, held)
    prediction = held.prediction(model, record.response.noise)
    offset = gauge.zero * gauge.scale - truth.zero  # minus the line's
    return {
        "gains": model.gain / gauge.gain - 1,
        "zeros": model.zero - gauge.zero,
        "weights": model.own(gauge.codes[places]) - weights,
        "V(S, D)": prediction.sigma**2 * gauge.scale**2 / truth.variance(d, s) - 1,
        "means": prediction.volts - (truth.volts(d) + offset) / gauge.scale,
    }


def at_points(truth: Truth, points: Points) -> tuple[Array, Array]:
    """D and S (P, M)."""
    pairs = [truth.point(w, u[None]) for w, u in zip(points.weights, points.inputs, strict=True)]
    return np.concatenate([d for d, _ in pairs]), np.concatenate([s for _, s in pairs])


def inside(truth: Truth, gauge: Gauge, record: Calibration, held: Points) -> dict[str, tuple[int, int]]:
    """By family: how many of the stated 95 % intervals hold the truth, and how many there are.

    The unit of S is what the record's power law makes of a weight of 1: the true one is compared at held-out points.
    """
    assert record.spec is not None
    a, transmitter = record.arrays, truth.device.transmitter
    low, high = truth.spec.count_range
    found = {
        "gain": _covered(a, "counts_per_d", gauge.gain),
        "zero": _covered(a, "zero_count", gauge.zero),
        "channel power": _covered(a, "power", gauge.power),
        "weight offset": _covered(a, "element", gauge.element, 0),
        "weight slope": _covered(a, "element", gauge.element, 1),
        "weight curves": _covered(a, "element", gauge.element, slice(2, None)),
        "V_pi": _covered(a, "inverse_v_pi", transmitter.inverse_v_pi.numpy()),
        "bias": _covered(a, "bias_rad", transmitter.bias_rad.numpy()),
        "INL": _covered(a, "transitions", np.arange(low + 0.5, high) + gauge.inl),
    }
    terms = _noise(truth, gauge, record, held)
    rows = {row.name: row for row in record.parameters}
    for name, true in terms.items():
        row = rows.get(f"noise, {name}")
        if row is not None and row.low is not None and row.high is not None:
            found[f"noise, {name}"] = (int(row.low <= true <= row.high), 1)
    row = rows.get("least level")
    if row is not None and row.low is not None and row.high is not None:
        found["least level"] = (int(row.low <= transmitter.level_min <= row.high), 1)
    return {name: pair for name, pair in found.items() if pair[1]}


def _noise(truth: Truth, gauge: Gauge, record: Calibration, held: Points) -> dict[str, float]:
    """The true terms in the record's units."""
    assert record.spec is not None
    a = record.arrays
    # D = 1 is what the record's gains say, and its mean channel has power 1
    d2 = float(np.mean((truth.gain / a["counts_per_d"] / gauge.scale) ** 2))
    s = at_points(truth, held)[1]
    fitted = held.powers(ChipModel.of(record, record.spec))
    light = float((s * fitted).sum() / (fitted**2).sum())
    terms = dict(
        zip(("thermal", "shot", "rin", "common_mode"), truth.noise * d2 * (1, light, 1, light**2), strict=True)
    )
    return {**terms, "rin": float(truth.noise[2])}


def _covered(
    arrays: dict[str, Array] | object, name: str, true: Array, part: int | slice | None = None
) -> tuple[int, int]:
    """Of one array with its standard errors; none where the record states no error."""
    assert isinstance(arrays, dict)
    if name not in arrays or f"{name}_se" not in arrays:
        return 0, 0
    fitted, error = arrays[name], arrays[f"{name}_se"]
    if part is not None:
        fitted, error, true = fitted[..., part], error[..., part], true[..., part]
    known = np.isfinite(error) & (error > 0)
    hits = np.abs(fitted - true) <= Z95 * error
    return int((hits & known).sum()), int(known.sum())
