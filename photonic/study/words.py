"""Cells in words: what they share, and what tells their settings apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from photonic.physics.codes import CONVENTIONS, bits_of
from photonic.study.cell import FIELDS, Cell

TITLES = {
    "precision": "p",
    "ep": "EP",
    "noise": "noise",
    "match": "equal",
    "n_conv": "conv",
    "n_linear": "linear",
    "train_images": "images",
    "test_images": "test images",
    "batch_size": "batch",
    "pretrain_classes": "learnt first: classes",
    "pretrain_epochs": "learnt first: epochs",
    "early_stopping": "early stopping",
    "weight_decay": "weight decay",
}


def varying(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Fields of which these cells have more than one value, in the order of the record."""
    found = list(cells)
    return tuple(name for name in FIELDS if len({getattr(cell, name) for cell in found}) > 1)


def setting_text(names: Sequence[str], values: Sequence[object]) -> str:
    """The values of these fields, for people; what does not apply is left out."""
    parts = (
        f"{TITLES.get(name, name)} {value_text(value)}"
        for name, value in zip(names, values, strict=True)
        if value is not None
    )
    return ", ".join(parts)


def value_text(value: object) -> str:
    """A field's value."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "none" if value is None else str(value)


def bits_text(precision: int) -> str:
    """A precision in all conventions of bits."""
    return ", ".join(f"{bits_of(precision, convention):.3g} ({convention})" for convention in CONVENTIONS)
