"""What stops a sweep, or is noted, when a chip no longer answers as it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import photonic
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.calibration.alive import DEAD, MOVED, RAILS, WELL, ReferenceWatch, Stop, stop_of
from photonic.calibration.model import ChipModel
from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Reading
from photonic.calibration.sweep import sweep
from photonic.errors import CalibrationError
from photonic.records import ChipSpec, Response

M, N, SHOTS = 4, 6, 32
SPEC = ChipSpec(chip_id="driven", n_outputs=M, n_inputs=N, response=Response(counts_per_d=(400.0,)))


class Driven(Chip):
    """Linear with noise of 2 counts; ``spoil`` is told the number of the call, codes and counts."""

    def __init__(
        self, spoil: Callable[[int, Tensor, Tensor, Tensor], Any] | None = None, spec: ChipSpec = SPEC
    ) -> None:
        super().__init__(spec)
        self.spoil, self.calls = spoil, 0
        self.generator = torch.Generator().manual_seed(1)

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        call, self.calls = self.calls, self.calls + 1
        tiles = weights.double().unflatten(-1, (M, N)) / 127
        counts = 400 * torch.einsum("rcmn,cbn->rcbm", tiles, inputs.double() / 255) / N
        found: Tensor | Measurement = counts
        if self.spoil is not None:
            found = self.spoil(call, weights, inputs, counts)
        if isinstance(found, Measurement):
            return found
        noise = 2 * torch.randn(counts.shape, generator=self.generator, dtype=torch.float64)
        return (found + noise).round().clamp(-128, 127).short()


def plan_for(readings: int, every: int = 4) -> list[Reading]:
    """Random readings with a reference before every fourth."""
    generator = torch.Generator().manual_seed(0)

    def codes(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator).short()

    pattern = torch.tensor([[40], [-40], [25], [-12]]).expand(M, N).short()
    reference = Reading("reference", pattern.flatten(), torch.full((SHOTS, N), 128, dtype=torch.int16), {}, 0)
    found = []
    for index in range(readings):
        found += [reference] if index % every == 0 else []
        found.append(Reading("matrix", codes(-40, 41, M * N), codes(0, 256, SHOTS, N), {}, 0))
    return found


def new_store(folder: Path, plan: list[Reading]) -> RawStore:
    return RawStore.create(folder, SPEC, plan, seed=0, budget=10_000)


def test_a_source_that_fails_behind_noise_is_found_by_the_references(tmp_path: Path) -> None:
    """What was measured since the last good reference is dropped, and the sweep goes on from there to the same end."""
    plan = plan_for(40)
    dark = Driven(lambda call, w, u, counts: counts * (call < 22))
    with new_store(tmp_path / "x", plan) as store:
        with pytest.raises(
            CalibrationError, match=r"after reading 20, the reference vector.*21 readings before it are"
        ):
            sweep(dark, plan, store)
        assert store.done == 21
    with RawStore.open(tmp_path / "x") as store:
        assert store.done == 21
        sweep(Driven(), plan, store)
        assert store.done == len(plan)
        assert not any(note.flag for note in store.notes)
    reopened = RawStore.open(tmp_path / "x")
    assert len(reopened.taken()) == len(plan)
    assert torch.equal(reopened.reading(30).counts, reopened.taken()[30].counts)


def test_a_chip_that_drifts_faster_than_the_sweep_stops(tmp_path: Path) -> None:
    """A gain that grows by 2 % in each reading is stopped at about half more; one of 0.2 % goes through."""
    plan = plan_for(80)
    with new_store(tmp_path / "x", plan) as store, pytest.raises(CalibrationError, match="drifts faster"):
        sweep(Driven(lambda call, w, u, counts: counts * (1 + 0.02 * call)), plan, store)
    with new_store(tmp_path / "y", plan) as store:
        sweep(Driven(lambda call, w, u, counts: counts * (1 + 0.002 * call)), plan, store)
        assert store.done == len(plan)


def test_references_of_a_noisy_chip_are_not_watched() -> None:
    """Noise alone never moves a reference; without a pattern that stands out of it nothing is said."""
    generator = torch.Generator().manual_seed(4)
    quiet = torch.tensor([40.0, -40.0, 20.0, -10.0]) + torch.randn(64, 500, SHOTS, M, generator=generator)
    for first, *later in quiet[:, :20].unbind():
        watch = ReferenceWatch.of(SPEC, first)
        assert watch.clear
        assert not any(watch.flag(counts) for counts in later)
    loud = 30 * torch.randn(SHOTS, M, generator=generator)
    watch = ReferenceWatch.of(SPEC, loud)
    assert not watch.clear
    assert watch.flag(loud + 100) is None
    one = SPEC.model_copy(update={"n_outputs": 1})
    watch = ReferenceWatch.of(one, torch.full((SHOTS, 1), 50))
    assert watch.flag(torch.full((SHOTS, 1), 1)) == MOVED
    assert watch.flag(torch.full((SHOTS, 1), 48)) is None


def test_a_chip_that_dies_later_stops_after_sixteen(tmp_path: Path) -> None:
    """Fifteen still readings are noted; with one more the sweep stops and drops them, and can be gone on with."""
    plan = plan_for(60, every=100)

    def still(least: int, most: int) -> Driven:
        def answer(call: int, w: Tensor, u: Tensor, counts: Tensor) -> Tensor | Measurement:
            return Measurement(torch.full_like(counts, 3).short()) if least <= call < most else counts

        return Driven(answer)

    with new_store(tmp_path / "x", plan) as store:
        sweep(still(20, 35), plan, store)
        assert sum(note.flag == DEAD for note in store.notes) == 15
    with new_store(tmp_path / "y", plan) as store:
        with pytest.raises(
            CalibrationError, match=r"16 readings after reading 19, no output moves.*16 readings are dr"
        ):
            sweep(still(20, 60), plan, store)
        assert store.done == 20
        sweep(Driven(), plan, store)
    assert RawStore.open(tmp_path / "y").done == len(plan)


def test_rules_by_flags() -> None:
    """Readings that cannot tell neither begin nor end a row of wrong ones."""
    some = ["matrix"] * 40
    assert stop_of([None, DEAD] * 7 + [None, WELL], some[:16]) is None
    assert stop_of([None, DEAD] * 8, some[:16]) == Stop(stop_of([DEAD] * 8, some[:8]).why, 0)  # type: ignore[union-attr]
    stop = stop_of([WELL, None] + [RAILS, None] * 16, some[:34])
    assert stop is not None
    assert stop.good == 1
    references = ["reference", "matrix"] * 4
    assert stop_of([None, WELL, MOVED, WELL, None, WELL, MOVED, WELL], references) is None
    stop = stop_of([None, WELL, None, WELL, MOVED, WELL, MOVED, WELL], references)
    assert stop is not None
    assert stop.good == 3


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "of 5: TimeoutError; "),
        (KeyError("port"), "KeyError: 'port'"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_a_driver_s_error_is_told_with_its_class(tmp_path: Path, error: BaseException, text: str) -> None:
    """Also where it has no text, and where the driver ends the program instead of raising."""

    def fail(call: int, *rest: Any) -> Tensor:
        raise error

    plan = plan_for(4)
    with new_store(tmp_path / "x", plan) as store, pytest.raises(CalibrationError, match="failed in reading 0") as got:
        sweep(Driven(fail), plan, store)
    assert text in str(got.value)


def test_a_state_that_raises_is_the_chip_s_failure(tmp_path: Path) -> None:
    plan, chip = plan_for(4), Driven()
    chip.state = lambda: dict[str, Any]()["x"]  # type: ignore[method-assign]
    with (
        new_store(tmp_path / "x", plan) as store,
        pytest.raises(CalibrationError, match=r"failed in reading 0.*KeyErr"),
    ):
        sweep(chip, plan, store)


def test_a_driver_that_works_in_place_spoils_nothing(tmp_path: Path) -> None:
    """Neither the patterns that are kept, nor counts that it gives in one buffer again and again."""
    plan = plan_for(4)
    before = [(r.weights.clone(), r.inputs.clone()) for r in plan]
    spec = SPEC.model_copy(update={"max_counts_bytes": 2 * M * 8})  # calls of 8 shots

    def in_place(call: int, weights: Tensor, inputs: Tensor, counts: Tensor) -> Tensor:
        weights.zero_()
        inputs.zero_()
        return counts

    chip, buffer = Driven(in_place, spec), torch.zeros(1, 1, 8, M, dtype=torch.int16)
    measure = chip._measure
    chip._measure = lambda *arguments: buffer.copy_(measure(*arguments))  # type: ignore[method-assign, arg-type]
    with RawStore.create(tmp_path / "x", spec, plan, seed=0, budget=10_000) as store:
        sweep(chip, plan, store)
        taken = store.taken()
    with RawStore.create(tmp_path / "y", spec, plan, seed=0, budget=10_000) as store:
        sweep(Driven(spec=spec), plan, store)
        whole = store.taken()
    for item, other, (weights, inputs) in zip(taken, whole, before, strict=True):
        assert torch.equal(item.reading.weights, weights)
        assert torch.equal(item.reading.inputs, inputs)
        assert torch.equal(item.counts, other.counts)


def test_a_chip_that_cannot_be_made_safe_says_so(tmp_path: Path) -> None:
    """The driver's error and, behind it, that the hardware may still be on."""

    def fail(*rest: Any) -> Tensor:
        raise OSError("cable")

    def stuck() -> None:
        raise OSError("heater 3 does not answer")

    plan, chip = plan_for(4), Driven(fail)
    chip.safe_state = stuck  # type: ignore[method-assign]
    with (
        new_store(tmp_path / "x", plan) as store,
        pytest.raises(CalibrationError, match=r"OSError: cable; .*could NOT be made safe: heater 3"),
    ):
        sweep(chip, plan, store)


