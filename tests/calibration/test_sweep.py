"""The sweep: what it keeps, and where it goes on."""

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

from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Taken
from photonic.calibration.sweep import sweep
from photonic.errors import CalibrationError
from photonic.records import ChipSpec
from tests.calibration.smallchip import SPEC, M, Small, counts_of, new_store, plan_for, simulated, uninterrupted


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
from tests.calibration import smallchip as here
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
