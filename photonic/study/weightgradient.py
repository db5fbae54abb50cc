"""A linear layer of N inputs with quantised noisy operands: the error of its weight gradient against pre-activation.

One output, z = w x. With an upstream gradient of 1 the gradient of the weights is A'(z) x; the layer computes

    x~ = RP(clamp(x)) + n,  w~ = RP(clamp(w)) + n,  z~ = RP(clamp(w~ x~ + n)),  gradient A'(z~) x~.

Two errors add up: the derivative's, which the activation decides, and that of the inputs, which every activation has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.errors import SpecError
from photonic.models.activations import Curve
from photonic.physics import seeds
from photonic.physics.codes import LIMIT, MidTread
from photonic.physics.draws import NormalDraws
from photonic.physics.errorprobability import noise_of_error_probability
from photonic.study.gradienterror import Measured

# 0 and 2^-9 to 2^-1 on both sides: near zero the errors differ, and there in steps of 1 / p
_SIDE = tuple(2.0**-k for k in range(9, 0, -1))
PRE_ACTIVATIONS = (*(-z for z in reversed(_SIDE)), 0.0, *_SIDE)


@dataclass(frozen=True)
class WeightGradientErrors:
    """At each pre-activation, all relative to the norm of the exact inputs.

    Attributes:
        inputs: N.
        precision: p.
        ep: error probability.
        pre_activations: z.
        whole: by curve, rms of |A'(z~) x~ - A'(z) x| / |x|.
        derivative: by curve, rms of |A'(z~) - A'(z)|, what is left with exact inputs.
        operands: rms of |x~ - x| / |x|, which every activation has (times its derivative).
    """

    inputs: int
    precision: int
    ep: float
    pre_activations: tuple[float, ...]
    whole: Mapping[str, tuple[Measured, ...]]
    derivative: Mapping[str, tuple[Measured, ...]]
    operands: Measured


def weight_gradient_errors(
    curves: Mapping[str, Curve],
    precision: int,
    ep: float,
    *,
    inputs: int = 64,
    samples: int = 2000,
    seed: int = 0,
    pre_activations: tuple[float, ...] = PRE_ACTIVATIONS,
) -> WeightGradientErrors:
    """Draws layers and inputs with given pre-activations, and compares gradients.

    Inputs are uniform in [-1, 1]; weights are uniform within 1 / sqrt(N), as PyTorch initialises them, and moved along
    x until z is the pre-activation.

    Args:
        curves: by name; all see the same draws.
        precision: p.
        ep: error probability of the Gaussian noise.
        inputs: N.
        samples: layers for each pre-activation.
        seed: of layers, inputs and noise.
        pre_activations: z, each within [-1, 1].

    Raises:
        SpecError: a value out of bounds.
    """
    if inputs < 1 or samples < 2 or any(abs(z) > LIMIT for z in pre_activations):
        raise SpecError("expected at least 1 input, at least 2 samples and pre-activations within [-1, 1]")
    codes = MidTread(precision)
    noise = noise_of_error_probability("gaussian", ep, codes)
    stream = NormalDraws()
    stream.seed(seeds.derive("weight gradient", precision, inputs, seed))

    def read(exact: Tensor) -> Tensor:
        return noise.noisy(codes.quantise(exact.clamp(-LIMIT, LIMIT)), stream)

    whole: dict[str, list[Measured]] = {name: [] for name in curves}
    derivative: dict[str, list[Measured]] = {name: [] for name in curves}
    operands = []
    for z in pre_activations:
        x, w = _layers(samples, inputs, z, stream)
        seen, size = read(x), x.square().sum(1)
        product = (read(w) * seen).sum(1)
        z_seen = codes.quantise(noise.noisy(product, stream).clamp_(-LIMIT, LIMIT))
        operands.append((seen - x).square().sum(1) / size)
        for name, curve in curves.items():
            exact, noisy = curve.derivative(torch.full_like(z_seen, z)), curve.derivative(z_seen)
            error = noisy[:, None] * seen - exact[:, None] * x
            whole[name].append(_root(error.square().sum(1) / size))
            derivative[name].append(_root((noisy - exact).square()))
    return WeightGradientErrors(
        inputs,
        precision,
        ep,
        pre_activations,
        {name: tuple(found) for name, found in whole.items()},
        {name: tuple(found) for name, found in derivative.items()},
        _root(torch.cat(operands)),
    )


def _layers(samples: int, inputs: int, z: float, stream: NormalDraws) -> tuple[Tensor, Tensor]:
    """(samples, N) inputs and weights whose products are z."""
    generator, bound = stream.first, 1 / math.sqrt(inputs)
    x = torch.empty(samples, inputs, dtype=torch.float64).uniform_(-1, 1, generator=generator)
    w = torch.empty_like(x).uniform_(-bound, bound, generator=generator)
    missing = (z - (w * x).sum(1)) / x.square().sum(1)
    return x, w + missing[:, None] * x


def _root(squares: Tensor) -> Measured:
    """Root of the mean, with the standard error that it has from that of the mean."""
    mean, spread = float(squares.mean()), float(squares.std()) / math.sqrt(len(squares))
    root = math.sqrt(mean)
    return Measured(root, spread / (2 * root) if root else 0.0)
