"""The conformance suite for chips: what everything above the seam relies on.

Each check looks at one rule only, so that a chip that breaks one rule fails one check. Statistical thresholds are at
least five standard errors wide; a chip that keeps the rules does not fail by chance.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.errors import ClosedError, RangeError, ShapeError
from photonic.physics import modulator
from photonic.testing.report import Report, Skipped, require, run_checks

ChipFactory = Callable[..., Chip]
SHOTS = 256


@dataclass(frozen=True)
class ChipUnderTest:
    """How to make the chip, and how well it claims to follow its data sheet.

    Attributes:
        factory: takes ``seed`` and ``device``, gives a fresh chip.
        tolerance: largest error of D against the data sheet, as a part of the ADC's full scale.
    """

    factory: ChipFactory
    tolerance: float = 0.15

    def open(self, seed: int = 0, device: int = 0) -> Chip:
        """A fresh chip."""
        return self.factory(seed=seed, device=device)


def check_chip(factory: ChipFactory, *, tolerance: float = 0.15) -> Report:
    """Runs every check on a chip.

    Args:
        factory: called with ``seed`` and ``device``, it gives a fresh chip each time.
        tolerance: the chip's stated error against its own data sheet, as a part of the ADC's full scale.

    Returns:
        What passed, failed and does not apply; ``report.raise_for_failures()`` raises.
    """
    return run_checks(CHIP_CHECKS, ChipUnderTest(factory, tolerance))


def check_shapes(case: ChipUnderTest) -> None:
    """Counts are (R, C, B, m), of the spec's dtype, between the rails, for whole tiles and parts of them."""
    with case.open() as chip:
        spec = chip.spec
        m, n = spec.n_outputs, spec.n_inputs
        parts = [(m, n)] if spec.layout == "program" else [(m, n), (1, n), (m, 1), (max(1, m - 1), max(1, n - 1))]
        for rows, columns, b in ((1, 1, 1), (2, 3, 4), (3, 1, 2), (1, 2, 0)):
            for outputs, inputs in parts:
                weights, light = _grid(chip, rows, columns, b, outputs, inputs)
                counts = chip.measure(weights, light).counts
                expected = (rows, columns, b, outputs)
                require(
                    tuple(counts.shape) == expected and counts.dtype == spec.count_dtype,
                    f"expected counts {expected} of {spec.count_dtype}, found {tuple(counts.shape)} of {counts.dtype}",
                )
                low, high = spec.count_range
                inside = ((counts >= low) & (counts <= high)).all() if counts.numel() else True
                require(bool(inside), f"counts leave the ADC's range {spec.count_range}")


def check_tiling(case: ChipUnderTest) -> None:
    """A grid of tiles gives what its tiles give one by one; rows share the inputs of their column."""
    with case.open() as chip:
        weights, light = _grid(chip, 3, 2, 1, chip.spec.n_outputs, chip.spec.n_inputs)
        light = light.expand(-1, SHOTS, -1).contiguous()
        grid = chip.measure(weights, light).counts.double()
        for r in range(3):
            for c in range(2):
                single = chip.measure(weights[r : r + 1, c : c + 1], light[c : c + 1]).counts[0, 0].double()
                _require_same_mean(grid[r, c], single, f"tile ({r}, {c}) of a grid differs from the same tile alone")


def check_sign(case: ChipUnderTest) -> None:
    """Opposite weights give opposite results, and weights of zero give the zero count."""
    with case.open() as chip:
        _require_elementwise(chip)
        if not chip.spec.signed_weights:
            raise Skipped("this chip holds no negative weights")
        spread = case.tolerance * chip.spec.adc_full_scale
        weights, light = _positive(chip)
        results = {sign: _mean_d(chip, weights * sign, light) for sign in (1, 0, -1)}
        require(
            bool((results[1] > spread).all()),
            f"positive weights must give D above {spread:g}, found {results[1].min():g}",
        )
        require(
            bool((results[0].abs() <= spread).all()),
            f"weights of zero must give D within {spread:g}, found {results[0].abs().max():g}",
        )
        require(
            bool(((results[-1] + results[1]).abs() <= 2 * spread).all()),
            f"opposite weights must give opposite D: {results[1].tolist()[:3]} and {results[-1].tolist()[:3]}",
        )


def check_linearity(case: ChipUnderTest) -> None:
    """D follows the data sheet: weights times levels, summed, from dark to the ADC's full scale."""
    with case.open() as chip:
        _require_elementwise(chip)
        spread = case.tolerance * chip.spec.adc_full_scale
        weights, _ = _positive(chip)
        w = weights.double().reshape(chip.spec.n_outputs, chip.spec.n_inputs) / chip.spec.response.weight_code_one
        for part in (0.0, 0.25, 0.5, 0.75, 1.0):
            light = _light(chip, part)
            levels = modulator.levels(chip.spec.response.inputs, light.double())[0, 0]
            error = (_mean_d(chip, weights, light) - (w * levels).sum(-1) / chip.spec.n_inputs).abs().max()
            require(
                float(error) <= spread, f"at {part:.0%} of the light D is off by {error:.3g}, stated is {spread:.3g}"
            )


