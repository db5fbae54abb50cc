"""Limits: nothing beyond them passes, whatever the sequence of calls, and whichever thread calls."""

from __future__ import annotations

import threading
import time
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photonic.backends.visa.drivers.ramp import Ramp
from photonic.backends.visa.limits import CodeLimits, LaserLimits, PowerBudget, TemperatureLimits, WeightLimits
from photonic.backends.visa.owner import Owner
from photonic.errors import LabError, LimitError, SpecError

ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)


class Outputs:
    """Remembers all levels that it was given, and when."""

    def __init__(self, start: list[float]) -> None:
        self.levels = [np.array(start)]
        self.times = [time.monotonic()]

    def read_levels(self) -> np.ndarray:
        return self.levels[-1]

    def write_levels(self, levels_v: np.ndarray) -> None:
        self.times.append(time.monotonic())
        self.levels.append(levels_v.copy())


@given(ANY, ANY, ANY)
def test_a_scalar_passes_only_within_its_limits(value: float, low: float, high: float) -> None:
    try:
        limits = TemperatureLimits(low, high)
    except SpecError:
        assert not (np.isfinite(low) and np.isfinite(high) and low <= high)
        return
    if low <= value <= high:
        limits.check("tec", value)
    else:
        with pytest.raises(LimitError, match="nothing was sent"):
            limits.check("tec", value)


@given(st.lists(ANY, min_size=1, max_size=5))
def test_codes_pass_only_within_their_limits(codes: list[float]) -> None:
    limits, array = CodeLimits(-8, 7), np.array(codes)
    inside = bool(((array >= -8) & (array <= 7)).all())
    assert limits.holds(array) == inside
    if not inside:
        with pytest.raises(LimitError, match="codes"):
            limits.check("awg", array)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(ANY, ANY), max_size=6))
def test_no_level_beyond_its_limit_is_ever_written(targets: list[tuple[float, float]]) -> None:
    limits = WeightLimits((0.0, -1.0), (2.0, 1.0), (0.0, 0.0), slew_v_per_s=(1e3, 1e3), resistance_ohm=(1.0, 1.0))
    budget, outputs, owner = PowerBudget(2.0), Outputs([0.5, 0.0]), Owner("bank")
    ramp = Ramp("bank", outputs, owner, limits, budget)
    for target in targets:
        try:
            owner.run(lambda target=target: ramp.to(np.array(target)))  # type: ignore[misc]
        except LimitError:
            continue
        np.testing.assert_array_equal(outputs.levels[-1], target)
    owner.close(lambda: None)
    written, times = np.stack(outputs.levels), np.array(outputs.times)
    assert ((written >= (0.0, -1.0)) & (written <= (2.0, 1.0))).all()
    assert (written**2).sum(1).max() <= 2.0
    steps, least = np.abs(np.diff(written, axis=0)).max(1), np.diff(times)
    assert (steps <= 1e3 * least).all()


def test_a_ramp_starts_from_what_reads_back_and_goes_in_steps() -> None:
    limits = WeightLimits.uniform(1, volts_min=0.0, volts_max=5.0, slew_v_per_s=10.0)
    outputs, owner = Outputs([4.0]), Owner("bank")
    owner.run(lambda: Ramp("bank", outputs, owner, limits, None).to(np.array([2.0])))
    owner.close(lambda: None)
    levels = np.concatenate(outputs.levels)
    assert levels[0] == 4.0
    assert levels[-1] == 2.0
    assert (np.diff(levels) < 0).all()
    assert (np.abs(np.diff(levels)) <= 10.0 * np.diff(outputs.times)).all()


def test_levels_that_somebody_else_left_outside_can_only_be_brought_back() -> None:
    limits = WeightLimits.uniform(1, volts_min=0.0, volts_max=1.0, resistance_ohm=1.0)
    budget, outputs, owner = PowerBudget(1.0), Outputs([3.0]), Owner("bank")
    ramp = Ramp("bank", outputs, owner, limits, budget)
    owner.run(ramp.adopt)
    assert budget.reserved_w() == 9.0
    with pytest.raises(LimitError, match="must be within"):
        owner.run(ramp.check_found)
    with pytest.raises(LimitError, match="more than the bench's total"):
        budget.reserve("another bank", 0.1)
    owner.run(lambda: ramp.to(np.array([0.5])))
    assert budget.reserved_w() == 0.25
    owner.close(lambda: None)


def test_a_list_is_checked_from_each_tile_to_the_next_and_back_to_the_first() -> None:
    limits = WeightLimits.uniform(1, volts_min=0.0, volts_max=5.0, slew_v_per_s=10.0, resistance_ohm=1.0)
    slow = np.array([[0.0], [1.0], [0.5]])
    limits.check_list("bank", slow, 0.1)
    with pytest.raises(LimitError, match="tile 0 to 1"):
        limits.check_list("bank", slow, 0.09)
    with pytest.raises(LimitError, match="tile 2 to 0"):
        limits.check_list("bank", np.array([[0.0], [0.5], [1.0]]), 0.09)
    with pytest.raises(LimitError, match="dwell"):
        limits.check_list("bank", slow, float("nan"))
    with pytest.raises(LimitError, match="channel 0"):
        limits.check_list("bank", np.array([[0.0], [np.nan]]), 1.0)


