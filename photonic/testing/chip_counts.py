"""Conformance checks on what a chip's counts mean: tiles, signs, linearity, channels, noise and seeds.

Statistical thresholds are at least five standard errors wide: a chip that keeps the rules does not fail by chance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.testing.chip_case import (
    SHOTS,
    ChipUnderTest,
    bright_tile,
    even_light,
    even_weights,
    light_codes,
    mean_d,
    mean_distance,
    nominal_d,
    random_codes,
    require_elementwise,
    shots,
    to_d,
    weight_codes,
)
from photonic.testing.report import Skipped, require

# 4096 shots in blocks of 16
BLOCKS, LENGTH = 256, 16


def check_tiling(case: ChipUnderTest) -> None:
    """A grid of tiles gives what its tiles give one by one; rows share the inputs of their column."""
    with case.open() as chip:
        weights, light = random_codes(chip, 3, 2, 1, chip.spec.n_outputs, chip.spec.n_inputs)
        light = shots(light)
        grid = chip.measure(weights, light).counts
        for r in range(3):
            for c in range(2):
                single = chip.measure(weights[r : r + 1, c : c + 1], light[c : c + 1]).counts[0, 0]
                apart, same = mean_distance(grid[r, c], single)
                require(
                    same, f"tile ({r}, {c}) of a grid differs from the same tile alone, by up to {apart:.3g} counts"
                )


def check_layouts(case: ChipUnderTest) -> None:
    """Codes are read as they are, strided or expanded, and never written to."""
    with case.open() as chip:
        weights, light = random_codes(chip, 2, 1, 4, chip.spec.n_outputs, chip.spec.n_inputs)
        light = light.repeat(1, SHOTS // 4, 1)
        expected = chip.measure(weights, light).counts
        strided = weights.mT.contiguous().mT, light.mT.contiguous().mT
        copies = [codes.clone() for codes in strided]
        found = chip.measure(*strided).counts
        for r in range(2):
            apart, same = mean_distance(found[r, 0], expected[r, 0])
            require(same, f"codes stored column by column give other results, by up to {apart:.3g} counts")
        expanded = chip.measure(weights[:1].expand(2, -1, -1), light).counts
        apart, same = mean_distance(expanded[1, 0], expected[0, 0])
        require(same, f"an expanded tile gives other results, by up to {apart:.3g} counts")
        untouched = all(torch.equal(a, b) for a, b in zip(strided, copies, strict=True))
        require(untouched, "measure wrote into the caller's codes; work on a copy")


def check_sign(case: ChipUnderTest) -> None:
    """Weights of zero give the zero count, and opposite weights (where there are any) opposite results."""
    with case.open() as chip:
        require_elementwise(chip)
        if chip.spec.weight_code_range[0] > 0:
            raise Skipped("no drive code of this chip is a weight of zero")
        spread = case.tolerance * chip.spec.adc_full_scale
        weights, light = even_weights(chip, 0.75), even_light(chip, 1.0)
        up, zero = mean_d(chip, weights, light), mean_d(chip, weights * 0, light)
        require(bool((up > spread).all()), f"positive weights must give D above {spread:g}, found {up.min():g}")
        require(
            bool((zero.abs() <= spread).all()),
            f"weights of zero must give D within {spread:g}, found {zero.abs().max():g}; is zero_count right?",
        )
        if chip.spec.signed_weights:
            down = mean_d(chip, -weights, light)
            require(
                bool(((down + up).abs() <= 2 * spread).all()),
                f"opposite weights must give opposite D, found {up.tolist()[:3]} and {down.tolist()[:3]}",
            )


def check_linearity(case: ChipUnderTest) -> None:
    """D follows the data sheet: weights times levels, summed, from dark (or negative) to the ADC's full scale."""
    with case.open() as chip:
        require_elementwise(chip)
        spread = case.tolerance * chip.spec.adc_full_scale
        parts = (0.0, 0.25, 0.5, 0.75, 1.0, *((-0.5, -1.0) if chip.spec.signed_inputs else ()))
        for weight in (0.5, 1.0):
            weights = even_weights(chip, weight)
            for part in parts:
                light = even_light(chip, part)
                error = float((mean_d(chip, weights, light) - nominal_d(chip, weights, light)[0]).abs().max())
                where = f"at weights of {weight:g} and {part:.0%} of the light"
                require(error <= spread, f"{where} D is off by {error:.3g}, stated is {spread:.3g}")


def check_channels(case: ChipUnderTest) -> None:
    """Every input meets its own weight, and every output its own row: row-major, in the order of the codes.

    Half of the channels are lit and half of each row's weights are on, at random: how D varies from pattern to
    pattern then says which channel met which weight, and nothing of gain, offset or curvature.
    """
    with case.open() as chip:
        require_elementwise(chip)
        m, n = chip.spec.n_outputs, chip.spec.n_inputs
        if n == 1:
            raise Skipped("with a single input there is nothing to mix up")
        generator = torch.Generator().manual_seed(2)
        off = max(0.0, chip.spec.weight_code_range[0])
        one = chip.spec.response.weight_code_one
        weights = weight_codes(chip, off + (one - off) * _halves(m, n, generator).reshape(1, 1, -1))
        level = min(1.0, 1.4 * chip.spec.adc_full_scale)
        light = light_codes(chip, level * _halves(128, n, generator).unsqueeze(0))
        # each pattern 8 times
        d = to_d(chip, chip.measure(weights, light.repeat(1, 8, 1)).counts[0, 0]).reshape(8, 128, m).mean(dim=0)
        found, expected = d - d.mean(dim=0), nominal_d(chip, weights, light)
        expected = expected - expected.mean(dim=0)
        alike = float((found * expected).sum() / (found.norm() * expected.norm()).clamp(min=1e-300))
        # 1 for a perfect chip, 0 for one that mixes channels up; leakage of 0.2 rms still leaves 0.9
        require(alike >= 0.7, f"inputs meet weights that are not theirs: correlation {alike:.2f} with the data sheet")


