"""Exact digital arithmetic: the reference that every other backend is held against."""

from __future__ import annotations

import torch
from torch import Tensor

from photonic.backends.base import Backend, ConvGeometry
from photonic.backends.chip import Usage
from photonic.errors import SpecError
from photonic.records import BackendSpec


class DigitalBackend(Backend):
    """``torch.matmul`` and torch's own convolutions, under plain autograd; what is not finite passes as in torch."""

    def __init__(self) -> None:
        super().__init__(BackendSpec(name="digital", differentiable=True))

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        self._record(Usage(calls=1))
        return x @ weight.mT

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        self._record(Usage(calls=1))
        native = torch.nn.functional.conv1d if weight.ndim == 3 else torch.nn.functional.conv2d
        return native(x, weight, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)


def open_digital(argument: str = "", *, seed: int = 0, device: int = 0, **options: object) -> DigitalBackend:
    """Opens the spec string ``digital``; seeds change nothing, and it takes no options.

    Raises:
        SpecError: an argument or an option was given.
    """
    if argument or options:
        raise SpecError(f"digital takes no argument and no options, found {argument or sorted(options)}")
    return DigitalBackend()
