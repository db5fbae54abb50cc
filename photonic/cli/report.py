"""``photonic report``: the page of a calibration."""

from __future__ import annotations

import json
from pathlib import Path

import click

from photonic.calibration.report import write_report
from photonic.cli.tables import print_rows
from photonic.records import Calibration


@click.command("report")
@click.argument("record", type=click.Path(path_type=Path), metavar="FILE.json")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="OUT.html", help="Default: FILE.html beside the record."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the lines.")
def report_command(record: Path, out: Path | None, as_json: bool) -> None:
    """Write the page of a calibration: verdict, parameters, pictures, where it comes from.

    One HTML file that needs no network and no other file. Exits with 0 whatever the verdict is: `photonic verify` is
    the command whose answer is yes or no.
    """
    calibration = Calibration.load(record)
    written = write_report(calibration, record.with_suffix(".html") if out is None else out)
    found = calibration.verification
    if as_json:
        click.echo(json.dumps({"report": str(written), "verdict": None if found is None else found.verdict}))
        return
    verdict = "not verified" if found is None else found.verdict
    causes = "" if found is None or not found.causes else f" ({', '.join(found.causes)})"
    print_rows([("verdict", verdict + causes), ("report", str(written))])
