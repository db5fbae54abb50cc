"""The conformance suite for chips: what everything above the seam relies on.

Each check looks at one rule only, so that a chip that breaks one rule fails one check. Those on the meaning of counts
are in ``chip_counts``; here are those on shapes, limits and life cycle, and the suite itself.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.errors import ClosedError, RangeError, ShapeError
from photonic.testing.chip_case import (
    ChipFactory,
    ChipUnderTest,
    beyond,
    bright_tile,
    even_weights,
    one_tile,
    random_codes,
    shots,
)
from photonic.testing.chip_counts import (
    check_averaging,
    check_channels,
    check_independence,
    check_layouts,
    check_linearity,
    check_seeding,
    check_sign,
    check_tiling,
)
from photonic.testing.report import Report, called, in_threads, outcome, require, run_checks


def check_chip(factory: ChipFactory, *, tolerance: float = 0.15) -> Report:
    """Runs every check on a chip.

    Args:
        factory: called with ``seed`` and ``device``, it gives a fresh chip each time; a chip whose ``spec.seeded`` is
            False may ignore them.
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
                counts = chip.measure(*random_codes(chip, rows, columns, b, outputs, inputs)).counts
                expected = (rows, columns, b, outputs)
                require(
                    tuple(counts.shape) == expected and counts.dtype == spec.count_dtype,
                    f"expected counts {expected} of {spec.count_dtype}, found {tuple(counts.shape)} of {counts.dtype}",
                )
                low, high = spec.count_range
                inside = ((counts >= low) & (counts <= high)).all() if counts.numel() else True
                require(bool(inside), f"counts leave the ADC's range {spec.count_range}")


def check_refusal(case: ChipUnderTest) -> None:
    """Codes and conditions outside the limits are refused before anything is measured; nothing is clipped."""
    with case.open() as chip:
        weights, light = one_tile(chip)
        reached = _note_measurements(chip)
        for codes, inputs, conditions, what in _unlawful(chip, weights, light):
            found = outcome(lambda w=codes, x=inputs, s=conditions: chip.measure(w, x, s))  # type: ignore[misc]
            require(found is RangeError, f"expected RangeError for {what}, found {called(found)}")
        found = outcome(lambda: chip.measure(weights[0], light))
        require(found is ShapeError, f"expected ShapeError for weights without tiles, found {called(found)}")
        measured = max(len(reached), chip.usage.calls)
        require(measured == 0, f"{measured} of the refused calls were measured all the same")


def _unlawful(chip: Chip, weights: Tensor, light: Tensor) -> list[tuple[Tensor, Tensor, dict[str, Any], str]]:
    """Calls that must be refused: weights, light, conditions, and what is wrong with them."""
    spec, dtype = chip.spec, chip.spec.code_dtype
    attempts: list[tuple[Tensor, Tensor, dict[str, Any], str]] = []
    for limit, direction in zip(spec.weight_code_range, (-1, 1), strict=True):
        if (code := beyond(limit, direction, dtype)) is not None:
            attempts.append((_with_one(weights, code), light, {}, f"a drive code of {code}"))
    for limit, direction in zip(spec.input_code_range, (-1, 1), strict=True):
        if (code := beyond(limit, direction, dtype)) is not None:
            attempts.append((weights, _with_one(light, code), {}, f"an input code of {code}"))
    if dtype.is_floating_point:
        attempts.append((_with_one(weights, math.nan), light, {}, "a drive code of NaN"))
        attempts.append((weights, _with_one(light, math.nan), {}, "an input code of NaN"))
    attempts.append((weights, light, {"no such condition": 1.0}, "a condition that the chip does not offer"))
    for name in spec.conditions:
        attempts += [(weights, light, {name: "no such value"}, f"a value that {name} does not allow")]
    return attempts


def _with_one(codes: Tensor, code: float) -> Tensor:
    """The codes, the last of them replaced."""
    changed = codes.clone()
    changed.view(-1)[-1] = code
    return changed


def _note_measurements(chip: Chip, pause_s: float = 0.0) -> list[bool]:
    """Notes every measurement that reaches ``_measure``: whether another was under way."""
    original, notes, guard = chip._measure, list[bool](), threading.Lock()

    def noting(*arguments: Any) -> Any:
        free = guard.acquire(blocking=False)
        notes.append(not free)
        try:
            time.sleep(pause_s)
            return original(*arguments)
        finally:
            if free:
                guard.release()

    chip._measure = noting  # type: ignore[method-assign, assignment]
    return notes


