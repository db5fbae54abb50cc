"""The gradient-error experiment as a whole: maps, ratios, closed forms and the linear layer, from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from photonic.models.activations import Curve, Gelu, Interpolated, Rectifier, Silu
from photonic.study.amplification import Amplification, amplification, mean_near_zero
from photonic.study.gradienterror import DerivativeErrors, Measured, derivative_errors
from photonic.study.weightgradient import WeightGradientErrors, weight_gradient_errors

Progress = Callable[[int, int, str], None]

RECTIFIER = "relu"
SMOOTH: dict[str, Gelu | Silu] = {"gelu": Gelu(), "silu": Silu()}
# ReLU'(0) = 0, as the gradient figures need it
CURVES: dict[str, Curve] = {RECTIFIER: Rectifier(derivative_at_zero=0.0), **SMOOTH}
INTERPOLATIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
REGIONS = ("zoom", "near", "square")
# the whole square has 16 times the points of the zoom
_SQUARE_SHARE = 10


@dataclass(frozen=True)
class GradientPlan:
    """What is drawn.

    Attributes:
        precisions: p.
        eps: error probabilities; the first is the one that is reported in full.
        draws: of every map but the whole square, which has a tenth.
        inputs: N of the linear layer.
        samples: layers for each pre-activation.
        seed: of all draws.
    """

    precisions: tuple[int, ...] = (4, 16, 64, 256)
    eps: tuple[float, ...] = (0.5, 0.2, 0.8)
    draws: int = 2000
    inputs: int = 64
    samples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class GradientStudy:
    """What was found.

    Attributes:
        plan: what was drawn.
        errors: by error probability, region and precision.
        near_zero: by precision and interpolation (of GELU), mean error within one step of zero, in closed form.
        amplified: by smooth activation and precision, the closed forms at zero.
        layers: by precision, the linear layer.
    """

    plan: GradientPlan
    errors: dict[float, dict[str, dict[int, DerivativeErrors]]] = field(default_factory=dict)
    near_zero: dict[int, dict[float, float]] = field(default_factory=dict)
    amplified: dict[str, dict[int, Amplification]] = field(default_factory=dict)
    layers: dict[int, WeightGradientErrors] = field(default_factory=dict)

    @property
    def ep(self) -> float:
        """The error probability that is reported in full."""
        return self.plan.eps[0]

    def ratios(self, ep: float, where: str) -> dict[str, dict[int, dict[str, Measured]]]:
        """Errors of ReLU over those of each smooth activation, by activation and precision."""
        found = self.errors[ep][where]
        return {name: {p: errors.ratio(RECTIFIER, name) for p, errors in found.items()} for name in SMOOTH}

    def content(self) -> dict[str, Any]:
        """For JSON: ``ratios[ACTIVATION][PRECISION]`` over |a|, |w| <= 0.25 and their standard errors first."""
        ratios = self.ratios(self.ep, "zoom")
        return {
            "ep": self.ep,
            "draws": self.plan.draws,
            "seed": self.plan.seed,
            "ratios": _part(ratios, "value"),
            "standard_errors": _part(ratios, "error"),
            "errors": {
                name: {str(p): _both(found.error(name)) for p, found in self.errors[self.ep]["zoom"].items()}
                for name in CURVES
            },
            "regions": {
                str(ep): {where: _whole(self.ratios(ep, where)) for where in found} for ep, found in self.errors.items()
            },
            "single_draw_spread": {
                name: {
                    str(p): found.single_draw_spread(RECTIFIER, name)
                    for p, found in self.errors[self.ep]["zoom"].items()
                }
                for name in SMOOTH
            },
            "near_zero": {str(p): {str(i): mean for i, mean in row.items()} for p, row in self.near_zero.items()},
            "amplification": {
                name: {str(p): _closed(found) for p, found in row.items()} for name, row in self.amplified.items()
            },
            "weight_gradient": {str(p): _layer(found) for p, found in self.layers.items()},
        }


def run_gradient_study(plan: GradientPlan, progress: Progress = lambda done, steps, text: None) -> GradientStudy:
    """Runs everything.

    Args:
        plan: what to draw.
        progress: is told (done, steps, text).

    Raises:
        SpecError: a value out of bounds.
    """
    with _one_thread():
        return _run(plan, progress)


def _run(plan: GradientPlan, progress: Progress) -> GradientStudy:
    study, steps = GradientStudy(plan), len(plan.precisions) * (len(plan.eps) + 1)
    done = 0
    progress(done, steps, "derivatives under noise")
    for ep in plan.eps:
        found = study.errors[ep] = {where: {} for where in REGIONS}
        for p in plan.precisions:
            for where in REGIONS:
                draws = max(plan.draws // _SQUARE_SHARE, 2) if where == "square" else plan.draws
                found[where][p] = derivative_errors(CURVES, p, ep, where=where, draws=draws, seed=plan.seed)
            progress(done := done + 1, steps, f"p = {p}, EP = {ep:g}")
    for name, smooth in SMOOTH.items():
        study.amplified[name] = {p: amplification(CURVES[RECTIFIER], smooth, p, study.ep) for p in plan.precisions}
    for p in plan.precisions:
        study.near_zero[p] = {i: mean_near_zero(Interpolated(Gelu(), i), p, study.ep) for i in INTERPOLATIONS}
        study.layers[p] = weight_gradient_errors(
            CURVES, p, study.ep, inputs=plan.inputs, samples=plan.samples, seed=plan.seed
        )
        progress(done := done + 1, steps, f"linear layer, p = {p}")
    return study


@contextmanager
def _one_thread() -> Iterator[None]:
    """The blocks are small: threads that wait for each other, where a core is busy, cost more than the arithmetic."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _part(ratios: dict[str, dict[int, dict[str, Measured]]], name: str) -> dict[str, Any]:
    return {
        curve: {str(p): {key: getattr(each, name) for key, each in row.items()} for p, row in rows.items()}
        for curve, rows in ratios.items()
    }


def _whole(ratios: dict[str, dict[int, dict[str, Measured]]]) -> dict[str, Any]:
    return {curve: {str(p): _both(row) for p, row in rows.items()} for curve, rows in ratios.items()}


def _both(found: dict[str, Measured]) -> dict[str, Any]:
    return {name: {"value": each.value, "standard_error": each.error} for name, each in found.items()}


def _closed(found: Amplification) -> dict[str, float]:
    names = ("rectified", "smooth", "bound", "ratio", "least_ratio", "one_step")
    return {name: getattr(found, name) for name in names}


def _layer(found: WeightGradientErrors) -> dict[str, Any]:
    def values(rows: Any) -> dict[str, Any]:
        return {
            name: [{"value": each.value, "standard_error": each.error} for each in row] for name, row in rows.items()
        }

    return {
        "inputs": found.inputs,
        "pre_activations": list(found.pre_activations),
        "whole": values(found.whole),
        "derivative": values(found.derivative),
        "operands": found.operands.value,
    }
