"""The sweep: what it keeps, where it goes on, and what stops it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import photonic
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Reading, Taken
from photonic.calibration.sweep import DEAD, RAILS, WELL, sweep
from photonic.errors import CalibrationError, ChipError, SaturationError, WrongChipError
from photonic.records import ChipSpec, Response

M, N, SHOTS = 4, 6, 24
SPEC = ChipSpec(
    chip_id="small",
    n_outputs=M,
    n_inputs=N,
    response=Response(counts_per_d=(400.0,)),
    conditions={"laser_power": (0.0, 1.0)},
)
SIM = f"sim:typical?n_inputs={N}&n_outputs={M}&laser_drift=0.02&gain_drift=0.01&drift_s=1e-5&device=7"


class Small(Chip):
    """Linear, and as it is told: ``answers`` maps the number of a call to what it gives or raises."""

    def __init__(self, spec: ChipSpec = SPEC, answers: dict[int, Any] | None = None, clock: Sequence[Any] = ()) -> None:
        super().__init__(spec)
        self.answers, self.clock, self.calls = answers or {}, clock, 0
        self.seen: list[Conditions] = []

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Measurement:
        call, self.calls = self.calls, self.calls + 1
        self.seen.append(conditions)
        tiles = weights.double().unflatten(-1, (M, N)) / 127
        counts = 400 * torch.einsum("rcmn,cbn->rcbm", tiles, inputs.double() / 255) / N
        answer = self.answers.get(call, self.answers.get(-1))
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            counts = answer(self, counts)
        counts = counts if self.spec.adc_bits is None else counts.round().clamp(-128, 127).to(torch.int16)
        if call < len(self.clock) and self.clock[call] is not None:
            return Measurement(counts, telemetry={"clock_s": torch.tensor(self.clock[call]), "tap": torch.ones(2)})
        return Measurement(counts, telemetry={"tap": torch.tensor([[1.0, 2.0, 6.0]])})


def plan_for(readings: int = 12, conditions: dict[str, float | str] | None = None, seed: int = 0) -> list[Reading]:
    generator = torch.Generator().manual_seed(seed)

    def codes(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator).to(torch.int16)

    return [
        Reading("matrix", codes(-40, 41, M * N), codes(0, 256, SHOTS, N), conditions or {}, 0) for _ in range(readings)
    ]


def new_store(folder: Path, plan: Sequence[Reading], spec: ChipSpec = SPEC) -> RawStore:
    return RawStore.create(folder, spec, plan, seed=0, budget=10_000)


def counts_of(taken: Sequence[Taken]) -> Tensor:
    return torch.stack([item.counts for item in taken])


def simulated() -> Chip:
    return photonic.open_chip(SIM, seed=3)


def uninterrupted(plan: Sequence[Reading]) -> Tensor:
    """Counts of a simulated chip that measures the plan without a sweep."""
    chip = simulated()
    return torch.stack([chip.measure(r.weights[None, None], r.inputs[None], r.conditions).counts[0, 0] for r in plan])


def test_readings_are_kept_in_order(tmp_path: Path) -> None:
    """All of them, with the chip's clock and its monitors, under the conditions that were asked."""
    plan = plan_for(5) + plan_for(1, {"laser_power": 0.0})
    chip = Small(clock=[0.5 * k for k in range(6)])
    with new_store(tmp_path / "x", plan) as store:
        sweep(chip, plan, store)
    taken = RawStore.open(tmp_path / "x").taken()
    assert [t.clock_s for t in taken] == [0.5 * k for k in range(6)]
    assert all(torch.equal(t.reading.inputs, r.inputs) for t, r in zip(taken, plan, strict=True))
    assert chip.seen == [{}] * 5 + [{"laser_power": 0.0}]
    assert taken[0].telemetry == {"clock_s": 0.0, "tap": 1.0, "tap.min": 1.0, "tap.max": 1.0}
    assert all(a.utc <= b.utc and a.seconds >= 0 for a, b in pairwise(taken))


