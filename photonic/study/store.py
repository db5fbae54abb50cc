"""The folder of a study: every file is whole or absent, whenever a process is killed.

cells/HASH.json         one finished cell each: the truth; the table is made from them
checkpoints/HASH.pt     of cells that are not finished
pretrained/HASH.pt      clean networks that transfer starts from
plans/NAME.json         what grids were asked for
inputs.json             hashes of the data and records that the cells used
table.parquet           all finished cells
report.html, figures/   the page
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from photonic.errors import PhotonicError, RunError
from photonic.study.cell import Cell
from photonic.study.grid import Grid
from photonic.study.outcome import Outcome
from photonic.train.runs import replacing

CELLS, CHECKPOINTS, PRETRAINED, PLANS = "cells", "checkpoints", "pretrained", "plans"
INPUTS, TABLE, PAGE, FIGURES = "inputs.json", "table.parquet", "report.html", "figures"
_LOCK = ".lock"


class StudyFolder:
    """Reads and writes the files of one study.

    Args:
        path: of the folder; ``prepare`` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Makes the folder.

        Raises:
            RunError: it is something else already, or cannot be made.
        """
        try:
            if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / CELLS).is_dir():
                raise RunError(f"{self.path} is not empty and is no study's folder; give another --out")
            for name in (CELLS, CHECKPOINTS, PRETRAINED, PLANS):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the study folder {self.path}: {error.strerror}; give another --out") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for one process at a time; the system lets go of it whenever that ends.

        Raises:
            RunError: another process works in it.
        """
        import fcntl  # POSIX alone has it

        with (self.path / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"another process works in {self.path}; wait for it, or give another --out") from error
            self._sweep()
            yield

    def outcomes(self) -> tuple[Outcome, ...]:
        """All finished cells, in an order that does not depend on when they were finished.

        Raises:
            RunError: no study's folder, or a damaged file.
        """
        if not (self.path / CELLS).is_dir():
            raise RunError(f"{self.path} is no study's folder: it holds no {CELLS}/")
        found = (self._outcome(path) for path in sorted((self.path / CELLS).glob("*.json")))
        return tuple(sorted(found, key=lambda outcome: repr(outcome.cell)))

    def finished(self) -> frozenset[str]:
        """Hashes of the cells that never run again."""
        return frozenset(path.stem for path in (self.path / CELLS).glob("*.json"))

    def write_outcome(self, outcome: Outcome) -> None:
        """Marks a cell as finished and removes its checkpoint."""
        self._write(Path(CELLS) / f"{outcome.cell.hash}.json", outcome.model_dump(mode="json"))
        self.checkpoint(outcome.cell).unlink(missing_ok=True)

    def checkpoint(self, cell: Cell) -> Path:
        """Where the state of an unfinished cell lies."""
        return self.path / CHECKPOINTS / f"{cell.hash}.pt"

    def write_plan(self, grid: Grid, cells: Iterable[Cell]) -> None:
        """Keeps what was asked for, so that the page can say what is missing."""
        hashes = [cell.hash for cell in cells]
        content = grid.model_dump(mode="json", include={"name", "title", "about", "reference"}) | {"cells": hashes}
        self._write(Path(PLANS) / f"{grid.name}.json", content)

    def plans(self) -> tuple[dict[str, Any], ...]:
        """What was asked for, by name."""
        return tuple(self._read(path) for path in sorted((self.path / PLANS).glob("*.json")))

    def refuse_changed(self, used: Mapping[str, str]) -> dict[str, str]:
        """Holds data and records to what the study's other cells used, and gives the hashes of all of them.

        Raises:
            RunError: one of them changed.
        """
        path = self.path / INPUTS
        known: dict[str, str] = self._read(path) if path.exists() else {}
        for name, found in used.items():
            if known.setdefault(name, found) != found:
                raise RunError(
                    f"{name} is not what the cells in {self.path} used (sha256 {known[name]}, now {found}): "
                    "restore it, or give another --out"
                )
        return known

    def keep_inputs(self, used: Mapping[str, str]) -> None:
        """Remembers what a cell used.

        Raises:
            RunError: other cells used something else by the same name.
        """
        self._write(Path(INPUTS), self.refuse_changed(used))

    def _outcome(self, path: Path) -> Outcome:
        try:
            outcome = Outcome(**self._read(path))
        except PhotonicError as error:
            raise RunError(f"{path} is damaged: {error}; delete it to run the cell again") from error
        if outcome.cell.hash != path.stem:
            raise RunError(
                f"{path} holds the cell {outcome.cell.hash}: it was changed; delete it to run the cell again"
            )
        return outcome

    def _sweep(self) -> None:
        """Removes what a killed process left half-written."""
        for leftover in self.path.glob("**/.*.tmp"):
            leftover.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{path}: expected a JSON object, found {type(content).__name__}")
        return content

    def _write(self, name: Path, content: Mapping[str, Any]) -> None:
        try:
            with replacing(self.path / name) as file:
                file.write((json.dumps(content, indent=1) + "\n").encode())
        except OSError as error:
            raise RunError(f"cannot write {self.path / name}: {error.strerror or error}") from error
