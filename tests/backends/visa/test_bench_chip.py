"""VisaChip on the virtual bench: the true PyVISA drivers, over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import photonic
from photonic.backends.visa.benchfile import BenchFile, load_bench, save_bench
from photonic.backends.visa.chip import VisaChip
from photonic.backends.visa.spans import WeightSpan
from photonic.cli import main
from photonic.errors import (
    IdentityError,
    LabError,
    LimitError,
    OutputsOnWarning,
    PhotonicError,
    SpecError,
    TimingError,
)
from photonic.testing import check_chip
from photonic.testing.bench import VirtualBench
from photonic.testing.chip_case import random_codes

SMALL = "sim:typical?n_inputs=8&n_outputs=6"


@contextmanager
def bench(
    folder: Path, spec: str = SMALL, *, physics: str = "ideal", **options: Any
) -> Iterator[tuple[VirtualBench, str]]:
    """A virtual bench and the path of its file."""
    with VirtualBench(spec, seed=3, physics=physics, **options) as served:  # type: ignore[arg-type]
        yield served, str(served.write(folder / "bench.toml"))


def edited(path: str, **tables: Any) -> str:
    """The bench file with other values in some of its tables."""
    found = load_bench(path)
    content = {name: getattr(found, name) for name in BenchFile.model_fields}
    for name, table in tables.items():
        content[name] = {**content[name].model_dump(), **table} if isinstance(table, dict) else table
    target = Path(path).with_name("edited.toml")
    save_bench(BenchFile(**content), target)
    return str(target)


@pytest.mark.parametrize(
    ("spec", "boxes"),
    [
        (SMALL, 1),
        (SMALL, 5),
        ("sim:ideal?n_inputs=5&n_outputs=3", 1),
        ("sim:pessimistic?n_inputs=16&n_outputs=16", 2),
        ("sim:crossbar-typical?n_inputs=8&n_outputs=4", 1),
        ("sim:mesh-typical?n_inputs=4&n_outputs=4", 1),
    ],
)
def test_counts_are_bit_identical_to_the_chip_opened_directly(tmp_path: Path, spec: str, boxes: int) -> None:
    """Shapes, grids and conditions, call after call."""
    with (
        bench(tmp_path, spec, weight_boxes=boxes) as (_, path),
        photonic.open_chip(spec, seed=3) as direct,
        photonic.open_chip(path) as chip,
    ):
        m, n = chip.spec.n_outputs, chip.spec.n_inputs
        for rows, columns, b in ((1, 1, 1), (1, 1, 1), (3, 2, 5), (1, 1, 64), (1, 3, 2)):
            codes = random_codes(chip, rows, columns, b, m, n, seed=b)
            for conditions in ({}, {"analog_gain": 2.0}, {"laser_power": 0.25}, {"laser_power": 0.0}):
                offered = {name: value for name, value in conditions.items() if name in chip.spec.conditions}
                assert torch.equal(chip.measure(*codes, offered).counts, direct.measure(*codes, offered).counts)


def test_a_matmul_through_the_bench_is_bit_identical(tmp_path: Path) -> None:
    """A layer, both signs, whole tiles: the only thing that changes is the name."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(7, 16, generator=generator), torch.randn(12, 16, generator=generator)
    with bench(tmp_path) as (_, path), photonic.open_backend(path) as lab, photonic.open_backend(SMALL, seed=3) as sim:
        for _ in range(2):
            assert torch.equal(photonic.matmul(x, weight, lab), photonic.matmul(x, weight, sim))


