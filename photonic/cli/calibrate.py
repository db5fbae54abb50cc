"""``photonic calibrate`` and ``photonic verify``."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from photonic.backends.chip import Chip
from photonic.backends.registry import open_chip
from photonic.calibration.raw import RawStore
from photonic.calibration.rawheader import PLAN, default_folder
from photonic.calibration.report import write_report
from photonic.calibration.retest import verify
from photonic.calibration.run import calibrate, refit
from photonic.cli.bars import TerminalProgress, drawn
from photonic.cli.calibrated import (
    parameters_content,
    print_record,
    print_verification,
    record_content,
    verification_content,
)
from photonic.cli.group import EXIT_NO, HeldWarnings, say
from photonic.cli.tables import print_rows
from photonic.errors import CalibrationError
from photonic.records import Calibration

_RECORD = click.Path(path_type=Path, dir_okay=False)


@click.command("calibrate")
@click.argument("chip", required=False)
@click.option("-o", "--out", type=_RECORD, required=True, metavar="FILE.json", help="The record; arrays go beside it.")
@click.option("--budget", type=click.IntRange(min=1), help="Shots; default a million for 64 x 64, at least 200,000.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The device, and the patterns.")
@click.option(
    "--raw",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Raw readings; default FILE.raw. A broken-off sweep goes on there; without CHIP they are fitted again.",
)
@click.option("--report", type=_RECORD, metavar="FILE.html", help="Write the calibration's page there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
@click.pass_context
def calibrate_command(
    context: click.Context,
    chip: str | None,
    out: Path,
    budget: int | None,
    seed: int,
    raw: Path | None,
    report: Path | None,
    as_json: bool,
) -> int:
    """Measure a chip, fit its response and noise, and prove the match on readings that the fit has not seen.

    CHIP is a chip such as sim or sim:typical?device=41. Exits with 1 if the record does not pass; it is saved all the
    same, and refused where it is opened unless it is allowed by name.
    """
    _check_folders(out, report)
    folder = default_folder(out) if raw is None else raw
    if folder.absolute() in {path.absolute() for path in (out, report) if path is not None}:
        raise click.BadParameter(f"expected a folder of its own, found {folder}", param_hint="--raw")
    if chip is None:
        if raw is None:
            raise click.UsageError("name a CHIP to measure, or --raw FOLDER to fit readings again", context)
        found = refit(RawStore.open(folder))
    else:
        found = _measured(context, chip, folder, budget, seed)
    flags = _flags(folder)
    found.save(out)
    if report is not None:
        write_report(found, report)
    assert found.verification is not None  # noqa: S101 - calibrate and refit verify
    if as_json:
        click.echo(
            json.dumps(
                {**verification_content(found.verification), **record_content(found, out, report), "flags": flags}
            )
        )
    else:
        print_record(found)
        print_rows(
            [("record", str(out)), ("raw readings", str(folder)), *([("report", str(report))] if report else [])]
        )
    return 0 if found.verification.verdict == "pass" else EXIT_NO


@click.command("verify")
@click.argument("chip")
@click.argument("record", type=_RECORD, metavar="FILE.json")
@click.option("--budget", type=click.IntRange(min=1), help="Shots; default 40,000, more for a chip of few outputs.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The device, and the patterns.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_context
def verify_command(
    context: click.Context, chip: str, record: Path, budget: int | None, seed: int, as_json: bool
) -> int:
    """Test whether a chip still matches its record, and say what moved.

    Exits with 1 if it does not, or if so few shots cannot decide.
    """
    calibration, began = Calibration.load(record), time.monotonic()
    expired = _expired(calibration)
    with _opened(chip, seed) as opened, _progress(context) as bars:
        found = verify(opened, calibration, budget=budget, seed=seed, progress=drawn(bars))
    if as_json:
        more = {"seconds": time.monotonic() - began, "record": str(record), "expired": expired}
        click.echo(json.dumps({**verification_content(found), **parameters_content(calibration), **more}))
    else:
        print_verification(found)
    return 0 if found.verdict == "pass" else EXIT_NO


def _check_folders(out: Path, report: Path | None) -> None:
    """Before anything is measured, for a sweep may take hours."""
    if out.suffix != ".json":
        raise click.BadParameter(f"expected NAME.json, found {out}", param_hint="--out")
    for path, option in ((out, "--out"), (report, "--report")):
        if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            raise click.BadParameter(
                f"expected a file in a folder that exists and can be written, found {path}", param_hint=option
            )


def _expired(record: Calibration) -> bool:
    """Says so, and says what the record's own verdict was, where a test of it that passes is no leave to use it."""
    own = record.verification
    if own is not None and own.verdict != "pass":
        say(f"warning: the record of {record.chip_id} did not pass when it was made: its own verdict is {own.verdict}")
    until = record.valid_until
    if until is None or datetime.now(UTC) < until:
        return False
    say(f"warning: the record of {record.chip_id} was valid until {until:%Y-%m-%d}; calibrate again to renew it")
    return True


@contextmanager
def _opened(spec: str, seed: int) -> Iterator[Chip]:
    """A chip whose failure to close is told, and does not take the result away."""
    chip = open_chip(spec, seed=seed)
    try:
        yield chip
    finally:
        try:
            chip.close()
        except Exception as error:
            say(f"warning: chip {chip.spec.chip_id} could not be closed: {type(error).__name__}: {error}")


def _measured(context: click.Context, chip: str, folder: Path, budget: int | None, seed: int) -> Calibration:
    with _opened(chip, seed) as opened, _progress(context) as bars:
        _say_finished(folder)
        try:
            return calibrate(opened, budget=budget, seed=seed, raw=folder, progress=drawn(bars))
        except KeyboardInterrupt:
            bars.note(f"what was measured is in {folder}; the same command goes on from there")
            raise
        except CalibrationError as error:
            parts = [str(error), *getattr(error, "__notes__", ())]
            if str(folder) not in parts[0] and (folder / PLAN).exists():
                parts.append(f"the readings are kept in {folder}")
            raise type(error)("; ".join(parts)) from error


def _say_finished(folder: Path) -> None:
    """Nothing is measured where a sweep was finished before: whoever expects new readings must know."""
    if not (folder / PLAN).exists():
        return
    store = RawStore.open(folder)
    if store.done == store.header.readings:
        say(
            f"{folder} holds a finished sweep, begun {store.started:%Y-%m-%d %H:%M} UTC: nothing is measured, its "
            "readings are fitted again; delete it, or name another folder with --raw, to measure anew"
        )


def _flags(folder: Path) -> dict[str, int]:
    """How many readings look wrong, by how; said as well, for they were fitted with the others."""
    notes = RawStore.open(folder).notes
    found = Counter(note.flag for note in notes if note.flag)
    if found:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
        say(
            f"warning: {sum(found.values())} of {len(notes)} readings look wrong ({kinds}) and were fitted all the same"
        )
    return dict(found)


def _progress(context: click.Context) -> TerminalProgress:
    return TerminalProgress(begun=context.ensure_object(HeldWarnings).release)
