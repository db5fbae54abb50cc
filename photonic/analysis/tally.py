"""A chip that measures nothing and notes what it is asked, below the very code that asks a real one.

So tiles, shots and programming events follow from the backend's own encoder and the chip's own rules, and are written
down nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.backends.digital import DigitalBackend
from photonic.backends.plans import weight_sign
from photonic.backends.signs import Sign
from photonic.backends.twin.backend import TwinBackend
from photonic.errors import SpecError
from photonic.records import BackendSpec, ChipSpec


@dataclass(frozen=True)
class Call:
    """One call of a chip.

    Attributes:
        codes: (R, C, P) drive codes as they were given.
        width: inputs in use.
        shots: on all tiles.
        programmed: tiles that the chip did not hold.
        held: tiles that it holds afterwards.
        inputs: input codes of one shot, those that only fill the tile up included.
        outputs: outputs that are read in one shot.
        drives: drive codes of one programming.
    """

    codes: Tensor
    width: int
    shots: int
    programmed: int
    held: int
    inputs: int
    outputs: int
    drives: int


class TallyChip(Chip):
    """Stands in for a chip of this spec.

    Args:
        spec: of that chip.
    """

    def __init__(self, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.calls: list[Call] = []
        self._ever = 0
        self._driven = (0, 0, 0)

    def measure(
        self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None, *, continued: bool = False
    ) -> Measurement:
        """As ``Chip.measure``; the counts are those of no light."""
        measured = super().measure(weights, inputs, conditions, continued=continued)
        usage = measured.usage
        # what is programmed stays until something else needs the place
        self._ever += usage.tiles_programmed
        held = min(self._ever, self.spec.resident_tiles)
        width = inputs.shape[-1]
        self.calls.append(Call(weights, width, usage.shots, usage.tiles_programmed, held, *self._driven))
        return measured

    def again(self) -> list[Call]:
        """Every call so far, with what it would program and find held if all of them were made once more."""
        before, found = list(self.calls), []
        for call in before:
            dark = torch.full((call.codes.shape[1], 1, call.width), self.spec.dark_code, dtype=self.spec.code_dtype)
            self.measure(call.codes, dark)
            found.append(replace(call, programmed=self.calls[-1].programmed, held=self.calls[-1].held))
        self.calls = before
        return found

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
        spec, n, drives = self.spec, inputs.shape[-1], weights.shape[-1]
        outputs = spec.n_outputs if spec.layout == "program" else drives // n
        self._driven = n, outputs, drives
        # mid-range, so that no count is at a rail; one number, however many counts are asked for
        low, high = spec.count_range
        count = torch.full((1, 1, 1, 1), (low + high) / 2, dtype=torch.float64).round().to(spec.count_dtype)
        return count.expand(*weights.shape[:2], inputs.shape[1], outputs)


@dataclass
class Product:
    """One product of a layer, and the calls that it took.

    Attributes:
        layer: its name.
        groups: G.
        rows: B, input vectors of each group.
        outputs: M.
        inputs: N.
        signed: an input was negative.
        weight: tells the layer's weights apart.
        calls: of the chip; empty without one.
        signs: how inputs and weights were encoded.
        averaged: shots of which each result is the mean.
    """

    layer: str
    groups: int
    rows: int
    outputs: int
    inputs: int
    signed: bool
    weight: tuple[int, ...]
    calls: list[Call] = field(default_factory=list)
    signs: tuple[Sign, Sign] = ("plain", "plain")
    averaged: int = 1

    @property
    def macs(self) -> int:
        """G x B x M x N."""
        return self.groups * self.rows * self.outputs * self.inputs

    @property
    def grid(self) -> tuple[int, int]:
        """Row tiles, and column tiles of all groups; (0, 0) without a chip."""
        if not self.calls:
            return 0, 0
        rows, columns, _ = self.calls[0].codes.shape
        return rows, columns


class TallyBackend(Backend):
    """Computes exactly, so that every layer sees the exact model's activations and their signs, and notes each product.

    Args:
        inner: what the products are asked of besides, on a chip that measures nothing; None: of none.
        chip: that chip.
        noted: called with each product.
    """

    def __init__(
        self, inner: CalibratedBackend | None, chip: TallyChip | None, noted: Callable[[Product], None]
    ) -> None:
        super().__init__(BackendSpec(name="tally"))
        self._inner, self._chip, self._noted = inner, chip, noted
        self._exact = DigitalBackend()

    @classmethod
    def of(cls, backend: Backend, noted: Callable[[Product], None]) -> Self:
        """Notes what this backend would ask of its chip; the chip itself is not asked, and neither is closed.

        Raises:
            SpecError: the backend has a chip, but does not say what it asks of it.
        """
        if backend.spec.chip is None:
            return cls(None, None, noted)
        chip = TallyChip(backend.spec.chip)
        if isinstance(backend, CalibratedBackend):
            inner = backend.bind(Site())
            inner.chip = chip
        elif isinstance(backend, TwinBackend):
            # what the exact chip would be asked
            inner = CalibratedBackend(chip, **asdict(backend.options))
        else:
            raise SpecError(
                f"backend {backend.spec.name} is a {type(backend).__name__}, which does not say what it asks of its "
                "chip; profile the chip itself, such as 'sim'"
            )
        return cls(inner, chip, noted)

    def again(self) -> list[Call]:
        """As ``TallyChip.again``; empty without a chip."""
        return [] if self._chip is None else self._chip.again()

    def bind(self, site: Site) -> Self:
        """A view for one layer, which has a view of the backend, and its codes, of its own."""
        view = super().bind(site)
        view._inner = None if self._inner is None else self._inner.bind(site)  # noqa: SLF001 - a copy of this object
        return view

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        g, rows, n = x.shape
        product = self._product(x, weight, g, rows, weight.shape[1], n)
        self._ask(product, lambda inner: inner.matmul(x, weight))
        self._noted(product)
        return self._exact.matmul(x, weight)

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        y = self._exact.convolve(x, weight, geometry)
        g = geometry.groups
        positions = y.shape[0] * y.shape[2:].numel()
        product = self._product(x, weight, g, positions, weight.shape[0] // g, weight[0].numel())
        self._ask(product, lambda inner: inner.convolve(x, weight, geometry))
        self._noted(product)
        return y

    def _product(self, x: Tensor, weight: Tensor, groups: int, rows: int, outputs: int, inputs: int) -> Product:
        key = weight.data_ptr(), *weight.shape
        return Product(self.site.name, groups, rows, outputs, inputs, bool((x < 0).any()), key)

    def _ask(self, product: Product, ask: Callable[[CalibratedBackend], Tensor]) -> None:
        if self._inner is None or self._chip is None:
            return
        before = len(self._chip.calls)
        ask(self._inner)
        product.calls = self._chip.calls[before:]
        spec, options = self._chip.spec, self._inner.options
        product.signs = options.input_sign(spec, not product.signed), weight_sign(spec)
        product.averaged = options.shots
