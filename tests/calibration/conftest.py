"""Measured data, which is not part of the project: tests that use it skip where it is absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def measured() -> Callable[[str], Path]:
    """Path of a measured file in $PHOTONIC_DATA/measured, else in ../shared/data/measured beside the project."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("PHOTONIC_DATA", beside)) / "measured"

    def path(name: str) -> Path:
        if not (folder / name).exists():
            pytest.skip(f"measured data not present: {folder / name}")
        return folder / name

    return path
