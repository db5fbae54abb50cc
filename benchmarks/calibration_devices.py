"""What is asked of one calibrated device; every function gives a row of plain numbers."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from calibration_bound import USED, Bound, documented, functions, true_family, variances
from calibration_chips import KINDS, Truth
from calibration_gauge import Gauge, errors, inside
from calibration_noisebound import noise_bound
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
from photonic.records import Calibration, ChipSpec
from photonic.testing import OnlyMeasured

LATER = 10_000_000  # added to the seed: noise and patterns of a later measurement
_AVERAGED = 400  # noisy products behind each mean
_NOISE = {
    "all": "V(S, D)",
    "share": "V(S, D) with units known",
    "units": "V(S, D) with share known",
    "terms": "V(S, D) with units and share known",
}
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
    gauge = Gauge.of(truth, model, made.record)
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
        noise = noise_bound(truth, taken, made.held)
        found[f"documented, {which} readings"] |= {_NOISE[name]: float(each.mean()) for name, each in noise.items()}
    return found


def coverage(made: Calibrated) -> Row:
    """Hits and intervals by family."""
    truth = made.truth
    return {"inside": inside(truth, Gauge.of(truth, made.model, made.record), made.record, made.held)}


def products(made: Calibrated) -> Row:
    """Mean error of random products, nominal and calibrated, noise averaged away; per weight, as its own condition.

    A product of N weights with errors e of each has the error e sqrt(sum of x^2): errors are stated per weight, the
    largest weight of the matrix being 1. The condition is that the nominal error is 10 times what rounding to the
    weights that an element can have costs (0.0023 where codes of 8 bits are even steps; cells have fewer levels)
    + sigma sqrt(p / n): sigma of one shot per weight, p numbers of an output, n shots of the fit. Inputs are such that
    no result leaves the ADC's range, where no calibration helps.
    """
    n, generator = made.chip.spec.n_inputs, torch.Generator().manual_seed(made.device)
    weight = 2 * torch.rand(1, _ROWS, _INPUTS * n, generator=generator) - 1
    x = _inside(made.chip.spec, weight[0], generator)[None]
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
    needed = 10 * (_rounding(made) + sigma * math.sqrt(numbers / shots))
    return {"nominal": found[0], "calibrated": found[1], "needed": needed}


def _inside(spec: ChipSpec, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random inputs (32, columns) in [0, 1] of which every tile's result stays within 0.85 of the ADC's range."""
    n, found = spec.n_inputs, list[torch.Tensor]()
    while len(found) < 32:
        x = torch.rand(weight.shape[1], generator=generator)
        results = (weight * x).unflatten(1, (-1, n)).sum(-1) / n
        if float(results.abs().max()) < 0.85 * spec.adc_full_scale:
            found.append(x)
    return torch.stack(found)


def _rounding(made: Calibrated) -> float:
    """Rms over elements and random weights of what is left when the nearest weight that an element has is taken."""
    low, high = made.chip.spec.weight_code_range
    shape, spread = made.record.arrays["element"].shape[:2], np.random.default_rng(made.device)
    own = np.sort(np.stack([made.model.own(np.full(shape, code)) for code in np.arange(low, high + 1)]), axis=0)
    reach = min(float(own[-1].min()), float(-own[0].max()))
    wanted = spread.uniform(-reach, reach, (64, *shape))
    away = [np.abs(own - each).min(0) for each in wanted]
    return float(np.sqrt(np.mean(np.square(away)))) / reach


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
