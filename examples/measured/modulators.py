"""V_pi of Mach-Zehnder modulators from raw scope codes.

    python examples/measured/modulators.py CAPTURES.npz [--json]

A capture is a pair of arrays NAME_in and NAME_out of signed integer codes in the order of time, with an optional
NAME_volts_per_code = [out, in]. Captures whose names agree up to the first underscore show one device.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.blocks import bootstrap_fringe, held_out_rms
from photonic.calibration.captures import between_captures, equal_code_scatter, follow_drive, read_arrays
from photonic.calibration.fringe import FringeSweep, fit_fringe
from photonic.errors import CalibrationError, DataError, PhotonicError

Array = NDArray[Any]


def fit_capture(drive: Array, output: Array, volts_per_code: float | None, seed: int) -> dict[str, Any]:
    """One row of the table; voltages of the drive in volts, or in codes without a scale."""
    limits = np.iinfo(output.dtype)
    codes = drive.astype(np.float64)
    followed, direction = follow_drive(codes)
    sweep = FringeSweep(
        drive=followed,
        output=output.astype(np.float64),
        direction=direction if direction.any() else None,
        rails=(limits.min + 1, limits.max),  # a scope's rails are symmetric: -127 and 127 of 8 bits
    )
    fringe = fit_fringe(sweep)
    blocks = bootstrap_fringe(sweep, fringe, np.random.default_rng(seed))
    volt = 1.0 if volts_per_code is None else volts_per_code
    low, high = blocks.interval("v_pi")
    lag_low, lag_high = blocks.interval("lag")
    return {
        "unit": "code" if volts_per_code is None else "V",
        "v_pi": fringe.v_pi * volt,
        "white_error": fringe.white_error("v_pi") * volt,
        "block_error": blocks.error("v_pi") * volt,
        "interval": [low * volt, high * volt],
        "phase_rad": fringe.phase,
        "lag": fringe.lag * volt if sweep.both_ways else None,
        "lag_interval": [lag_low * volt, lag_high * volt] if sweep.both_ways else None,
        "a_codes": fringe.a,
        "b_codes": fringe.b,
        "periods": fringe.periods,
        "block": blocks.block,
        "residual_codes": fringe.residual_rms,
        "held_out_codes": held_out_rms(sweep, fringe),
        "scatter_at_equal_code": equal_code_scatter(codes, output.astype(np.float64)),
    }


def fit_captures(arrays: Mapping[str, Array], seed: int = 0) -> dict[str, Any]:
    """All captures of a file: those fitted, those refused with the reason, and each device with all it has."""
    names = sorted(name.removesuffix("_in") for name in arrays if name.endswith("_in"))
    if not names:
        raise DataError("expected arrays NAME_in and NAME_out, found none; is this a file of modulator captures?")
    fitted, refused = {}, {}
    for name in names:
        try:
            fitted[name] = fit_capture(*_checked(arrays, name), seed)
        except PhotonicError as reason:
            refused[name] = str(reason)
    return {"captures": fitted, "refused": refused, **_devices(fitted)}


def _checked(arrays: Mapping[str, Array], name: str) -> tuple[Array, Array, float | None]:
    drive, output, scale = arrays[f"{name}_in"], arrays.get(f"{name}_out"), arrays.get(f"{name}_volts_per_code")
    if output is None:
        raise DataError(f"{name}_in has no {name}_out beside it")
    if drive.ndim != 1 or drive.shape != output.shape:
        raise DataError(f"{name}: expected two vectors of one length, found {drive.shape} and {output.shape}")
    if not np.issubdtype(drive.dtype, np.integer) or not np.issubdtype(output.dtype, np.signedinteger):
        raise DataError(f"{name}: expected raw signed integer codes, found {drive.dtype} and {output.dtype}")
    if scale is not None and (scale.shape != (2,) or not np.isfinite(scale).all() or (scale <= 0).any()):
        raise DataError(f"{name}_volts_per_code must be two numbers above zero, [out, in], found {scale}")
    return drive, output, None if scale is None else float(scale[1])


def _devices(fitted: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Between-capture component, and V_pi of each device with it."""
    with_volts = {name: row for name, row in fitted.items() if row["unit"] == "V"}
    if not with_volts:
        return {"between_relative": None, "between_degrees": 0, "devices": {}}
    device_of = [name.split("_")[0] for name in with_volts]
    values = np.array([row["v_pi"] for row in with_volts.values()])
    errors = np.array([row["block_error"] for row in with_volts.values()])
    between = between_captures(values, errors, device_of)
    devices = {}
    for device in sorted(set(device_of)):
        own = np.array([each == device for each in device_of])
        mean, half, total = between.interval(values[own], errors[own])
        known = between.degrees > 0
        devices[device] = {
            "captures": int(own.sum()),
            "v_pi": mean,
            "total_error": total if known else None,
            "interval": [mean - half, mean + half] if known else None,
        }
    relative = between.relative if between.degrees else None
    return {"between_relative": relative, "between_degrees": between.degrees, "devices": devices}


def print_table(result: Mapping[str, Any]) -> None:
    for name, row in result["captures"].items():
        unit, (low, high) = row["unit"], row["interval"]
        print(f"{name}: V_pi {row['v_pi']:.4f} {unit}, 95 % within this capture {low:.4f} .. {high:.4f}")
        white, own = row["white_error"], row["block_error"]
        print(f"  standard error: white {white:.5f}, blocks of {row['block']} samples {own:.5f} {unit}")
        if row["lag"] is not None:
            print(
                f"  direction: +-{row['lag']:.4f} {unit} ({row['lag_interval'][0]:.4f} .. {row['lag_interval'][1]:.4f})"
            )
        print(
            f"  {row['periods']:.2f} periods; residual {row['residual_codes']:.2f} codes, held out "
            f"{row['held_out_codes']:.2f}, scatter at equal input code {row['scatter_at_equal_code']:.2f}"
        )
    for name, reason in result["refused"].items():
        print(f"{name}: REFUSED, {reason}")
    if result["devices"] and result["between_degrees"] == 0:
        print("between captures: unknown, no device has two; the intervals above hold within a capture only")
    elif result["devices"]:
        print(
            f"between captures: {result['between_relative']:.2%} of V_pi, from {result['between_degrees']} "
            f"degree(s) of freedom, applied to every device"
        )
        for device, row in result["devices"].items():
            low, high = row["interval"]
            print(
                f"{device}: V_pi {row['v_pi']:.3f} +- {row['total_error']:.3f} V, {row['captures']} capture(s); "
                f"95 % {low:.2f} .. {high:.2f} V"
            )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="V_pi of Mach-Zehnder modulators from raw scope codes")
    parser.add_argument("path", help=".npz with NAME_in, NAME_out and NAME_volts_per_code")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        result = fit_captures(read_arrays(options.path), options.seed)
        if not result["captures"]:
            raise CalibrationError("; ".join(f"{name}: {reason}" for name, reason in result["refused"].items()))
    except PhotonicError as error:
        parser.exit(1, f"error: {error}\n")
    print(json.dumps(result, indent=2)) if options.json else print_table(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