def test_it_keeps_the_contract_of_chips_over_real_sockets(tmp_path: Path) -> None:
    opened: list[Any] = []

    def factory(seed: int = 0, device: int = 0) -> VisaChip:
        for chip, served in opened:
            chip.close()
            served.stop()
        opened.clear()
        served = VirtualBench("sim:typical?n_inputs=8&n_outputs=4", seed=seed, physics="ideal")
        chip = photonic.open_chip(str(served.write(tmp_path / f"bench{seed}.toml")))
        assert isinstance(chip, VisaChip)
        opened.append((chip, served))
        return chip

    check_chip(factory).raise_for_failures()
    for chip, served in opened:
        chip.close()
        served.stop()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_driver_that_does_not_wait_for_weights_is_caught(tmp_path: Path, seed: int) -> None:
    with VirtualBench("sim:typical?n_inputs=16&n_outputs=16", seed=seed) as served:
        path = edited(str(served.write(tmp_path / "bench.toml")), timing={"settle_time_s": 0.0})
        with pytest.raises(TimingError, match="settle_time_s"):
            photonic.open_chip(path)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_list_that_does_not_dwell_is_caught(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = WeightSpan.program_list
    monkeypatch.setattr(WeightSpan, "program_list", lambda self, levels_v, dwell_s: listed(self, levels_v, 0.0))
    with VirtualBench("sim:typical?n_inputs=16&n_outputs=16", seed=seed) as served:
        path = str(served.write(tmp_path / "bench.toml"))
        with pytest.raises(TimingError, match="in a list of tiles"):
            photonic.open_chip(path)


@pytest.mark.parametrize("phase", [0.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_driver_that_samples_half_a_symbol_off_is_caught(tmp_path: Path, phase: float, seed: int) -> None:
    with VirtualBench("sim:typical?n_inputs=16&n_outputs=16", seed=seed) as served:
        path = edited(str(served.write(tmp_path / "bench.toml")), timing={"sample_phase": phase})
        with pytest.raises(TimingError, match="sample_phase"):
            photonic.open_chip(path)


def test_samples_half_a_symbol_late_are_caught_in_a_measurement(tmp_path: Path) -> None:
    """The sampler is spoilt after opening."""
    spec = "sim:typical?n_inputs=16&n_outputs=16"
    with bench(tmp_path, spec, physics="lab") as (_, path), photonic.open_chip(path) as chip:
        assert isinstance(chip, VisaChip)
        codes = random_codes(chip, 1, 1, 4, 16, 16)
        chip.measure(*codes)
        sampler = chip._player.sampler
        assert sampler is not None
        sampler._starts += 2
        with pytest.raises(TimingError, match="symbols are not where"):
            chip.measure(*codes)


def test_closing_parks_on_the_bench_and_leaves_laser_and_temperature_on(tmp_path: Path) -> None:
    with bench(tmp_path) as (served, path):
        for end, lit in (("park", True), ("off", False)):
            photonic.open_chip(f"{path}?on_close={end}").close()
            assert (served.model.laser.relative() > 0) is lit
            assert not np.any(served.model.boxes[0].levels_v)


def test_a_bench_that_was_left_on_is_told(tmp_path: Path) -> None:
    with bench(tmp_path) as (_, path):
        chip = photonic.open_chip(path)
        assert isinstance(chip, VisaChip)
        chip.measure(*random_codes(chip, 1, 1, 2, 6, 8))
        chip._release()  # as if the process had been killed
        with pytest.warns(OutputsOnWarning, match="weight channels are away"):
            photonic.open_chip(path).close()


def test_only_one_has_the_bench(tmp_path: Path) -> None:
    with bench(tmp_path) as (_, path), photonic.open_chip(path), pytest.raises(LabError, match="in use"):
        photonic.open_chip(path)
    with bench(tmp_path) as (_, path):
        photonic.open_chip(path).close()


@pytest.mark.parametrize(
    ("options", "text"),
    [("seed=1", "no seed"), ("colour=red", "takes no option colour"), ("on_close=sleep", "on_close"),
     ("warm_up=1", "true or false"), ("shots=2", "belong to a backend")],
)  # fmt: skip
def test_options_that_a_bench_does_not_take(tmp_path: Path, options: str, text: str) -> None:
    with bench(tmp_path) as (_, path), pytest.raises(SpecError, match=text):
        photonic.open_chip(f"{path}?{options}")


def test_a_file_of_a_remote_chip_is_not_a_bench(tmp_path: Path) -> None:
    (tmp_path / "remote.toml").write_text("[remote]\naddress = 'tcp://127.0.0.1:1'\n")
    with pytest.raises(SpecError, match="remote"):
        photonic.open_chip(str(tmp_path / "remote.toml"))


def test_doctor_asks_everyone_and_touches_nothing(tmp_path: Path) -> None:
    with bench(tmp_path, weight_boxes=2) as (served, path):
        run = CliRunner().invoke(main, ["doctor", path, "--json"], standalone_mode=False)
        report = json.loads(run.output)
        assert run.return_value == 0
        assert report["ready"]
        assert [entry["name"] for entry in report["instruments"]] == [
            "tec", "laser", "awg", "dac-1", "dac-2", "digitizer", "power_meter"
        ]  # fmt: skip
        assert all(entry["identity"].startswith("PHOTONIC,") for entry in report["instruments"])
        assert served.model.laser.relative() == 0
    run = CliRunner().invoke(main, ["doctor", path], standalone_mode=False)
    assert run.return_value == 1
    assert "7 of 7 instruments are not as the file says" in run.output


def test_another_instrument_than_the_file_names_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path) as (_, path):
        text = Path(path).read_text()
        (tmp_path / "other.toml").write_text(text.replace("PHOTONIC,VLASER", "ACME,LASER"))
        with pytest.raises(IdentityError, match="laser"):
            photonic.open_chip(str(tmp_path / "other.toml"))


def test_a_bench_brings_its_record(tmp_path: Path) -> None:
    """The record of the file is used; another one of the caller's is refused; opening to calibrate needs none."""
    with bench(tmp_path) as (_, path):
        with photonic.open_chip(path) as chip:
            record = photonic.Calibration.from_spec(chip.spec)
        record.save(tmp_path / "chip.json")
        told = edited(path, calibration="chip.json")
        with photonic.open_backend(told) as backend:
            assert getattr(backend, "calibration", None) == record
        other = record.replaced(response={**record.response.model_dump(), "zero_count": (1.0,)})
        with pytest.raises(photonic.errors.CalibrationError):
            photonic.open_backend(told, calibration=other)
        (tmp_path / "chip.json").unlink()
        photonic.open_chip(told).close()


def test_sigkill_of_the_bench_ends_in_an_error_of_the_tree(tmp_path: Path) -> None:
    with bench(tmp_path) as (served, path):
        chip = photonic.open_chip(edited(path, timing={"settle_time_s": 1e-4}))
        codes = random_codes(chip, 1, 1, 2, 6, 8)
        chip.measure(*codes)
        served.stop()
        with pytest.raises(LabError) as found:
            chip.measure(*codes)
        assert "could NOT be made safe" in " ".join(found.value.__notes__)
        chip.close()


ACTIONS = st.lists(
    st.sampled_from(["measure", "grid", "gain", "dark", "safe", "beyond", "limits", "reopen"]), min_size=1, max_size=6
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS, st.integers(0, 2**16))
def test_no_command_ever_leaves_the_limits(tmp_path: Path, actions: list[str], seed: int) -> None:
    """Calls, reloads with other limits, and threads; the bench's own instruments kept the volts and watts that came."""
    with bench(tmp_path, weight_boxes=2) as (served, path):
        seen = _watched(served)
        tight = edited(path, weights={"volts_max": 5.0}, safety={"total_heater_power_w": 0.05})
        chip = photonic.open_chip(path)
        for index, action in enumerate(actions):
            calls = _calls(chip, action, seed + index)
            threads = [threading.Thread(target=call) for call in calls]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if action in ("reopen", "limits"):
                chip.close()
                if action == "limits":
                    with pytest.raises(LimitError):
                        photonic.open_chip(tight)
                chip = photonic.open_chip(path)
        chip.close()
        limits = load_bench(path)
        assert seen
        for volts, watts in seen:
            assert limits.weights.volts_min <= volts.min() <= volts.max() <= limits.weights.volts_max
            assert watts <= (limits.laser.power_max_w or 0)


def _watched(served: VirtualBench) -> list[tuple[np.ndarray, float]]:
    """Levels and laser power at every play."""
    seen: list[tuple[np.ndarray, float]] = []
    model = served.model
    play = model.play

    def noting() -> None:
        seen.append((np.concatenate([box.levels_v for box in model.boxes]), model.laser.power_w()))
        play()

    model.modulator._play = noting
    return seen


def _calls(chip: photonic.Chip, action: str, seed: int) -> list[Any]:
    def quietly(call: Any) -> Any:
        def run() -> None:
            with suppress(PhotonicError):
                call()

        return run

    m, n = chip.spec.n_outputs, chip.spec.n_inputs
    shape = (2, 2, 3) if action == "grid" else (1, 1, 2)
    weights, inputs = random_codes(chip, *shape, m, n, seed=seed)
    if action == "gain":
        return [quietly(lambda: chip.measure(weights, inputs, {"analog_gain": 4.0}))]
    if action == "dark":
        return [quietly(lambda: chip.measure(weights, inputs, {"laser_power": 0.0}))]
    if action == "safe":
        return [quietly(chip.safe_state), quietly(lambda: chip.measure(weights, inputs))]
    if action == "beyond":
        return [quietly(lambda: chip.measure(weights * 0 + 32767, inputs))]
    return [quietly(lambda: chip.measure(weights, inputs))] * 2


@pytest.mark.parametrize("physics", ["ideal", "lab"])
def test_a_mesh_is_timed_though_one_setting_leaves_an_output_dark(tmp_path: Path, physics: str) -> None:
    """The first setting of this device gives output 2 next to no light."""
    with VirtualBench("sim:mesh-typical?n_inputs=4&n_outputs=4", seed=4, physics=physics) as served:  # type: ignore[arg-type]
        photonic.open_chip(str(served.write(tmp_path / "bench.toml"))).close()
