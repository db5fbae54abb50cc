"""The chip under test, and the codes that its checks drive it with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.physics import modulator
from photonic.testing.report import Skipped

ChipFactory = Callable[..., Chip]
SHOTS = 256


@dataclass(frozen=True)
class ChipUnderTest:
    """How to make the chip, and how well it claims to follow its data sheet.

    Attributes:
        factory: takes ``seed`` and ``device``, gives a fresh chip.
        tolerance: largest error of D against the data sheet, as a part of the ADC's full scale.
        patience_s: how long a call may wait for the calls of other threads.
    """

    factory: ChipFactory
    tolerance: float = 0.15
    patience_s: float = 10.0

    def open(self, seed: int = 0, device: int = 0) -> Chip:
        """A fresh chip."""
        return self.factory(seed=seed, device=device)


def require_elementwise(chip: Chip) -> None:
    """Skips a check that has to know what a drive code means."""
    if chip.spec.layout != "elementwise":
        raise Skipped("drive codes of this chip are a program; only its own decomposition gives them a meaning")


def random_codes(chip: Chip, rows: int, columns: int, b: int, m: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights over the whole range, light small enough for the ADC; the same each time."""
    generator, spec = torch.Generator().manual_seed(seed), chip.spec
    p = spec.drives if spec.layout == "program" else m * n
    low, high = spec.weight_code_range
    weights = torch.rand(rows, columns, p, generator=generator, dtype=torch.float64) * (high - low) + low
    light = torch.rand(columns, b, n, generator=generator, dtype=torch.float64) * min(1.0, spec.adc_full_scale)
    return weight_codes(chip, weights), light_codes(chip, light)


def one_tile(chip: Chip) -> tuple[Tensor, Tensor]:
    """A whole tile and one shot of light: any codes, for rules that hold whatever they mean."""
    return random_codes(chip, 1, 1, 1, chip.spec.n_outputs, chip.spec.n_inputs)


def bright_tile(chip: Chip) -> tuple[Tensor, Tensor]:
    """A whole tile and one shot with results well above zero (a program: of whatever it gives)."""
    return one_tile(chip) if chip.spec.layout == "program" else (even_weights(chip, 0.75), even_light(chip, 1.0))


def even_weights(chip: Chip, weight: float) -> Tensor:
    """Drive codes (1, 1, P) of one weight everywhere: which channel meets which weight is another rule."""
    code = weight * chip.spec.response.weight_code_one
    return weight_codes(chip, torch.full((1, 1, chip.spec.drives), code, dtype=torch.float64))


def even_light(chip: Chip, part: float) -> Tensor:
    """One shot (1, 1, N) in which every channel carries the same level, ``part`` of what fills 0.7 of the ADC."""
    level = min(1.0, 0.7 * chip.spec.adc_full_scale) * part
    return light_codes(chip, torch.full((1, 1, chip.spec.n_inputs), level, dtype=torch.float64))


def shots(light: Tensor, count: int = SHOTS) -> Tensor:
    """Light (C, 1, N) repeated to (C, count, N)."""
    return light.expand(-1, count, -1).contiguous()


def weight_codes(chip: Chip, values: Tensor) -> Tensor:
    """Drive codes, rounded where there is a converter."""
    return _rounded(chip, values, chip.spec.weight_bits)


def light_codes(chip: Chip, levels: Tensor) -> Tensor:
    """Input codes for levels, rounded where there is a converter."""
    return _rounded(chip, modulator.codes(chip.spec.response.inputs, levels), chip.spec.input_bits)


def beyond(limit: float, direction: int, dtype: torch.dtype) -> float | None:
    """The next code beyond a limit, or None where the dtype holds none."""
    if dtype.is_floating_point:
        return math.nextafter(limit, direction * math.inf)
    code = math.floor(limit) + 1 if direction > 0 else math.ceil(limit) - 1
    info = torch.iinfo(dtype)
    return code if info.min <= code <= info.max else None


def nominal_d(chip: Chip, weights: Tensor, light: Tensor) -> Tensor:
    """D (B, M) that the data sheet promises for weights (1, 1, P) and light (1, B, N)."""
    spec = chip.spec
    w = weights[0, 0].double().reshape(spec.n_outputs, spec.n_inputs) / spec.response.weight_code_one
    return modulator.levels(spec.response.inputs, light[0].double()) @ w.T / spec.n_inputs


def to_d(chip: Chip, counts: Tensor) -> Tensor:
    """Counts as D, by the data sheet."""
    response = chip.spec.response
    gain = torch.tensor(response.counts_per_d, dtype=torch.float64)
    return (counts.double() - torch.tensor(response.zero_count, dtype=torch.float64)) / gain


def mean_d(chip: Chip, weights: Tensor, light: Tensor) -> Tensor:
    """Mean D (M,) of many shots of one tile."""
    return to_d(chip, chip.measure(weights, shots(light)).counts[0, 0]).mean(dim=0)


def mean_distance(a: Tensor, b: Tensor) -> tuple[float, bool]:
    """How far the means of two sets of shots (B, M) are apart at most, and whether noise explains it.

    It does within 8 standard errors and a hundredth of a count.
    """
    a, b = a.double(), b.double()
    error = ((a.var(dim=0) + b.var(dim=0)) / len(a)).sqrt()
    apart = (a.mean(dim=0) - b.mean(dim=0)).abs()
    return float(apart.max()), bool((apart <= 8 * error + 0.01).all())


def _rounded(chip: Chip, values: Tensor, bits: int | None) -> Tensor:
    return (values if bits is None else values.round()).to(chip.spec.code_dtype)
