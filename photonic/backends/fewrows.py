"""Few rows through a weight that stays: codes and products on numpy arrays, as ``encoding`` makes them.

Of a single input, nearly all of the time is the start of operations, and numpy starts them several times faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.backends.encoding import EncodedWeight, Geometry, Nominal
from photonic.backends.plans import Plan, weight_sign
from photonic.backends.resident import Grid
from photonic.backends.signs import Sign
from photonic.physics.fewshots import FEW, FEW_WEIGHTS, Array, array
from photonic.records import ChipSpec, InputTransfer

T = TypeVar("T")

_ZERO = np.zeros((), np.float32)


@dataclass(frozen=True)
class _Last(Generic[T]):
    """What was made of a weight.

    Attributes:
        words: all of the weight's bytes.
        sign: of the inputs.
        gains: of the site; compared by identity.
        most: rows that are few.
        made: the result.
    """

    words: bytes
    sign: Sign
    gains: Tensor | None
    most: int
    made: T


class FewWeights(Generic[T]):
    """What few rows need of a layer's weight, for as long as its numbers stay what they were.

    Args:
        spec: of the chip.
    """

    def __init__(self, spec: ChipSpec) -> None:
        self._spec = spec
        self._last: _Last[T] | None = None
        self._weight, self._bias = Viewed(), Viewed()

    def fit(self, x: Tensor, weight: Tensor) -> bool:
        """Whether x (B, N) and a weight (M, N) may be few: of one group, on the CPU, in float32."""
        shape, other = x.shape, weight.shape
        if len(shape) != 2 or len(other) != 2 or shape[1] != other[1] or not 0 < shape[0] * shape[1] <= FEW:
            return False
        alike = x.dtype == weight.dtype == torch.float32 and x.is_cpu and weight.is_cpu
        return alike and 0 < other[0] * other[1] <= FEW_WEIGHTS

    def get(self, rows: int, weight: Tensor, sign: Sign, gains: Tensor | None, make: Callable[[], T]) -> T | None:
        """The result for these numbers (compared in full) and this key, made if it is not the last one.

        None: so many rows are not few, which sizes alone decide, so that a resumed run goes the same way.
        """
        words, last = self._weight.of(weight).tobytes(), self._last
        if last is None or last.words != words or last.sign != sign or last.gains is not gains:
            most = self._most(weight.shape[0], weight.shape[1], sign)
            if rows > most:
                return None
            self._last = None
            last = self._last = _Last(words, sign, gains, most, make())
        return last.made if rows <= last.most else None

    def _most(self, outputs: int, inputs: int, sign: Sign) -> int:
        """How many rows of both signs are few."""
        cut = Geometry.of(self._spec, 1, outputs * (2 if weight_sign(self._spec) == "space" else 1), inputs)
        each = cut.columns * cut.rows * cut.m
        few = min(FEW // max(each, cut.columns * cut.n), self._spec.max_counts_bytes // (2 * each))
        return few // (2 if sign == "time" else 1) if each * cut.n <= FEW_WEIGHTS else 0

    def added(self, y: Array, bias: Tensor | None) -> Tensor:
        """(B, M) with the bias (M,), as a tensor; y is overwritten."""
        if bias is not None:
            # of one shape with a single row: then numpy has nothing to broadcast
            y += self._bias.of(bias)
        return torch.from_numpy(y)


class Viewed:
    """A parameter as numpy sees it, as rows: the view is made once, and anew when the memory is another."""

    def __init__(self) -> None:
        self._view: tuple[tuple[object, ...], Array] | None = None

    def of(self, values: Tensor) -> Array:
        """A view of float32 values."""
        at, view = (values.data_ptr(), values.shape, values.stride()), self._view
        if view is None or view[0] != at:
            # the view holds the memory, so that its address stays taken
            view = self._view = at, np.atleast_2d(values.detach().numpy())
        return view[1]


class FewRows:
    """A weight of one group, and how few rows go through it.

    Args:
        encoded: the weight.
        spec: of the chip.
        transfer: of the inputs.

    Attributes:
        encoded: the same object.
        grid: its codes as the chip knows them; None: the chip has not got them ready.
    """

    def __init__(self, encoded: EncodedWeight, spec: ChipSpec, transfer: InputTransfer) -> None:
        cut = encoded.cut
        self.encoded, self._cut, self._dark = encoded, cut, spec.dark_code
        self.grid: Grid | None = None
        self._transfer = ValueCodes(transfer)
        self._whole = cut.columns * cut.n == cut.inputs
        self._factor, self._offset = array(encoded.factor), array(encoded.offset[0])

    @staticmethod
    def possible(encoder: object, spec: ChipSpec) -> bool:
        """Whether a chip's codes are whole numbers, by one curve for all."""
        return (
            isinstance(encoder, Nominal)
            and encoder.response.inputs.shape == "mzm"
            and torch.int16 == spec.code_dtype == spec.count_dtype
        )

    def codes(self, x: Array, plan: Plan) -> NDArray[np.int16]:
        """Codes (C, b, n) of x (B, N); b is B, or 2 B with both signs."""
        codes = self._transfer.of(x, plan).astype(np.int16)
        cut = self._cut
        if self._whole and cut.columns == 1:
            return codes.reshape(1, -1, cut.n)
        codes = codes.reshape(-1, cut.inputs)
        padded = np.full((len(codes), cut.columns * cut.n), self._dark, np.int16)
        padded[:, : cut.inputs] = codes
        return np.ascontiguousarray(padded.reshape(len(codes), cut.columns, cut.n).transpose(1, 0, 2))

    def products(self, counts: NDArray[np.int16], plan: Plan) -> Array:
        """(B, M) of counts (R, C, b, m)."""
        cut = self._cut
        y: Array = counts.astype(np.float32)
        if plan.inputs == "time":
            b = y.shape[2] // 2
            y = y[:, :, :b] - y[:, :, b:]
        y *= self._factor
        y = y[:, 0] if cut.columns == 1 else y.sum(axis=1)
        y = y[0] if cut.rows == 1 else y.transpose(1, 0, 2).reshape(y.shape[1], -1)
        if plan.inputs == "plain":
            # what is there without light is taken off with the other sign's shot
            y -= self._offset
        if cut.rows * cut.m > cut.outputs:
            y = y[:, : cut.outputs].copy()
        return decoded(y, plan)


