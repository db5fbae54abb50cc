"""INL of a DAC from measured levels, and how far a correction table carries.

    python examples/measured/dac.py LEVELS.npz [--json]

Takes every array named NAME_levels_V: (channels, codes) or (codes,), the level of each code from 0 on, in volts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.captures import read_arrays
from photonic.calibration.dactable import (
    Carried,
    carry_to_channel,
    carry_to_codes,
    choose_spacing,
    fit_table,
    inl,
)
from photonic.errors import DataError, PhotonicError

Array = NDArray[Any]
STRETCHES = 8  # of the codes, each withheld in turn


def describe(levels: Array) -> dict[str, Any]:
    """Each channel's INL, and what a table from it does elsewhere."""
    codes = np.arange(levels.shape[1], dtype=np.float64)
    spacings = [choose_spacing(channel) for channel in levels]
    tables = [fit_table(codes, channel, spacing) for channel, spacing in zip(levels, spacings, strict=True)]
    channels = []
    for channel, spacing in zip(levels, spacings, strict=True):
        best, ends = inl(channel), inl(channel, "ends")
        stretch = np.arange(codes.size) * STRETCHES // codes.size
        withheld = [carry_to_codes(channel, stretch == each, spacing) for each in range(STRETCHES)]
        channels.append(
            {
                "lsb_V": best.lsb,
                "offset_V": best.offset,
                "best_line": _inl_row(best.inl),
                "end_points": _inl_row(ends.inl),
                "dnl_lsb": [float(best.dnl.min()), float(best.dnl.max())],
                "knot_spacing": spacing,
                "every_second_code": _row(carry_to_codes(channel, np.arange(codes.size) % 2 == 1, spacing)),
                "stretches": [_row(each) for each in withheld],
            }
        )
    carried = {
        f"{source}->{target}": _row(carry_to_channel(tables[source], levels[target]))
        for source in range(len(levels))
        for target in range(len(levels))
        if source != target
    }
    return {"codes": codes.size, "channels": channels, "to_other_channel": carried}


def _inl_row(values: Array) -> dict[str, float]:
    rms = float(np.sqrt(np.mean(values**2)))
    return {"min_lsb": float(values.min()), "max_lsb": float(values.max()), "rms_lsb": rms}


def _row(carried: Carried) -> dict[str, Any]:
    return {"before_lsb": carried.before, "after_lsb": carried.after, "helps": carried.helps}


def describe_file(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Every DAC in a file."""
    found = {name.removesuffix("_levels_V"): array for name, array in arrays.items() if name.endswith("_levels_V")}
    if not found:
        raise DataError(f"expected arrays NAME_levels_V, found {sorted(arrays) or 'none'}; are these levels of a DAC?")
    result = {}
    for name, array in found.items():
        if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating):
            raise DataError(f"{name}_levels_V must be (channels, codes) in volts, found {array.shape} of {array.dtype}")
        result[name] = describe(np.atleast_2d(array).astype(np.float64))
    return result


def print_table(result: Mapping[str, Any]) -> None:
    for name, dac in result.items():
        print(f"{name}: {len(dac['channels'])} channel(s), {dac['codes']} codes; rms in LSB before -> after a table")
        for number, row in enumerate(dac["channels"]):
            best, ends = row["best_line"], row["end_points"]
            print(f"  channel {number}: LSB {row['lsb_V'] * 1e6:.2f} uV, offset {row['offset_V']:.5f} V")
            for label, line in (("best line", best), ("end points", ends)):
                print(f"    INL {label}: {line['min_lsb']:+.2f} .. {line['max_lsb']:+.2f}, rms {line['rms_lsb']:.3f}")
            print(f"    DNL {row['dnl_lsb'][0]:+.2f} .. {row['dnl_lsb'][1]:+.2f}; knots every {row['knot_spacing']:g}")
            print(f"    every second code withheld: {_said(row['every_second_code'])}")
            for index, stretch in enumerate(row["stretches"]):
                print(f"    stretch {index + 1} of {len(row['stretches'])} withheld: {_said(stretch)}")
        for way, row in dac["to_other_channel"].items():
            print(f"  table carried over {way}: {_said(row)}")


def _said(row: Mapping[str, Any]) -> str:
    return f"{row['before_lsb']:.3f} -> {row['after_lsb']:.3f}" + ("" if row["helps"] else "  DOES NOT HELP")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="INL of a DAC and the reach of a correction table")
    parser.add_argument("path", help=".npz with NAME_levels_V")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        result = describe_file(read_arrays(options.path))
    except PhotonicError as error:
        parser.exit(1, f"error: {error}\n")
    print(json.dumps(result, indent=2)) if options.json else print_table(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
