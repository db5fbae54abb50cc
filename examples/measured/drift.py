"""Drift of a measured optical matrix, watched through a few reference vectors, and what an update recovers.

    python examples/measured/drift.py MATRICES.npz --baseline-until 5.04 [--references 6] [--noise 0.01] [--json]

Arrays: one real or complex (positions, M, N) stack, and a vector of as many positions, in the order of time.
The readings of the reference vectors are simulated: the measured matrix times random vectors, with noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.captures import read_arrays
from photonic.calibration.tracking import DriftMonitor, aligned_mean, best_update, fit_inputs
from photonic.errors import DataError, PhotonicError

Array = NDArray[Any]
UNSEEN = 64  # vectors that judge an update


@dataclass(frozen=True)
class Setting:
    """How the matrix is watched."""

    baseline_until: float
    references: int = 6
    noise: float = 0.01  # of the rms of a reading
    false_alarm: float = 0.05
    horizon: int = 100
    seed: int = 0


def watch(arrays: Mapping[str, Array], setting: Setting) -> dict[str, Any]:
    """Alarm and updates at each position."""
    positions, stack = _stack(arrays)
    calm = positions <= setting.baseline_until
    if not calm[: calm.sum()].all():
        raise DataError(f"positions up to {setting.baseline_until:g} must come before all others")
    rng = np.random.default_rng(setting.seed)
    vectors = _vectors(rng, (setting.references, stack.shape[2]), stack)
    unseen = _vectors(rng, (UNSEEN, stack.shape[2]), stack)
    clean = np.einsum("pmn,rn->prm", stack, vectors)
    readings = clean + setting.noise * float(np.sqrt(np.mean(np.abs(clean) ** 2))) * _vectors(rng, clean.shape, stack)
    count = int(calm.sum())
    monitor = DriftMonitor.learn(readings[:count], rng, horizon=setting.horizon, false_alarm=setting.false_alarm)
    calibrated = aligned_mean(stack[:count])
    sums = np.concatenate((np.full(count, np.nan), monitor.sums(readings[count:])))
    rows = []
    for index, position in enumerate(positions):
        kind, update = best_update(vectors @ calibrated.T, readings[index])
        gains = fit_inputs(calibrated, vectors, readings[index])
        true = unseen @ stack[index].T
        expected = unseen @ calibrated.T
        rows.append(
            {
                "position": float(position),
                "sum": None if np.isnan(sums[index]) else float(sums[index]),
                "alarm": bool(sums[index] > monitor.limit),
                "error": _relative(expected, true),
                "update": kind,
                "error_updated": _relative(update(expected), true),
                "error_input_gains": _relative((unseen * gains) @ calibrated.T, true),
            }
        )
    first = next((row["position"] for row in rows if row["alarm"]), None)
    return {
        "baseline": count,
        "baseline_distance": monitor.mean,
        "baseline_deviation": monitor.deviation,
        "limit": monitor.limit,
        "allowance": monitor.allowance,
        "first_alarm": first,
        "setting": vars(setting),
        "positions": rows,
    }


def _stack(arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    stacks = [name for name, array in arrays.items() if array.ndim == 3]
    axes = [name for name, array in arrays.items() if name.startswith("position") and array.ndim == 1]
    if len(stacks) != 1 or len(axes) != 1:
        raise DataError(
            f"expected one stack of matrices and one vector position..., found {stacks or 'no stack'} and "
            f"{axes or 'no positions'}; is this a file of drifting matrices?"
        )
    stack, positions = arrays[stacks[0]], arrays[axes[0]].astype(np.float64)
    if positions.size != len(stack):
        raise DataError(f"{len(stack)} matrices do not go with {positions.size} positions")
    if not (np.isfinite(stack).all() and np.isfinite(positions).all()):
        raise DataError("matrices and positions must be finite; leave out those that were not measured")
    return positions, stack.astype(np.complex128 if np.iscomplexobj(stack) else np.float64)


def _vectors(rng: np.random.Generator, shape: tuple[int, ...], like: Array) -> Array:
    """Random numbers of mean square one, complex where ``like`` is."""
    if not np.iscomplexobj(like):
        return rng.standard_normal(shape)
    return np.asarray((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2))


def _relative(expected: Array, true: Array) -> float:
    return float(np.linalg.norm(expected - true) / np.linalg.norm(true))


def print_table(result: Mapping[str, Any]) -> None:
    setting = result["setting"]
    print(
        f"{setting['references']} reference vectors, noise {setting['noise']:g} (simulated); baseline of "
        f"{result['baseline']} readings: distance {result['baseline_distance']:.3f}, deviation "
        f"{result['baseline_deviation']:.3f}"
    )
    print(
        f"limit {result['limit']:.2f} with allowance {result['allowance']:g}: a false alarm in {setting['horizon']} "
        f"readings with probability {setting['false_alarm']:g}, for independent, near normal distances"
    )
    print("position     sum  alarm  error of unseen products: as calibrated, updated (which), input gains")
    for row in result["positions"]:
        total = "       " if row["sum"] is None else f"{row['sum']:7.2f}"
        print(
            f"{row['position']:8.3f} {total}  {'ALARM' if row['alarm'] else '     '}  {row['error']:.3f}  "
            f"{row['error_updated']:.3f} ({row['update']})  {row['error_input_gains']:.3f}"
        )
    print("first alarm: " + ("none" if result["first_alarm"] is None else f"{result['first_alarm']:.3f}"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="drift of a measured matrix through a few reference vectors")
    parser.add_argument("path", help=".npz with a stack of matrices and positions")
    parser.add_argument("--baseline-until", type=float, required=True, help="positions up to here have not drifted")
    parser.add_argument("--references", type=int, default=6)
    parser.add_argument("--noise", type=float, default=0.01, help="of the rms of a reading")
    parser.add_argument("--false-alarm", type=float, default=0.05, help="probability within the horizon")
    parser.add_argument("--horizon", type=int, default=100, help="readings until the next calibration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = vars(parser.parse_args(argv))
    path, as_json = options.pop("path"), options.pop("json")
    try:
        result = watch(read_arrays(path), Setting(**options))
    except PhotonicError as error:
        parser.exit(1, f"error: {error}\n")
    print(json.dumps(result, indent=2)) if as_json else print_table(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
