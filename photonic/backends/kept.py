"""What was made of a layer's numbers, kept for as long as they stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Key = tuple[object, ...]

_FEW = 2**14  # numbers
_MANY = 2**16  # words


class Kept(Generic[T]):
    """The last result for one layer; whether it is fresh is decided by comparing numbers.

    A result is kept when the same numbers come a second time: in training they never do, and nothing is held.

    Args:
        at_once: keep it the first time, where it is expensive to make.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self._last: tuple[Known, Key, T] | None = None
        self._seen: tuple[int, Key] | None = None

    def get(self, numbers: Tensor, key: Key, make: Callable[[], T]) -> T:
        """The result for these numbers, made if it is not the last one.

        Args:
            numbers: compared in full.
            key: what else the result is made from; a tensor is compared by identity.
            make: makes the result.
        """
        last = self._last
        if last is not None and same_key(key, last[1]) and last[0].same(numbers):
            return last[2]
        self._last = None
        result, seen = make(), (checksum(numbers), key)
        again = self._seen is not None and seen[0] == self._seen[0] and same_key(key, self._seen[1])
        if again or self._at_once:
            self._last = Known(numbers), key, result
        self._seen = seen
        return result


class Known:
    """A copy of numbers, for comparing.

    Args:
        numbers: any tensor.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers.detach().clone()
        # few numbers are compared byte by byte: torch takes longer to begin
        self._bytes = _bytes(self._numbers)

    def same(self, numbers: Tensor) -> bool:
        """Whether other numbers are the same; 0 and -0 may count as different."""
        known = self._numbers
        if self._bytes is None or numbers.shape != known.shape or numbers.dtype != known.dtype:
            return same_numbers(numbers, known)
        return self._bytes == _bytes(numbers)


def _bytes(numbers: Tensor) -> bytes | None:
    """Of few numbers on the CPU."""
    if numbers.numel() > _FEW or not numbers.is_cpu or numbers.dtype == torch.bfloat16:
        return None
    found: bytes = numbers.numpy().tobytes()
    return found


def same_key(one: Key, other: Key) -> bool:
    """Whether two keys are the same; a tensor is compared by identity."""
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        if a is not b and (isinstance(a, Tensor) or isinstance(b, Tensor) or a != b):
            return False
    return True


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers; 0 and -0 may count as different."""
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return torch.equal(_long_words(one), _long_words(other))


def checksum(numbers: Tensor) -> int:
    """Equal for equal numbers; nearly always another for others: of many, every eighth word counts."""
    words = _long_words(numbers)
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[words.element_size()]
    words = words.contiguous().view(kind).flatten()
    return int((words[::8] if len(words) > _MANY else words).sum())


def _long_words(numbers: Tensor) -> Tensor:
    """The same memory as longer whole numbers, which compare several times faster."""
    if numbers.ndim == 0 or not numbers.is_contiguous() or numbers.shape[-1] * numbers.element_size() % 8:
        return numbers
    return numbers.view(torch.int64)
