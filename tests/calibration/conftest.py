"""Stores that are let go of; measured data, which is not part of the project: tests of it skip where it is absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from photonic.calibration.raw import RawStore


@pytest.fixture
def all_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores stay open in these tests as they would in a process that is killed; here they are let go of afterwards."""
    stores, begin = list[RawStore](), RawStore.__init__

    def noting(self: RawStore, *arguments: Any) -> None:
        begin(self, *arguments)
        stores.append(self)

    with monkeypatch.context() as patched:
        patched.setattr(RawStore, "__init__", noting)
        yield
    for store in stores:
        store.close()


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
