"""Chips that keep every rule and differ in what they offer: signs, converters, layout, size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from photonic.backends.chip import Chip, Conditions
from photonic.records import ChipSpec, InputTransfer, NoiseModel, Response

SIGMA = 0.006  # 0.8 of a count
NOISE = NoiseModel(thermal=SIGMA**2)


class Variant(Chip):
    """Linear, with independent noise, as its spec says; ``spec.partial_tiles`` either way."""

    def __init__(self, seed: int, device: int, **fields: Any) -> None:
        super().__init__(ChipSpec(chip_id=f"variant?device={device}", **fields))
        self.generator = torch.Generator().manual_seed(seed)

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
        spec, response = self.spec, self.spec.response
        n, transfer = inputs.shape[-1], response.inputs
        if spec.layout == "program":  # any fixed map from drives to a matrix will do
            weights = weights.repeat_interleave(spec.n_outputs * n // weights.shape[-1], dim=-1)
        tiles = weights.double().unflatten(-1, (-1, n)) / response.weight_code_one
        light = (inputs.double() - transfer.code_zero) / (transfer.code_one - transfer.code_zero)
        d = torch.einsum("rcmn,cbn->rcbm", tiles, light) / spec.n_inputs
        d += SIGMA * torch.randn(d.shape, generator=self.generator, dtype=torch.float64)
        counts = response.zero_count[0] + response.counts_per_d[0] * d
        if spec.adc_bits is not None:
            counts = counts.round().clamp(*spec.count_range)
        return counts.to(spec.count_dtype)


def _response(one: float = 255.0, **fields: Any) -> Response:
    return Response(**{"inputs": InputTransfer(code_one=one), "counts_per_d": (127.0,), "noise": NOISE, **fields})


SIZE = {"n_outputs": 6, "n_inputs": 8, "seeded": True, "adc_full_scale": 1.0}  # few inputs: sums fill the range
FIELDS: dict[str, dict[str, Any]] = {
    "padded": {"response": _response()},
    "partial tiles": {"partial_tiles": True, "response": _response()},
    "unsigned weights": {"weight_code_range": (0, 255), "response": _response(weight_code_one=255)},
    "signed inputs": {"input_code_range": (-127, 127), "response": _response(127.0)},
    "15 bits": {
        "weight_bits": 15,
        "weight_code_range": (0, 32767),  # no int16 code lies beyond
        "response": _response(weight_code_one=32767),
    },
    "inverting": {"response": _response(counts_per_d=(-120.0,), zero_count=(3.0,))},
    "no converters": {
        **dict.fromkeys(("weight_bits", "input_bits", "adc_bits")),
        "weight_code_range": (-1, 1),
        "input_code_range": (0, 1),
        "count_range": (-1e30, 1e30),
        "adc_full_scale": 4.0,
        "response": _response(1.0, weight_code_one=1, counts_per_d=(1.0,)),
    },
    "conditions": {"conditions": {"laser_power": (0.0, 1.0), "input": ("optical",)}, "response": _response()},
    "one channel": {"n_outputs": 1, "n_inputs": 1, "response": _response()},
    "program": {"layout": "program", "n_drives": 12, "response": _response()},
    "not seeded": {"seeded": False, "response": _response()},
}


def variant(name: str) -> Callable[..., Chip]:
    """The factory of a variant."""
    return lambda seed, device: Variant(seed, device, **{**SIZE, **FIELDS[name]})
