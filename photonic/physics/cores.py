"""Compiled loops on the threads that torch computes with (docs/decisions/0019).

A loop over a large tensor has parts, and every thread takes the next part that nobody has: what a part computes must
depend on its number alone, so that results do not depend on how many threads there are, and a core that somebody else
uses delays nobody. Threads of one's own would wait for cores on which torch's wait actively for torch's next operation;
therefore parts run on torch's.

numba takes a while to import: modules with kernels are imported where they are used.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir  # noqa: TID253 - see above
from numba import cfunc, types  # noqa: TID253 - see above
from numba.extending import intrinsic  # noqa: TID253 - see above

# of what a kernel gets: the next part, then its own numbers
ARGUMENTS = types.CPointer(types.int64)
# what floating point may be re-ordered for; NaN and infinities stay what they are
FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


def kernel(function: Callable[[Any], None]) -> Any:
    """Compiles a function of ``ARGUMENTS``, and keeps it beside its module, or where numba keeps such things."""
    try:
        return cfunc(types.void(ARGUMENTS), cache=True, fastmath=FAST)(function)
    except RuntimeError:  # no directory may be written: compiled anew by every process
        return cfunc(types.void(ARGUMENTS), fastmath=FAST)(function)


@intrinsic
def next_part(typing_context: Any, arguments: Any) -> Any:
    """In a kernel: the number of a part that no other thread has got."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", values[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(arguments), generate


@intrinsic
def float32s(typing_context: Any, address: Any) -> Any:
    """In a kernel: what stands at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate


@lru_cache(maxsize=1)
def _parallel() -> Callable[[int, int, int, int], None] | None:
    """Runs a function on so many of torch's threads; None where torch's OpenMP is not GNU's, nor speaks like it."""
    beside = Path(torch.__file__).parent / "lib"
    names = [str(path) for pattern in ("libgomp*", "libomp*", "libiomp*") for path in sorted(beside.glob(pattern))]
    for name in [*names, "libgomp.so.1", "libiomp5.so", "libomp.so"]:
        try:
            run = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LAZY).GOMP_parallel
        except (AttributeError, OSError):
            continue
        run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
        return run
    return None


def run(compiled: Any, parts: int, arguments: Sequence[int], threads: int) -> None:
    """Runs a kernel.

    Args:
        compiled: a ``kernel``; its own numbers begin at ``arguments[2]``, after the next part and the number of parts.
        parts: how many there are.
        arguments: its own numbers: addresses, sizes, seeds.
        threads: at most; torch's own number is the limit.
    """
    numbers = np.array([0, parts, *arguments], dtype=np.int64)
    threads, parallel = min(threads, parts, torch.get_num_threads()), _parallel()
    if threads > 1 and parallel is not None:
        parallel(compiled.address, numbers.ctypes.data, threads, 0)
    else:
        compiled.ctypes(numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)))