def test_old_data_fit_like_new(tmp_path: Path) -> None:
    """A fit of the folder alone, without chip and plan, is the fit of what was measured, and finds the chip's gain."""
    plan = plan_for(12)
    chip = Small()
    with new_store(tmp_path / "x", plan) as store:
        sweep(chip, plan, store)
        live = store.taken()

    def gains(taken: Sequence[Taken], spec: ChipSpec) -> Any:
        terms, counts = [], []
        for item in taken:
            matrix = item.reading.weights.double().view(spec.n_outputs, spec.n_inputs) / spec.response.weight_code_one
            terms.append((item.reading.inputs.double() / 255 @ matrix.T).numpy() / spec.n_inputs)
            counts.append(item.counts.double().numpy())
        x, y = np.concatenate(terms), np.concatenate(counts)
        return (x * y).sum(0) / (x * x).sum(0)

    old = RawStore.open(tmp_path / "x")
    assert np.array_equal(gains(old.taken(), old.spec), gains(live, chip.spec))
    assert gains(old.taken(), old.spec) == pytest.approx([400.0] * M, rel=0.01)  # rounding of 288 counts


def test_chip_without_a_clock_gets_one(tmp_path: Path) -> None:
    """Wall seconds since the sweep began; a resumed sweep goes on with them."""
    plan = plan_for(6)
    with new_store(tmp_path / "x", plan) as store, pytest.raises(CalibrationError):
        sweep(Small(answers={3: OSError("gone")}), plan, store)
    with RawStore.open(tmp_path / "x") as store:
        sweep(Small(), plan, store)
        times = [t.clock_s for t in store.taken()]
        utc = [t.utc for t in store.taken()]
    assert times[0] == 0.0
    assert times == sorted(times)
    assert len(set(times)) == 6
    assert times[5] - times[0] == pytest.approx(utc[5] - utc[0], abs=0.05)


def test_clock_that_begins_anew_runs_on(tmp_path: Path) -> None:
    """The wall says how long the chip was away; one that runs on by itself is left alone."""
    plan = plan_for(8)
    with new_store(tmp_path / "x", plan) as store, pytest.raises(CalibrationError):
        sweep(Small(answers={3: OSError("gone")}, clock=[5.0, 6.0, 7.0]), plan, store)
    with RawStore.open(tmp_path / "x") as store, pytest.raises(CalibrationError):
        sweep(Small(answers={2: OSError("gone")}, clock=[8.5, 9.5]), plan, store)
    with RawStore.open(tmp_path / "x") as store:
        sweep(Small(clock=[0.0, 1.0, 2.0]), plan, store)
        times = [t.clock_s for t in store.taken()]
    assert times[:5] == [5.0, 6.0, 7.0, 8.5, 9.5]
    assert 9.5 <= times[5] < 60
    assert np.diff(times[5:]) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("clock", "match"), [((1.0, 0.5), "backwards"), ((1.0, None), "not with others")])
def test_clock_that_cannot_be_trusted_stops(tmp_path: Path, clock: Sequence[Any], match: str) -> None:
    plan = plan_for(4)
    with new_store(tmp_path / "x", plan) as store, pytest.raises(CalibrationError, match=match):
        sweep(Small(clock=clock), plan, store)
    assert RawStore.open(tmp_path / "x").done == 1


@pytest.mark.parametrize("error", [OSError("cable"), KeyboardInterrupt(), TimeoutError("no answer in 5 s")])
def test_failing_chip_keeps_what_was_measured(tmp_path: Path, error: BaseException) -> None:
    """The error says where and what is kept, with the chip's own as its cause; Ctrl-C comes out as it is."""
    plan = plan_for(9)
    with new_store(tmp_path / "x", plan) as store:
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                sweep(Small(answers={5: error}), plan, store)
        else:
            with pytest.raises(
                CalibrationError, match=r"reading 5 \(matrix\) of 9.*5 readings before it are"
            ) as caught:
                sweep(Small(answers={5: error}), plan, store)
            assert caught.value.__cause__ is error
            assert str(error) in str(caught.value)
        assert b'{"synced":5}' in (tmp_path / "x" / "journal.jsonl").read_bytes()
    with RawStore.open(tmp_path / "x") as store:
        chip = Small()
        sweep(chip, plan, store)
        assert chip.calls == 4
        whole = counts_of(store.taken())
    with new_store(tmp_path / "y", plan) as store:
        sweep(Small(), plan, store)
        assert torch.equal(counts_of(store.taken()), whole)


