"""Seeds: every stream of random numbers has a name; what torch keeps of it is 32 bits (docs/decisions/0004)."""

from __future__ import annotations

import hashlib

import torch


def derive(*key: int | str) -> int:
    """A 63-bit seed from a key; keys that differ anywhere give unrelated seeds (BLAKE2b)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator for the stream of that name."""
    return torch.Generator().manual_seed(derive(*key))
