"""``photonic calibrate`` and ``photonic verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from photonic.backends.registry import open_chip
from photonic.calibration.raw import RawStore
from photonic.calibration.rawheader import default_folder
from photonic.calibration.report import write_report
from photonic.calibration.retest import DEFAULT_BUDGET, verify
from photonic.calibration.run import calibrate, refit
from photonic.cli.bars import TerminalProgress, drawn
from photonic.cli.group import EXIT_NO, HeldWarnings
from photonic.cli.tables import print_rows, print_table
from photonic.errors import CalibrationError
from photonic.records import Calibration, Parameter, Verification

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
    _check_folder(out)
    folder = default_folder(out) if raw is None else raw
    if chip is None:
        if raw is None:
            raise click.UsageError("name a CHIP to measure, or --raw FOLDER to fit readings again", context)
        found = refit(RawStore.open(folder))
    else:
        found = _measured(context, chip, folder, budget, seed)
    found.save(out)
    if report is not None:
        write_report(found, report)
    assert found.verification is not None  # noqa: S101 - calibrate and refit verify
    if as_json:
        click.echo(json.dumps({**_content(found.verification), **_record_content(found, out, report)}))
    else:
        _print_record(found)
        print_rows(
            [("record", str(out)), ("raw readings", str(folder)), *([("report", str(report))] if report else [])]
        )
    return 0 if found.verification.verdict == "pass" else EXIT_NO


@click.command("verify")
@click.argument("chip")
@click.argument("record", type=_RECORD, metavar="FILE.json")
@click.option("--budget", default=DEFAULT_BUDGET, show_default=True, type=click.IntRange(min=1), help="Shots.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The device, and the patterns.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_context
def verify_command(context: click.Context, chip: str, record: Path, budget: int, seed: int, as_json: bool) -> int:
    """Test whether a chip still matches its record, and say what moved.

    Exits with 1 if it does not, or if so few shots cannot decide.
    """
    calibration = Calibration.load(record)
    with open_chip(chip, seed=seed) as opened, _progress(context) as bars:
        found = verify(opened, calibration, budget=budget, seed=seed, progress=drawn(bars))
    if as_json:
        click.echo(json.dumps(_content(found)))
    else:
        _print_verification(found)
    return 0 if found.verdict == "pass" else EXIT_NO


def _check_folder(out: Path) -> None:
    if out.suffix.lower() != ".json" or not out.parent.is_dir():
        raise click.BadParameter(f"expected a .json in a folder that exists, found {out}", param_hint="--out")


def _measured(context: click.Context, chip: str, folder: Path, budget: int | None, seed: int) -> Calibration:
    with open_chip(chip, seed=seed) as opened, _progress(context) as bars:
        try:
            return calibrate(opened, budget=budget, seed=seed, raw=folder, progress=drawn(bars))
        except KeyboardInterrupt:
            bars.note(f"what was measured is in {folder}; the same command goes on from there")
            raise
        except CalibrationError as error:
            notes = "; ".join(getattr(error, "__notes__", ()))
            raise type(error)(f"{error}{'; ' if notes else ''}{notes}") from error


def _progress(context: click.Context) -> TerminalProgress:
    return TerminalProgress(begun=context.ensure_object(HeldWarnings).release)


def _content(found: Verification) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "causes": list(found.causes),
        "checks": [check.model_dump(mode="json") for check in found.checks],
        "shots": found.shots,
    }


def _record_content(found: Calibration, out: Path, report: Path | None) -> dict[str, Any]:
    run = found.provenance
    return {
        "chip": found.chip_id,
        "parameters": [parameter.model_dump(mode="json") for parameter in found.parameters],
        "goodness": found.goodness,
        "drift": found.drift.model_dump(mode="json"),
        "shots": None if run is None else run.shots,
        "seconds": None if run is None else run.seconds,
        "record": str(out),
        "report": None if report is None else str(report),
    }


def _print_record(found: Calibration) -> None:
    rows = [("parameter", "value", "± 95 %", "unit", "")]
    rows += [_row(parameter) for parameter in found.parameters]
    print_table(rows, left=(0, 3, 4))
    click.echo()
    assert found.verification is not None  # noqa: S101 - as above
    _print_verification(found.verification)


def _row(parameter: Parameter) -> tuple[str, str, str, str, str]:
    if parameter.value is None:
        needed = "" if parameter.shots_needed is None else f"; needs about {parameter.shots_needed:,} shots"
        return parameter.name, parameter.status, "", parameter.unit, parameter.note + needed
    error = "" if parameter.standard_error is None else f"{1.96 * parameter.standard_error:.2g}"
    many = (
        ""
        if parameter.entries == 1
        else f"mean of {parameter.entries}, from {parameter.low:.4g} to {parameter.high:.4g}"
    )
    return (
        parameter.name,
        f"{parameter.value:.5g}",
        error,
        parameter.unit,
        "; ".join(filter(None, (many, parameter.note))),
    )


def _print_verification(found: Verification) -> None:
    rows = [("check", "value", "interval", "margin", "verdict", "")]
    for check in found.checks:
        interval, margin = f"{check.low:.3g} .. {check.high:.3g}", f"{check.margin_low:.3g} .. {check.margin_high:.3g}"
        needed = "" if check.shots_needed is None else f"; needs about {check.shots_needed:,} shots"
        rows.append(
            (
                check.name,
                f"{check.value:.3g} {check.unit}".rstrip(),
                interval,
                margin,
                check.verdict,
                check.worst + needed,
            )
        )
    print_table(rows, left=(0, 4, 5))
    causes = f" ({', '.join(found.causes)})" if found.causes else ""
    click.echo(f"verdict: {found.verdict}{causes}, on {found.shots:,} shots")
