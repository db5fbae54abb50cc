"""Activations: by name, as curves with exact derivatives, and as modules."""

from photonic.models.activations.curves import Curve, Gelu, Interpolated, Rectifier, Silu
from photonic.models.activations.modules import CurveActivation, GatedActivation, study_activation, study_curve
from photonic.models.activations.names import ACTIVATIONS, activation_factory, unknown

__all__ = [
    "ACTIVATIONS",
    "Curve",
    "CurveActivation",
    "GatedActivation",
    "Gelu",
    "Interpolated",
    "Rectifier",
    "Silu",
    "activation_factory",
    "study_activation",
    "study_curve",
    "unknown",
]
