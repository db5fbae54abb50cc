"""A backend for tests: exact, but called through autograd as a chip's is, and it counts."""

from __future__ import annotations

from torch import Tensor

from photonic.backends.base import Backend
from photonic.backends.chip import Usage
from photonic.records import BackendSpec


class ExactBackend(Backend):
    """Every product is one call and one shot for each row."""

    def __init__(self, name: str = "exact") -> None:
        super().__init__(BackendSpec(name=name))

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        self._record(Usage(calls=1, shots=x.shape[0] * x.shape[1]))
        return x @ weight.mT
