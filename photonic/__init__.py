"""photonic: a photonic accelerator behind a PyTorch network.

Route the products of a model to a backend, exact, simulated or real::

    backend = photonic.open_backend("sim", seed=0)
    photonic.convert_(model, backend)
"""

from importlib.metadata import version as _version

from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Chip, Conditions, Measurement, Usage
from photonic.backends.registry import Opener, open_backend, open_chip
from photonic.backends.simulated import twin
from photonic.calibration.retest import verify
from photonic.calibration.run import calibrate, refit
from photonic.errors import NominalCalibrationWarning, PhotonicError
from photonic.models.attention import PhotonicMultiheadAttention
from photonic.models.check import Check, LayerCheck, check
from photonic.models.convert import attach, convert_, unconvert_
from photonic.models.fit_ranges import fit_ranges
from photonic.models.functional import convolve, linear, matmul
from photonic.models.layers import PhotonicConv1d, PhotonicConv2d, PhotonicLinear
from photonic.models.range_report import LayerRange, RangeReport
from photonic.models.ranges import set_input_range
from photonic.models.routes import Route, Routes, routes
from photonic.records import BackendSpec, Calibration, ChipSpec, InputTransfer, NoiseModel, Response

__version__ = _version("photonic-torch")

__all__ = [
    "Backend",
    "BackendSpec",
    "CalibratedBackend",
    "Calibration",
    "Check",
    "Chip",
    "ChipSpec",
    "Conditions",
    "ConvGeometry",
    "InputTransfer",
    "LayerCheck",
    "LayerRange",
    "Measurement",
    "NoiseModel",
    "NominalCalibrationWarning",
    "Opener",
    "PhotonicConv1d",
    "PhotonicConv2d",
    "PhotonicError",
    "PhotonicLinear",
    "PhotonicMultiheadAttention",
    "RangeReport",
    "Response",
    "Route",
    "Routes",
    "Site",
    "Usage",
    "__version__",
    "attach",
    "calibrate",
    "check",
    "convert_",
    "convolve",
    "fit_ranges",
    "linear",
    "matmul",
    "open_backend",
    "open_chip",
    "refit",
    "routes",
    "set_input_range",
    "twin",
    "unconvert_",
    "verify",
]
