"""The generic drivers against the virtual bench, over PyVISA and real sockets: roles, limits, read-back, shared use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from photonic.backends.visa.limits import CodeLimits, LaserLimits, PowerBudget, TemperatureLimits, WeightLimits
from photonic.backends.visa.opening import (
    Access,
    open_digitizer,
    open_laser,
    open_modulator,
    open_power,
    open_temperature,
    open_weights,
)
from photonic.backends.visa.roles import (
    Digitizer,
    InputModulator,
    LaserSource,
    PowerMonitor,
    TemperatureController,
    WeightBank,
)
from photonic.errors import (
    ClosedError,
    DisconnectedError,
    IdentityError,
    InstrumentError,
    InstrumentTimeoutError,
    InterlockError,
    LimitError,
    RangeError,
    SpecError,
)
from photonic.testing.bench import VirtualBench

CHANNELS, DRIVES = 4, 16
CODES = CodeLimits(-128, 127)


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench(
        f"sim:typical?n_inputs={CHANNELS}&n_outputs={CHANNELS}", physics="ideal", weight_boxes=2
    ) as opened:
        yield opened


def _to(bench: VirtualBench, name: str, **options: object) -> Access:
    resource = f"TCPIP0::127.0.0.1::{bench.ports[name]}::SOCKET"
    return replace(Access(name, resource, identity="^PHOTONIC,"), **options)  # type: ignore[arg-type]


def _weights(bench: VirtualBench, channels: range = range(8), box: str = "dac-1", **more: object) -> WeightBank:
    budget = more.pop("budget", None)
    limits = WeightLimits.uniform(len(channels), volts_min=0.0, volts_max=4.0, **more)  # type: ignore[arg-type]
    return open_weights(_to(bench, box), limits, channels=channels, settle_time_s=1e-3, budget=budget)  # type: ignore[arg-type]


def test_every_driver_is_of_its_role_and_tells_who_it_is(bench: VirtualBench) -> None:
    opened = {
        LaserSource: open_laser(_to(bench, "laser"), LaserLimits(1e-2)),
        InputModulator: open_modulator(_to(bench, "awg"), CODES, rate_hz=4e6),
        WeightBank: _weights(bench),
        Digitizer: open_digitizer(_to(bench, "digitizer"), CODES),
        TemperatureController: open_temperature(_to(bench, "tec"), TemperatureLimits(290, 310)),
        PowerMonitor: open_power(_to(bench, "power_meter")),
    }
    for role, driver in opened.items():
        assert isinstance(driver, role)
        assert driver.identify().manufacturer == "PHOTONIC"
        assert driver.snapshot() or role is WeightBank
        driver.make_safe()
        driver.close()
        driver.close()
        with pytest.raises(ClosedError):
            driver.identify()


def test_a_laser_keeps_its_limit_its_consent_and_its_interlock(bench: VirtualBench) -> None:
    laser = open_laser(_to(bench, "laser"), LaserLimits(5e-3, consent=True))
    for wrong in (5.01e-3, -1e-9, float("nan")):
        with pytest.raises(LimitError, match="nothing was sent"):
            laser.set_power(wrong)
    laser.set_power(4e-3)
    laser.enable()
    assert (laser.power_w(), laser.enabled(), laser.lock().locked) == (4e-3, True, True)
    laser.make_safe()
    assert not laser.enabled()
    bench.model.laser.set_interlock(False)
    with pytest.raises(InterlockError, match="open"):
        laser.enable()
    bench.model.laser.set_interlock(True)
    bench.model.laser.values["power_w"] = 9e-3  # somebody at the front panel
    with pytest.raises(LimitError):
        laser.enable()
    laser.close()
    refused = open_laser(_to(bench, "laser"), LaserLimits(1e-2))
    with pytest.raises(InterlockError, match="consent"):
        refused.enable()
    refused.close()


def test_what_an_instrument_refuses_is_an_error_with_its_code(bench: VirtualBench) -> None:
    laser = open_laser(_to(bench, "laser"), LaserLimits(1.0, consent=True))
    with pytest.raises(InstrumentError) as caught:
        laser.set_power(0.5)
    assert caught.value.code == -222
    laser.close()


def test_weights_are_programmed_and_read_back_to_the_last_bit(bench: VirtualBench) -> None:
    budget = PowerBudget(1.0)
    bank = _weights(bench, resistance_ohm=1e4, budget=budget)
    levels = np.random.default_rng(0).uniform(0, 4, 8)
    before = bank.writes()
    assert before is not None
    bank.program(levels)
    np.testing.assert_array_equal(bank.levels_v(), levels)
    assert bank.writes() == before + 1
    assert budget.reserved_w() == pytest.approx((levels**2).sum() / 1e4)
    for wrong in (np.full(8, 4.1), np.full(8, np.nan), np.zeros(7), np.zeros((1, 8))):
        with pytest.raises(LimitError, match="nothing was sent"):
            bank.program(wrong)
    np.testing.assert_array_equal(bench.model.boxes[0].levels_v, levels)
    bank.enable()
    assert bank.enabled()
    bank.make_safe()
    np.testing.assert_array_equal(bank.levels_v(), np.zeros(8))
    bank.disable()
    assert not bank.enabled()
    bank.close()


def test_channels_that_are_not_its_own_stay_as_they_are(bench: VirtualBench) -> None:
    whole = _weights(bench)
    whole.program(np.arange(8.0) / 4)
    whole.close()
    part = _weights(bench, range(2, 5))
    part.program(np.full(3, 3.0))
    part.program_list(np.full((2, 3), 2.0), 1e-3)
    np.testing.assert_array_equal(bench.model.boxes[0].list_v[:, :3], [[0, 0.25, 2.0]] * 2)
    np.testing.assert_array_equal(bench.model.boxes[0].levels_v, [0, 0.25, 3, 3, 3, 1.25, 1.5, 1.75])
    part.make_safe()
    assert bench.model.boxes[0].tiles is None
    part.close()


def test_the_bench_s_power_is_shared_by_its_banks(bench: VirtualBench) -> None:
    budget = PowerBudget(20.0)
    first, second = (
        _weights(bench, box=box, resistance_ohm=1.0, budget=budget, slew_v_per_s=1e4) for box in ("dac-1", "dac-2")
    )
    first.program(np.r_[4.0, np.zeros(7)])
    with pytest.raises(LimitError, match="more than the bench's total"):
        second.program(np.r_[3.0, np.zeros(7)])
    second.program(np.r_[2.0, np.zeros(7)])
    first.make_safe()
    second.program(np.r_[4.0, np.zeros(7)])
    second.make_safe()
    for bank in (first, second):
        bank.close()


def test_a_list_that_steps_too_fast_is_refused_before_anything_is_sent(bench: VirtualBench) -> None:
    bank = _weights(bench, slew_v_per_s=1e3)
    before = bench.model.boxes[0].list_v.copy()
    tiles = np.zeros((3, 8))
    tiles[1] = 2.0
    with pytest.raises(LimitError, match="slew"):
        bank.program_list(tiles, 1e-3)
    np.testing.assert_array_equal(bench.model.boxes[0].list_v, before)
    bank.program_list(tiles, 2e-3)
    np.testing.assert_array_equal(bench.model.boxes[0].list_v, tiles)
    assert bench.model.boxes[0].tiles == 3
    with pytest.raises(LimitError, match="holds"):
        bank.program_list(np.zeros((bank.list_length + 1, 8)), 1.0)
    bank.program(np.zeros(8))
    assert bench.model.boxes[0].tiles is None
    bank.close()


def test_a_play_gives_what_the_chip_gives(bench: VirtualBench) -> None:
    source = open_modulator(_to(bench, "awg"), CODES, rate_hz=4e6)
    recorder = open_digitizer(_to(bench, "digitizer"), CODES)
    symbols = np.random.default_rng(1).integers(0, 100, (CHANNELS, 64))
    waveforms = np.repeat(symbols, 4, axis=1).astype(np.int16)
    source.enable()
    with pytest.raises(RangeError, match="configure"):
        recorder.fetch([0])
    recorder.configure(256, 3, rate_hz=4e6)
    source.load(waveforms, segments=1, repeats=3, marker=(16, 224))
    recorder.arm()
    source.arm()
    source.trigger()
    record = recorder.fetch(range(CHANNELS))
    assert record.shape == (CHANNELS, 3 * 256)
    assert record.dtype == np.int16
    np.testing.assert_array_equal(recorder.fetch([2, 0]), record[[2, 0]])
    for wrong in (waveforms[:, :8], waveforms[:, :250], waveforms[:2], np.full_like(waveforms, 200)):
        with pytest.raises(LimitError, match="nothing was sent"):
            source.load(wrong, segments=1, repeats=1, marker=(0, 8))
    with pytest.raises(LimitError):
        recorder.configure(recorder.memory_samples, 2, rate_hz=4e6)
    source.make_safe()
    assert not source.enabled()
    source.close()
    recorder.close()


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_byte_orders_give_the_same(bench: VirtualBench, order: str) -> None:
    bank = open_weights(
        _to(bench, "dac-1", byte_order=order),
        WeightLimits.uniform(8, volts_min=0.0, volts_max=4.0),
        channels=range(8),
        settle_time_s=0.0,
    )
    levels = np.arange(8) / 8 + 0.0625
    bank.program(levels)
    np.testing.assert_array_equal(bench.model.boxes[0].levels_v, levels)
    np.testing.assert_array_equal(bank.levels_v(), levels)
    bank.make_safe()
    bank.close()


def test_a_record_without_a_trigger_ends_at_the_deadline(bench: VirtualBench) -> None:
    recorder = open_digitizer(_to(bench, "digitizer", timeout_s=1.0), CODES)
    recorder.configure(64, 1, rate_hz=4e6)
    recorder.arm()
    with pytest.raises(InstrumentTimeoutError, match="did the trigger come"):
        recorder.fetch([0])
    recorder.make_safe()
    recorder.close()


def test_temperature_and_power(bench: VirtualBench) -> None:
    tec = open_temperature(_to(bench, "tec"), TemperatureLimits(290.0, 300.0))
    tec.set_temperature(295.15)
    assert tec.setpoint_k() == pytest.approx(295.15)
    for wrong in (289.9, 300.1, float("nan")):
        with pytest.raises(LimitError, match="nothing was sent"):
            tec.set_temperature(wrong)
    tec.enable()
    tec.make_safe()
    assert tec.enabled()
    tec.disable()
    tec.close()
    meter = open_power(_to(bench, "power_meter"), channels=[1])
    assert meter.n_channels == 1
    assert meter.power_w(0) >= 0.0
    with pytest.raises(RangeError):
        meter.power_w(1)
    meter.close()


def test_a_wrong_identity_a_closed_port_and_a_missing_table_are_named(bench: VirtualBench) -> None:
    with pytest.raises(IdentityError, match="VLASER"):
        open_laser(_to(bench, "laser", identity="PHOTONIC,VDAC"), LaserLimits(1e-2))
    with pytest.raises(DisconnectedError, match="cannot be reached"):
        open_laser(_to(bench, "laser", resource="TCPIP0::127.0.0.1::1::SOCKET"), LaserLimits(1e-2))
    with pytest.raises(SpecError, match="no table for lasers"):
        open_laser(_to(bench, "laser", dialect="qdac2"), LaserLimits(1e-2))
    with pytest.raises(SpecError, match="channels"):
        _weights(bench, range(4, 12))
    assert not [thread for thread in threading.enumerate() if thread.name == "photonic-laser"]


def test_many_threads_on_one_instrument_each_get_their_own_answer(bench: VirtualBench) -> None:
    bank = _weights(bench)
    bank.program(np.arange(8.0) / 8)
    wrong: list[object] = []

    def read() -> None:
        for _ in range(20):
            found = bank.levels_v(), bank.identify()
            wrong.extend(found for _ in range(not np.array_equal(found[0], np.arange(8.0) / 8)))
            wrong.extend(found for _ in range(found[1].model != "VDAC"))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    bank.make_safe()
    bank.close()


def test_a_power_cycle_between_two_calls_is_noticed(bench: VirtualBench) -> None:
    laser = open_laser(_to(bench, "laser"), LaserLimits(1e-2, consent=True))
    laser.set_power(1e-3)
    bench.model.laser.power_cycle()
    with pytest.raises(Exception, match="switched off and on"):
        laser.power_w()
    assert laser.power_w() == 0.0
    laser.close()
