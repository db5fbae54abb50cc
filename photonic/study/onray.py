"""Cells on Ray: on this machine, or on the cluster that ``RAY_ADDRESS`` names."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from photonic.errors import BackendError, MissingExtraError
from photonic.study.cell import Cell
from photonic.study.running import Reply, Runner, Setting, usable_cores

ADDRESS = "RAY_ADDRESS"


class RayEngine:
    """One actor for each worker, with as many CPUs as it has threads.

    The answers come back to this process, which alone writes them; checkpoints lie where the worker is, so that on a
    cluster without shared files a cell that is interrupted begins anew. Data and this package must be on every machine.

    Args:
        setting: of the study.
        jobs: how many actors; None: as many as the CPUs allow.

    Raises:
        MissingExtraError: ray is not installed.
    """

    def __init__(self, setting: Setting, jobs: int | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "study") from error
        self._ray: Any = ray
        self._setting, self._jobs = setting, jobs

    def run(self, cells: Sequence[Cell], epoch: Callable[[], None]) -> Iterator[Reply]:
        """Runs all cells; of single epochs nothing is heard."""
        self._begin()
        try:
            free = [self._actor() for _ in range(min(self._workers(), len(cells)))]
            waiting, running = deque(cells), dict[Any, tuple[Any, Cell]]()
            while waiting or running:
                while waiting and free:
                    actor, cell = free.pop(), waiting.popleft()
                    running[actor.attempt.remote(cell.model_dump_json())] = actor, cell
                done, _ = self._ray.wait(list(running))
                for reference in done:
                    actor, cell = running.pop(reference)
                    reply = self._answer(reference, cell)
                    free.append(actor if reply is not None else self._actor())
                    yield reply or Reply(cell.hash, error="its Ray worker ended; too little memory, or killed")
        finally:
            self._ray.shutdown()

    def _answer(self, reference: Any, cell: Cell) -> Reply | None:
        try:
            return Reply.from_json(self._ray.get(reference))
        except self._ray.exceptions.RayActorError:
            return None
        except self._ray.exceptions.RayError as error:
            return Reply(cell.hash, error=f"Ray: {' '.join(str(error).split())}")

    def _begin(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        address = os.environ.get(ADDRESS)
        try:
            if address:
                self._ray.init(address=address, **quiet)
            else:
                count = (self._jobs or usable_cores()) * self._setting.threads
                self._ray.init(address="local", num_cpus=count, include_dashboard=False, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise BackendError(f"Ray does not start ({ADDRESS}={address}): {error}") from error

    def _workers(self) -> int:
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        return self._jobs or max(1, cpus // self._setting.threads)

    def _actor(self) -> Any:
        options = {"num_cpus": self._setting.threads, "max_restarts": 0}
        return self._ray.remote(**options)(_RayWorker).remote(self._setting)


class _RayWorker:
    """A runner in a process of Ray's."""

    def __init__(self, setting: Setting) -> None:
        self._runner = Runner(setting)

    def attempt(self, cell: str) -> str:
        """JSON to JSON."""
        return self._runner.attempt(Cell.model_validate_json(cell)).to_json()
