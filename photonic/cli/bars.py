"""Progress on stderr: bars on a terminal, else one line for each stage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from photonic.cli.group import say
from photonic.train import Progress


class TerminalProgress(Progress):
    """Draws what a run tells; a context manager that leaves the terminal clean.

    Args:
        begun: called when nothing can be refused any more and the run begins.
    """

    def __init__(self, begun: Callable[[], None]) -> None:
        self.path: Path | None = None
        self._begun = begun
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        if sys.stderr.isatty():
            columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
            self._bars = Bars(TextColumn("{task.description}"), *columns, console=Console(stderr=True), transient=True)

    def folder(self, path: Path) -> None:
        """Remembers the run's folder, for the line after Ctrl-C."""
        self.path = path
        self._begun()
        say(f"run folder {path}")

    def stage(self, name: str, steps: int) -> None:
        """Begins a new bar, or says the stage."""
        if self._bars is None:
            say(name)
            return
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(name, total=steps)

    def step(self, text: str = "") -> None:
        """Moves the bar."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=1, description=text or None)

    def note(self, text: str) -> None:
        """Says it, above the bar."""
        say(text)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()


def drawn(bars: TerminalProgress) -> Callable[[int, int, str], None]:
    """Turns steps of an analysis into stages and steps of a bar."""

    def progress(done: int, steps: int, text: str) -> None:
        if done == 0:
            bars.stage(text.partition(":")[0], steps)
        else:
            bars.step(text)

    return progress