def check_averaging(case: ChipUnderTest) -> None:
    """Every shot has its own noise: the mean of n shots converges as 1 / sqrt(n)."""
    blocks, length = 64, 64
    with case.open() as chip:
        _require_elementwise(chip)
        weights, light = _positive(chip)
        counts = chip.measure(weights, light.expand(-1, blocks * length, -1).contiguous()).counts[0, 0].double()
        variance = counts.var(dim=0)
        # without converters, sums of different shapes round differently; that is not noise
        rounding = 1e-9 * float(counts.abs().max())
        if float(variance.max()) <= rounding**2:
            again = chip.measure(weights, light).counts[0, 0].double()
            require(
                torch.allclose(again, counts[:1], rtol=0, atol=rounding),
                "shots of one call are all equal, yet another call differs from them",
            )
            return
        means = counts.reshape(blocks, length, -1).mean(dim=1).var(dim=0)
        noisy = variance > 0
        ratio = float((means[noisy] * length / variance[noisy]).mean())
        # independent shots: 1, with a standard error of sqrt(2 / 63) = 0.18 even if all outputs move together
        require(
            0.1 < ratio < 2.0,
            f"the variance of a mean of {length} shots is {ratio:.2f} times that of independent shots",
        )


def check_seeding(case: ChipUnderTest) -> None:
    """The same device and run seed give the same counts; another run seed other noise; calls do not repeat noise."""
    with case.open() as probe:
        _require_elementwise(probe)
        if not probe.spec.seeded:
            raise Skipped("spec.seeded is False: a measurement cannot be repeated")
        weights, light = _positive(probe)
        light = light.expand(-1, SHOTS, -1).contiguous()

    def two_calls(seed: int) -> tuple[Tensor, Tensor]:
        with case.open(seed=seed, device=1) as chip:
            return chip.measure(weights, light).counts, chip.measure(weights, light).counts

    first, second = two_calls(5)
    again = two_calls(5)
    require(torch.equal(first, again[0]) and torch.equal(second, again[1]), "equal seeds gave unequal counts")
    if float(first.double().var(dim=2).max()) == 0.0:
        raise Skipped("equal seeds give equal counts; there is no noise for other seeds to change")
    require(not torch.equal(first, second), "two calls one after the other repeat the same noise")
    require(not torch.equal(first, two_calls(6)[0]), "another run seed gives the same noise")


def check_refusal(case: ChipUnderTest) -> None:
    """Codes and conditions outside the limits are refused before anything is measured; nothing is clipped."""
    with case.open() as chip:
        spec = chip.spec
        weights, light = _grid(chip, 1, 1, 1, spec.n_outputs, spec.n_inputs)
        attempts = [
            (torch.full_like(weights, int(spec.weight_code_range[1]) + 1), light, {}),
            (torch.full_like(weights, int(spec.weight_code_range[0]) - 1), light, {}),
            (weights, torch.full_like(light, int(spec.input_code_range[1]) + 1), {}),
            (weights, torch.full_like(light, int(spec.input_code_range[0]) - 1), {}),
            (weights, light, {"no such condition": 1.0}),
        ]
        for codes, inputs, conditions in attempts:
            found = _outcome(lambda w=codes, x=inputs, s=conditions: chip.measure(w, x, s))  # type: ignore[misc]
            require(found is RangeError, f"expected RangeError for a setting out of its limits, found {_called(found)}")
        found = _outcome(lambda: chip.measure(weights[0], light))
        require(found is ShapeError, f"expected ShapeError for weights without tiles, found {_called(found)}")
        require(chip.usage.calls == 0, "something was measured although the settings were refused")


def check_close(case: ChipUnderTest) -> None:
    """A closed chip refuses to measure; closing twice is allowed; a fresh one measures again."""
    chip = case.open()
    weights, light = _grid(chip, 1, 1, 1, chip.spec.n_outputs, chip.spec.n_inputs)
    chip.measure(weights, light)
    chip.close()
    chip.close()
    found = _outcome(lambda: chip.measure(weights, light))
    require(found is ClosedError, f"expected ClosedError after close(), found {_called(found)}")
    with case.open() as fresh:
        fresh.measure(weights, light)
    found = _outcome(lambda: fresh.measure(weights, light))
    require(found is ClosedError, f"expected ClosedError after leaving the context, found {_called(found)}")


def check_threads(case: ChipUnderTest) -> None:
    """Callers from several threads get the answer to their own question, and every call is counted."""
    with case.open() as chip:
        _require_elementwise(chip)
        weights, light = _positive(chip)
        light = light.expand(-1, 8, -1).contiguous()
        questions = [weights, weights * 0]
        alone = [_d(chip, chip.measure(w, light).counts).mean() for w in questions]
        before = chip.usage.calls
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda i: _d(chip, chip.measure(questions[i % 2], light).counts).mean(), range(32)))
        middle = (alone[0] + alone[1]) / 2
        wrong = sum(bool((answer > middle) != (i % 2 == 0)) for i, answer in enumerate(answers))
        require(wrong == 0, f"{wrong} of 32 concurrent calls got the answer to another call's question")
        require(chip.usage.calls - before == 32, f"32 calls were made, {chip.usage.calls - before} counted")


