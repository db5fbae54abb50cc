"""Chips with every effect off but those that a test names, and how tests drive them: numbers in, D out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.physics import svdmesh
from photonic.physics.presets import PRESETS

Q = 1.602176634e-19  # C
SHOTS = 200_000  # the standard error of a variance is sqrt(2 / SHOTS) = 0.3 %
IDEAL = {"ring": "ideal", "crossbar": "crossbar-ideal", "mesh": "mesh-ideal"}


def quiet(kind: str = "ring", **fields: object) -> SimulatedChip:
    """An ideal chip of 4 outputs and 8 inputs with these fields; ``device`` and ``seed`` are not fields."""
    seeds = {name: fields.pop(name) for name in ("device", "seed") if name in fields}
    base = PRESETS[IDEAL[kind]]
    whole = base.model_dump() | {"n_outputs": 4, "n_inputs": 8} | fields
    return SimulatedChip(type(base)(**whole), **({"device": 3, "seed": 7} | seeds))


def weight_codes(chip: SimulatedChip, weights: Tensor) -> Tensor:
    """Drive codes (R, C, P) of weights (R, C, m, n) in [-1, 1]; of a mesh, of weights over their largest singular."""
    if chip.parameters.coherent:
        phases, _ = svdmesh.program(weights.flatten(0, 1))
        codes = phases / chip.parameters.radians_per_code
        if chip.spec.weight_bits is not None:
            codes = codes.round() % 2**chip.spec.weight_bits
        return codes.unflatten(0, weights.shape[:2]).to(chip.spec.code_dtype)
    one = 1 if chip.spec.weight_bits is None else 2 ** (chip.spec.weight_bits - 1) - 1
    codes = weights.double() * one
    return (codes if chip.spec.weight_bits is None else codes.round()).flatten(2).to(chip.spec.code_dtype)


def input_codes(chip: SimulatedChip, levels: Tensor) -> Tensor:
    """Codes of levels T = sin^2(pi/2 u) in [0, 1], or of fields E = sin(pi/2 u) in [-1, 1] on a mesh."""
    sine = levels.double() if chip.parameters.coherent else levels.double().sqrt()
    return raw_codes(chip, torch.asin(sine) * (2 / math.pi))


def raw_codes(chip: SimulatedChip, u: Tensor) -> Tensor:
    """Codes of drives u, 1 being V_pi."""
    bits = chip.spec.input_bits
    one = 1 if bits is None else 2 ** (bits - 1) - 1 if chip.parameters.coherent else 2**bits - 1
    codes = u.double() * one
    return (codes if bits is None else codes.round()).to(chip.spec.code_dtype)


def read(chip: SimulatedChip, weights: Tensor, codes: Tensor, **conditions: object) -> Tensor:
    """Counts (B, m), float64, of one tile with weights (m, n) and input codes (B, n)."""
    return chip.measure(weight_codes(chip, weights[None, None]), codes[None], conditions).counts[0, 0].double()


def measure(chip: SimulatedChip, weights: Tensor, levels: Tensor, **conditions: object) -> Tensor:
    """The same at levels (or fields) (B, n); without an ADC, counts are D."""
    return read(chip, weights, input_codes(chip, levels), **conditions)


def even(chip: SimulatedChip, plus: float, level: float, shots: int = SHOTS, **conditions: object) -> Tensor:
    """Counts (shots, M) at S = level and D = (2 plus - 1) level: a share ``plus`` of each row is +1, the rest -1."""
    m, n = chip.spec.n_outputs, chip.spec.n_inputs
    weights = torch.full((m, n), -1.0, dtype=torch.float64)
    weights[:, : round(plus * n)] = 1.0
    return measure(chip, weights, torch.full((shots, n), level, dtype=torch.float64), **conditions)


def single_channels(chip: SimulatedChip, code: float) -> Tensor:
    """Light (N,) of each channel at one drive u, by an N x N chip whose row i weighs its channel i alone."""
    n = chip.spec.n_inputs
    u = torch.full((1, n), code, dtype=torch.float64)
    return read(chip, torch.eye(n, dtype=torch.float64), raw_codes(chip, u))[0] * (1 if chip.parameters.coherent else n)


def random(*shape: int, seed: int = 0, low: float = 0.0) -> Tensor:
    """Evenly in [low, 1), float64."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * (1 - low) + low
