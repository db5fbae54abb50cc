"""What faults do to replies: pure functions of the pieces that would be sent."""

from __future__ import annotations

import numpy as np

from photonic.testing.bench.faults import Fault
from photonic.testing.bench.instrument import Reply


def spoiled(reply: Reply, fault: Fault, sample_bytes: int) -> Reply:
    """The reply as the fault has it; the same where the fault is not one of the reply's content.

    Args:
        reply: with its terminator; empty where there is none.
        fault: that happens.
        sample_bytes: of one sample of a block.
    """
    if not reply:
        return reply
    if fault.kind == "silence":
        return []
    if fault.kind in ("drop", "truncate"):
        return _cut(reply, fault.bytes)
    if fault.kind == "garbage":
        return [_garbage(sum(map(len, reply)))]
    if fault.kind == "duplicate":
        return [*reply, *reply]
    if fault.kind == "wrong_length":
        return _relabelled(reply, -2 if fault.amount is None else int(fault.amount))
    if fault.kind == "byte_order":
        return [_swapped(piece, sample_bytes) if isinstance(piece, memoryview) else piece for piece in reply]
    return reply


def _cut(reply: Reply, size: int | None) -> Reply:
    left = sum(map(len, reply)) // 2 if size is None else size
    kept: Reply = []
    for piece in reply:
        kept.append(piece[:left])
        left -= len(kept[-1])
    return kept


def _garbage(size: int) -> bytes:
    """Random bytes with an end; the same ones for the same size."""
    noise = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    noise[noise == ord("\n")] = ord("?")
    return noise[:-1].tobytes() + b"\n"


def _relabelled(reply: Reply, more: int) -> Reply:
    changed = list(reply)
    for index, piece in enumerate(reply):
        if isinstance(piece, memoryview):
            size = str(max(0, len(piece) + more))
            changed[index - 1] = f"#{len(size)}{size}".encode()
    return changed


def _swapped(block: memoryview, sample_bytes: int) -> memoryview:
    samples = np.frombuffer(block, dtype=np.uint8).reshape(-1, sample_bytes)
    return np.ascontiguousarray(samples[:, ::-1]).reshape(-1).data