@pytest.mark.parametrize("value", [7, 2.5, [1.0, 6.5], torch.tensor([1, 6])])
def test_telemetry_may_be_plain_numbers(tmp_path: Path, value: Any) -> None:
    plan = plan_for(1)

    def with_numbers(call: int, w: Tensor, u: Tensor, counts: Tensor) -> Measurement:
        return Measurement(counts.round().short(), telemetry={"tap": value})

    with new_store(tmp_path / "x", plan) as store:
        sweep(Driven(with_numbers), plan, store)
        found = store.taken()[0].telemetry
    assert found["tap"] == float(torch.as_tensor(value, dtype=torch.float64).mean())


def test_telemetry_that_is_no_number_is_named(tmp_path: Path) -> None:
    plan = plan_for(1)

    def with_text(call: int, w: Tensor, u: Tensor, counts: Tensor) -> Measurement:
        return Measurement(counts.round().short(), telemetry={"serial": "A-12"})  # type: ignore[dict-item]

    with (
        new_store(tmp_path / "x", plan) as store,
        pytest.raises(CalibrationError, match="'serial' must be a tensor of"),
    ):
        sweep(Driven(with_text), plan, store)


def test_readings_of_no_folder_are_not_said_to_be_kept() -> None:
    """A verification without a folder keeps nothing, so its error does not point to one."""
    with photonic.open_chip("sim:typical?n_inputs=4&n_outputs=4", seed=7) as chip:
        arrays = dict(ChipModel.nominal(chip.spec).arrays())
        record = photonic.Calibration.from_spec(chip.spec).replaced(nominal=False, spec=chip.spec, arrays=arrays)
        chip._measure = lambda *arguments: 1 / 0  # type: ignore[method-assign, assignment]
        with pytest.raises(CalibrationError, match=r"ZeroDivisionError.*no folder was given") as caught:
            photonic.verify(chip, record, budget=400_000)
        assert "kept" not in str(caught.value)
        with pytest.raises(CalibrationError, match=r"ZeroDivisionError.*no folder was given"):
            photonic.calibrate(chip, budget=400_000)
