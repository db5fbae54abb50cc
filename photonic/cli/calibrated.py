"""What ``photonic calibrate`` and ``verify`` print: tables for people, objects for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from photonic.cli.tables import print_table
from photonic.records import Calibration, DriftModel, Parameter, Suspect, Verification


def verification_content(found: Verification) -> dict[str, Any]:
    """The verdict of a verification for JSON."""
    return {
        "verdict": found.verdict,
        "causes": list(found.causes),
        "suspects": [suspect.model_dump(mode="json") for suspect in found.suspects],
        "checks": [check.model_dump(mode="json") for check in found.checks],
        "shots": found.shots,
    }


def parameters_content(record: Calibration) -> dict[str, Any]:
    """The parameters of a record for JSON."""
    return {
        "chip": record.chip_id,
        "parameters": [parameter.model_dump(mode="json") for parameter in record.parameters],
    }


def record_content(found: Calibration, out: Path, report: Path | None) -> dict[str, Any]:
    """What a record holds, and where it was written, for JSON."""
    run = found.provenance
    return {
        **parameters_content(found),
        "goodness": found.goodness,
        "drift": found.drift.model_dump(mode="json"),
        "valid_until": None if found.valid_until is None else found.valid_until.isoformat(),
        "shots": None if run is None else run.shots,
        "seconds": None if run is None else run.seconds,
        "record": str(out),
        "report": None if report is None else str(report),
    }


def print_record(found: Calibration) -> None:
    """Prints the parameters of a record and its verdict."""
    rows = [("parameter", "value", "± 95 %", "unit", "")]
    rows += [_row(parameter) for parameter in found.parameters]
    print_table(rows, left=(0, 3, 4))
    click.echo(f"drift: {_drift(found.drift)}")
    click.echo()
    assert found.verification is not None  # noqa: S101 - as above
    print_verification(found.verification)
    if found.valid_until is not None:
        click.echo(f"valid until {found.valid_until:%Y-%m-%d %H:%M:%S} UTC: by then drift may have used up the margin")


def _drift(found: DriftModel) -> str:
    """Kind and sizes, with 95 % intervals."""
    sizes = {
        "ar1": (("gain", found.sigma, found.sigma_interval, ""), ("time", found.time_s, found.time_interval_s, " s")),
        "random walk": (("gain per root second", found.per_root_s, found.per_root_s_interval, ""),),
    }
    words = [str(found.kind)]
    for name, value, ends, unit in sizes.get(found.kind, ()):
        between = "not known to a factor of 100" if ends is None else f"{ends[0]:.2g} to {ends[1]:.2g}"
        words.append(f"{name} {value:.3g}{unit} ({between})")
    return ", ".join(words)


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


def print_verification(found: Verification) -> None:
    """Prints the checks and the verdict."""
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
    if found.suspects:
        click.echo()
        print_table(
            [("suspect", "standard errors", "named above", "margins", ""), *map(_suspect_row, found.suspects)],
            left=(0, 4),
        )
    causes = f" ({', '.join(found.causes)})" if found.causes else ""
    click.echo(f"verdict: {found.verdict}{causes}, on {found.shots:,} shots")


def _suspect_row(found: Suspect) -> tuple[str, str, str, str, str]:
    size = "" if found.size is None else f"{found.size:.2g}"
    return found.name, f"{found.z:.1f}", f"{found.threshold:g}", size, found.note
