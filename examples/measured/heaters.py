"""Phase per heater milliwatt of Mach-Zehnder switches, from spectra.

    python examples/measured/heaters.py SPECTRA.npz [--window LOW HIGH] [--reference NAME] [--json]

Arrays: wavelength_nm (W,), power_dbm (n, W), component (n,), output (n,), drive (n, columns) with drive_cols naming
volts VmeasK and amperes IK of heater K. The reference is a component whose name starts with "test".
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.captures import read_arrays
from photonic.calibration.heaters import HeaterFit, fit_heater, fringe_phase, heater_power, pooled_curvature
from photonic.errors import CalibrationError, DataError, PhotonicError

Array = NDArray[Any]
NEEDED = ("wavelength_nm", "power_dbm", "component", "output", "drive", "drive_cols")


def measure(arrays: Mapping[str, Array], reference: str, window: tuple[float, float] | None) -> dict[str, Any]:
    """Phase against power of every device and output, alone and pooled."""
    _check(arrays, reference)
    component, output = arrays["component"], arrays["output"]
    wavelength = arrays["wavelength_nm"].astype(np.float64)
    quarter = float(wavelength[-1] - wavelength[0]) / 4
    used = window or (float(wavelength[0]) + quarter, float(wavelength[-1]) - quarter)
    path = arrays["power_dbm"][component == reference][0].astype(np.float64)
    volts, amperes = (_columns(arrays, pattern) for pattern in (r"Vmeas(\d+)", r"I(\d+)"))
    series, refused = {}, {}
    for device in np.unique(component[np.isfinite(arrays["drive"]).all(axis=1)]):
        for port in np.unique(output[component == device]):
            rows = np.flatnonzero((component == device) & (output == port))
            name = f"{device} output {port}"
            try:
                power, heater = heater_power(volts[rows], amperes[rows])
                order = np.argsort(power)
                spectra = arrays["power_dbm"][rows[order]].astype(np.float64)
                phase = fringe_phase(wavelength, spectra, path, used)
                fit_heater(power[order], phase, 2)  # too few powers: refuse this series, not the file
                series[name] = (power[order], phase, heater + 1)
            except PhotonicError as reason:
                refused[name] = str(reason)
    return {"window_nm": used, "reference": reference, "refused": refused, **_fits(series)}


def _fits(series: Mapping[str, tuple[Array, Array, int]]) -> dict[str, Any]:
    linear = {name: fit_heater(power, phase, 1) for name, (power, phase, _) in series.items()}
    quadratic = {name: fit_heater(power, phase, 2) for name, (power, phase, _) in series.items()}
    rows, bent = {}, []
    for name, (power, phase, heater) in series.items():
        others = [fit for other, fit in quadratic.items() if other.split(" output ")[0] != name.split(" output ")[0]]
        row = {"heater": heater, "power_w": power.tolist(), "phase_rad": phase.tolist()}
        row |= {"linear": _row(linear[name]), "quadratic": _row(quadratic[name])}
        if len(others) > 1:
            kappa = pooled_curvature(others)[0]  # of the other devices: this one has not seen it
            bent.append(fit_heater(power * (1 + kappa * power), phase, 1).left_out_rms)
            row["others_curvature_left_out_rms_rad"] = bent[-1]
        rows[name] = row
    pooled: dict[str, Any] = {
        "series": len(rows),
        "left_out_linear_rad": _rms([fit.left_out_rms for fit in linear.values()]),
        "left_out_quadratic_rad": _rms([fit.left_out_rms for fit in quadratic.values()]),
        "left_out_others_curvature_rad": _rms(bent),
        "outputs_differ_by_rad": _largest_difference(series),
    }
    if len(rows) > 1:
        pooled["curvature_per_w"], pooled["curvature_error_per_w"] = pooled_curvature(list(quadratic.values()))
    return {"series": rows, "pooled": pooled}


def _row(fit: HeaterFit) -> dict[str, Any]:
    return {
        "rad_per_mw": fit.coefficients[1] / 1e3,
        "error_rad_per_mw": fit.errors[1] / 1e3,
        "rad_per_mw2": fit.coefficients[2] / 1e6 if fit.coefficients.size > 2 else None,
        "residual_rms_rad": fit.residual_rms,
        "left_out_rms_rad": fit.left_out_rms,
    }


def _rms(values: list[float]) -> float | None:
    return float(np.sqrt(np.mean(np.square(values)))) if values else None


def _largest_difference(series: Mapping[str, tuple[Array, Array, int]]) -> float | None:
    """Largest difference of phase between two outputs of one device at the same drive."""
    differences = [
        float(np.abs(phase - series[other][1]).max())
        for name, (_, phase, _) in series.items()
        for other in series
        if name < other
        and name.split(" output ")[0] == other.split(" output ")[0]
        and phase.shape == series[other][1].shape
    ]
    return max(differences, default=None)


def _columns(arrays: Mapping[str, Array], pattern: str) -> Array:
    """Columns of the drive whose names match, in the order of the heater's number."""
    found = [(int(match[1]), index) for index, name in enumerate(arrays["drive_cols"])
             if (match := re.fullmatch(pattern, str(name)))]  # fmt: skip
    if not found:
        raise DataError(f"drive_cols has no column {pattern}, found {arrays['drive_cols'].tolist()}")
    return np.asarray(arrays["drive"][:, [index for _, index in sorted(found)]], np.float64)


