"""Where cells run: in processes of this machine, or on Ray. The same cells, and the same numbers on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from photonic.errors import SpecError
from photonic.study.cell import Cell
from photonic.study.local import LocalEngine
from photonic.study.onray import RayEngine
from photonic.study.running import Reply, Setting, usable_cores

ENGINES = ("local", "ray")


class Engine(Protocol):
    """Runs cells and gives their answers as they come."""

    def run(self, cells: Sequence[Cell], epoch: Callable[[], None]) -> Iterator[Reply]:
        """Runs all of them; closing the iterator ends every worker.

        Args:
            cells: in the order in which they begin.
            epoch: called for every epoch that is done, where the engine hears of it.
        """
        ...


def threads_of(jobs: int | None) -> int:
    """Threads of torch in each of so many workers; one where the number is left to the engine.

    The rule is the same for both engines: the number of threads is part of what makes numbers bit-identical.
    """
    return 1 if jobs is None else max(1, usable_cores() // jobs)


def open_engine(name: str, setting: Setting, jobs: int | None) -> Engine:
    """An engine by its name.

    Raises:
        SpecError: no such engine.
        MissingExtraError: ray is not installed.
    """
    if name == "local":
        return LocalEngine(setting, jobs or max(1, usable_cores() // setting.threads))
    if name == "ray":
        return RayEngine(setting, jobs)
    raise SpecError(f"an engine is one of {', '.join(ENGINES)}, found {name!r}")