def test_limited_endurance_is_counted_before_it_is_used() -> None:
    limits = WeightLimits.uniform(1, volts_min=0.0, volts_max=5.0, writes_max=3)
    outputs, owner = Outputs([0.0]), Owner("bank")
    ramp = Ramp("bank", outputs, owner, limits, None)
    owner.run(lambda: ramp.to(np.array([1.0])))
    with pytest.raises(LimitError, match="endurance of 3"):
        owner.run(lambda: ramp.admit_list(np.ones((3, 1)), 1.0))
    owner.run(lambda: ramp.admit_list(np.ones((2, 1)), 1.0))
    with pytest.raises(LimitError, match="endurance"):
        owner.run(lambda: ramp.to(np.array([2.0])))
    owner.run(ramp.to_safe)  # never held up
    owner.close(lambda: None)


def test_the_power_of_a_bench_is_never_exceeded_by_a_race() -> None:
    budget, held = PowerBudget(1.0), []

    def reserve(name: str) -> None:
        try:
            budget.reserve(name, 0.3)
        except LimitError:
            return
        held.append(name)

    threads = [threading.Thread(target=reserve, args=(f"bank-{index}",)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 3
    assert budget.reserved_w() <= 1.0
    budget.reserve(held[0], 0.1)  # in place of what it had
    budget.reserve(held[1], 0.5)
    with pytest.raises(LimitError):
        budget.reserve("nan", float("nan"))


def test_limits_cannot_be_changed_afterwards() -> None:
    laser, weights = LaserLimits(1e-3, True), WeightLimits.uniform(2, volts_min=0.0, volts_max=1.0)
    with pytest.raises(FrozenInstanceError):
        laser.power_max_w = 1.0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        weights.volts_max = (9.0, 9.0)  # type: ignore[misc]
    with pytest.raises(TypeError):
        weights.volts_max[0] = 9.0  # type: ignore[index]
    with pytest.raises(AttributeError):
        PowerBudget(1.0).total_w = 2.0  # type: ignore[misc]
    assert [name for name in dir(Ramp("b", Outputs([0.0]), None, weights, None)) if not name.startswith("_")] == [  # type: ignore[arg-type]
        "admit_list", "adopt", "check_found", "played", "safe", "to", "to_safe", "writes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"volts_min": 1.0, "volts_max": 0.0},
        {"volts_min": 0.0, "volts_max": 1.0, "safe_v": 2.0},
        {"volts_min": 0.0, "volts_max": float("inf")},
        {"volts_min": 0.0, "volts_max": 1.0, "slew_v_per_s": 0.0},
        {"volts_min": 0.0, "volts_max": 1.0, "resistance_ohm": -5.0},
    ],
)
def test_limits_that_contradict_themselves_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError):
        WeightLimits.uniform(2, **wrong)  # type: ignore[arg-type]


def test_making_safe_interrupts_a_ramp_and_refuses_what_waits() -> None:
    limits = WeightLimits.uniform(1, volts_min=0.0, volts_max=5.0, slew_v_per_s=0.01)
    outputs, owner = Outputs([0.0]), Owner("bank")
    ramp = Ramp("bank", outputs, owner, limits, None)
    failures: list[str] = []

    def program(level: float) -> None:
        try:
            owner.run(lambda: ramp.to(np.array([level])))
        except LabError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=program, args=(level,)) for level in (5.0, 4.0)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    owner.urgent(ramp.to_safe)
    for thread in threads:
        thread.join()
    assert len(failures) == 2
    assert any("interrupted" in text for text in failures)
    assert any("refused" in text for text in failures)
    assert outputs.levels[-1] == 0.0
    owner.close(lambda: None)


def test_limits_for_another_number_of_channels_name_what_is_wrong() -> None:
    with pytest.raises(SpecError, match="slew_v_per_s needs 2 finite numbers, found 1"):
        WeightLimits((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), slew_v_per_s=(1.0,))
    with pytest.raises(SpecError, match="volts_max needs 1 finite numbers"):
        WeightLimits((0.0,), (float("nan"),), (0.0,))


def test_the_arrays_behind_the_limits_cannot_be_written_to() -> None:
    limits = WeightLimits.uniform(2, volts_min=0.0, volts_max=1.0)
    with pytest.raises(ValueError, match="read-only"):
        limits._high[0] = 9.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        limits._high.setflags(write=True)


def test_a_list_that_may_still_play_keeps_its_power_when_the_next_programming_is_refused() -> None:
    limits = WeightLimits.uniform(1, volts_min=0.0, volts_max=5.0, resistance_ohm=1.0)
    budget, outputs, owner = PowerBudget(10.0), Outputs([0.0]), Owner("bank")
    ramp = Ramp("bank", outputs, owner, limits, budget)
    owner.run(lambda: ramp.admit_list(np.array([[3.0], [0.0]]), 1.0))
    assert budget.held_w("bank") == 9.0
    with pytest.raises(LimitError, match="more than the bench's total"):
        owner.run(lambda: ramp.to(np.array([4.0])))
    assert budget.held_w("bank") == 9.0
    owner.run(lambda: ramp.to(np.array([1.0])))
    assert budget.held_w("bank") == 1.0
    owner.close(lambda: None)
