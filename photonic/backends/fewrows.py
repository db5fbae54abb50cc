"""Few rows through a weight that stays: codes and products on numpy arrays, as ``encoding`` makes them.

Of a single input, nearly all of the time is the start of operations, and numpy starts them several times faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.backends.encoding import EncodedWeight, Geometry, Nominal, Sign
from photonic.backends.kept import Key, same_key
from photonic.backends.plans import Plan
from photonic.physics.fewshots import FEW, FEW_WEIGHTS, Array, array
from photonic.records import ChipSpec, InputTransfer

T = TypeVar("T")


class FewWeights(Generic[T]):
    """What few rows need of a layer's weight, for as long as its numbers stay what they were.

    Args:
        spec: of the chip.
    """

    def __init__(self, spec: ChipSpec) -> None:
        self._spec = spec
        self._most: dict[tuple[int, int, Sign, Sign], int] = {}
        self._last: tuple[bytes, Key, T] | None = None
        self._weight, self._bias = Viewed(), Viewed()

    def fit(self, x: Tensor, weight: Tensor) -> bool:
        """Whether x (B, N) and a weight (M, N) may be few: of one group, on the CPU, in float32."""
        shape, other = x.shape, weight.shape
        if len(shape) != 2 or len(other) != 2 or shape[1] != other[1] or shape[0] * shape[1] > FEW:
            return False
        alike = x.dtype == weight.dtype == torch.float32 and x.is_cpu and weight.is_cpu
        return alike and 0 < other[0] * other[1] <= FEW_WEIGHTS and shape[0] > 0

    def most(self, weight: Tensor, plan: Plan) -> int:
        """How many rows of both signs are few; decided by sizes, so that a resumed run goes the same way."""
        outputs, inputs = weight.shape
        key = outputs, inputs, plan.inputs, plan.weights
        if key not in self._most:
            cut = Geometry.of(self._spec, 1, outputs * (2 if plan.weights == "space" else 1), inputs)
            each = cut.columns * cut.rows * cut.m
            few = min(FEW // max(each, cut.columns * cut.n), self._spec.max_counts_bytes // (2 * each))
            self._most[key] = few // (2 if plan.inputs == "time" else 1) if each * cut.n <= FEW_WEIGHTS else 0
        return self._most[key]

    def get(self, weight: Tensor, key: Key, make: Callable[[], T]) -> T:
        """The result for these numbers (compared in full) and this key, made if it is not the last one."""
        words, last = self._weight.of(weight).tobytes(), self._last
        if last is not None and last[0] == words and same_key(last[1], key):
            return last[2]
        self._last = None
        self._last = words, key, make()
        return self._last[2]

    def added(self, y: Array, bias: Tensor | None) -> Tensor:
        """(B, M) with the bias (M,), as a tensor."""
        return torch.from_numpy(y if bias is None else y + self._bias.of(bias))


class Viewed:
    """A parameter as numpy sees it: the view is made once, and anew when the parameter's memory is another."""

    def __init__(self) -> None:
        self._view: tuple[tuple[object, ...], Array] | None = None

    def of(self, values: Tensor) -> Array:
        """A view of float32 values."""
        at, view = (values.data_ptr(), values.shape, values.stride()), self._view
        if view is None or view[0] != at:
            # the view holds the memory, so that its address stays taken
            view = self._view = at, values.detach().numpy()
        return view[1]


class FewRows:
    """A weight of one group, and how few rows go through it.

    Args:
        encoded: the weight.
        spec: of the chip.
        transfer: of the inputs.

    Attributes:
        encoded: the same object.
    """

    def __init__(self, encoded: EncodedWeight, spec: ChipSpec, transfer: InputTransfer) -> None:
        cut = encoded.cut
        self.encoded, self._cut, self._dark = encoded, cut, spec.dark_code
        self._transfer = ValueCodes(transfer)
        self._whole = cut.columns * cut.n == cut.inputs
        self._factor = [array(factor) for factor in encoded.factor.unbind(1)]
        self._offset = array(encoded.offset[0])

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
        values: Array = x / (plan.scale or 1.0)
        if plan.inputs == "time":
            values = np.concatenate([np.maximum(values, 0.0), np.maximum(-values, 0.0)])
        codes = self._transfer.of(values)
        cut = self._cut
        if self._whole and cut.columns == 1:
            return codes.astype(np.int16)[np.newaxis]
        padded = np.full((len(codes), cut.columns * cut.n), self._dark, np.int16)
        padded[:, : cut.inputs] = codes
        return np.ascontiguousarray(padded.reshape(len(codes), cut.columns, cut.n).transpose(1, 0, 2))

    def products(self, counts: NDArray[np.int16], plan: Plan) -> Array:
        """(B, M) of counts (R, C, b, m)."""
        cut = self._cut
        y: Array = counts[:, 0] * self._factor[0]
        for column in range(1, cut.columns):
            y += counts[:, column] * self._factor[column]
        rows, b, m = y.shape
        y = y[0] if rows == 1 else y.transpose(1, 0, 2).reshape(b, rows * m)
        y -= self._offset
        if rows * m > cut.outputs:
            y = y[:, : cut.outputs]
        if plan.inputs == "time":
            y = y[: b // 2] - y[b // 2 :]
        if plan.weights == "space":
            half = cut.outputs // 2
            y = y[:, :half] - y[:, half:]
        return y * plan.scale


class ValueCodes:
    """Rounded codes of levels behind Mach-Zehnder modulators of one curve (see ``modulator.codes``).

    Args:
        transfer: of shape "mzm".
    """

    def __init__(self, transfer: InputTransfer) -> None:
        self._turn = (transfer.code_one - transfer.code_zero) * (2 / math.pi)
        self._zero = transfer.code_zero

    def of(self, values: Array) -> Array:
        """Whole codes of values in [0, 1], or a rounding error above; overwrites them."""
        np.minimum(values, 1.0, out=values)
        np.sqrt(values, out=values)
        np.arcsin(values, out=values)
        values *= self._turn
        if self._zero:
            values += self._zero
        np.rint(values, out=values)
        return values
