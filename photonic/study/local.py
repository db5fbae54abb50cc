"""Cells in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from photonic.study.cell import Cell
from photonic.study.running import Reply, Runner, Setting

_EPOCH = b""  # no reply is empty
_SECONDS_TO_END = 10
# for glibc, in workers: what torch frees stays with the process. By default tensors of some MB go back to the system,
# which hands them out again page by page (benchmarks/study_cell.py)
KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}


class _Worker(NamedTuple):
    process: BaseProcess
    connection: Connection


class LocalEngine:
    """Processes that are started anew (spawn), so that none inherits threads, locks or random numbers.

    Args:
        setting: of the study.
        jobs: how many processes.
    """

    def __init__(self, setting: Setting, jobs: int) -> None:
        self._setting, self._jobs = setting, jobs
        self._workers: dict[Connection, _Worker] = {}
        self._busy: dict[Connection, Cell] = {}

    def run(self, cells: Sequence[Cell], epoch: Callable[[], None]) -> Iterator[Reply]:
        """Runs all cells; a process that dies costs its cell, and another takes its place."""
        waiting = deque(cells)
        try:
            while waiting or self._busy:
                while waiting and len(self._busy) < self._jobs:
                    self._give(waiting.popleft())
                for connection in wait(list(self._busy)):
                    reply = self._hear(connection, epoch)  # type: ignore[arg-type]  # they are connections
                    if reply is not None:
                        yield reply
        finally:
            self._end()

    def _give(self, cell: Cell) -> None:
        free = next((each for each in self._workers if each not in self._busy), None) or self._start()
        free.send_bytes(cell.model_dump_json().encode())
        self._busy[free] = cell

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._setting), daemon=True)
        with _environment(KEPT_MEMORY):
            process.start()
        theirs.close()
        self._workers[ours] = _Worker(process, ours)
        return ours

    def _hear(self, connection: Connection, epoch: Callable[[], None]) -> Reply | None:
        try:
            said = connection.recv_bytes()
        except (EOFError, OSError):
            return self._lost(connection)
        if said == _EPOCH:
            epoch()
            return None
        del self._busy[connection]
        return Reply.from_json(said.decode())

    def _lost(self, connection: Connection) -> Reply:
        worker, cell = self._workers.pop(connection), self._busy.pop(connection)
        worker.process.join(_SECONDS_TO_END)
        connection.close()
        code = worker.process.exitcode
        return Reply(cell.hash, error=f"its process ended with exit code {code}; too little memory, or killed")

    def _end(self) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
            worker.connection.close()
        for worker in self._workers.values():
            worker.process.join(_SECONDS_TO_END)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()
        self._busy.clear()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """For processes that are started inside the block; what the user set is left."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


class _Orphaned(BaseException):
    """The process that asked for the cell is gone."""


def _work(connection: Connection, setting: Setting) -> None:
    """The life of a worker: cells until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of the terminal; the engine ends its workers
    parent = multiprocessing.parent_process()

    def stepped() -> None:
        if parent is not None and not parent.is_alive():
            raise _Orphaned

    runner = Runner(setting, stepped, lambda: connection.send_bytes(_EPOCH))
    # a broken pipe: nobody is left to answer
    with suppress(EOFError, OSError, _Orphaned):
        while True:
            cell = Cell.model_validate_json(connection.recv_bytes())
            connection.send_bytes(runner.attempt(cell).to_json().encode())