def _check(arrays: Mapping[str, Array], reference: str) -> None:
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise DataError(f"expected arrays {', '.join(NEEDED)}; {', '.join(missing)} missing: are these heater spectra?")
    rows, points = len(arrays["component"]), arrays["wavelength_nm"].size
    shapes = {"power_dbm": (rows, points), "output": (rows,), "drive": (rows, len(arrays["drive_cols"]))}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DataError(f"{name} must be {shape} beside the other arrays, found {arrays[name].shape}")
    if reference not in arrays["component"]:
        tests = sorted({str(each) for each in arrays["component"] if str(each).startswith("test")})
        raise DataError(f"no spectrum of the reference {reference!r}; references in this file: {tests or 'none'}")


def print_table(result: Mapping[str, Any]) -> None:
    low, high = result["window_nm"]
    print(f"window {low:g} .. {high:g} nm, reference {result['reference']}; leave-one-out errors in rad")
    print(f"{'device':28} heater  rad/mW linear       left out  rad/mW quadratic  rad/mW^2   left out")
    for name, row in result["series"].items():
        line, curve = row["linear"], row["quadratic"]
        print(
            f"{name:28} {row['heater']:6} {line['rad_per_mw']:+.4f} +- {line['error_rad_per_mw']:.4f} "
            f"{line['left_out_rms_rad']:9.3f}  {curve['rad_per_mw']:+.4f} {curve['rad_per_mw2']:+18.2e} "
            f"{curve['left_out_rms_rad']:8.3f}"
        )
    for name, reason in result["refused"].items():
        print(f"{name}: REFUSED, {reason}")
    pooled = result["pooled"]
    print(f"pooled over {pooled['series']} series:")
    for key, text in (
        ("left_out_linear_rad", "a line leaves"),
        ("left_out_quadratic_rad", "a curve of its own leaves"),
        ("left_out_others_curvature_rad", "a line bent as the other devices are leaves"),
    ):
        if pooled[key] is not None:
            print(f"  {text} {pooled[key]:.3f} rad rms, left out")
    if "curvature_per_w" in pooled:
        print(f"  curvature {pooled['curvature_per_w']:+.2f} +- {pooled['curvature_error_per_w']:.2f} per W of heating")
    if pooled["outputs_differ_by_rad"] is not None:
        print(f"  outputs of a device differ by at most {pooled['outputs_differ_by_rad']:.3f} rad")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="phase per heater milliwatt from spectra")
    parser.add_argument("path", help=".npz of spectra")
    parser.add_argument("--window", type=float, nargs=2, help="nm; default: the middle half of the spectra")
    parser.add_argument("--reference", default="test_TE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        window = None if options.window is None else (options.window[0], options.window[1])
        result = measure(read_arrays(options.path), options.reference, window)
        if not result["series"]:
            raise CalibrationError("; ".join(sorted(set(result["refused"].values()))) or "no device has a drive")
    except PhotonicError as error:
        parser.exit(1, f"error: {error}\n")
    print(json.dumps(result, indent=2)) if options.json else print_table(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
