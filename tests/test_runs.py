"""Run folders: atomic files, and resuming with the numbers of an uninterrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from photonic.errors import RunError
from photonic.train import Progress, TrainConfig, resume, train
from photonic.train.runs import RunFolder, default_folder, replacing

pytestmark = pytest.mark.filterwarnings("ignore::photonic.errors.NominalCalibrationWarning")

CONFIG = TrainConfig(epochs=3, limit=96, seed=5)
STEPS = 2 * 2  # of an epoch, both models


class StopAt(Progress):
    """Presses Ctrl-C at a step, and keeps the notes."""

    def __init__(self, step=None):
        self.left, self.notes = step, []

    def step(self, text=""):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    return path, train(CONFIG, out=path)


def interrupted(path, step):
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, out=path, progress=StopAt(step))
    return path


def rows(path):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in lines]


def assert_same_run(path, result, uninterrupted):
    whole, expected = uninterrupted
    hidden = {"seconds", "out"}
    assert result.model_dump(exclude=hidden) == expected.model_dump(exclude=hidden)
    assert rows(path) == rows(whole)
    found, wanted = (torch.load(p / "checkpoint.pt", weights_only=True) for p in (path, whole))
    for name in ("digital", "photonic"):
        for key, value in wanted["learners"][name]["model"].items():
            assert torch.equal(found["learners"][name]["model"][key], value)
    assert found["backends"] == wanted["backends"]


@pytest.mark.parametrize("step", [1, STEPS + 1, 2 * STEPS, 3 * STEPS + 5])
def test_resumed_run_equals_uninterrupted(tmp_path, uninterrupted, step):
    """Stopped in the first epoch, in another, at an epoch's end or in evaluation: the numbers are the same bits."""
    path = interrupted(tmp_path / "run", step)
    assert not (path / "result.json").exists()
    assert_same_run(path, resume(path), uninterrupted)


def test_twice_interrupted(tmp_path, uninterrupted):
    """A resumed run can be interrupted and resumed again; its counters go on."""
    path = interrupted(tmp_path / "run", STEPS + 1)
    with pytest.raises(KeyboardInterrupt):
        resume(path, progress=StopAt(STEPS + 2))
    assert_same_run(path, resume(path), uninterrupted)


def test_truncated_metrics_are_said_and_dropped(tmp_path, uninterrupted):
    """Lines that no checkpoint covers, a half line among them, are dropped on resuming, and it says how many."""
    path = interrupted(tmp_path / "run", STEPS + 1)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "model": "digital"}\n{"epoch": 2, "mod')
    heard = StopAt()
    assert_same_run(path, resume(path, progress=heard), uninterrupted)
    assert heard.notes == [
        "resuming after epoch 1 of 3; 2 lines of metrics.jsonl that no checkpoint covers were dropped"
    ]


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    """A temporary file that a killed process could not remove is gone after resuming."""
    path = interrupted(tmp_path / "run", STEPS + 1)
    (path / ".checkpoint.pt.1.tmp").write_bytes(b"half")
    resume(path)
    assert not list(path.glob(".*"))


def test_finished_run_gives_its_result(uninterrupted):
    """Resuming a finished run trains nothing: it says so and returns what is there."""
    path, result = uninterrupted
    heard = StopAt(1)
    assert resume(path, progress=heard) == result
    assert heard.notes == [f"{path} is finished; this is its result"]


def test_folder_in_use_is_refused(uninterrupted):
    """A new run never writes into a folder that holds something."""
    with pytest.raises(RunError, match="is not empty; continue it with --resume"):
        train(CONFIG, out=uninterrupted[0])


def test_no_folder_under_a_file(tmp_path):
    """A folder that cannot be made is refused before anything is trained."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the run folder"):
        train(CONFIG, out=tmp_path / "file" / "run", progress=StopAt(1))


def test_resume_needs_a_run_folder(tmp_path):
    """Any other folder is refused."""
    with pytest.raises(RunError, match="holds no config"):
        resume(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_damaged_checkpoint_is_refused(tmp_path, damage):
    """An empty, foreign or truncated checkpoint is refused by name."""
    path = interrupted(tmp_path / "run", STEPS + 1)
    file = path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if damage is None else damage)
    with pytest.raises(RunError, match=r"checkpoint\.pt is damaged"):
        resume(path)


def test_checkpoint_of_other_data_is_refused(tmp_path):
    """A run goes on only with the images it was started with."""
    path = interrupted(tmp_path / "run", STEPS + 1)
    changed = CONFIG.model_copy(update={"limit": 95})
    (path / "config.json").write_text(changed.model_dump_json())
    with pytest.raises(RunError, match="changed since the run was started"):
        resume(path)


@pytest.mark.parametrize("text", ["", "[1]", '{"epochs": 1, "surprise": 2}'])
def test_damaged_config_is_refused(tmp_path, text):
    """A config that is no JSON object of known keys is refused."""
    path = interrupted(tmp_path / "run", 1)
    (path / "config.json").write_text(text)
    with pytest.raises(Exception, match=r"cannot be read|expected a JSON object|surprise"):
        resume(path)


def test_replacing_is_all_or_nothing(tmp_path):
    """A write that fails leaves the old file and no temporary one."""
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"half of the n", None])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_loads_without_pickle(uninterrupted):
    """A checkpoint holds tensors and plain values only."""
    state = RunFolder(uninterrupted[0]).load_checkpoint()
    assert state["epoch"] == 3
    assert all(layer["usage"]["calls"] > 0 for layer in state["counters"].values())


def test_default_folder_names_the_run(tmp_path, monkeypatch):
    """The default folder says when, what and on what; a taken name gets a number."""
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(data="../some/where/set.npz", backend="sim:typical?device=3", seed=2)
    first = default_folder(config)
    assert first.parts[0] == "runs"
    assert first.name.endswith("Z-mlp-set-sim-typical-device-3-seed2")
    first.mkdir(parents=True)
    assert default_folder(config) != first


@pytest.mark.slow
def test_kill_9_and_resume(tmp_path, uninterrupted):
    """A process killed without warning leaves whole files, from which the same numbers come."""
    path = tmp_path / "run"
    command = [sys.executable, "-m", "photonic.cli", "train"]
    options = ["--epochs", "3", "--limit", "96", "--seed", "5", "--out", str(path)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (path / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run([*command, "--resume", str(path), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["accuracy"] == uninterrupted[1].model_dump(mode="json")["accuracy"]
    assert rows(path) == rows(uninterrupted[0])
