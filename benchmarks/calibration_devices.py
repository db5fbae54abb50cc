"""What is asked of one calibrated device; every function gives a row of plain numbers."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from calibration_bound import USED, Bound, documented, functions, noise_bound, true_family, variances
from calibration_chips import KINDS, Truth
from calibration_gauge import Gauge, errors, inside
from calibration_tables import Row
from calibration_wrong import judged

import photonic
from photonic.backends.simulated import SimulatedChip
from photonic.calibration.fit import by_purpose
from photonic.calibration.model import ChipModel
from photonic.calibration.points import Points
from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Taken
from photonic.errors import PhotonicError
from photonic.records import Calibration
from photonic.testing import OnlyMeasured

LATER = 10_000_000  # added to the seed: noise and patterns of a later measurement
_AVERAGED = 400  # noisy products behind each mean
_ROWS, _INPUTS = 24, 2  # of a random matrix, in tiles of the chip's size


@dataclass(frozen=True)
class Calibrated:
    """A device, its record, and the readings behind it."""

    kind: str
    device: int
    chip: SimulatedChip
    record: Calibration
    taken: Sequence[Taken]
    seconds: float

    @property
    def truth(self) -> Truth:
        """What is hidden."""
        return Truth(self.chip, self.device)

    @property
    def model(self) -> ChipModel:
        """What was fitted."""
        assert self.record.spec is not None
        return ChipModel.of(self.record, self.record.spec)

    @property
    def held(self) -> Points:
        """The points of the verification."""
        return Points.of(self.chip.spec, by_purpose(self.taken, 1)["verify"])


def calibrated(kind: str, device: int) -> Calibrated:
    """Calibrates one device through a proxy that has a spec and ``measure`` alone."""
    chip = KINDS[kind].open(device)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        record = photonic.calibrate(OnlyMeasured(chip), seed=device, raw=Path(folder) / "raw")
        seconds = time.perf_counter() - began
        with RawStore.open(Path(folder) / "raw") as store:
            taken = store.taken()
    return Calibrated(kind, device, chip, record, taken, seconds)


def rates(made: Calibrated) -> Row:
    """Verdicts: of the calibration, and of a later test of the same record."""
    found = made.record.verification
    assert found is not None
    later = photonic.verify(OnlyMeasured(made.chip), made.record, seed=made.device + LATER)
    return {
        "verdict": found.verdict,
        "causes": list(found.causes),
        "open": [check.name for check in found.checks if check.verdict != "pass"],
        "later": later.verdict,
        "later open": [check.name for check in later.checks if check.verdict != "pass"],
        "seconds": made.seconds,
        "model": dict(made.record.model),
        "drift": made.record.drift.kind,
    }


def efficiency(made: Calibrated, bounds: bool = True) -> Row:
    """By family: mean squared error and mean error, and bounds of the former."""
    truth, model, held = made.truth, made.model, made.held
    gauge = Gauge.of(truth, model)
    found = errors(truth, gauge, made.record, held, made.device)
    row: Row = {"mse": {k: float((v**2).mean()) for k, v in found.items()}}
    row["bias"] = {k: float(v.mean()) for k, v in found.items()}
    if bounds:
        row["bound"] = _bounds(made, truth, gauge, model)
    return row


def _bounds(made: Calibrated, truth: Truth, gauge: Gauge, model: ChipModel) -> dict[str, dict[str, float]]:
    """By model and readings, by family."""
    parts = by_purpose(made.taken)
    families = [documented(gauge)]
    if not made.record.arrays["neighbour"].size:
        families.append(true_family(truth, gauge))
    found = {}
    for family in families:
        bound = Bound(truth, gauge, model, family)
        rows = functions(bound, made.held, made.device)
        for which, names in (("used", USED), ("all", tuple(parts.keys() - set(USED)))):
            for name in names:
                bound.add(parts.get(name, ()))
            covariance = bound.covariance()
            found[f"{family.name}, {which} readings"] = {
                name: float(variances(covariance, each).mean()) for name, each in rows.items()
            }
    everything = [item for part in parts.values() for item in part]
    for which, taken in (("used", parts["noise"]), ("all", everything)):
        found[f"documented, {which} readings"]["V(S, D)"] = float(noise_bound(truth, taken, made.held).mean())
    return found


def coverage(made: Calibrated) -> Row:
    """Hits and intervals by family."""
    truth = made.truth
    return {"inside": inside(truth, Gauge.of(truth, made.model), made.record, made.held)}


def products(made: Calibrated) -> Row:
    """Mean error of random products, nominal and calibrated, noise averaged away; per weight, as its own condition.

    A product of N weights with errors e of each has the error e sqrt(sum of x^2): errors are stated per weight, the
    largest weight of the matrix being 1. The condition is that the nominal error is 10 times 0.0023 (of a
    code of 8 bits) + sigma sqrt(p / n): sigma of one shot per weight, p numbers of an output, n shots of the fit.
    """
    n, generator = made.chip.spec.n_inputs, torch.Generator().manual_seed(made.device)
    weight = 2 * torch.rand(1, _ROWS, _INPUTS * n, generator=generator) - 1
    x = torch.rand(1, 32, _INPUTS * n, generator=generator)
    length = float(x.square().sum(-1).mean().sqrt())
    found = []
    for calibration in (Calibration.from_spec(made.chip.spec), made.record):
        backend = photonic.CalibratedBackend(made.chip, calibration)
        halves = [sum(backend.matmul(x, weight).double() for _ in range(_AVERAGED // 2)) for _ in range(2)]
        off = [half * (2 / _AVERAGED) - x.double() @ weight.double().mT for half in halves]
        found.append(math.sqrt(max(0.0, float((off[0] * off[1]).mean()))) / length)  # their noise is not the same
    a, b = made.truth.noise[:2]
    sigma = math.sqrt(a + b / 2) * n / math.sqrt(n / 3)
    numbers = made.record.arrays["element"][0].size
    shots = sum(len(item.counts) for name in USED for item in by_purpose(made.taken).get(name, ()))
    needed = 10 * (0.0023 + sigma * math.sqrt(numbers / shots))
    return {"nominal": found[0], "calibrated": found[1], "needed": needed}


def wrong(made: Calibrated) -> Row:
    """Verdicts on the right twin and on wrong ones, from the readings of one later test."""
    return judged(made.chip, made.record, made.device + LATER)


PARTS: dict[str, Callable[[Calibrated], Row]] = {
    "rates": rates,
    "efficiency": efficiency,
    "coverage": coverage,
    "products": products,
    "wrong": wrong,
}


def device_rows(kind: str, device: int, parts: str, bounds: bool) -> Row:
    """All ``parts`` (names with a comma between) of one device; an error of the library is a result, too."""
    try:
        made = calibrated(kind, device)
        row: Row = {"conditions": made.truth.conditions()}
        for part in parts.split(","):
            row[part] = efficiency(made, bounds) if part == "efficiency" else PARTS[part](made)
    except PhotonicError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return row
