"""Markdown tables, bounds of rates, and results kept from run to run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import beta

Row = dict[str, Any]


def at_least(hits: int, trials: int, level: float = 0.95) -> float:
    """One-sided lower bound of a rate (Clopper and Pearson, Biometrika 26, 404 (1934))."""
    return float(beta.ppf(1 - level, hits, trials - hits + 1)) if hits else 0.0


def at_most(hits: int, trials: int, level: float = 0.95) -> float:
    """One-sided upper bound of a rate."""
    return float(beta.ppf(level, hits + 1, trials - hits)) if hits < trials else 1.0


def rate(hits: int, trials: int) -> str:
    """Hits of trials, and the lower bound."""
    return f"{hits} of {trials} (at least {100 * at_least(hits, trials):.0f} %)" if trials else "-"


def share(hits: Sequence[int], trials: Sequence[int]) -> str:
    """Pooled share over clusters, +- its standard error from the spread between clusters, each a seed."""
    h, n = np.array(hits, dtype=float), np.array(trials, dtype=float)
    if not n.sum():
        return "-"
    pooled = h.sum() / n.sum()
    if len(h) < 2:
        return f"{100 * pooled:.1f} %"
    error = np.sqrt(((h - pooled * n) ** 2).sum() * len(h) / (len(h) - 1)) / n.sum()
    return f"{100 * pooled:.1f} +- {100 * error:.1f} %"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints Markdown."""
    print("\n| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


def collect(task: Callable[..., Row], jobs: Sequence[tuple[Any, ...]], store: Path | None, workers: int) -> list[Row]:
    """One result for each job, in order; those in ``store`` are not computed again.

    Args:
        task: called with the fields of a job; what it gives must be JSON.
        jobs: tuples of strings and numbers, which name the results.
        store: JSON lines of finished jobs; appended to. None: nothing is kept.
        workers: processes.
    """
    done = dict(_kept(store)) if store is not None and store.exists() else {}
    if store is not None and done and not store.read_text().endswith("\n"):
        with store.open("a") as lines:
            lines.write("\n")  # behind a line that a kill has cut
    missing = [job for job in jobs if _key(job) not in done]
    for job, row in _computed(task, missing, workers):
        done[_key(job)] = row
        if store is not None:
            with store.open("a") as lines:
                lines.write(json.dumps({"job": job, "row": row}) + "\n")
    return [done[_key(job)] for job in jobs]


def _computed(
    task: Callable[..., Row], jobs: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[tuple[tuple[Any, ...], Row]]:
    if workers == 1:
        for job in jobs:
            yield job, task(*job)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = {pool.submit(task, *job): job for job in jobs}
        for future in as_completed(running):
            yield running[future], future.result()


def _kept(store: Path) -> Iterator[tuple[str, Row]]:
    for line in store.read_text().splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # cut short by a kill; the device is measured again
        yield _key(tuple(found["job"])), found["row"]


def _key(job: tuple[Any, ...]) -> str:
    return json.dumps(job)
