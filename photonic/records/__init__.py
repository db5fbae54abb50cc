"""Frozen records: what a chip says of itself, and what a calibration says of a chip."""

from photonic.records.base import Record
from photonic.records.calibration import (
    Calibration,
    Check,
    DriftModel,
    Parameter,
    Provenance,
    Suspect,
    Verdict,
    Verification,
)
from photonic.records.chip import (
    BackendSpec,
    ChipSpec,
    EnergyModel,
    InputTransfer,
    NoiseModel,
    Response,
    effective_bits,
)

__all__ = [
    "BackendSpec",
    "Calibration",
    "Check",
    "ChipSpec",
    "DriftModel",
    "EnergyModel",
    "InputTransfer",
    "NoiseModel",
    "Parameter",
    "Provenance",
    "Record",
    "Response",
    "Suspect",
    "Verdict",
    "Verification",
    "effective_bits",
]
