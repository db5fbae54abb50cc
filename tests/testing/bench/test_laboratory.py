"""Lab physics: each effect by its formula; a good driver hardly sees them, a careless one reads other counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import photonic
from photonic.testing import Laboratory, ManualClock, VirtualBench
from photonic.testing.bench.clock import BenchTime
from photonic.testing.bench.heaters import LaggingHeaters
from photonic.testing.bench.labphysics import LabPhysics
from photonic.testing.bench.physics import IdealPhysics, Played
from photonic.testing.bench.setup import Setup
from photonic.testing.bench.source import Light

from .rawdriver import RawChip
from .test_identity import CHIPS, codes

SPEC = "sim:typical?n_inputs=8&n_outputs=6"
NOTHING = Laboratory(
    heater_lag_s=0.0,
    heater_tail=0.0,
    skew_symbols=0.0,
    delay_symbols=0.0,
    clock_ppm=0.0,
    memory_symbols=0.0,
    high_pass_hz=0.0,
    rail_recovery=0.0,
    hum=0.0,
    mode_hops_per_s=0.0,
    laser_start=0.0,
    response_per_k=0.0,
    crosstalk=0.0,
)
PER = 4


def physics(*, coupling: str = "dc", outputs: int = 1, **changes: float) -> LabPhysics:
    laboratory = Laboratory(**{**NOTHING.model_dump(), **changes})
    return LabPhysics(laboratory, Setup(), BenchTime(ManualClock()), outputs, coupling, 0)


def played(counts: np.ndarray, rails: tuple[float, float] | None = None) -> Played:
    _, t, k = counts.shape
    return Played(counts, PER, k * PER, 1e-6, np.arange(t) * 1e-3, rails, 128.0)


def test_a_laboratory_without_effects_is_ideal() -> None:
    with VirtualBench(SPEC, seed=5, physics=NOTHING) as bench, RawChip(bench.file) as driver:
        direct = photonic.open_chip(SPEC, seed=5)
        weights, inputs = codes(direct, (2, 2), 30, 0)
        assert torch.equal(driver.measure(weights, inputs).counts, direct.measure(weights, inputs).counts)


@pytest.mark.parametrize("seed", range(3))
def test_only_a_careless_driver_reads_other_counts(seed: int) -> None:
    """Half a symbol late, or without waiting for the weights; a good one is within a count nearly always."""
    direct = photonic.open_chip(SPEC, seed=seed)
    weights, inputs = codes(direct, (2, 2), 200, seed)
    wanted = direct.measure(weights, inputs).counts.to(torch.float64)
    errors = {}
    careless = {"good": {}, "late": {"late_symbols": 0.5}, "unsettled": {"settle": False}}
    for name, more in careless.items():
        with VirtualBench(SPEC, seed=seed, physics="lab", clock=ManualClock()) as bench:
            driver = RawChip(bench.file, **more)
            bench.model.time.passes(60.0)  # warm
            errors[name] = float((driver.measure(weights, inputs).counts - wanted).abs().mean())
            driver.close()
    assert errors["good"] < 0.1
    assert errors["late"] > 5.0
    assert errors["unsettled"] > 5.0


def test_unsettled_weights_move_within_a_segment() -> None:
    """So that equal symbols before and after the data tell a driver that it did not wait."""
    with VirtualBench(SPEC, physics="lab", clock=ManualClock()) as bench, RawChip(bench.file, settle=False) as driver:
        direct = photonic.open_chip(SPEC)
        weights, inputs = codes(direct, (1, 1), 2000, 0)
        inputs[:] = 200
        counts = driver.measure(weights, inputs).counts[0, 0].to(torch.float64)
        moved = (counts[:300].mean(0) - counts[-300:].mean(0)).abs().max()
        bench.model.time.passes(1.0)
        settled = driver.measure(weights, inputs).counts[0, 0].to(torch.float64)
        assert moved > 5 * (settled[:300].mean(0) - settled[-300:].mean(0)).abs().max()


def test_heaters_follow_in_two_exponentials() -> None:
    heaters = LaggingHeaters(np.zeros(1), lag_s=1e-3, tail=0.1, slow_s=1e-2)
    heaters.follow(np.ones(1), 5.0)
    for later_s in (0.0, 1e-3, 7e-3):
        expected = 1 - 0.9 * math.exp(-later_s / 1e-3) - 0.1 * math.exp(-later_s / 1e-2)
        assert heaters.levels_v(5.0 + later_s)[0] == pytest.approx(expected)
    heaters.follow(np.ones(1), 5.002)  # the same again changes nothing
    assert heaters.levels_v(5.007)[0] == pytest.approx(1 - 0.9 * math.exp(-7) - 0.1 * math.exp(-0.7))


def test_a_symbol_begins_where_the_last_one_ended() -> None:
    """First-order memory, delayed."""
    counts = np.array([[[0.0, 100.0, -40.0]]])
    record = physics(memory_symbols=0.2, delay_symbols=0.1).record(played(counts))[0, 0]
    for sample in range(PER, 3 * PER):
        moment = sample / PER - 0.1
        symbol = int(moment)
        before, now = counts[0, 0, max(0, symbol - 1)], counts[0, 0, symbol]
        assert record[sample] == pytest.approx(now + (before - now) * math.exp(-(moment - symbol) / 0.2))


def test_a_clock_that_runs_fast_samples_later_and_later() -> None:
    counts = np.zeros((1, 1, 1000))
    counts[..., ::2] = 1.0
    different = physics(clock_ppm=1000.0).record(played(counts))[0, 0] != np.repeat(counts[0, 0], PER)
    first = np.flatnonzero(different)[0]
    # a quarter of a symbol, one sample, is 250 symbols of 1000 ppm; one that runs slow is late at once
    assert first == PER or first == pytest.approx(250 * PER, abs=PER)


def test_the_base_line_follows_the_signal_and_ac_coupling_takes_it_away() -> None:
    counts = np.full((1, 1, 5000), 100.0)
    part = physics(high_pass_hz=1e3, high_pass_part=0.01).record(played(counts))[0, 0]
    assert part[0] == pytest.approx(100.0, abs=0.01)
    assert part[-1] == pytest.approx(99.0, abs=1e-3)
    whole = physics(coupling="ac", high_pass_hz=1e3).record(played(counts))[0, 0]
    symbol = 159  # one time constant, 1 / (2 pi 1 kHz)
    assert whole[symbol * PER] == pytest.approx(100.0 * math.exp(-160 * 2 * math.pi * 1e-3), rel=0.01)


def test_neighbours_are_heard() -> None:
    counts = np.array([[[100.0]], [[10.0]], [[0.0]]])
    record = physics(outputs=3, crosstalk=0.01).record(played(counts))
    assert record[:, 0, 0] == pytest.approx([100.1, 11.0, 0.1])


def test_after_a_rail_some_of_it_remains() -> None:
    counts = np.array([[[127, 0, 0]]], dtype=np.int16)
    lab = physics(rail_recovery=0.5, rail_recovery_symbols=0.3)
    record = np.mean([lab.record(played(counts, (-128.0, 127.0)))[0, 0] for _ in range(4000)], axis=0)
    assert record[:PER] == pytest.approx([127.0] * PER)
    expected = [0.5 * 127 * math.exp(-k / PER / 0.3) for k in range(PER)]
    # rounding at random keeps the mean: 1 / (2 sqrt(4000)) is a standard deviation at most
    assert record[PER : 2 * PER] == pytest.approx(expected, abs=5 / (2 * math.sqrt(4000)))
    assert record[2 * PER :] == pytest.approx([0.0] * PER)


def test_hum_has_the_mains_frequency() -> None:
    counts = np.zeros((1, 200, 1))
    record = physics(hum=0.01).record(played(counts))[0, :, 0]
    spectrum = np.abs(np.fft.rfft(record))
    assert np.fft.rfftfreq(200, 1e-3)[spectrum.argmax()] == pytest.approx(50.0)
    assert 0.5 * 0.01 * 128 <= record.max() <= 1.5 * 0.01 * 128


def test_mode_hops_come_at_their_rate_and_change_the_power() -> None:
    clock = ManualClock()
    light = Light(Laboratory(mode_hops_per_s=0.1, hop_power=1e-3, laser_start=0.0), BenchTime(clock), seed=1)
    light.switch(True)
    powers = []
    for _ in range(4000):
        clock.advance(10.0)
        powers.append(light.power())
    assert light.hops() == pytest.approx(4000, abs=5 * math.sqrt(4000))
    assert np.std(powers) == pytest.approx(1e-3, rel=0.1)
    light.switch(False)
    assert light.hops() == 0


def test_light_and_temperature_warm_up() -> None:
    clock = ManualClock()
    time = BenchTime(clock)
    lab = LabPhysics(Laboratory(mode_hops_per_s=0.0), Setup(), time, 1, "dc", 0)
    lab.light(True)
    lab.regulate(25.0)
    assert (lab.power(), lab.temperature_c()) == pytest.approx((0.97, 21.0))
    clock.advance(0.3)
    assert lab.power() == pytest.approx(1 - 0.03 / math.e)
    assert lab.temperature_c() == pytest.approx(25.0 - 4.0 / math.e)
    assert IdealPhysics(21.0).power() == 1.0


def test_signals_that_a_fault_spoils_are_spoiled() -> None:
    """A dead channel reads zero, an overloaded one stands at the rail and says so once, drift is a factor."""
    with VirtualBench(SPEC, seed=1, physics="ideal") as bench, RawChip(bench.file) as driver:
        direct = photonic.open_chip(SPEC, seed=1)
        weights, inputs = codes(direct, (1, 1), 50, 0)
        for fault in ("awg:dead_channel,channel=2", "awg:saturation,channel=4", "awg:drift,amount=-0.5"):
            bench.set_fault(fault)
        found, wanted = driver.measure(weights, inputs).counts, direct.measure(weights, inputs).counts
        assert (found[..., 1] == 0).all()
        assert (found[..., 3] == 127).all()
        assert driver.digitizer.ask(b"ACQ:OVER?") == "4"
        assert torch.equal(found[..., 0], (wanted[..., 0].double() * 0.5).round().to(torch.int16))
        bench.clear_faults()
        assert torch.equal(driver.measure(weights, inputs).counts, direct.measure(weights, inputs).counts)
        assert driver.digitizer.ask(b"ACQ:OVER?") == "0"


@pytest.mark.parametrize("spec", CHIPS)
def test_every_kind_of_chip_can_stand_in_a_laboratory(spec: str) -> None:
    """A good driver reads nearly what the chip says, converters or none."""
    with VirtualBench(spec, seed=6, physics="lab", clock=ManualClock()) as bench, RawChip(bench.file) as driver:
        bench.model.time.passes(60.0)
        direct = photonic.open_chip(spec, seed=6)
        weights, inputs = codes(direct, (2, 1), 100, 0)
        found, wanted = driver.measure(weights, inputs).counts, direct.measure(weights, inputs).counts
        lsb = abs(direct.spec.response.counts_per_d[0]) * direct.spec.adc_full_scale / 128
        assert found.dtype == wanted.dtype
        assert float((found - wanted).double().pow(2).mean().sqrt()) < 0.5 * lsb
        assert not torch.equal(found, wanted)
