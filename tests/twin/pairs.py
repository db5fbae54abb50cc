"""The exact chip and its twin, on the same device, asked for the same product many times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from photonic.backends.base import Backend, ConvGeometry
from photonic.backends.registry import open_backend

DEVICE = 3


def opened(scheme: str, preset: str, seed: int, **options: Any) -> Backend:
    """A backend of a preset."""
    query = "".join(f"&{key}={value}" for key, value in options.items())
    return open_backend(f"{scheme}:{preset}?device={DEVICE}{query}", seed=seed)


def repeats(backend: Backend, x: Tensor, weight: Tensor, count: int, geometry: ConvGeometry | None = None) -> Tensor:
    """The same product ``count`` times, (count, results), float64."""
    rows = []
    for _ in range(count):
        y = backend.matmul(x, weight) if geometry is None else backend.convolve(x, weight, geometry)
        rows.append(y.double().flatten())
    return torch.stack(rows)


@dataclass(frozen=True)
class Comparison:
    """What two backends' repeats of a product differ in.

    Attributes:
        mean: rms over results of the difference of means, in its own standard errors: 1 where the means are equal.
        variance: mean variance of the second over the first.
        spread: standard deviation over results of the logarithm of the ratio of variances, over what chance makes.
        covariance: rms difference of covariances between results, over the mean variance and over what chance makes.
        common: mean covariance between results of one shot over the mean variance, of the first and of the second.
    """

    mean: float
    variance: float
    spread: float
    covariance: float
    common: tuple[float, float]


def compare(exact: Tensor, twin: Tensor, outputs: int) -> Comparison:
    """Compares repeats (K, results); the last ``outputs`` of the results belong to one shot."""
    k = len(exact)
    deviation = exact.std(0)
    silent = deviation == 0
    z = (exact.mean(0) - twin.mean(0))[~silent] / deviation[~silent] / math.sqrt(2 / k)
    ratio = (twin.var(0) / exact.var(0))[~silent].log()
    covariances = [torch.cov(values[:, -outputs:].T).reshape(outputs, outputs) for values in (exact, twin)]
    off = ~torch.eye(outputs, dtype=torch.bool) if outputs > 1 else torch.ones(1, 1, dtype=torch.bool)
    scale = float(covariances[0].diagonal().mean())
    return Comparison(
        mean=float(z.square().mean().sqrt()),
        variance=float(twin.var(0).mean() / exact.var(0).mean()),
        spread=float(ratio.std()) / math.sqrt(4 / k),
        covariance=float((covariances[0] - covariances[1])[off].std(correction=0)) / scale / math.sqrt(2 / k),
        common=(float(covariances[0][off].mean()) / scale, float(covariances[1][off].mean()) / scale),
    )


def rand(*shape: int, seed: int = 0) -> Tensor:
    """Uniform numbers, as after a squashing activation."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
