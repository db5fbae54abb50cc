"""A study from its grid to its page: which cells are left, who runs them, what is written when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from photonic.errors import RunError, SpecError
from photonic.study.cell import FIELDS, Cell, label
from photonic.study.engines import open_engine, threads_of
from photonic.study.grid import Grid
from photonic.study.outcome import Outcome
from photonic.study.page import write_page
from photonic.study.remaining import Remaining
from photonic.study.running import Reply, Setting
from photonic.study.store import TABLE, StudyFolder
from photonic.study.table import parquet, write_table


@dataclass(frozen=True)
class Request:
    """What is asked of a study.

    Attributes:
        grid: the cells.
        folder: of the study, new or an earlier one's.
        engine: ``local`` or ``ray``.
        jobs: workers; None: one for each core.
        only: (field, value) pairs as text; a cell is run if all of them are so.
        limit: at most so many cells this time; None: all that are left.
        data_root: where named data sets lie; None: as ``load_dataset`` looks.
    """

    grid: Grid
    folder: Path
    engine: str = "local"
    jobs: int | None = None
    only: tuple[tuple[str, str], ...] = ()
    limit: int | None = None
    data_root: Path | None = None


class Listener:
    """Hears how it goes; silent. Override what you want to hear of."""

    def begins(self, cells: int, left: int, epochs: int) -> None:
        """So many cells are asked for, so many are left to run, with so many epochs."""

    def epoch(self) -> None:
        """An epoch of some cell is done."""

    def done(self, text: str) -> None:
        """A cell is done; the text says what it found, how fast it goes and what is left."""

    def failed(self, text: str) -> None:
        """A cell failed; the others go on."""


@dataclass
class Summary:
    """How a run of a study ended.

    Attributes:
        cells: that the grid has, as far as they were asked for.
        finished: of these, in the folder by now.
        ran: in this run.
        failed: messages of cells that failed in this run.
        seconds: of this run.
        threads: of torch, in each worker.
        table: file of all cells.
        page: file of the page.
    """

    cells: int
    finished: int = 0
    ran: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    threads: int = 1
    table: Path | None = None
    page: Path | None = None

    @property
    def cells_per_hour(self) -> float | None:
        """Of this run; None if it ran none."""
        return 3600 * self.ran / self.seconds if self.ran and self.seconds > 0 else None


def run_study(request: Request, listener: Listener) -> Summary:
    """Runs the cells that are not finished, then makes table and page.

    A cell that fails does not stop the others; it stays unfinished, and the summary has its message. When the run is
    interrupted, table and page are made of what there is.

    Raises:
        PhotonicError: a grid, folder or engine that cannot be.
    """
    parquet()  # before hours of work that could not be written down
    cells = chosen(request.grid.cells(), request.only)
    threads = threads_of(request.jobs)
    setting = Setting(request.folder, request.data_root, threads)
    engine = open_engine(request.engine, setting, request.jobs)
    folder = StudyFolder(request.folder)
    folder.prepare()
    with folder.locked():
        folder.write_plan(request.grid, cells)
        summary = Summary(len(cells), threads=threads)
        known = folder.finished()
        left = [cell for cell in cells if cell.hash not in known][: request.limit]
        listener.begins(len(cells), len(left), sum(cell.epochs for cell in left))
        started = time.perf_counter()
        try:
            if left:
                remaining = Remaining(folder.outcomes(), left)
                # closed also when an exception leaves the loop: no worker outlives it
                with closing(engine.run(left, listener.epoch)) as replies:  # type: ignore[type-var]  # a generator
                    for reply in replies:
                        _note(reply, folder, summary, listener, remaining, started)
        finally:
            summary.seconds = time.perf_counter() - started
            finished = folder.finished()
            summary.finished = sum(cell.hash in finished for cell in cells)
            summary.table, summary.page = write_results(folder)
    return summary


def write_results(folder: StudyFolder) -> tuple[Path | None, Path | None]:
    """Makes table and page of the finished cells; None where there are none.

    Raises:
        RunError: no study's folder, a damaged cell, or a file that cannot be written.
    """
    outcomes = folder.outcomes()
    if not outcomes:
        return None, None
    table = folder.path / TABLE
    write_table(outcomes, table)
    return table, write_page(folder, outcomes)


def chosen(cells: Sequence[Cell], only: Sequence[tuple[str, str]]) -> tuple[Cell, ...]:
    """The cells of which every named field reads as given: ``activation=relu``, ``ep=0.5``, ``n_conv=none``.

    Raises:
        SpecError: a field that cells do not have, or no cell is left.
    """
    for name, value in only:
        if name not in FIELDS:
            raise SpecError(f"--only {name}={value}: cells have no {name}; they have {', '.join(FIELDS)}")
        cells = [cell for cell in cells if _reads(getattr(cell, name), value)]
        if not cells:
            raise SpecError(f"--only {name}={value} leaves no cell of the grid")
    return tuple(cells)


def _reads(value: object, text: str) -> bool:
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value).lower() == text.lower()


def _note(
    reply: Reply, folder: StudyFolder, summary: Summary, listener: Listener, remaining: Remaining, started: float
) -> None:
    """Writes a finished cell down, or notes why there is none."""
    outcome = reply.outcome
    if outcome is None:
        _fail(remaining.failed(reply.cell), reply.error, reply.trace, summary, listener)
        return
    try:
        folder.keep_inputs(reply.inputs or {})
        folder.write_outcome(outcome)
    except RunError as error:
        _fail(outcome.cell, str(error), "", summary, listener)
        return
    summary.ran += 1
    left = remaining.after(outcome, time.perf_counter() - started)
    listener.done(f"{describe(outcome.cell)}: {found(outcome)}, {outcome.seconds:.0f} s; {left}")


def _fail(cell: Cell, error: str, trace: str, summary: Summary, listener: Listener) -> None:
    text = f"{describe(cell)}: {error}"
    summary.failed.append(text)
    listener.failed(text if not trace else f"{text}\n{trace}")


def found(outcome: Outcome) -> str:
    """The two accuracies, for people."""
    early = "" if outcome.status == "finished" else f" ({outcome.status} after {len(outcome.test_accuracy)} epochs)"
    return f"{100 * outcome.last:.1f} % at the last epoch, {100 * outcome.maximum:.1f} % at the best{early}"


def describe(cell: Cell) -> str:
    """A cell in one line."""
    parts = [label(cell), network_name(cell), cell.backend]
    if cell.precision is not None:
        parts.append(f"p={cell.precision}" if cell.quantiser == "mid-tread" else "sign")
    if cell.ep is not None:
        parts.append(f"EP={cell.ep:g}" + ("" if cell.noise == "gaussian" else f" {cell.noise}"))
    return ", ".join([*parts, f"seed {cell.seed}"])


def network_name(cell: Cell) -> str:
    """The network with its depth."""
    if cell.n_conv is not None or cell.n_linear is not None:
        return f"{cell.network} {6 if cell.n_conv is None else cell.n_conv}+{cell.n_linear or 3}"
    return cell.network if cell.depth is None else f"{cell.network} of {cell.depth}"