def check_interrupt(case: ChipUnderTest) -> None:
    """Ctrl-C inside a measurement comes out, the hardware is made safe, and the chip stays usable."""

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    safe: list[bool] = []

    def noting() -> None:
        safe.append(True)
        make_safe()

    with case.open() as chip:
        weights, light = _grid(chip, 1, 1, 1, chip.spec.n_outputs, chip.spec.n_inputs)
        original, make_safe = chip._measure, chip.safe_state
        chip.safe_state = noting  # type: ignore[method-assign]
        chip._measure = interrupted  # type: ignore[method-assign, assignment]
        found = _outcome(lambda: chip.measure(weights, light))
        chip._measure = original  # type: ignore[method-assign]
        require(found is KeyboardInterrupt, f"expected KeyboardInterrupt to come out, found {_called(found)}")
        require(bool(safe), "safe_state() was not called when the measurement was interrupted")
        # from another thread: a lock that was not released would let its owner in again
        later = threading.Thread(target=lambda: chip.measure(weights, light), daemon=True)
        later.start()
        later.join(timeout=5)
        require(not later.is_alive(), "the chip stays locked after an interrupt")


CHIP_CHECKS: dict[str, Callable[[ChipUnderTest], None]] = {
    "shapes": check_shapes,
    "tiling": check_tiling,
    "sign": check_sign,
    "linearity": check_linearity,
    "averaging": check_averaging,
    "seeding": check_seeding,
    "refusal": check_refusal,
    "close": check_close,
    "threads": check_threads,
    "interrupt": check_interrupt,
}


def _require_elementwise(chip: Chip) -> None:
    if chip.spec.layout != "elementwise":
        raise Skipped("drive codes of this chip are a program; only its own decomposition gives them a meaning")


def _grid(chip: Chip, rows: int, columns: int, b: int, m: int, n: int) -> tuple[Tensor, Tensor]:
    """Random codes over the whole range, small light (the ADC must not clip), the same each time."""
    generator, spec = torch.Generator().manual_seed(0), chip.spec
    p = spec.drives if spec.layout == "program" else m * n
    low, high = spec.weight_code_range
    weights = torch.rand(rows, columns, p, generator=generator, dtype=torch.float64) * (high - low) + low
    light = torch.rand(columns, b, n, generator=generator, dtype=torch.float64) * spec.adc_full_scale
    return _codes(chip, weights, spec.weight_bits), _codes(chip, _light_codes(chip, light), spec.input_bits)


def _positive(chip: Chip) -> tuple[Tensor, Tensor]:
    """Weights of one tile between 0.5 and 1, different for each output, and light that fills 0.7 of the ADC."""
    spec = chip.spec
    generator = torch.Generator().manual_seed(1)
    w = 0.5 + 0.5 * torch.rand(1, 1, spec.drives, generator=generator, dtype=torch.float64)
    return _codes(chip, w * spec.response.weight_code_one, spec.weight_bits), _light(chip, 1.0)


def _light(chip: Chip, part: float) -> Tensor:
    """One shot in which every channel carries the same level, ``part`` of what fills 0.7 of the ADC."""
    spec = chip.spec
    level = min(1.0, 0.7 * spec.adc_full_scale) * part
    levels = torch.full((1, 1, spec.n_inputs), level, dtype=torch.float64)
    return _codes(chip, _light_codes(chip, levels), spec.input_bits)


def _light_codes(chip: Chip, levels: Tensor) -> Tensor:
    return modulator.codes(chip.spec.response.inputs, levels)


def _codes(chip: Chip, values: Tensor, bits: int | None) -> Tensor:
    return (values if bits is None else values.round()).to(chip.spec.code_dtype)


def _d(chip: Chip, counts: Tensor) -> Tensor:
    """Counts as D, by the data sheet."""
    response = chip.spec.response
    gain = torch.tensor(response.counts_per_d, dtype=torch.float64)
    return (counts.double() - torch.tensor(response.zero_count, dtype=torch.float64)) / gain


def _mean_d(chip: Chip, weights: Tensor, light: Tensor) -> Tensor:
    """Mean D (M,) of many shots."""
    return _d(chip, chip.measure(weights, light.expand(-1, SHOTS, -1).contiguous()).counts[0, 0]).mean(dim=0)


def _require_same_mean(a: Tensor, b: Tensor, message: str) -> None:
    """Means over shots (B, M) within 8 standard errors and a hundredth of a count of each other."""
    error = ((a.var(dim=0) + b.var(dim=0)) / len(a)).sqrt()
    apart = (a.mean(dim=0) - b.mean(dim=0)).abs()
    require(bool((apart <= 8 * error + 0.01).all()), f"{message}, by up to {float(apart.max()):.3g} counts")


def _outcome(call: Callable[[], object]) -> type[BaseException] | None:
    """The class of what a call raises, or None."""
    try:
        call()
    except BaseException as error:
        return type(error)
    return None


def _called(found: type[BaseException] | None) -> str:
    return "no error" if found is None else found.__name__
