"""How good calibrations are, on simulated chips whose truth is hidden from them.

    python benchmarks/calibration.py                    # 60 devices of 16 x 16 of each kind (about 25 minutes)
    python benchmarks/calibration.py --devices 10       # fewer
    python benchmarks/calibration.py --large            # 64 x 64 with a million shots, 5 devices

For each kind of chip: how many records pass their verification, how often the 95 % intervals of parameters hold the
truth, how much nearer products are with the record than with the data sheet, and the time from plan to verdict. Every
device and every run has seeds of its own; the calibration sees a proxy that has a spec and ``measure``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch

import photonic
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.backends.simulated import SimulatedChip
from photonic.physics.device import Device
from photonic.records import Calibration

SMALL = "n_inputs=16&n_outputs=16"
CHIPS = {
    "ring bank": f"sim:typical?{SMALL}",
    "ring bank without leakage": f"sim:typical?{SMALL}&channel_leakage=false",
    "crossbar": f"sim:crossbar-typical?{SMALL}",
}
LARGE = {"ring bank, 64 x 64": "sim:typical"}
HEAD = (
    "chip",
    "devices",
    "pass",
    "undecided",
    "fail",
    "zeros in interval",
    "V_pi",
    "bias",
    "noise terms",
    "nominal / measured error",
    "s, median",
)


class Proxy(Chip):
    """Of a chip, its spec and ``measure``."""

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip.spec)
        self._inner = chip

    def _measure(self, weights: torch.Tensor, inputs: torch.Tensor, conditions: Conditions) -> Measurement:
        return self._inner.measure(weights, inputs, conditions)


@dataclass
class Tally:
    """Over the devices of one kind."""

    verdicts: Counter[str] = field(default_factory=Counter)
    inside: dict[str, list[bool]] = field(default_factory=dict)
    gains: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def covered(self, *families: str) -> str:
        """Share of the intervals of some families that hold the truth."""
        values = [value for name in families for value in self.inside.get(name, [])]
        return f"{100 * np.mean(values):.1f} %" if values else ""

    def row(self, name: str) -> tuple[str, ...]:
        """One row of the table."""
        count = sum(self.verdicts.values())
        return (
            name,
            str(count),
            *(str(self.verdicts[verdict]) for verdict in ("pass", "not distinguishable", "fail")),
            self.covered("zero"),
            self.covered("v_pi"),
            self.covered("bias"),
            self.covered("thermal", "shot", "rin"),
            f"{np.median(self.gains):.1f}",
            f"{np.median(self.seconds):.0f}",
        )


def one(spec: str, device: int, tally: Tally) -> None:
    """Calibrates one device and compares the record with the truth."""
    with photonic.open_chip(spec, seed=device) as chip:
        assert isinstance(chip, SimulatedChip)
        started = time.perf_counter()
        record = photonic.calibrate(Proxy(chip), seed=device)
        tally.seconds.append(time.perf_counter() - started)
        assert record.verification is not None
        tally.verdicts[record.verification.verdict] += 1
        coverage(chip, device, record, tally)
        tally.gains.append(nearer(chip, record))


def coverage(chip: SimulatedChip, device: int, record: Calibration, tally: Tally) -> None:
    """Whether 95 % intervals hold the truth, one by one."""
    truth, a = Device.draw(chip.parameters, device), record.arrays
    per_d = chip.spec.response.counts_per_d[0]
    pairs = {
        "zero": (a["zero_count"], a["zero_count_se"], truth.receiver.offset_d.numpy() * per_d),
        "v_pi": (a["inverse_v_pi"], a["inverse_v_pi_se"], truth.transmitter.inverse_v_pi.numpy()),
        "bias": (a["bias_rad"], a["bias_rad_se"], truth.transmitter.bias_rad.numpy()),
    }
    for name, (found, error, true) in pairs.items():
        tally.inside.setdefault(name, []).extend((np.abs(found - true) < 1.96 * error).tolist())
    for name, true in noise_in_gauge(chip, truth, record).items():
        row = next(each for each in record.parameters if each.name == f"noise, {name}")
        if row.low is not None and row.high is not None:
            tally.inside.setdefault(name, []).append(row.low <= true <= row.high)


def noise_in_gauge(chip: SimulatedChip, truth: Device, record: Calibration) -> dict[str, float]:
    """The true terms in the record's units: D = 1 is what its gains say, and the mean channel has power 1."""
    noise, per_d = chip.parameters.noise, chip.spec.response.counts_per_d[0]
    squared = float((truth.receiver.gain.numpy() * per_d) ** 2 @ (1 / record.arrays["counts_per_d"] ** 2)) / len(
        truth.receiver.gain
    )
    power = float(truth.transmitter.power.mean())
    return {"thermal": noise.thermal * squared, "shot": noise.shot * squared * power, "rin": noise.rin}


def nearer(chip: SimulatedChip, record: Calibration) -> float:
    """Rms error of random products with the nominal calibration over that with the record, noise averaged away."""
    generator = torch.Generator().manual_seed(0)
    n = chip.spec.n_inputs
    weight, x = torch.randn(1, 2 * n, 3 * n, generator=generator), torch.rand(1, 30, 3 * n, generator=generator)
    exact, errors = x @ weight.mT, []
    for calibration in (Calibration.from_spec(chip.spec), record):
        backend = photonic.CalibratedBackend(chip, calibration)
        mean = torch.stack([backend.matmul(x, weight) for _ in range(200)]).mean(0)
        errors.append(float((mean - exact).square().mean().sqrt()))
    return errors[0] / errors[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first device")
    parser.add_argument("--large", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(2)
    devices = given.devices or (5 if given.large else 60)
    print("| " + " | ".join(HEAD) + " |")
    print("| " + " | ".join("---" for _ in HEAD) + " |")
    for name, spec in (LARGE if given.large else CHIPS).items():
        tally = Tally()
        for device in range(given.first, given.first + devices):
            one(spec, device, tally)
        print("| " + " | ".join(tally.row(name)) + " |", flush=True)


if __name__ == "__main__":
    main()
