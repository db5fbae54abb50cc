"""Compiled loops on the threads that torch computes with (docs/decisions/0019).

A loop over a large tensor has parts, and every thread takes the next part that nobody has: what a part computes must
depend on its number alone, so that results do not depend on how many threads there are, and a core that somebody else
uses delays nobody. Threads of one's own would wait for cores on which torch's wait actively for torch's next operation;
therefore parts run on torch's.

numba takes a while to import: modules with kernels are imported where they are used.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Set
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from llvmlite import ir  # noqa: TID253 - see above
from numba import carray, cfunc, types  # noqa: TID253 - see above
from numba.extending import intrinsic, register_jitable  # noqa: TID253 - see above
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")

# what floating point may be re-ordered for; NaN and infinities stay what they are
FAST = frozenset({"contract", "reassoc", "nsz", "arcp", "afn"})


@lru_cache(maxsize=1)
def _inlined() -> str:
    """A name for the state of the files whose functions others inline."""
    files = Path(__file__), Path(__file__).with_name("normals.py")
    return hashlib.blake2b(b"".join(each.read_bytes() for each in files), digest_size=4).hexdigest()


def call(*fields: tuple[str, str]) -> np.dtype[np.void]:
    """The record that a kernel gets: the next part and the number of parts, then fields of its own.

    Args:
        fields: name and numpy's code of each; ``u8`` is an address.
    """
    return np.dtype([("next", "i8"), ("parts", "i8"), *fields], align=True)


def kernel(fast: Set[str]) -> Callable[[Callable[[Any], None]], Any]:
    """Compiles a function of a ``call``'s address, and keeps it beside its module, or where numba keeps such things.

    Args:
        fast: what floating point may be re-ordered for (LLVM's flags); those of what is inlined do not count.
    """
    options = {"fastmath": set(fast), "error_model": "numpy"}

    def compile_(function: Callable[[Any], None]) -> Any:
        signature = types.void(types.voidptr)
        # numba's cache asks whether the file of a kernel has changed, and not those of what is inlined in it
        function.__qualname__ += f"_{_inlined()}"
        try:
            return cfunc(signature, cache=True, **options)(function)
        except (RuntimeError, OSError):  # nothing may be written, or the disk is full: compiled anew by every process
            return cfunc(signature, **options)(function)

    return compile_


@intrinsic
def next_part(typing_context: Any, arguments: Any) -> Any:
    """In a kernel: the number of a part that no other thread has got."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        counter = builder.bitcast(values[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(arguments), generate


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.voidptr(address), generate


@register_jitable
def array(address, count, dtype):
    """In a kernel: numbers at an address; ``count`` is not looked at again."""
    return carray(_pointer(address), count, dtype)


@register_jitable
def place(code, lowest):
    """In a kernel: a code's place in a table that begins at ``lowest``; what is not whole is far beyond every table."""
    offset = code - lowest
    whole = np.int32(offset)
    return np.uint32(whole) if np.float32(whole) == offset else np.uint32(0xFFFFFFFF)


def extent(tensor: Tensor) -> int:
    """From its first number to behind its last, in memory: a slice that begins beyond it would be cut off."""
    return 1 + sum((count - 1) * step for count, step in zip(tensor.shape, tensor.stride(), strict=True))


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


def run(compiled: Any, arguments: NDArray[np.void], *, alone: bool) -> None:
    """Runs a kernel over the parts that its arguments tell.

    Args:
        compiled: a ``kernel``.
        arguments: one record of its ``call``; the number of parts is set.
        alone: on the calling thread, where others would take longer to start than they save; else on as many as torch
            uses.
    """
    arguments["next"] = 0
    threads, parallel = min(int(arguments["parts"][0]), torch.get_num_threads()), _parallel()
    if alone or threads == 1 or parallel is None:
        compiled.ctypes(arguments.ctypes.data)
    else:
        parallel(compiled.address, arguments.ctypes.data, threads, 0)
