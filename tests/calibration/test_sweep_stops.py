"""The sweep: what stops it, and what looks wrong but does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Reading
from photonic.calibration.sweep import DEAD, RAILS, WELL, sweep
from photonic.errors import CalibrationError, ChipError, SaturationError, WrongChipError
from tests.calibration.smallchip import SHOTS, SPEC, N, Small, new_store, plan_for


@pytest.mark.parametrize(("clock", "match"), [((1.0, 0.5), "backwards"), ((1.0, None), "not with others")])
def test_clock_that_cannot_be_trusted_stops(tmp_path: Path, clock: Sequence[Any], match: str) -> None:
    plan = plan_for(4)
    with new_store(tmp_path / "x", plan) as store, pytest.raises(CalibrationError, match=match):
        sweep(Small(clock=clock), plan, store)
    assert RawStore.open(tmp_path / "x").done == 1


def _railed(chip: Chip, counts: Tensor) -> Tensor:
    return torch.full_like(counts, 127.0)


def _still(chip: Chip, counts: Tensor) -> Tensor:
    return torch.full_like(counts, 3.0)


@pytest.mark.parametrize(
    ("answer", "flag", "match"), [(_railed, RAILS, "at a rail"), (_still, DEAD, "no output moves")]
)
def test_chip_that_answers_nothing_stops_after_eight(tmp_path: Path, answer: Any, flag: str, match: str) -> None:
    """And such data are not gone on with."""
    plan = plan_for(12)
    with new_store(tmp_path / "x", plan) as store, pytest.raises(CalibrationError, match=match):
        sweep(Small(answers={-1: answer}), plan, store)
    with RawStore.open(tmp_path / "x") as store:
        assert [note.flag for note in store.notes] == [flag] * 8
        chip = Small()
        with pytest.raises(CalibrationError, match="measure anew"):
            sweep(chip, plan, store)
        assert chip.calls == 0


def test_one_reading_may_look_wrong(tmp_path: Path) -> None:
    """Seven dead readings and a live one are noted, and so are all at the rails later on."""
    plan = plan_for(20)
    wrong = {**dict.fromkeys(range(7), _still), **dict.fromkeys(range(8, 18), _railed)}
    with new_store(tmp_path / "x", plan) as store:
        sweep(Small(answers=wrong), plan, store)
        assert [note.flag for note in store.notes] == [DEAD] * 7 + [WELL] + [RAILS] * 10 + [WELL] * 2


def test_equal_counts_may_be_right(tmp_path: Path) -> None:
    """Without light, or with one vector over and over, a quiet chip gives equal counts and is alive."""
    dark = plan_for(5, {"laser_power": 0.0})
    repeated = [Reading("noise", r.weights, r.inputs[:1].expand(SHOTS, N).contiguous(), {}, 0) for r in plan_for(5)]
    plan = dark + repeated + plan_for(2)
    with new_store(tmp_path / "x", plan) as store:
        sweep(Small(answers=dict.fromkeys(range(5), _still)), plan, store)
        assert [note.flag for note in store.notes] == [None] * 10 + [WELL] * 2


def _with_nan(chip: Chip, counts: Tensor) -> Tensor:
    counts[0, 0, 3, 2] = torch.nan
    return counts


def _one_output_less(chip: Chip, counts: Tensor) -> Tensor:
    return counts[..., 1:]


@pytest.mark.parametrize("answer", [_with_nan, _one_output_less])
def test_counts_that_are_none_stop(tmp_path: Path, answer: Any) -> None:
    """NaN, which a chip without a converter could give, and a wrong shape; the first readings are kept."""
    spec = SPEC.model_copy(update={"adc_bits": None, "count_range": (-1e4, 1e4)})
    plan = plan_for(5)
    with new_store(tmp_path / "x", plan, spec) as store:
        with pytest.raises(CalibrationError, match="2 readings before it are kept") as caught:
            sweep(Small(spec, answers={2: answer}), plan, store)
        assert isinstance(caught.value.__cause__, ChipError)
    assert RawStore.open(tmp_path / "x").done == 2


def test_chip_s_own_limit_of_rails_stops(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"max_saturated_fraction": 0.5})
    plan = plan_for(5)
    with (
        new_store(tmp_path / "x", plan, spec) as store,
        pytest.raises(CalibrationError, match="at the rails") as caught,
    ):
        sweep(Small(spec, answers={2: _railed}), plan, store)
    assert isinstance(caught.value.__cause__, SaturationError)


@pytest.mark.parametrize(
    ("change", "match"), [({"chip_id": "other"}, "found other"), ({"adc_full_scale": 0.5}, "in adc_full_scale")]
)
def test_chip_that_becomes_another_one_stops(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    """In mid-sweep, and between two sweeps; the reading in which it happened is not kept."""
    plan = plan_for(6)

    def another(chip: Chip, counts: Tensor) -> Tensor:
        chip.spec = chip.spec.model_copy(update=change)
        return counts

    with new_store(tmp_path / "x", plan) as store, pytest.raises(WrongChipError, match=match):
        sweep(Small(answers={4: another}), plan, store)
    with RawStore.open(tmp_path / "x") as store:
        assert store.done == 4
        wrong = Small(SPEC.model_copy(update=change))
        with pytest.raises(WrongChipError, match=match):
            sweep(wrong, plan, store)
        assert wrong.calls == 0
        sweep(Small(), plan, store)
        assert store.done == 6


def test_another_plan_is_refused_by_name(tmp_path: Path) -> None:
    plan, chip = plan_for(6), Small()
    with new_store(tmp_path / "x", plan) as store:
        with pytest.raises(CalibrationError, match=r"another plan.*seed 0 and budget 10,000"):
            sweep(chip, plan_for(6, seed=1), store)
        assert chip.calls == 0


def test_state_that_the_chip_does_not_take_back(tmp_path: Path) -> None:
    """A chip that changed its mind about its state cannot go on with another one's noise unnoticed."""
    plan = plan_for(6)
    chip = Small(answers={2: OSError("gone")})
    chip.state = lambda: {"calls": chip.calls}  # type: ignore[method-assign]
    with new_store(tmp_path / "x", plan) as store, pytest.raises(CalibrationError):
        sweep(chip, plan, store)
    with RawStore.open(tmp_path / "x") as store, pytest.raises(CalibrationError, match="does not take back the state"):
        sweep(Small(), plan, store)
