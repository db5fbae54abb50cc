"""How good the trained models are, and what they cost the chip."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from photonic.backends.chip import Usage
from photonic.models.convert import unconvert_
from photonic.models.routes import routes
from photonic.models.sites import on_chips
from photonic.train.loop import evaluate
from photonic.train.result import Accuracy, LayerUse

PASSES = 10
# Student's t for a 95 % interval of the mean of PASSES values, 9 degrees of freedom
_T_95 = 2.262


def measure_accuracy(
    control: nn.Module, photonic: nn.Module, x: Tensor, y: Tensor, passed: Callable[[], None]
) -> Accuracy:
    """Evaluates the control, the photonic model in noisy passes, and the latter's weights run digitally.

    Args:
        control: never converted.
        photonic: converted; stays so.
        x: test images (B, C, H, W).
        y: their labels (B,).
        passed: called after each pass of a model over the images.
    """
    digital = evaluate(control, x, y)
    passed()
    passes = []
    for _ in range(PASSES):
        passes.append(evaluate(photonic, x, y))
        passed()
    unconverted = copy.deepcopy(photonic)
    unconvert_(unconverted)
    same_weights = evaluate(unconverted, x, y)
    passed()
    std = statistics.stdev(passes)
    return Accuracy(
        digital=digital,
        photonic=statistics.fmean(passes),
        photonic_std=std,
        photonic_ci95=_T_95 * std / math.sqrt(PASSES),
        photonic_passes=tuple(passes),
        digital_same_weights=same_weights,
    )


def chip_usage(model: nn.Module) -> Usage:
    """What the layers of a model that run on a chip have spent so far."""
    total = Usage()
    for _, module in on_chips(model):  # a digital layer counts its calls too
        total.add(module.backend.site.usage)
    return total


def layer_uses(model: nn.Module) -> tuple[LayerUse, ...]:
    """What each of these layers met at its converters so far."""
    return tuple(
        LayerUse(
            layer=route.name,
            counts=route.usage.counts,
            saturated_fraction=route.usage.saturated_fraction,
            clipped_fraction=route.clipped_fraction,
        )
        for route in routes(model)
        if route.tiles is not None
    )


def counters(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The counters of these layers, for a checkpoint."""
    sites = {name: module.backend.site for name, module in on_chips(model)}
    return {
        name: {"usage": asdict(site.usage), "inputs": site.inputs, "clipped": site.clipped}
        for name, site in sites.items()
    }


def restore_counters(model: nn.Module, saved: Mapping[str, Mapping[str, Any]]) -> None:
    """Goes on counting where ``counters`` was asked."""
    for name, module in on_chips(model):
        site, before = module.backend.site, saved[name]
        site.usage, site.inputs, site.clipped = Usage(**before["usage"]), before["inputs"], before["clipped"]
