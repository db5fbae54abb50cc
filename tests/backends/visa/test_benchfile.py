"""The bench file: what it refuses, and that it reads back as it was written."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import photonic
from photonic.backends.visa.benchfile import bench_spec, bench_toml, load_bench, save_bench
from photonic.backends.visa.tomltext import to_toml
from photonic.errors import RecordError, SpecError
from photonic.records import ChipSpec
from tests.backends.visa.benches import bench_of, box

SMALL = "sim:typical?n_inputs=4&n_outputs=3"


def spec_of(spec: str = SMALL) -> ChipSpec:
    with photonic.open_chip(spec) as chip:
        return bench_spec(chip.spec)


@pytest.mark.parametrize("spec", [SMALL, "sim:ideal?n_inputs=4&n_outputs=3", "sim:mesh-typical?n_inputs=4&n_outputs=4"])
def test_a_bench_reads_back_as_it_was_written(tmp_path: Path, spec: str) -> None:
    """Converters without bits, floats to the last digit, names with quotes."""
    bench = bench_of(
        spec_of(spec), name='a "bench" \\ µ', timing={"settle_time_s": 0.1 + 0.2}, warm_up={"spacing_s": 0}
    )
    save_bench(bench, tmp_path / "bench.toml")
    assert load_bench(tmp_path / "bench.toml") == bench


SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]))
)  # fmt: skip
TABLES = st.recursive(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.one_of(SCALARS, st.lists(SCALARS))
    ),
    lambda inner: st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.one_of(inner, st.lists(inner, min_size=1))
    ),
    max_leaves=8,
)


@given(TABLES)
def test_whatever_is_written_reads_back(content: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(content)) == content


def test_what_toml_cannot_say_is_refused() -> None:
    with pytest.raises(RecordError, match=r"a\.b"):
        to_toml({"a": {"b": None}})


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"timing": {"symbol_rate": 1e6}}, "not valid: timing: Timing is not valid: symbol_rate: Extra inputs are"),
        ({"timing": {"sample_phase": 1.25}}, "less than 1"),
        ({"weights": {"volts_max": 1.0}}, "volts_max 1"),
        ({"weights": {"safe_v": 9.0}}, "safe_v 9"),
        ({"laser": {"power_full_w": 0.5}}, "power_max_w 0.02"),
        ({"safety": {"photodiode_power_max_w": 1e-3}}, "photodiode_power_max_w"),
        ({"inputs": {"instruments": [box("awg", 3)]}}, "1 of 4 channels are not mapped, 3"),
        ({"digitizer": {"instruments": [box("adc", 3), box("more", 1, 2)]}}, "channel 2 is mapped twice"),
        ({"weights": {"instruments": [box("dac", 13)]}}, "maps channel 12"),
        ({"inputs": {"instruments": [box("dac", 4)]}}, "'dac' is given to several"),
        ({"inputs": {"instruments": [box("awg", 4, own_channels=[[0, 2]])]}}, "own_channels are 3"),
        ({"laser": {"instruments": []}}, "laser_power"),
        ({"inputs": {"instruments": [{**box("awg"), "channels": [[0, 10**12]]}]}}, "0 <= first <= last < 1048576"),
        ({"inputs": {"unconnected": [[0, 10**12]]}}, "unconnected: expected channels"),
        ({"inputs": {"instruments": [box("awg", 4, identity="((QDevil")]}}, "is no regular expression"),
        ({"timing": {"settle_time_s": 1e9}}, "settle_time_s"),
        ({"timing": {"max_skew_symbols": 1e9}}, "max_skew_symbols"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_no_bench_can_be_is_refused_by_key(table: dict[str, object], text: str) -> None:
    with pytest.raises(RecordError) as found:
        bench_of(spec_of(), **table)
    assert text in str(found.value)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    with pytest.raises(SpecError, match="cannot be read"):
        load_bench(path)
    path.write_text("a = [")
    with pytest.raises(SpecError, match=r"bench\.toml is not TOML"):
        load_bench(path)
    path.write_text(bench_toml(bench_of(spec_of())).replace("[timing]", "[timing]\ncolour = 1"))
    with pytest.raises(SpecError, match=r"bench\.toml.*Timing is not valid: colour: Extra"):
        load_bench(path)


def test_a_bench_adds_to_the_chip_s_data_sheet() -> None:
    spec = bench_of(
        spec_of(), max_saturated_fraction=0.25, digitizer={"simultaneous_outputs": 2}, timing={"settle_time_s": 0.5}
    ).spec
    assert (spec.settle_time_s, spec.shot_time_s) == (0.5, 1e-6)
    assert (spec.simultaneous_outputs, spec.max_saturated_fraction) == (2, 0.25)
