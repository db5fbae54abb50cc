"""Small grids on the digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from madeup import TINY

from photonic.study import campaign
from photonic.study.campaign import Listener, Request, Summary, run_study
from photonic.study.cell import Cell
from photonic.study.grid import Grid, parse_grid
from photonic.study.running import Reply, Runner, Setting


@pytest.fixture
def tiny() -> Grid:
    """Four cells of a second together."""
    return parse_grid(TINY, "tiny")


class InThisProcess:
    """An engine without processes, whose start would take most of a test's time."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def run(self, cells: Sequence[Cell], epoch: Callable[[], None]) -> Iterator[Reply]:
        threads = torch.get_num_threads()
        try:
            runner = Runner(self._setting, epoch=epoch)
            for cell in cells:
                yield runner.attempt(cell)
        finally:
            torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Summary]:
    """Runs a grid in a folder of this test, silently, on its engine."""

    def runs(grid: Grid, out: str = "study", **more: Any) -> Summary:
        return run_study(Request(grid, tmp_path / out, **more), Listener())

    return runs


@pytest.fixture
def quick(run: Callable[..., Summary], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Summary]:
    """As ``run``, in this process."""
    monkeypatch.setattr(campaign, "open_engine", lambda name, setting, jobs: InThisProcess(setting))
    return run
