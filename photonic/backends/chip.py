"""The lower seam: a chip takes drive codes and gives ADC counts.

A chip implements ``_measure``. The public ``measure`` is concrete: it checks codes and conditions, serialises callers,
pads partial tiles for chips that want whole ones, checks what comes back, and counts.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from photonic.backends.ends import array_ends, ends
from photonic.backends.resident import Grid, KnownGrids, ResidentTiles
from photonic.errors import ChipError, ClosedError, RangeError, SaturationError, ShapeError
from photonic.records import ChipSpec

Conditions = Mapping[str, float | str | Tensor]


@dataclass
class Usage:
    """What was spent: of one call, or summed over many."""

    calls: int = 0
    shots: int = 0
    tiles_programmed: int = 0
    counts: int = 0
    saturated: int = 0
    seconds: float = 0.0

    def add(self, other: Usage) -> None:
        """Adds what another call spent."""
        self.calls += other.calls
        self.shots += other.shots
        self.tiles_programmed += other.tiles_programmed
        self.counts += other.counts
        self.saturated += other.saturated
        self.seconds += other.seconds

    @property
    def saturated_fraction(self) -> float:
        """Fraction of the counts that stand at a rail of the ADC."""
        return self.saturated / self.counts if self.counts else 0.0


@dataclass(frozen=True)
class Measurement:
    """The raw counts of one call, what it spent, and telemetry where the chip has it.

    Attributes:
        counts: (R, C, B, m) in ``spec.count_dtype``.
        usage: filled in by ``Chip.measure``.
        telemetry: by name, e.g. times on the chip's own clock, power taps, temperature.
    """

    counts: Tensor
    usage: Usage = field(default_factory=Usage)
    telemetry: Mapping[str, Tensor] = field(default_factory=dict)


class Chip(ABC):
    """What measures: drive codes in, ADC counts out. Implement ``_measure``; the rest is here.

    Args:
        spec: what the chip says of itself; frozen.
    """

    def __init__(self, spec: ChipSpec) -> None:
        self.spec = spec
        self.usage = Usage()
        self._lock = threading.RLock()
        self._closed = False
        self._resident = ResidentTiles(spec.resident_tiles)
        self._known = KnownGrids(spec.code_dtype)
        self._grid: Grid | None = None
        self._programmed = 0  # tiles of this call that settle
        self._count_dtype = spec.count_dtype

    @abstractmethod
    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        """Evaluates a grid of R x C tiles; called with the chip's lock held and everything checked.

        Args:
            weights: (R, C, P) drive codes in ``spec.code_dtype``, every one inside ``spec.weight_code_range``.
            inputs: (C, B, N) input codes; the inputs of a column of tiles are shared by its R rows.
            conditions: what the caller set of ``spec.conditions``.

        Returns:
            Counts (R, C, B, M) in ``spec.count_dtype``, or a Measurement of them with telemetry. With
            ``spec.partial_tiles`` the tile may be smaller: inputs (C, B, n) and P = m x n give (R, C, B, m).
        """

    @property
    def order_free(self) -> bool:
        """Whether counts do not depend on what was measured before, so that a call may come in parts."""
        return False

    def measure(
        self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None, *, continued: bool = False
    ) -> Measurement:
        """Checks the codes, measures, checks and counts what came back.

        Args:
            weights: (R, C, P) drive codes. With layout "elementwise" a call may use m <= M outputs and n <= N inputs:
                P = m x n row-major.
            inputs: (C, B, n) input codes.
            conditions: settings by name, from ``spec.conditions``; those in ``spec.tile_conditions`` may be a tensor
                (R, C), one value for each tile.
            continued: more shots of the last call, whose tiles need not be programmed again; where ``order_free``.

        Returns:
            The counts (R, C, B, m) and what they cost.

        Raises:
            ClosedError: after ``close()``.
            ShapeError: shapes or dtypes do not fit the chip.
            RangeError: a code or a condition is outside the chip's limits; nothing was sent.
            ChipError: the chip broke its contract, or a call was continued that this chip takes in one piece.
            SaturationError: more counts at the rails than ``spec.max_saturated_fraction``.
        """
        if continued and not self.order_free:
            raise ChipError(f"chip {self.spec.chip_id}: its counts depend on the shots before; measure in one call")
        settings = dict(conditions or {})
        grid = self._known.find(weights, inputs.shape[-1]) if inputs.ndim else None
        outputs = _check_shapes(self.spec, weights, inputs, grid)
        if grid is None:
            _check_codes("weights", weights, self.spec.weight_code_range)
        _check_codes("inputs", inputs, self.spec.input_code_range)
        _check_conditions(self.spec, settings, weights.shape[:2])
        with self._lock:
            self._check_open()
            self._grid = self._met(grid, weights, inputs.shape[-1], outputs)
            programmed = self._programmed = 0 if continued else self._resident.visit(self._grid.visit)
            started = time.perf_counter()
            try:
                result = self._measure(*self._padded(weights, inputs, outputs), settings)
                counts, saturated = self._checked(result, weights, inputs, outputs)
            except BaseException as error:
                self._failed(error)
                raise
            shots = weights.shape[0] * weights.shape[1] * inputs.shape[1]
            took = time.perf_counter() - started
            usage = self._add(Usage(int(not continued), shots, programmed, counts.numel(), saturated, took))
        self._check_saturation(usage)
        return Measurement(counts, usage, result.telemetry if isinstance(result, Measurement) else {})

    def ready(self, weights: Tensor, inputs: int) -> Grid | None:
        """A grid (R, C, P) of earlier calls, with ``inputs`` in use, that ``measure_few`` may take; or None."""
        grid = self._known.find(weights, inputs)
        return None if grid is None or grid.made is None else grid

    def measure_few(
        self, grid: Grid, inputs: NDArray[np.int16], conditions: Conditions
    ) -> tuple[NDArray[np.int16], Usage] | None:
        """As ``measure``, with the same checks, where a chip has a grid ready: of few shots, torch starts too slowly.

        Args:
            grid: of this chip, which holds a copy of its codes that nobody can change.
            inputs: (C, B, n) input codes.
            conditions: as there.

        Returns:
            Counts (R, C, B, m) and what they cost; None: go by ``measure``.

        Raises:
            PhotonicError: as ``measure``.
        """
        with self._lock:
            self._check_open()
            if not self._is_ready(grid, inputs.shape, conditions):
                return None
            _check_between("inputs", array_ends(inputs), self.spec.input_code_range)
            self._grid, programmed = grid, self._resident.visit(grid.visit)
            started = time.perf_counter()
            try:
                counts = self._few(grid, inputs)
                saturated = _at_rails(counts, array_ends(counts), self.spec)
            except BaseException as error:
                self._failed(error)
                raise
            shots = counts.shape[0] * counts.shape[1] * counts.shape[2]
            usage = self._add(Usage(1, shots, programmed, counts.size, saturated, time.perf_counter() - started))
        self._check_saturation(usage)
        return counts, usage

    def _is_ready(self, grid: Grid, shape: tuple[int, ...], conditions: Conditions) -> bool:
        """Whether codes (C, B, n) of this shape are few shots of a grid that is ready under these conditions."""
        return False

    def _few(self, grid: Grid, inputs: NDArray[np.int16]) -> NDArray[np.int16]:
        """``_measure`` of a grid that is ready; for a chip that has such a shorter way."""
        raise NotImplementedError

    def _failed(self, error: BaseException) -> None:
        """A measurement ended in any exception."""
        self._resident.forget()
        try:
            self.safe_state()
        except Exception as unsafe:  # the first error, Ctrl-C perhaps, must not be replaced by this one
            error.add_note(f"chip {self.spec.chip_id} could NOT be made safe: {unsafe}")

    def _add(self, usage: Usage) -> Usage:
        """Takes note of what a call spent; with the chip's lock held."""
        self.usage.add(usage)
        self._spent(usage)
        return usage

    def _met(self, grid: Grid | None, weights: Tensor, inputs: int, outputs: int) -> Grid:
        """Takes note of a call's codes, which were checked."""
        if grid is None:
            return self._known.add(weights, inputs, outputs, self._resident.of(weights.flatten(0, 1), inputs))
        grid.calls += 1
        return grid

    def _spent(self, usage: Usage) -> None:  # noqa: B027 - optional: for a chip with a clock of its own
        """Takes note of what a call spent; called with the chip's lock held."""

    def safe_state(self) -> None:  # noqa: B027 - optional: a chip without hardware has nothing to make safe
        """Brings the hardware to a safe state; called when a measurement ends in any exception, Ctrl-C included."""

    def instruments(self) -> Mapping[str, str]:
        """What stands around the chip, by role: who it is and how it is set; a calibration keeps it."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to draw the noise that an uninterrupted one would have drawn."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what ``state()`` gave.

        Raises:
            ChipError: the state holds something that this chip does not know.
        """
        if state:
            raise ChipError(f"chip {self.spec.chip_id} keeps no state, found {sorted(state)}; resume on the same chip")

    def close(self) -> None:
        """Releases the chip; a second call does nothing. Subclasses extend ``_close``."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._close()

    def _close(self) -> None:  # noqa: B027 - optional: most chips hold nothing that must be released
        """Releases what the subclass holds; called once."""

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"chip {self.spec.chip_id} is closed; open it again with photonic.open_chip")

    def _padded(self, weights: Tensor, inputs: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
        """Fills a partial tile up: unused inputs get the dark code, unused weights the code of zero."""
        spec, n = self.spec, inputs.shape[-1]
        if spec.partial_tiles or (outputs == spec.n_outputs and n == spec.n_inputs):
            return weights, inputs
        idle = max(0.0, spec.weight_code_range[0])
        inputs = F.pad(inputs, (0, spec.n_inputs - n), value=spec.dark_code)
        if spec.layout == "elementwise":
            tile = weights.reshape(*weights.shape[:2], outputs, n)
            tile = F.pad(tile, (0, spec.n_inputs - n, 0, spec.n_outputs - outputs), value=idle)
            weights = tile.reshape(*weights.shape[:2], spec.drives)
        return weights, inputs

    def _checked(
        self, result: Tensor | Measurement, weights: Tensor, inputs: Tensor, outputs: int
    ) -> tuple[Tensor, int]:
        """Refuses counts that the spec rules out, drops outputs nobody asked for, and counts those at the rails."""
        counts, spec = result.counts if isinstance(result, Measurement) else result, self.spec
        m = outputs if spec.partial_tiles else spec.n_outputs
        expected = (*weights.shape[:2], inputs.shape[1], m)
        whole = isinstance(counts, Tensor)
        if not whole or counts.shape != expected or counts.dtype != self._count_dtype:
            found = f"{tuple(counts.shape)} of {counts.dtype}" if whole else f"no tensor but {type(counts).__name__}"
            raise ChipError(
                f"chip {spec.chip_id}: expected counts {expected} of {self._count_dtype}, found {found}; nothing was "
                "padded or cut"
            )
        if m != outputs:
            counts = counts[..., :outputs]
        return counts, _count_rails(counts, spec)

    def _check_saturation(self, usage: Usage) -> None:
        limit = self.spec.max_saturated_fraction
        if usage.saturated and usage.saturated_fraction > limit:
            error = SaturationError(
                f"chip {self.spec.chip_id}: {usage.saturated_fraction:.1%} of the counts are at the rails, "
                f"the limit is {limit:.1%}; lower the analog gain or raise adc_full_scale"
            )
            error.usage = usage
            raise error


def _count_rails(counts: Tensor, spec: ChipSpec) -> int:
    """Counts at a rail; a chip without a converter has none. Refuses counts beyond the rails, NaN among them."""
    return _at_rails(counts, ends(counts), spec) if counts.numel() else 0


def _at_rails(counts: Tensor | NDArray[np.int16], found: tuple[float, float], spec: ChipSpec) -> int:
    """The same of counts whose ends were found."""
    (low, high), (least, most) = spec.count_range, found
    if not (low <= least and most <= high):
        raise ChipError(f"chip {spec.chip_id}: counts in [{least:g}, {most:g}] leave the range [{low:g}, {high:g}]")
    if spec.adc_bits is None:
        return 0
    if low < least and most < high:
        return 0
    # whole numbers: comparing int16 with a float would first copy all counts
    rails = [int(rail) for rail, end in ((low, least), (high, most)) if end == rail]
    if not isinstance(counts, Tensor):
        return sum(int(np.count_nonzero(counts == rail)) for rail in rails)
    return sum(int(torch.count_nonzero(part == rail)) for rail in rails for part in counts.flatten(0, 1))


def _check_shapes(spec: ChipSpec, weights: Tensor, inputs: Tensor, grid: Grid | None) -> int:
    """Returns m, the number of outputs that the call uses; ``grid`` where the weights passed before."""
    if grid is not None and inputs.ndim == 3 and inputs.shape[0] == grid.shape[1] and _are_codes(inputs, spec):
        return grid.outputs
    if weights.ndim != 3 or inputs.ndim != 3 or weights.shape[1] != inputs.shape[0]:
        raise ShapeError(
            f"chip {spec.chip_id}: expected weights (R, C, P) and inputs (C, B, N) with the same C, "
            f"found {tuple(weights.shape)} and {tuple(inputs.shape)}"
        )
    for name, codes in (("weights", weights), ("inputs", inputs)):
        if not _are_codes(codes, spec):
            raise ShapeError(
                f"chip {spec.chip_id}: {name} must be CPU codes of {spec.code_dtype}, "
                f"found {codes.dtype} on {codes.device}"
            )
    p, n = weights.shape[-1], inputs.shape[-1]
    if not 1 <= n <= spec.n_inputs:
        raise ShapeError(f"chip {spec.chip_id} has {spec.n_inputs} inputs, found {n}")
    if spec.layout == "program":
        if p != spec.drives:
            raise ShapeError(f"chip {spec.chip_id} takes {spec.drives} drive codes for a tile, found {p}")
        return spec.n_outputs
    if p % n or not 1 <= p // n <= spec.n_outputs:
        raise ShapeError(
            f"chip {spec.chip_id}: with {n} inputs a tile has m x {n} codes, 1 <= m <= {spec.n_outputs}, found {p}"
        )
    return p // n


def _are_codes(codes: Tensor, spec: ChipSpec) -> bool:
    return codes.dtype == spec.code_dtype and codes.is_cpu


def _check_codes(name: str, codes: Tensor, limits: tuple[float, float]) -> None:
    if codes.numel() == 0:
        return
    _check_between(name, ends(codes), limits)


def _check_between(name: str, found: tuple[float, float], limits: tuple[float, float]) -> None:
    low, high = found
    # NaN fails both comparisons, so it is refused here too
    if not (limits[0] <= low and high <= limits[1]):
        raise RangeError(f"{name}: codes must be in [{limits[0]:g}, {limits[1]:g}], found [{low:g}, {high:g}]")


def _check_conditions(spec: ChipSpec, conditions: Conditions, grid: tuple[int, ...]) -> None:
    for name, value in conditions.items():
        if name not in spec.conditions:
            raise RangeError(
                f"chip {spec.chip_id} offers no condition {name!r}; it offers {sorted(spec.conditions) or 'none'}"
            )
        if isinstance(value, Tensor) and (name not in spec.tile_conditions or tuple(value.shape) != grid):
            raise ShapeError(
                f"chip {spec.chip_id}: {name} must be one value, or for {spec.tile_conditions or 'no condition'} "
                f"a tensor {grid} of one for each tile; found a tensor {tuple(value.shape)}"
            )
        values = value.unique().tolist() if isinstance(value, Tensor) else [value]
        wrong = [item for item in values if item not in spec.conditions[name]]
        if wrong:
            raise RangeError(
                f"chip {spec.chip_id}: {name} must be one of {spec.conditions[name]}, found {wrong[0]!r}; "
                "a setting is never rounded or clipped"
            )