def check_close(case: ChipUnderTest) -> None:
    """A closed chip refuses to measure; closing twice is allowed; a fresh one measures again."""
    chip = case.open()
    weights, light = one_tile(chip)
    chip.measure(weights, light)
    chip.close()
    chip.close()
    found = outcome(lambda: chip.measure(weights, light))
    require(found is ClosedError, f"expected ClosedError after close(), found {called(found)}")
    with case.open() as fresh:
        fresh.measure(weights, light)
    found = outcome(lambda: fresh.measure(weights, light))
    require(found is ClosedError, f"expected ClosedError after leaving the context, found {called(found)}")


def check_threads(case: ChipUnderTest) -> None:
    """Calls from several threads are measured one at a time, each gets its own answer, and every one is counted."""
    with case.open() as chip:
        questions = _two_questions(chip)
        light = shots(bright_tile(chip)[1], 8)
        started = time.monotonic()
        alone = [_mean_counts(chip, w, light) for w in questions]
        patience_s = case.patience_s + 32 * (time.monotonic() - started)  # a slow chip is not a wrong one
        before, overlaps = chip.usage.calls, _note_measurements(chip, pause_s=0.002)

        def ask(i: int) -> bool:
            answer = _mean_counts(chip, questions[i % 2], light)
            return bool((answer - alone[i % 2]).norm() > (answer - alone[1 - i % 2]).norm())

        wrong = sum(bool(answer) for answer in in_threads(ask, 32, workers=4, patience_s=patience_s))
        require(wrong == 0, f"{wrong} of 32 concurrent calls got the answer to another call's question")
        require(not any(overlaps), "two measurements ran at once; calls must hold the chip's lock")
        require(chip.usage.calls - before == 32, f"32 calls were made, {chip.usage.calls - before} counted")


def _two_questions(chip: Chip) -> tuple[Tensor, Tensor]:
    """Two tiles that give unequal results under the same light."""
    if chip.spec.layout == "program":
        return one_tile(chip)[0], random_codes(chip, 1, 1, 1, 1, 1, seed=1)[0]
    weights = even_weights(chip, 0.75)
    return weights, torch.full_like(weights, max(0.0, chip.spec.weight_code_range[0]))


def _mean_counts(chip: Chip, weights: Tensor, light: Tensor) -> Tensor:
    return chip.measure(weights, light).counts[0, 0].double().mean(dim=0)


def check_interrupt(case: ChipUnderTest) -> None:
    """Ctrl-C inside a measurement comes out, the hardware is made safe, and the chip stays usable."""

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    safe: list[bool] = []

    def noting() -> None:
        safe.append(True)
        make_safe()

    with case.open() as chip:
        weights, light = one_tile(chip)
        started = time.monotonic()
        chip.measure(weights, light)
        patience_s = case.patience_s / 2 + 4 * (time.monotonic() - started)
        original, make_safe = chip._measure, chip.safe_state
        chip.safe_state = noting  # type: ignore[method-assign]
        chip._measure = interrupted  # type: ignore[method-assign, assignment]
        came_out = False
        try:
            chip.measure(weights, light)
        except KeyboardInterrupt:
            came_out = True
        chip._measure = original  # type: ignore[method-assign]
        require(came_out, "KeyboardInterrupt inside a measurement did not come out of measure()")
        require(bool(safe), "safe_state() was not called when the measurement was interrupted")
        # from another thread: a lock that was not released would let its owner in again
        in_threads(lambda _: chip.measure(weights, light), 1, workers=1, patience_s=patience_s)


CHIP_CHECKS: dict[str, Callable[[ChipUnderTest], None]] = {
    "shapes": check_shapes,
    "layouts": check_layouts,
    "tiling": check_tiling,
    "sign": check_sign,
    "linearity": check_linearity,
    "channels": check_channels,
    "averaging": check_averaging,
    "independence": check_independence,
    "seeding": check_seeding,
    "refusal": check_refusal,
    "close": check_close,
    "threads": check_threads,
    "interrupt": check_interrupt,
}
