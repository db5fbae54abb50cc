"""Activations by name: what ``--activation`` and the project's own networks take."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from torch import nn

from photonic.errors import SpecError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "identity": nn.Identity,
}


def activation_factory(name: str) -> Callable[[], nn.Module]:
    """The factory of a named activation; each call gives a new module.

    Raises:
        SpecError: no activation has this name.
    """
    if name not in ACTIVATIONS:
        raise SpecError(unknown("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not among the known ones: near matches first, or else the list."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return f"unknown {what} {name!r}; {hint}"
