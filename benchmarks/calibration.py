"""How good calibrations are, on simulated chips whose truth is hidden from them.

    python benchmarks/calibration.py rates --devices 60            # verdicts, and of a later test
    python benchmarks/calibration.py efficiency --bounds 8         # squared errors against the Cramer-Rao bound
    python benchmarks/calibration.py coverage                      # of the stated 95 % intervals
    python benchmarks/calibration.py products                      # with the record and with the data sheet
    python benchmarks/calibration.py wrong                         # twins that must be refused
    python benchmarks/calibration.py rates,efficiency,coverage,products,wrong --keep results.jsonl --jobs 2
    python benchmarks/calibration.py outside --devices 60          # chips that the model does not hold
    python benchmarks/calibration.py large --devices 5             # 64 x 64, a million shots: time and verdict
    python benchmarks/calibration.py chips                         # which conditions each kind of chip satisfies

Several parts with a comma between share one calibration of each device. Every device and every run has seeds of its
own; the calibration sees a proxy that has a spec and ``measure``. With ``--keep FILE`` finished devices are written to
a file of JSON lines and are not measured again, whatever the number of devices: a long run can be interrupted. Give
it another file after a change of the library.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from calibration_chips import KINDS, NEEDED, Truth
from calibration_devices import PARTS, device_rows
from calibration_outside import CHIPS, outside
from calibration_tables import Row, at_most, collect, rate, share, table
from calibration_wrong import TWINS

SMALL = ("ring", "ring-alone", "crossbar", "ring-inl", "crossbar-inl", "ring-full", "crossbar-full")
LARGE = ("ring-64",)
_CONDITIONS = ("V(1,0) / V(0,0)", "correlation", "INL rms, LSB", "drift, degrees of freedom")


def rates(kind: str, rows: Sequence[Row]) -> list[tuple[object, ...]]:
    found = [row["rates"] for row in rows]
    passed = [sum(each[name] == "pass" for each in found) for name in ("verdict", "later")]
    failed = sum(each["verdict"] == "fail" for each in found)
    causes = Counter(name for each in found for name in each["open"] + each["later open"])
    seconds = [each["seconds"] for each in found]
    return [
        (kind, *(rate(n, len(found)) for n in passed), failed, f"{np.median(seconds):.0f}", _most(causes)),
    ]


def efficiency(kind: str, rows: Sequence[Row]) -> list[tuple[object, ...]]:
    found, lines = [row["efficiency"] for row in rows], list[tuple[object, ...]]()
    bounded = [each["bound"] for each in found if "bound" in each]
    for name in dict.fromkeys([*found[0]["mse"], *_knowing_more(bounded)]):
        family = name.split(" with ")[0]
        mse = np.array([each["mse"][family] for each in found])
        bias = np.array([each["bias"][family] for each in found])
        error = bias.std(ddof=1) / len(bias) ** 0.5 if len(bias) > 1 else np.nan
        shares = []
        for model in ("documented, used", "documented, all", "of the true family, used", "of the true family, all"):
            bound = [each[f"{model} readings"][name] for each in bounded if name in each.get(f"{model} readings", {})]
            shares.append(f"{np.mean(bound) / mse.mean():.2f}" if bound and np.mean(bound) > 1e-15 else "-")
        lines.append(
            (kind, name, len(found), f"{mse.mean() ** 0.5:.2e}", f"{bias.mean():+.1e} +- {error:.0e}", *shares)
        )
    return lines


def _knowing_more(bounded: Sequence[Row]) -> list[str]:
    """Names of the bounds that take more as known than a calibration does."""
    return [name for each in bounded[:1] for name in each["documented, all readings"] if " with " in name]


def coverage(kind: str, rows: Sequence[Row]) -> list[tuple[object, ...]]:
    found = [row["coverage"]["inside"] for row in rows]
    names = list(dict.fromkeys(name for each in found for name in each))
    pairs = {name: [each[name] for each in found if name in each] for name in names}
    return [
        (kind, name, sum(n for _, n in pairs[name]), share([h for h, _ in pairs[name]], [n for _, n in pairs[name]]))
        for name in names
    ]


def products(kind: str, rows: Sequence[Row]) -> list[tuple[object, ...]]:
    found = [row["products"] for row in rows]
    counted = [each for each in found if each["nominal"] >= each["needed"]]
    ratios = [each["nominal"] / each["calibrated"] for each in found]
    good = sum(each["nominal"] >= 10 * each["calibrated"] for each in counted)
    means = (f"{np.mean([each[name] for each in found]):.4f}" for name in ("nominal", "needed", "calibrated"))
    holds = f"{len(counted)} of {len(found)}"
    return [(kind, *means, holds, f"{np.median(ratios):.1f}", rate(good, len(counted)))]


def wrong(kind: str, rows: Sequence[Row]) -> list[tuple[object, ...]]:
    lines = list[tuple[object, ...]]()
    for name in TWINS:
        found = [row["wrong"][name] for row in rows]
        wanted = "pass" if name == "right" else "fail"
        hits = sum(each[0] == wanted for each in found)
        causes = Counter(", ".join(each[1:]) or each[0] for each in found)
        lines.append((kind, name, f"{rate(hits, len(found))} {wanted}", _most(causes)))
    return lines


HEADS: dict[str, tuple[str, ...]] = {
    "rates": ("chip", "calibration passes", "later test passes", "calibrations that fail", "s, median", "not passed"),
    "efficiency": (
        "chip", "family", "devices", "rms error", "mean error",
        "bound / squared error: documented model, readings the fit uses", "all readings",
        "true family, readings the fit uses", "all readings",
    ),
    "coverage": ("chip", "family", "intervals", "hold the truth"),
    "products": (
        "chip", "nominal error", "condition asks for", "calibrated error", "condition holds", "ratio, median",
        "10 times smaller, where it holds",
    ),
    "wrong": ("chip", "twin", "refused", "causes"),
}  # fmt: skip
TABLES: dict[str, Callable[[str, Sequence[Row]], list[tuple[object, ...]]]] = {
    "rates": rates,
    "efficiency": efficiency,
    "coverage": coverage,
    "products": products,
    "wrong": wrong,
}


def conditions(kind: str, rows: Sequence[Row]) -> tuple[object, ...]:
    """Means over devices, and on how many of them each condition holds."""
    found = np.array([row["conditions"] for row in rows])
    cells = [
        f"{found[:, k].mean():.2f} ({(found[:, k] >= least).sum()} of {len(found)})" for k, least in enumerate(NEEDED)
    ]
    return (kind, *cells, f"{(found >= NEEDED).all(1).sum()} of {len(found)}")


def _most(causes: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in causes.most_common(4)) or "-"


def small(given: argparse.Namespace, parts: list[str]) -> None:
    """Tables of the parts for each kind, and the conditions of its devices."""
    kinds = given.chips.split(",") if given.chips else SMALL
    found: dict[str, list[Row]] = {}
    for kind in kinds:
        jobs = [
            (kind, device, ",".join(parts), device < given.first + given.bounds)
            for device in range(given.first, given.first + given.devices)
        ]
        every = collect(device_rows, jobs, given.keep, given.jobs)
        for job, row in zip(jobs, every, strict=True):
            if "error" in row:
                print(f"{kind}, device {job[1]}: {row['error']}")
        found[kind] = [row for row in every if "error" not in row]
    full = {kind: rows for kind, rows in found.items() if rows}
    table(("chip", *_CONDITIONS, "all"), [conditions(kind, rows) for kind, rows in full.items()])
    for part in parts:
        table(HEADS[part], [line for kind, rows in full.items() for line in TABLES[part](kind, rows)])


def chips(given: argparse.Namespace) -> None:
    """Conditions of every kind, without a calibration."""
    lines = []
    for kind, made in KINDS.items():
        truths = [Truth(made.open(d), d) for d in range(given.first, given.first + given.devices)]
        line = conditions(kind, [{"conditions": truth.conditions()} for truth in truths])
        lines.append((*line, f"{made.preset} {made.text}"))
    table(("chip", *_CONDITIONS, "all", "preset and options"), lines)


def strangers(given: argparse.Namespace) -> None:
    """Chips outside the family."""
    names = [name for name in CHIPS if not given.chips or given.chips in name]
    lines = []
    for name in names:
        jobs = [(name, device) for device in range(given.first, given.first + given.devices)]
        rows = collect(outside, jobs, given.keep, given.jobs)
        passes = sum(row["verdict"] == "pass" for row in rows)
        causes = Counter(f"{row['verdict']}: {', '.join(row['causes'])[:90]}" for row in rows)
        least = min(row["effect"] for row in rows)
        bound = f"{passes} of {len(rows)} (at most {100 * at_most(passes, len(rows)):.0f} %)"
        lines.append((name, f"{least:.1f}", bound, _most(causes)))
    table(("effect", "least size, in margins", "passes", "verdicts and causes"), lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = ",".join(PARTS)
    parser.add_argument("what", nargs="?", default=every, help="parts with a comma between, or outside, large, chips")
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first device")
    parser.add_argument("--chips", help="kinds with a comma between; default: all small ones")
    parser.add_argument("--bounds", type=int, default=4, help="devices whose Cramer-Rao bound is computed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", type=Path, help="file of finished devices")
    given = parser.parse_args()
    parts = given.what.split(",")
    if given.what in ("outside", "chips"):
        torch.set_num_threads(1)
        (strangers if given.what == "outside" else chips)(given)
        return
    if given.what == "large":
        given.chips, parts = given.chips or ",".join(LARGE), ["rates"]
        torch.set_num_threads(2)
    elif unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}, outside, large, chips")
    else:
        torch.set_num_threads(1)
    small(given, parts)


if __name__ == "__main__":
    main()
