"""VisaChip on instruments in memory: the order of light and power, limits, and a safe bench after every failure."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import photonic
from photonic.errors import (
    ClosedError,
    DisconnectedError,
    InstrumentTimeoutError,
    InterlockError,
    LabError,
    LimitError,
    OutputsOnWarning,
    UnsafeError,
    UnstableError,
)
from photonic.testing.chip_case import random_codes
from tests.backends.visa.benches import box
from tests.backends.visa.rigs import SMALL, opened, rig_of


def test_switching_on_and_off_keeps_the_order() -> None:
    rig = rig_of(on_close="off")
    opened(rig).close()
    switched = [(name, what) for name, what, _ in rig.log if what in ("enable", "disable")]
    assert switched == [(name, "enable") for name in ("tec", "laser", "awg", "dac")] + [
        (name, "disable") for name in ("dac", "awg", "laser", "tec")
    ]


def test_closing_parks_and_leaves_laser_and_temperature_on() -> None:
    rig = rig_of()
    chip = opened(rig)
    chip.measure(*random_codes(chip, 1, 1, 2, 3, 4))
    chip.close()
    assert (rig.volts == 0).all()
    assert rig.done("awg")[-2:] == ["park", "close"]
    assert rig.on == {"tec": True, "laser": True, "awg": True, "dac": True}
    with pytest.raises(ClosedError):
        chip.measure(*random_codes(chip, 1, 1, 2, 3, 4))


@pytest.mark.parametrize(("interlock", "consent"), [(False, True), (True, False)])
def test_no_light_without_interlock_and_consent(interlock: bool, consent: bool) -> None:
    rig = rig_of(rig={"interlock": interlock}, safety={"laser_consent": consent})
    with pytest.raises(InterlockError):
        opened(rig)
    assert "enable" not in rig.done("laser")
    assert rig.done("laser")[-1] == "close"


def test_total_heater_power_is_that_of_all_instruments() -> None:
    rig = rig_of(
        weights={"instruments": [box("dac-1", 6), box("dac-2", 6, 6)], "resistance_ohm": 100.0},
        safety={"total_heater_power_w": 1.0},
    )
    with pytest.raises(LimitError, match="total"):  # all weights at +1 are 12 x 4 V on 100 ohm
        opened(rig)


def test_outputs_that_were_left_on_are_told_and_ramped_from_what_is_read() -> None:
    rig = rig_of()
    rig.volts[:] = 2.5
    rig.on = {"dac": True, "laser": True}
    with pytest.warns(OutputsOnWarning, match="12 of 12 weight channels") as found:
        opened(rig).close()
    assert len(found) == 1
    assert "laser on" in str(found[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(rig).close()  # it was closed this time


@pytest.mark.parametrize("error", [DisconnectedError("gone"), InstrumentTimeoutError("silent"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [("awg", "load"), ("adc", "fetch"), ("dac", "program"), ("awg", "trigger")])
def test_any_failure_makes_everything_safe_and_the_next_call_starts_anew(
    at: tuple[str, str], error: BaseException
) -> None:
    rig = rig_of()
    with photonic.open_chip(SMALL, seed=3) as direct, opened(rig) as chip:
        codes = random_codes(chip, 1, 1, 2, 3, 4)
        rig.fail = _failing(at, error)
        with pytest.raises(type(error)):
            chip.measure(*codes)
        assert not any(rig.on[name] for name in ("laser", "awg", "dac"))
        assert rig.on["tec"]
        rig.fail = lambda name, what: None
        rig.chip.restore(direct.state())
        assert torch.equal(chip.measure(*codes).counts, direct.measure(*codes).counts)


def test_what_cannot_be_made_safe_is_named() -> None:
    rig = rig_of()
    with opened(rig) as chip:
        lost = DisconnectedError("connection closed")

        def fail(name: str, what: str) -> None:
            if name == "dac" and what in ("program", "make_safe"):
                raise lost

        rig.fail = fail
        with pytest.raises(DisconnectedError) as found:
            chip.measure(*random_codes(chip, 1, 1, 2, 3, 4))
        notes = " ".join(found.value.__notes__)
        assert "could NOT be made safe" in notes
        assert "dac" in notes
        assert not rig.on["laser"]
        with pytest.raises(UnsafeError, match="dac"):
            chip.safe_state()
        rig.fail = lambda name, what: None


@pytest.mark.parametrize(
    ("error", "raised"), [(DisconnectedError("connection closed"), LabError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_bench_that_cannot_be_parked_is_made_safe(error: BaseException, raised: type[BaseException]) -> None:
    """A connection that is lost, or a second Ctrl-C, in the midst of closing."""
    rig = rig_of()
    chip = opened(rig)
    chip.measure(*random_codes(chip, 1, 1, 2, 3, 4))
    rig.fail = _failing(("dac", "program"), error)
    with pytest.raises(raised):
        chip.close()
    assert "make_safe" in rig.done("dac")
    assert not rig.on["laser"]


def _failing(at: tuple[str, str], error: BaseException) -> Callable[[str, str], None]:
    def fail(name: str, what: str) -> None:
        if (name, what) == at:
            raise error

    return fail


def test_a_watchdog_makes_safe_what_nobody_uses() -> None:
    rig = rig_of(safety={"watchdog_s": 0.05})
    chip = opened(rig)
    end = time.monotonic() + 20
    while "make_safe" not in rig.done("laser") and time.monotonic() < end:
        time.sleep(0.01)
    assert "make_safe" in rig.done("laser")
    with pytest.raises(LabError, match=r"watchdog_s.*open it again"):
        chip.measure(*random_codes(chip, 1, 1, 2, 3, 4))
    chip.close()
    opened(rig).close()


def test_a_bench_that_does_not_get_steady_is_refused_at_its_deadline() -> None:
    rig = rig_of(warm_up={"readings": 16, "spacing_s": 0.0, "deadline_s": 0.2, "max_deviation": 1e-4})
    measure, slope = rig._measure, [0.0]

    def drifting(weights: torch.Tensor, inputs: Any) -> Any:
        slope[0] += 0.001
        return (measure(weights, inputs) * (1 + slope[0])).astype(np.int16)

    rig._measure = drifting  # type: ignore[method-assign]
    with pytest.raises(UnstableError, match=r"warm_up\.max_deviation"):
        opened(rig)
    assert not rig.on["laser"]
    rig._measure = measure  # type: ignore[method-assign]
    opened(rig).close()
