"""How long a study still takes, from the cells that are done."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from photonic.study.cell import Cell
from photonic.study.outcome import Outcome

Kind = tuple[object, ...]


class Remaining:
    """Knows which cells are left and what their like took.

    A cell takes what cells of its network, noise and data took for an epoch; of a kind that nobody ran yet, what an
    epoch of any cell took.

    Args:
        before: cells of earlier runs.
        left: cells of this run.
    """

    def __init__(self, before: Sequence[Outcome], left: Sequence[Cell]) -> None:
        self._left = {cell.hash: cell for cell in left}
        self._seconds: dict[Kind, list[float]] = {}
        self._done, self._worked = 0, 0.0
        for outcome in before:
            self._learn(outcome)

    def failed(self, cell_hash: str) -> Cell:
        """Takes a cell off the list."""
        return self._left.pop(cell_hash)

    def after(self, outcome: Outcome, seconds: float) -> str:
        """Takes a finished cell off the list and says what is left.

        Args:
            outcome: the cell.
            seconds: since this run began.
        """
        self._left.pop(outcome.cell.hash)
        self._learn(outcome)
        self._done, self._worked = self._done + 1, self._worked + outcome.seconds
        rate = 3600 * self._done / max(seconds, 1e-9)
        if not self._left:
            return f"{rate:.0f} cells/h, none left"
        # how many run side by side is seen from the work that was done in this time
        speed = self._worked / max(seconds, 1e-9)
        work = sum(self._expected(cell) for cell in self._left.values())
        return f"{rate:.0f} cells/h, {len(self._left)} left, about {duration(work / max(speed, 1e-9))}"

    def _learn(self, outcome: Outcome) -> None:
        self._seconds.setdefault(_kind(outcome.cell), []).append(outcome.seconds / len(outcome.test_accuracy))

    def _expected(self, cell: Cell) -> float:
        like = self._seconds.get(_kind(cell)) or [each for kind in self._seconds.values() for each in kind]
        return statistics.fmean(like) * cell.epochs


def duration(seconds: float) -> str:
    """For people."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _kind(cell: Cell) -> Kind:
    return (
        cell.network,
        cell.n_conv,
        cell.n_linear,
        cell.depth,
        cell.backend.partition("?")[0],
        cell.noise,
        cell.data,
        cell.train_images,
        cell.batch_size,
    )
