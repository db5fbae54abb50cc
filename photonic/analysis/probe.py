"""A backend that computes exactly and asks a chip beside it: each layer's error on exact inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from photonic.analysis.budget import Samples, compare
from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.backends.digital import DigitalBackend
from photonic.records import BackendSpec


class ProbeBackend(Backend):
    """Gives the exact product on, so that no layer sees another's error, and notes how far off the chip is.

    Args:
        inner: the chip's backend; not closed with this one.
        repeats: how often each product is measured.
    """

    def __init__(self, inner: Backend, repeats: int) -> None:
        super().__init__(BackendSpec(name=f"probe of {inner.spec.name}"))
        self.inner, self._exact, self._repeats = inner, DigitalBackend(), repeats
        self._noted: dict[str, list[Tensor]] = {}  # shared by all views

    def bind(self, site: Site) -> Self:
        """A view for one layer, which has a view of the chip of its own."""
        view = super().bind(site)
        view.inner = self.inner.bind(site)
        return view

    def samples(self) -> dict[str, Samples]:
        """By layer: the blocks so far, one for each product."""
        return {name: Samples.of_blocks(blocks) for name, blocks in self._noted.items()}

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._note(self._exact.matmul(x, weight), lambda: self.inner.matmul(x, weight))

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        exact = self._exact.convolve(x, weight, geometry)
        return self._note(exact, lambda: self.inner.convolve(x, weight, geometry))

    def _note(self, exact: Tensor, measure: Callable[[], Tensor]) -> Tensor:
        measured = torch.stack([measure() for _ in range(self._repeats)])
        self._noted.setdefault(self.site.name, []).append(compare(exact, measured))
        return exact
