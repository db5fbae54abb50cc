"""``photonic doctor``: what is installed, what is missing, and the line that installs it."""

from __future__ import annotations

import json
import platform
import re
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import click
import torch

from photonic.backends.registry import schemes
from photonic.backends.visa.examine import examine_bench
from photonic.cli.group import EXIT_NO
from photonic.cli.tables import print_rows
from photonic.data.load import DEBIAN, data_root
from photonic.errors import DISTRIBUTION
from photonic.physics.presets import PRESETS

CORE = "core"


@click.command("doctor")
@click.argument("bench", required=False, metavar="[BENCH.toml]", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def doctor_command(bench: Path | None, as_json: bool) -> int:
    """Say what is installed and what is missing. Exits with 0 if `photonic train` can run, else 1.

    With BENCH.toml: open each instrument of that bench, ask who it is and how it is set, touch no output. Exits with 0
    if all of them answer as the file says, else 1.
    """
    if bench is not None:
        return _doctor_of_bench(bench, as_json)
    report = examine()
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print(report)
    return 0 if report["ready"] else EXIT_NO


def _doctor_of_bench(path: Path, as_json: bool) -> int:
    report = examine_bench(path)
    if as_json:
        click.echo(json.dumps(report))
        return 0 if report["ready"] else EXIT_NO
    for entry in report["instruments"]:
        settings = ", ".join(f"{name} {value}" for name, value in entry["settings"].items())
        print_rows(
            [(f"{entry['role']}: {entry['name']}", entry["error"] or entry["identity"]), ("", entry["resource"])]
        )
        if settings:
            print_rows([("", settings)])
    if not report["laser_consent"]:
        click.echo("safety.laser_consent is false: this bench will not emit light")
    silent = sum(entry["error"] is not None for entry in report["instruments"])
    number = len(report["instruments"])
    click.echo(f"{silent} of {number} instruments are not as the file says" if silent else f"all {number} answer")
    return 0 if report["ready"] else EXIT_NO


def examine() -> dict[str, Any]:
    """What ``photonic doctor --json`` prints."""
    extras = {extra: _extra(extra, packages) for extra, packages in _requirements().items()}
    known = sorted(schemes())
    return {
        "ready": bool(extras) and not extras[CORE]["missing"] and "sim" in known,
        "photonic": _version(DISTRIBUTION),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "extras": extras,
        "schemes": known,
        "presets": {f"sim:{name}": parameters.summary() for name, parameters in PRESETS.items()},
        "data": _data(),
    }


def _requirements() -> dict[str, list[str]]:
    """Packages of each extra, from the metadata of the installed distribution; empty if it is not installed."""
    found: dict[str, list[str]] = defaultdict(list)
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return {}
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if name and name[0] != DISTRIBUTION:
            found[extra[1] if extra else CORE].append(name[0])
    return dict(found)


def _extra(extra: str, packages: list[str]) -> dict[str, Any]:
    versions = {name: _version(name) for name in packages}
    missing = [name for name, found in versions.items() if found is None]
    suffix = "" if extra == CORE else f"[{extra}]"
    return {
        "packages": versions,
        "missing": missing,
        "install": f"pip install '{DISTRIBUTION}{suffix}'" if missing else None,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _print(report: dict[str, Any]) -> None:
    own = report["photonic"] or f"not installed; pip install {DISTRIBUTION}"
    rows = [
        ("photonic", own),
        ("python", report["python"]),
        ("torch", f"{report['torch']}, {report['threads']} threads"),
        ("backends", ", ".join(report["schemes"]) or "none"),
    ]
    rows += list(report["presets"].items())
    rows += [(f"data: {name}", place) for name, place in report["data"].items()]
    for extra, found in report["extras"].items():
        packages = ", ".join(f"{name} {number or '(missing)'}" for name, number in found["packages"].items())
        rows.append((extra if extra == CORE else f"extra {extra}", packages))
        if found["install"]:
            rows.append(("", f"install with: {found['install']}"))
    print_rows(rows)
    click.echo("photonic train can run" if report["ready"] else "photonic train cannot run")


def _data() -> dict[str, str]:
    """Where data sets are found without a download."""
    debian, root = DEBIAN / "fashion-mnist", data_root()
    return {
        "digits": "built in (scikit-learn)",
        "fashion-mnist": str(debian) if debian.is_dir() else "not there; --download fetches it",
        "folder": f"{root} ({'found' if root.is_dir() else 'not there'}; PHOTONIC_DATA names another)",
    }
