"""A chip that is a model, exactly, with spreads of everything; its record, and products through it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Chip, Conditions
from photonic.calibration.model import NO_NEIGHBOURS, NO_OFFSETS, ChipModel, Inputs
from photonic.records import Calibration, ChipSpec, InputTransfer, Response

M, N = 7, 11
FINE: dict[str, Any] = {
    "weight_bits": None,
    "input_bits": None,
    "adc_bits": None,
    "count_range": (-1e30, 1e30),
}
MZM = InputTransfer(shape="mzm", code_one=255.0, extinction_ratio_db=20.0)


class ModelChip(Chip):
    """A chip that is a model, exactly: tile by tile, in float64, with no noise."""

    def __init__(self, model: ChipModel) -> None:
        super().__init__(model.spec)
        self.model = model

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
        spec, n = self.spec, inputs.shape[-1]
        m = weights.shape[-1] // n
        counts = np.empty((*weights.shape[:2], inputs.shape[1], m))
        for r, row in enumerate(weights.double().numpy()):
            for c, tile in enumerate(row):
                whole = np.full((spec.n_outputs, spec.n_inputs), max(0.0, spec.weight_code_range[0]))
                whole[:m, :n] = tile.reshape(m, n)
                lit = np.full((inputs.shape[1], spec.n_inputs), spec.dark_code)
                lit[:, :n] = inputs[c].double().numpy()
                volts = self.model.results(whole, lit) * self.model.gain * float(conditions.get("analog_gain", 1.0))
                counts[r, c] = self._converted(volts + self.model.zero)[:, :m]
        return torch.tensor(counts).to(spec.count_dtype)

    def _converted(self, volts: np.ndarray) -> np.ndarray:
        low, high = self.spec.count_range
        if self.spec.adc_bits is None:
            return volts
        if self.model.transitions is None:
            return np.clip(np.round(volts), low, high)
        tables = np.broadcast_to(self.model.transitions, (volts.shape[1], self.model.transitions.shape[1]))
        found = [np.searchsorted(table, volts[:, i], side="right") for i, table in enumerate(tables)]
        return np.asarray(np.stack(found, axis=1) + low)


def spec_of(**fields: Any) -> ChipSpec:
    """The data sheet, with ``fields`` replaced."""
    given: dict[str, Any] = {
        "chip_id": "lab:chip7",
        "n_outputs": M,
        "n_inputs": N,
        "conditions": {"analog_gain": (1.0, 4.0)},
        "response": Response(inputs=MZM, counts_per_d=(512.0,), zero_count=(0.0,)),
    }
    return ChipSpec(**{**given, **fields})


def model_of(spec: ChipSpec, seed: int = 0, *, spread: float = 1.0, neighbours: bool = True) -> ChipModel:
    """Spreads of everything; curves that turn over before the highest and the lowest code, as rings may."""
    g, m, n = np.random.default_rng(seed), spec.n_outputs, spec.n_inputs
    nominal = ChipModel.nominal(spec)
    knots = 9
    line = np.linspace(*spec.weight_code_range, knots) / spec.response.weight_code_one
    curves = np.stack([np.ones(knots), line + 0.04 * np.sin(3 * line + 0.5), line**2 - 0.4])
    curves[1, -1], curves[1, 0] = curves[1, -2] - 0.1, curves[1, 1] + 0.1
    element = np.stack([a + b * g.normal(size=(m, n)) for a, b in ((0, 0.03), (1, 0.05), (0, 0.05))], axis=-1)
    element = nominal.element[..., [0, 1, 1]] * [1, 1, 0] * (1 - spread) + spread * element
    power = np.exp(0.1 * spread * g.normal(size=n))
    inputs = replace(nominal.inputs, transfer=spec.response.inputs)
    if inputs.curved:
        v_pi, bias = np.exp(0.02 * spread * g.normal(size=n)), 0.03 * spread * g.normal(size=n)
        inputs = Inputs(spec.response.inputs, v_pi, bias, 0.012)
    return ChipModel(
        spec=spec,
        inputs=inputs,
        gain=nominal.gain * np.exp(0.1 * spread * g.normal(size=m)),
        zero=nominal.zero + 2 * spread * g.normal(size=m),
        power=power / power.mean(),
        curves=curves,
        element=element,
        offsets=np.array([[0, -1], [0, 1], [1, 0], [-2, 0]], dtype=float) if neighbours else NO_OFFSETS,
        neighbour=np.array([[0.03, 0.01], [0.02, 0.0], [-0.02, 0.005], [0.01, 0.01]]) if neighbours else NO_NEIGHBOURS,
    )


def record_of(model: ChipModel) -> Calibration:
    """What a calibration of that chip would have found: the model itself."""
    response = Response(
        inputs=model.spec.response.inputs,
        weight_code_one=model.spec.response.weight_code_one,
        counts_per_d=tuple(model.gain.tolist()),
        zero_count=tuple(model.zero.tolist()),
    )
    arrays = dict(model.arrays())
    return Calibration(chip_id=model.spec.chip_id, nominal=False, response=response, spec=model.spec, arrays=arrays)


def backend_of(model: ChipModel, **options: Any) -> CalibratedBackend:
    """The chip behind its record."""
    return CalibratedBackend(ModelChip(model), record_of(model), **options)


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal values in float64, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error_of(backend: CalibratedBackend, x: Tensor, weight: Tensor) -> float:
    """Rms error of a product, relative to its rms."""
    exact = x.double() @ weight.double().mT
    return float((backend.matmul(x, weight).double() - exact).norm() / exact.norm())
