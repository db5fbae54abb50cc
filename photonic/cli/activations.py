"""``photonic study activations`` and ``photonic study report``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from photonic.cli.bars import TerminalProgress
from photonic.cli.group import EXIT_NO, HeldWarnings, Interrupted, say
from photonic.cli.tables import print_rows, print_table
from photonic.study.campaign import Listener, Request, Summary, run_study, write_results
from photonic.study.cell import says
from photonic.study.engines import ENGINES
from photonic.study.grid import load_grid, shipped
from photonic.study.intervals import SETTING, Interval, grouped, paired
from photonic.study.page import percent
from photonic.study.store import StudyFolder
from photonic.study.verdicts import last, maximum


class _Terminal(Listener):
    """A bar of epochs, and a line for each cell."""

    def __init__(self, bars: TerminalProgress, begun: Callable[[], None]) -> None:
        self._bars, self._begun = bars, begun

    def begins(self, cells: int, left: int, epochs: int) -> None:
        self._begun()
        self._bars.stage(f"{cells} cells, {cells - left} finished or left for another time, {left} to run", epochs)

    def epoch(self) -> None:
        self._bars.step()

    def done(self, text: str) -> None:
        self._bars.note(text)

    def failed(self, text: str) -> None:
        self._bars.note(f"failed: {text}")


def _pairs(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for value in values:
        key, mark, wanted = value.partition("=")
        if not (key and mark and wanted):
            raise click.BadParameter(f"expected FIELD=VALUE such as 'activation=relu', found {value!r}")
        pairs.append((key, wanted))
    return tuple(pairs)


@click.command("activations")
@click.option(
    "--grid", default="smoke", show_default=True, metavar="NAME|FILE.toml", help=f"Shipped: {', '.join(shipped())}."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The study's folder.")
@click.option("--engine", type=click.Choice(ENGINES), default="local", show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Cells side by side; default: one for each core.")
@click.option(
    "--only", multiple=True, metavar="FIELD=VALUE", callback=_pairs, help="Run these cells alone; repeatable."
)
@click.option("--limit-cells", type=click.IntRange(min=1), metavar="N", help="Run at most N cells this time.")
@click.option("--data", type=click.Path(path_type=Path, exists=True), metavar="DIR", help="Where named data sets lie.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
@click.pass_context
def activations_command(
    context: click.Context,
    grid: str,
    out: Path,
    engine: str,
    jobs: int | None,
    only: tuple[tuple[str, str], ...],
    limit_cells: int | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Train networks under noise, over a grid of activations, and compare them seed by seed.

    Every finished cell is kept in DIR and never run again: the same command goes on where an earlier one was stopped,
    at whatever moment. Exits with 1 if a cell failed.
    """
    request = Request(load_grid(grid), out, engine, jobs, only, limit_cells, data)
    with TerminalProgress(begun=lambda: None) as bars:
        try:
            summary = run_study(request, _Terminal(bars, context.ensure_object(HeldWarnings).release))
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted; the same command goes on from what is finished in {out}") from error
    if as_json:
        click.echo(json.dumps(_json(summary, out)))
    else:
        _print(summary, out)
    if summary.failed:
        say(f"{len(summary.failed)} cells failed; the first: {summary.failed[0]}")
        sys.exit(EXIT_NO)


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--against", metavar="NAME", help='Compare with this activation, named as in the tables: "GELU s=2".')
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the lines.")
def study_report_command(folder: Path, against: str | None, as_json: bool) -> None:
    """Make table, figures and page of a study's folder again; print differences to one activation, seed by seed."""
    table, page = write_results(StudyFolder(folder))
    rows = [] if against is None else _groups(folder, against)
    if against is not None and all(row["activation"] != against for row in rows):
        found = ", ".join(dict.fromkeys(row["activation"] for row in rows)) or "no finished cell"
        raise click.BadParameter(f"expected one of the activations of {folder}: {found}; found {against!r}")
    if as_json:
        files = {"table": table and str(table), "report": page and str(page)}
        click.echo(json.dumps(files | ({} if against is None else {"against": against, "results": rows})))
        return
    if against is not None:
        _print_differences(rows, against)
    print_rows([("table", str(table or "no cell is finished")), ("report", str(page or "no cell is finished"))])


def _print_differences(rows: Sequence[Mapping[str, Any]], against: str) -> None:
    """In points of accuracy; a * marks an interval that leaves out 0."""
    lines = [("activation", "setting", "seeds", "last epoch, %", f"less {against}, points", "at the best epoch")]
    for row in rows:
        found = percent(Interval(**row["last"]))
        texts = (_points(row[f"{name}_difference"]) for name in ("last", "maximum"))
        lines.append((row["activation"], _setting(row), str(len(row["seeds"])), found, *texts))
    print_table(lines, left=(0, 1))


def _points(difference: Mapping[str, Any] | None) -> str:
    return "" if difference is None else percent(Interval(**difference), signed=True)


def _setting(row: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in row["setting"].items())


def _print(summary: Summary, out: Path) -> None:
    rows = [("activation", "setting", "seeds", "last epoch, %", "best epoch, %")]
    for each in _groups(out, "ReLU"):
        found = (percent(Interval(**each[name])) for name in ("last", "maximum"))
        rows.append((each["activation"], _setting(each), str(len(each["seeds"])), *found))
    print_table(rows, left=(0, 1))
    rate = summary.cells_per_hour
    print_rows(
        [
            ("cells finished", f"{summary.finished} of {summary.cells}, {summary.ran} in this run"),
            ("cells per hour", "none ran" if rate is None else f"{rate:.1f}, {summary.seconds:.0f} s"),
            ("table", str(summary.table or "no cell is finished")),
            ("report", str(summary.page or "no cell is finished")),
        ]
    )


def _json(summary: Summary, out: Path) -> dict[str, Any]:
    return {
        "cells": summary.cells,
        "finished": summary.finished,
        "ran": summary.ran,
        "failed": summary.failed,
        "seconds": summary.seconds,
        "threads": summary.threads,
        "cells_per_hour": summary.cells_per_hour,
        "table": summary.table and str(summary.table),
        "report": summary.page and str(summary.page),
        "results": _groups(out, "ReLU"),
    }


def _groups(out: Path, against: str) -> list[dict[str, Any]]:
    """Means over seeds of everything in the folder; a setting is told by the fields that vary.

    ``last_difference`` and ``maximum_difference`` are to the activation ``against`` of the same setting; None: it is
    this one, or not there.
    """
    settings = grouped(StudyFolder(out).outcomes())
    told = [name for i, name in enumerate(SETTING) if len({setting[i] for setting in settings}) > 1]
    rows = []
    for groups in settings.values():
        reference = groups.get(against)
        for group in groups.values():
            setting = {name: getattr(group.cell, name) for name in told if says(group.cell, name)}
            seeds = {seed: [last(outcome), maximum(outcome)] for seed, outcome in sorted(group.by_seed.items())}
            row: dict[str, Any] = {"activation": group.label, "setting": setting, "seeds": seeds}
            for name, metric in (("last", last), ("maximum", maximum)):
                row[name] = vars(group.interval(metric))
                other = reference if reference is not group else None
                difference = None if other is None else paired(group, other, metric)
                row[f"{name}_difference"] = difference and vars(difference)
            rows.append(row)
    return rows