def check_averaging(case: ChipUnderTest) -> None:
    """Every shot has its own noise: the mean of n shots converges as 1 / sqrt(n); without noise all are equal."""
    with case.open() as chip:
        weights, light = bright_tile(chip)
        counts = chip.measure(weights, shots(light, BLOCKS * LENGTH)).counts[0, 0].double()
        # without converters, sums of different shapes round differently; that is not noise
        rounding = 1e-9 * float(counts.abs().max())
        if float(counts.var(dim=0).max()) <= rounding**2:
            again = chip.measure(weights, light).counts[0, 0].double()
            require(
                torch.allclose(again, counts[:1], rtol=0, atol=rounding),
                "shots of one call are all equal, yet another call differs from them",
            )
            return
        counts = _noisy(chip, counts)
        means = counts.reshape(BLOCKS, LENGTH, -1).mean(dim=1).var(dim=0)
        ratio = float(means.sum() * LENGTH / counts.var(dim=0).sum())
        # independent shots: 1, with a standard error of sqrt(2 / 255) = 0.09 even if all outputs move together;
        # chi-squared with 255 degrees of freedom leaves this range once in two million runs
        require(0.5 < ratio < 1.5, f"the variance of a mean of {LENGTH} shots is {ratio:.2f} times that of fresh noise")


def check_independence(case: ChipUnderTest) -> None:
    """Every tile of a grid has its own noise, common-mode noise of the laser included."""
    with case.open() as chip:
        weights, light = bright_tile(chip)
        grid = chip.measure(weights.repeat(2, 2, 1), shots(light, BLOCKS * LENGTH).repeat(2, 1, 1)).counts.double()
        _noisy(chip, grid[0, 0])
        deviation = grid - grid.mean(dim=2, keepdim=True)
        norm = deviation.square().sum(dim=(2, 3)).sqrt()
        for name, (r, c) in (("row", (1, 0)), ("column", (0, 1))):
            alike = float((deviation[0, 0] * deviation[r, c]).sum() / (norm[0, 0] * norm[r, c]))
            # 0 for fresh noise, with a standard error of at most 1 / sqrt(4096) = 0.016
            require(abs(alike) < 0.1, f"tiles of one {name} share noise: correlation {alike:.2f}, expected 0")


def check_seeding(case: ChipUnderTest) -> None:
    """Device and run seed give the counts, nothing else does; a run seed changes the noise, never the device."""
    with case.open() as probe:
        if not probe.spec.seeded:
            raise Skipped("spec.seeded is False: a measurement cannot be repeated")
    before = torch.get_rng_state()
    first, second, name = _two_calls(case, seed=5, device=1)
    again = _two_calls(case, seed=5, device=1)
    require(torch.equal(first, again[0]) and torch.equal(second, again[1]), "equal seeds gave unequal counts")
    untouched = torch.equal(before, torch.get_rng_state())
    require(untouched, "noise was drawn from (or seeds set on) torch's global generator; own a torch.Generator")
    other_run, _, same_name = _two_calls(case, seed=6, device=1)
    apart, same = mean_distance(first[0, 0], other_run[0, 0])
    require(same, f"another run seed changed the device itself, by up to {apart:.3g} counts, not only its noise")
    require(name == same_name, f"one device has two ids, {name!r} and {same_name!r}: its calibration would be lost")
    other_device, _, other_name = _two_calls(case, seed=5, device=2)
    apart, same = mean_distance(first[0, 0], other_device[0, 0])
    require(same or name != other_name, f"two unequal devices share the id {name!r}, and so their calibrations")
    if float(first.double().var(dim=2).max()) == 0.0:
        raise Skipped("equal seeds give equal counts; there is no noise for other seeds to change")
    require(not torch.equal(first, second), "two calls one after the other repeat the same noise")
    require(not torch.equal(first, other_run), "another run seed gives the same noise")


def _two_calls(case: ChipUnderTest, seed: int, device: int) -> tuple[Tensor, Tensor, str]:
    """Counts of two calls on a fresh chip, and its id."""
    with case.open(seed=seed, device=device) as chip:
        weights, light = bright_tile(chip)
        return chip.measure(weights, shots(light)).counts, chip.measure(weights, shots(light)).counts, chip.spec.chip_id


def _halves(rows: int, n: int, generator: torch.Generator) -> Tensor:
    """Rows (rows, n) of zeros and ones, as many of each, in random order."""
    order = torch.stack([torch.randperm(n, generator=generator) for _ in range(rows)])
    return (order < (n + 1) // 2).double()


def _noisy(chip: Chip, counts: Tensor) -> Tensor:
    """The outputs of counts (B, M) whose noise the converter shows."""
    # rarer flips than these (variance 0.05 counts^2) are too few for a statistic
    least = 0.0 if chip.spec.adc_bits is None else 0.05
    variance = counts.var(dim=0)
    rounding = 1e-9 * float(counts.abs().max())
    shown = variance > max(least, rounding**2)
    if not bool(shown.any()):
        raise Skipped("this chip has no noise, or less than one step of its converter shows")
    return counts[:, shown]