@pytest.mark.parametrize("again", ["same", "new"])
def test_resumed_simulation_draws_the_same_noise(tmp_path: Path, again: str) -> None:
    """Drift included; on the chip that was interrupted in a call, and on one that is opened anew."""
    plan = plan_for(10)
    chip = simulated()
    measure, calls = chip._measure, [0]

    def interrupted(*arguments: Any) -> Any:
        result = measure(*arguments)
        calls[0] += 1
        if calls[0] == 7:
            raise KeyboardInterrupt
        return result

    chip._measure = interrupted  # type: ignore[method-assign]
    with new_store(tmp_path / "x", plan, chip.spec) as store, pytest.raises(KeyboardInterrupt):
        sweep(chip, plan, store)
    with RawStore.open(tmp_path / "x") as store:
        assert store.done == 6
        sweep(chip if again == "same" else simulated(), plan, store)
        taken = store.taken()
    assert torch.equal(counts_of(taken), uninterrupted(plan))
    clocks = [item.clock_s for item in taken]
    assert clocks == sorted(clocks)
    assert len(set(clocks)) == 10


KILLED = """
import os, random, signal, sys, time
from tests.calibration import test_sweep as here
from photonic.calibration.raw import RawStore
from photonic.calibration.sweep import sweep

folder, seed = sys.argv[1:]
chosen, plan = random.Random(int(seed)), here.plan_for(500)
chip = here.simulated()
here.new_store(folder, plan, chip.spec).close()
kills = 0
while True:
    child = os.fork()
    if child == 0:
        store = RawStore.open(folder)
        open(folder + ".done", "a").write(f"{store.done}\\n")
        sweep(here.simulated(), plan, store)
        os._exit(0)
    ended, status = 0, 0
    if kills < 12:
        size = os.path.getsize(folder + "/journal.jsonl")
        while not ended and os.path.getsize(folder + "/journal.jsonl") <= size:
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.001)
        time.sleep(chosen.uniform(0, 0.03))
        if not ended:
            os.kill(child, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(child, 0)
    if status == 0:
        break
    kills += os.WIFSIGNALED(status)
    assert os.WIFSIGNALED(status), status
print(kills)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="kills processes that it forks")
def test_killed_again_and_again(tmp_path: Path) -> None:
    """SIGKILL at random moments: each new process goes on behind the last, and the counts are those of one sweep."""
    folder = tmp_path / "x.raw"
    root = Path(__file__).parents[2]
    arguments = [sys.executable, "-W", "ignore", "-c", KILLED, str(folder), "4"]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5
    begun = [int(line) for line in Path(f"{folder}.done").read_text().split()]
    assert begun == sorted(begun)  # nothing that was kept was lost again
    assert len(set(begun)) >= 4  # and most kills fell into the sweep
    store, plan = RawStore.open(folder), plan_for(500)
    assert store.done == 500
    store.check_plan([item.reading for item in store.taken()])
    assert torch.equal(counts_of(store.taken()), uninterrupted(plan))


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


def test_state_that_no_json_holds_is_left_out(tmp_path: Path) -> None:
    plan = plan_for(6)
    chip = Small(answers={2: OSError("gone")})
    chip.state = lambda: {"generator": torch.Generator()}  # type: ignore[method-assign]
    with new_store(tmp_path / "x", plan) as store:
        with pytest.raises(CalibrationError, match="gone"):
            sweep(chip, plan, store)
        assert store.last_note.state is None
        sweep(Small(), plan, store)
        assert store.done == 6


def test_readings_longer_than_a_call_are_cut(tmp_path: Path) -> None:
    """No call gives more counts than the chip allows; the reading is whole all the same."""
    spec = SPEC.model_copy(update={"max_counts_bytes": 7 * M * 2})
    plan, chip = plan_for(3), Small(spec, clock=range(12))
    with new_store(tmp_path / "x", plan, spec) as store:
        sweep(chip, plan, store)
        assert chip.calls == 3 * 4
        cut = counts_of(store.taken())
        assert [item.clock_s for item in store.taken()] == [0.0, 4.0, 8.0]
    with new_store(tmp_path / "y", plan) as store:
        sweep(Small(), plan, store)
        assert torch.equal(counts_of(store.taken()), cut)


def test_progress_tells_readings_of_this_call(tmp_path: Path) -> None:
    """From nothing to all, also when it goes on in the middle; a finished sweep says nothing and measures nothing."""
    plan, told = plan_for(5), []
    with new_store(tmp_path / "x", plan) as store:
        with pytest.raises(CalibrationError):
            sweep(Small(answers={3: OSError("gone")}), plan, store)
        sweep(Small(), plan, store, progress=lambda *step: told.append(step))
        assert [(done, steps) for done, steps, _ in told] == [(0, 2), (1, 2), (2, 2)]
        assert told[0][2] == "sweep: matrix, 72 of 120 shots"
        chip = Small()
        sweep(chip, plan, store, progress=lambda *step: told.append(step))
        assert (chip.calls, len(told)) == (0, 3)
