"""Layers on a chip, values for them, and how far off they are."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

import photonic
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.simulated import open_simulated


def seeded(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def heavy(rows: int, n: int, seed: int) -> Tensor:
    """Lognormal magnitudes of both signs: the largest of a batch is some 50 times the typical one."""
    g = seeded(seed)
    return torch.randn(rows, n, generator=g) * torch.randn(rows, n, generator=g).exp()


def linear(outputs: int, inputs: int, seed: int = 0) -> nn.Linear:
    """A layer without bias whose outputs are about as large as its inputs."""
    layer = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=seeded(seed)) / math.sqrt(inputs))
    return layer


def on(layer: nn.Module, **options: object) -> nn.Module:
    """A copy of the layer on sim:typical."""
    return photonic.convert_(copy.deepcopy(layer), CalibratedBackend(open_simulated("typical", **options)))


@torch.no_grad()
def error(model: nn.Module, exact: nn.Module, x: Tensor) -> float:
    """Rms error of the chip's results, relative to their rms."""
    y = exact(x)
    return float((model(x) - y).norm() / y.norm())
