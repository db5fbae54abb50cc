"""How good the trained models are, and what they cost the chip."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable

from torch import Tensor, nn

from photonic.backends.chip import Usage
from photonic.models.convert import unconvert_
from photonic.models.routes import routes
from photonic.train.loop import evaluate
from photonic.train.result import Accuracy

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
    for route in routes(model):
        if route.tiles is not None:  # on a chip; a digital layer counts its calls too
            total.add(route.usage)
    return total