def decoded(y: Array, plan: Plan) -> Array:
    """(B, M) with the weights' signs and the inputs' scale; overwrites y."""
    if plan.weights == "space":
        half = y.shape[1] // 2
        y = y[:, :half] - y[:, half:]
    return np.multiply(y, np.array(plan.scale, np.float32), y)


class ValueCodes:
    """Rounded codes of levels behind Mach-Zehnder modulators of one curve (see ``modulator.codes``).

    Args:
        transfer: of shape "mzm".
    """

    def __init__(self, transfer: InputTransfer) -> None:
        self._turn = np.array((transfer.code_one - transfer.code_zero) * (2 / math.pi), np.float32)
        self._zero = transfer.code_zero

    def of(self, x: Array, plan: Plan) -> Array:
        """Whole codes (B, N) of numbers x (B, N), or (2, B, N) with both signs."""
        values: Any
        if plan.inputs == "time":
            values = np.empty((2, *x.shape), np.float32)
            np.divide(x, np.array(plan.scale or 1.0, np.float32), values[0])
            np.negative(values[0], values[1])
            np.maximum(values, _ZERO, out=values)
        else:
            values = x / np.array(plan.scale or 1.0, np.float32)
        if plan.limited:
            # what a static range's tolerance lets through
            np.minimum(values, 1.0, out=values)
        np.sqrt(values, values)
        np.arcsin(values, values)
        np.multiply(values, self._turn, values)
        if self._zero:
            values += self._zero
        whole: Array = np.rint(values, values)
        return whole
