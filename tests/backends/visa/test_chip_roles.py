"""VisaChip on instruments in memory: what it sends, what it reads, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import photonic
from photonic.backends.visa.benchfile import bench_spec
from photonic.backends.visa.chip import VisaChip
from photonic.errors import LabError, RangeError, TimingError
from photonic.testing import check_chip
from photonic.testing.chip_case import random_codes
from tests.backends.visa.benches import bench_of, box
from tests.backends.visa.memory import Rig
from tests.backends.visa.rigs import SMALL, opened, rig_of


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        "sim:typical?n_inputs=16&n_outputs=8",
        "sim:ideal?n_inputs=4&n_outputs=3",
        "sim:crossbar-typical?n_inputs=4&n_outputs=4",
        "sim:mesh-typical?n_inputs=4&n_outputs=4",
    ],
)
def test_counts_are_those_of_the_chip_itself(spec: str, seed: int) -> None:
    """Bit for bit, call after call, for grids and conditions."""
    with photonic.open_chip(spec, seed=seed) as direct, opened(rig_of(spec, seed)) as chip:
        m, n = chip.spec.n_outputs, chip.spec.n_inputs
        for rows, columns, b in ((1, 1, 1), (1, 1, 5), (3, 2, 4), (1, 3, 2), (1, 1, 5)):
            codes = random_codes(chip, rows, columns, b, m, n, seed=b)
            for conditions in ({}, {"analog_gain": 2.0}, {"laser_power": 0.25}):
                given_ = {name: value for name, value in conditions.items() if name in chip.spec.conditions}
                assert torch.equal(chip.measure(*codes, given_).counts, direct.measure(*codes, given_).counts)


def test_channels_may_lie_in_several_instruments_in_any_order() -> None:
    rig = rig_of(
        weights={"instruments": [box("dac-2", 5, 7), {**box("dac-1"), "channels": [[4, 6], [0, 3]]}]},
        inputs={"instruments": [box("awg-2", 1, 3), box("awg-1", 3)]},
        digitizer={"instruments": [box("adc-2", 1, 2), box("adc-1", 2)]},
    )
    with photonic.open_chip(SMALL, seed=3) as direct, opened(rig) as chip:
        codes = random_codes(chip, 2, 3, 4, 3, 4)
        assert torch.equal(chip.measure(*codes).counts, direct.measure(*codes).counts)


def test_weights_are_sent_once_and_kept() -> None:
    rig = rig_of()
    with opened(rig) as chip:
        weights, inputs = random_codes(chip, 1, 1, 4, 3, 4)
        rig.log.clear()
        for _ in range(3):
            chip.measure(weights, inputs)
        assert rig.done("dac") == ["program"]
        grid, more = random_codes(chip, 2, 2, 4, 3, 4)
        for _ in range(2):
            chip.measure(grid, more)
        assert rig.done("dac") == ["program", "program_list"]
        assert ("dac", "program_list", (4, rig.bench.timing.settle_time_s)) in rig.log


def test_the_digitizer_is_armed_before_the_trigger() -> None:
    rig = rig_of()
    with opened(rig) as chip:
        rig.log.clear()
        chip.measure(*random_codes(chip, 1, 1, 4, 3, 4))
        order = [(name, what) for name, what, _ in rig.log]
        assert order.index(("adc", "arm")) < order.index(("awg", "arm")) < order.index(("awg", "trigger"))
        assert order.index(("awg", "trigger")) < order.index(("adc", "fetch"))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(0, 40), st.integers(60, 2000), st.integers(60, 4000),
    st.integers(1, 9), st.sampled_from([1, 5, 8])
)  # fmt: skip
def test_batches_are_cut_to_the_memories(
    rows: int, columns: int, b: int, source: int, record: int, length: int, granularity: int
) -> None:
    """Without noise, so that plays do not matter; memories that hold no single shot are an error."""
    spec = "sim:ideal?n_inputs=4&n_outputs=3&adc_bits=8"
    rig = rig_of(
        spec,
        rig={"source_samples": source, "record_samples": record, "list_length": length, "granularity": granularity},
    )  # fmt: skip
    least = -(-(2 * 8 + 3 * 4 + 1) * 4 // np.lcm(granularity, 4)) * np.lcm(granularity, 4)
    if min(source, record) < least:
        with pytest.raises(LabError):
            opened(rig)
        return
    with photonic.open_chip(spec, seed=3) as direct, opened(rig) as chip:
        codes = random_codes(chip, rows, columns, b, 3, 4)
        assert torch.equal(chip.measure(*codes).counts, direct.measure(*codes).counts)


@pytest.mark.parametrize("delay", [[0, 1, 2], [7, 7, 7], [3, 8, 0]])
def test_each_output_is_read_with_its_own_delay(delay: list[int]) -> None:
    rig = rig_of(rig={"delay": np.array(delay), "memory": 0.1})
    with photonic.open_chip(SMALL, seed=3) as direct, opened(rig) as chip:
        codes = random_codes(chip, 1, 2, 50, 3, 4)
        apart = chip.measure(*codes).counts - direct.measure(*codes).counts
        assert apart.abs().max() <= 1  # what the memory leaves of a step at the sampled phase: 1e-4


@pytest.mark.parametrize("stretch", [3e-4, -3e-4])
def test_a_sample_clock_that_is_off_is_followed(stretch: float) -> None:
    """Over 5,000 symbols it is off by six samples."""
    rig = rig_of("sim:ideal?n_inputs=4&n_outputs=3&adc_bits=8", rig={"stretch": stretch}, timing={"sample_phase": 0.5})
    with photonic.open_chip("sim:ideal?n_inputs=4&n_outputs=3&adc_bits=8", seed=3) as direct, opened(rig) as chip:
        codes = random_codes(chip, 1, 1, 5000, 3, 4)
        assert torch.equal(chip.measure(*codes).counts, direct.measure(*codes).counts)


@pytest.mark.parametrize("phase", [0.0, 0.25])
def test_a_phase_before_symbols_have_settled_is_refused(phase: float) -> None:
    with pytest.raises(TimingError, match="sample_phase"):
        opened(rig_of(rig={"memory": 0.5}, timing={"sample_phase": phase}))


def test_a_delay_beyond_what_is_looked_for_is_refused() -> None:
    with pytest.raises(TimingError, match="max_skew_symbols"):
        opened(rig_of(rig={"delay": np.array([0, 13, 0])}))


def test_samples_half_a_symbol_late_are_refused() -> None:
    """After opening: the check is in every measurement."""
    rig = rig_of("sim:typical?n_inputs=16&n_outputs=8")
    with opened(rig) as chip:
        codes = random_codes(chip, 1, 1, 4, 8, 16)
        chip.measure(*codes)
        rig.delay = np.full(8, -2)
        with pytest.raises(TimingError, match="symbols are not where"):
            chip.measure(*codes)


def test_weights_that_have_not_settled_are_refused_at_opening() -> None:
    with pytest.raises(TimingError, match="settle_time_s"):
        opened(rig_of("sim:typical?n_inputs=16&n_outputs=8", rig={"unsettled": 1.0}))


def test_weights_that_have_not_settled_are_refused_in_a_measurement() -> None:
    rig = rig_of("sim:typical?n_inputs=16&n_outputs=8")
    with opened(rig) as chip:
        rig.unsettled = 1.0
        with pytest.raises(TimingError, match="settle_time_s"):
            chip.measure(*random_codes(chip, 1, 1, 40, 8, 16))


def test_an_output_that_does_not_answer_is_named() -> None:
    defects = "sim:typical?n_inputs=16&n_outputs=8"
    rig = rig_of(defects)
    measure = rig._measure

    def dead(weights: torch.Tensor, inputs: Any) -> Any:
        counts = measure(weights, inputs).copy()
        counts[..., 5] = 0
        return counts

    rig._measure = dead  # type: ignore[method-assign]
    with pytest.raises(TimingError, match=r"1 of 8 outputs \(5\)"):
        opened(rig)
    rig.bench = rig.bench.model_copy(update={"timing": rig.bench.timing.model_copy(update={"silent_outputs": (5,)})})
    with opened(rig) as chip:
        assert not chip.measure(*random_codes(chip, 1, 1, 4, 8, 16)).counts[..., 5].any()


def test_switched_outputs_are_read_some_at_a_time() -> None:
    rig = rig_of("sim:ideal?n_inputs=4&n_outputs=3&adc_bits=8", digitizer={"simultaneous_outputs": 2})
    with photonic.open_chip("sim:ideal?n_inputs=4&n_outputs=3&adc_bits=8", seed=3) as direct, opened(rig) as chip:
        codes = random_codes(chip, 2, 2, 3, 3, 4)
        rig.log.clear()
        assert torch.equal(chip.measure(*codes).counts, direct.measure(*codes).counts)
        assert [value for _, what, value in rig.log if what == "fetch"] == [(0, 1), (2,)]
        assert chip.spec.simultaneous_outputs == 2


def test_an_input_without_a_dac_takes_no_code_but_the_dark_one() -> None:
    rig = rig_of(inputs={"unconnected": [[3, 3]], "instruments": [box("awg", 3)]})
    with opened(rig) as chip:
        weights, inputs = random_codes(chip, 1, 1, 2, 3, 4)
        with pytest.raises(RangeError, match="unconnected"):
            chip.measure(weights, inputs)
        inputs[..., 3] = 0
        chip.measure(weights, inputs)


def test_an_ac_coupled_receiver_gives_light_minus_dark() -> None:
    """Whatever the receiver adds to both."""
    spec = "sim:ideal?n_inputs=4&n_outputs=3&adc_bits=8"
    chip = photonic.open_chip(spec, seed=3)
    coupled = chip.spec.model_copy(update={"coupling": "ac"})
    rig = Rig(chip, bench_of(bench_spec(coupled), timing={"settle_time_s": 1e-6}))
    measure = rig._measure
    rig._measure = lambda weights, inputs: measure(weights, inputs) + np.int16(5)  # type: ignore[method-assign]
    with photonic.open_chip(spec, seed=3) as direct, opened(rig) as lab:
        codes = random_codes(lab, 2, 2, 3, 3, 4)
        assert torch.equal(lab.measure(*codes).counts, direct.measure(*codes).counts)


def test_shots_too_soon_after_a_rail_are_measured_again() -> None:
    """The receiver shows 99 for the two symbols after a rail."""
    spec = "sim:ideal?n_inputs=4&n_outputs=3&adc_bits=8"
    rig = rig_of(spec, digitizer={"dead_symbols_after_rail": 2})
    measure = rig._measure

    def slow(weights: torch.Tensor, inputs: Any) -> Any:
        counts = measure(weights, inputs)
        late, railed = counts.copy(), np.abs(counts) >= 127
        for shift in (1, 2):
            late[:, :, shift:][railed[:, :, :-shift]] = 99
        return late

    rig._measure = slow  # type: ignore[method-assign]
    with photonic.open_chip(spec, seed=3) as direct, opened(rig) as chip:
        weights, inputs = random_codes(chip, 2, 2, 12, 3, 4)
        one = chip.spec.response.inputs.code_one
        weights[:] = chip.spec.response.weight_code_one
        inputs[:] = one / 10
        inputs[0, ::5] = one
        inputs[1, 3] = one
        expected = direct.measure(weights, inputs).counts
        assert (expected == 127).any()
        assert torch.equal(chip.measure(weights, inputs).counts, expected)


def test_telemetry_tells_time_temperature_light_and_rails() -> None:
    with opened(rig_of()) as chip:
        told = chip.measure(*random_codes(chip, 1, 1, 2, 3, 4)).telemetry
        assert {"clock_s", "laser_locked", "laser_mode_hops", "tec_temperature_k", "taps_0_w", "weight_writes"} <= {
            *told
        }
        assert told["rail_counts"].shape == (3,)


def test_it_keeps_the_contract_of_chips() -> None:
    def factory(seed: int = 0, device: int = 0) -> VisaChip:
        return opened(rig_of("sim:typical?n_inputs=8&n_outputs=4", seed))

    check_chip(factory).raise_for_failures()
