"""Loops run on torch's threads, and are compiled where there is no place to keep them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from numba import carray

from photonic.physics.compiled import cores
from photonic.physics.many import MANY, many

CALL = cores.call(("seen", "u8"))


def _mark(arguments: Any) -> None:
    call = carray(arguments, 1, CALL)[0]
    seen = cores.array(call.seen, call.parts, np.int64)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        seen[part] += part + 1


def _marked(kernel: Any, parts: int, *, alone: bool) -> list[int]:
    seen, call = np.zeros(parts, np.int64), np.zeros(1, CALL)
    call["seen"], call["parts"] = seen.ctypes.data, parts
    cores.run(kernel, call, alone=alone)
    return seen.tolist()


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 1000])
def test_every_part_is_done_once(parts: int, alone: bool) -> None:
    assert _marked(cores.kernel(cores.FAST)(_mark), parts, alone=alone) == list(range(1, parts + 1))


@pytest.mark.parametrize("error", [RuntimeError("cannot cache function: no locator available"), OSError("full")])
def test_without_a_place_for_compiled_code_it_is_compiled_anew(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []
    original = cores.cfunc

    def nowhere(*arguments: Any, cache: bool = False, **options: Any) -> Any:
        kept.append(cache)
        if cache:
            raise error
        return original(*arguments, **options)

    monkeypatch.setattr(cores, "cfunc", nowhere)
    assert _marked(cores.kernel(cores.FAST)(_mark), 5, alone=True) == [1, 2, 3, 4, 5]
    assert kept == [True, False]


def test_compiled_code_is_named_by_what_it_inlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba does not see that another file has changed, of which a kernel holds a part."""
    names = []
    for state in ("one", "other"):
        monkeypatch.setattr(cores, "_inlined", lambda state=state: state)
        monkeypatch.setattr(cores, "cfunc", lambda *_, **__: lambda function: names.append(function.__qualname__))
        cores.kernel(cores.FAST)(lambda arguments: None)
    assert names[0].endswith("_one")
    assert names[1].endswith("_other")


@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels bring GNU OpenMP on Linux")
def test_torch_s_threads_are_found() -> None:
    assert cores._parallel() is not None


def test_what_is_looped_over() -> None:
    """Float32, contiguous, on the CPU, from a size on; what goes beside it may be small."""
    whole = torch.zeros(2, MANY)
    assert many(whole)
    assert many(whole, torch.zeros(3))
    assert not many(torch.zeros(MANY - 1))
    assert not many(whole.double())
    assert not many(whole, torch.zeros(3, dtype=torch.float64))
    assert not many(whole.mT)
    assert not many(whole[:, 1:])
    assert many(whole[:, 1:], whole[:, 1:], inner=True)
