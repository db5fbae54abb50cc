"""A study runs, is killed, goes on, and gives the same numbers whoever runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest
from madeup import TINY

from photonic.cli import main
from photonic.errors import MissingExtraError, RunError, SpecError
from photonic.study.campaign import Summary, chosen
from photonic.study.cell import Cell
from photonic.study.grid import Grid, parse_grid
from photonic.study.running import Runner, Setting
from photonic.study.store import StudyFolder

Run = Callable[..., Summary]


def accuracies(folder: Path) -> dict[str, tuple[tuple[float, ...], tuple[float | None, ...]]]:
    return {each.cell.hash: (each.test_accuracy, each.train_loss) for each in StudyFolder(folder).outcomes()}


def test_a_study_ends_with_a_table_of_all_cells_and_a_page(tiny: Grid, quick: Run) -> None:
    summary = quick(tiny)
    assert (summary.cells, summary.finished, summary.ran, summary.failed) == (4, 4, 4, [])
    assert summary.table is not None
    assert summary.page is not None
    table = pyarrow.parquet.read_table(summary.table).to_pylist()
    assert {row["hash"] for row in table} == {cell.hash for cell in tiny.cells()}
    for row in table:
        assert len(row["test_accuracy"]) == row["epochs"] == 2
        assert row["last_accuracy"] == row["test_accuracy"][-1]
        assert row["max_accuracy"] == max(row["test_accuracy"])
        assert row["last_accuracy"] > 0.2  # it learns
        assert row["cell_train_images"] == row["train_images"] == 120
    assert "Finished" in summary.page.read_text()


def test_a_finished_cell_is_never_run_again(tiny: Grid, quick: Run, tmp_path: Path) -> None:
    first = quick(tiny, limit=1)
    assert (first.ran, first.finished) == (1, 1)
    assert "3 of 4 cells" in (tmp_path / "study" / "report.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "cells").iterdir()}
    second = quick(tiny)
    assert (second.ran, second.finished) == (3, 4)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert quick(tiny).ran == 0


def test_only_some_cells_run(tiny: Grid, quick: Run) -> None:
    assert quick(tiny, only=(("activation", "gelu"), ("seed", "1"))).cells == 1


def test_what_only_names_must_exist(tiny: Grid) -> None:
    cells = tiny.cells()
    assert {cell.seed for cell in chosen(cells, [("seed", "1"), ("n_conv", "none")])} == {1}
    with pytest.raises(SpecError, match="cells have no sed"):
        chosen(cells, [("sed", "1")])
    with pytest.raises(SpecError, match="leaves no cell"):
        chosen(cells, [("seed", "7")])


@pytest.mark.slow
def test_the_numbers_do_not_depend_on_how_many_run_side_by_side_or_in_what_order(
    tiny: Grid, tmp_path: Path, run: Run
) -> None:
    """One thread each: the engine's own numbers of processes do not reach the arithmetic."""
    run(tiny)
    runner = Runner(Setting(tmp_path / "alone", None, 1))
    for cell in reversed(tiny.cells()):
        outcome = runner.attempt(cell).outcome
        assert outcome is not None
        assert accuracies(tmp_path / "study")[cell.hash] == (outcome.test_accuracy, outcome.train_loss)


@pytest.mark.slow
def test_ray_gives_the_same_numbers(tiny: Grid, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed; it comes with the extra study")
    run(tiny)
    assert run(tiny, out="ray", engine="ray").ran == 4
    assert accuracies(tmp_path / "ray") == accuracies(tmp_path / "study")


def test_a_cell_that_fails_is_named_and_the_others_go_on(quick: Run) -> None:
    text = """
    name = "g"
    title = "G"
    [base]
    backend = "digital"
    train_images = 50
    test_images = 50
    epochs = 1
    [[grid]]
    network = ["mlp", "no_such_network"]
    """
    summary = quick(parse_grid(text, "g"))
    assert (summary.ran, summary.finished) == (1, 1)
    assert len(summary.failed) == 1
    assert "no_such_network" in summary.failed[0]


def test_changed_data_are_refused(tiny: Grid, quick: Run, tmp_path: Path) -> None:
    quick(tiny, limit=1)
    inputs = tmp_path / "study" / "inputs.json"
    inputs.write_text(json.dumps(dict.fromkeys(json.loads(inputs.read_text()), "0" * 16)))
    summary = quick(tiny, limit=1)
    assert summary.ran == 0
    assert "is not what the cells" in summary.failed[0]


def test_a_damaged_or_renamed_cell_is_named(tiny: Grid, quick: Run, tmp_path: Path) -> None:
    quick(tiny, limit=1)
    folder = StudyFolder(tmp_path / "study")
    (path,) = (tmp_path / "study" / "cells").iterdir()
    other = path.with_name("0123456789abcdef.json")
    path.rename(other)
    with pytest.raises(RunError, match="it was changed"):
        folder.outcomes()
    other.write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        folder.outcomes()


def test_two_processes_do_not_share_a_folder(tiny: Grid, quick: Run, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    folder.prepare()
    with folder.locked(), pytest.raises(RunError, match="another process"):
        quick(tiny)


def test_a_folder_of_something_else_is_left_alone(tiny: Grid, quick: Run, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="no study's folder"):
        quick(tiny)


def test_a_cell_goes_on_from_its_checkpoint_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its third epoch, by an exception as an engine's end is one."""
    monkeypatch.setattr("photonic.study.running.CHECKPOINT_EVERY_S", 0.0)
    cell = Cell(network="mlp", backend="twin", train_images=96, test_images=50, epochs=4, batch_size=32)
    whole = Runner(Setting(tmp_path / "whole", None, 1)).attempt(cell).outcome
    assert whole is not None
    steps = 0

    def stop() -> None:
        nonlocal steps
        steps += 1
        if steps == 8:
            raise KeyboardInterrupt

    epochs = list[None]()
    with pytest.raises(KeyboardInterrupt):
        Runner(Setting(tmp_path / "parts", None, 1), stop).attempt(cell)
    rest = Runner(Setting(tmp_path / "parts", None, 1), epoch=lambda: epochs.append(None)).attempt(cell).outcome
    assert rest is not None
    assert len(epochs) == 2  # the first two were kept
    assert (rest.test_accuracy, rest.train_loss) == (whole.test_accuracy, whole.train_loss)


LONG = """
name = "long"
title = "Long"
[base]
network = "mlp"
backend = "digital"
epochs = 6
batch_size = 8
[[grid]]
seed = [0, 1, 2, 3, 4, 5]
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_study_goes_on(number: signal.Signals, tmp_path: Path, run: Run) -> None:
    """After the first finished cell; nothing of that cell is lost, no worker stays, the rest runs later."""
    grid, out = tmp_path / "long.toml", tmp_path / "study"
    grid.write_text(LONG)
    command = [sys.executable, "-m", "photonic.cli", "study", "activations", "--grid", str(grid), "--out", str(out)]
    process = subprocess.Popen([*command, "--jobs", "2"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((out / "cells").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = _children(process.pid)
    os.kill(process.pid, number)
    said = process.communicate(timeout=60)[1]
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "goes on from what is finished" in said
        assert "Traceback" not in said
    kept = accuracies(out)
    assert 1 <= len(kept) < 6
    while any(_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(child) for child in children)
    summary = run(parse_grid(LONG, "long"))
    assert summary.finished == 6
    assert summary.ran == 6 - len(kept)
    assert kept.items() <= accuracies(out).items()


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list the children of a process")
    return [int(each) for each in listed.read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_warnings_of_a_cell_are_in_its_row(tmp_path: Path) -> None:
    cell = Cell(network="mlp", backend="sim", train_images=20, test_images=10, epochs=1)
    outcome = Runner(Setting(tmp_path, None, 1)).attempt(cell).outcome
    assert outcome is not None
    assert any("data sheet" in text for text in outcome.warnings)


@pytest.mark.parametrize(("package", "more"), [("pyarrow", {}), ("ray", {"engine": "ray"})])
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, more: dict[str, str], tiny: Grid, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is needed.*\[study\]"):
        run(tiny, **more)
    assert not (tmp_path / "study").exists()


def test_named_data_are_looked_for_where_the_study_is_told(quick: Run, tmp_path: Path) -> None:
    text = 'name = "g"\ntitle = "G"\n[[grid]]\nbackend = "digital"\ndata = "cifar10"\n'
    summary = quick(parse_grid(text, "g"), data_root=tmp_path / "nowhere")
    assert "nowhere" in summary.failed[0]


def test_a_training_that_diverges_is_a_row_and_not_a_failure(tmp_path: Path) -> None:
    cell = Cell(network="mlp", backend="digital", lr=1e30, train_images=64, test_images=50, epochs=5, batch_size=8)
    outcome = Runner(Setting(tmp_path, None, 1)).attempt(cell).outcome
    assert outcome is not None
    assert outcome.status == "diverged"
    assert outcome.train_loss[-1] is None
    assert len(outcome.test_accuracy) < 5


def test_a_network_at_chance_is_stopped_by_the_study_s_rule(tmp_path: Path) -> None:
    """From the tenth epoch on; without the rule it goes on."""
    fields = {"network": "mlp", "backend": "digital", "lr": 1e-12, "train_images": 100, "test_images": 50, "epochs": 12}
    runner = Runner(Setting(tmp_path, None, 1))
    stopped = runner.attempt(Cell(**fields, early_stopping="chance")).outcome
    whole = runner.attempt(Cell(**fields)).outcome
    assert stopped is not None
    assert whole is not None
    assert (stopped.status, len(stopped.test_accuracy)) == ("at chance", 10)
    assert (whole.status, len(whole.test_accuracy)) == ("finished", 12)
    assert whole.test_accuracy[:10] == stopped.test_accuracy


def test_mistakes_on_the_command_line_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for more in (["--grid", "nothing"], ["--only", "seed"], ["--only", "sed=1"], ["--engine", "abacus"]):
        with pytest.raises(SystemExit) as ended:
            main(["study", "activations", "--out", str(tmp_path / "out"), *more])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("photonic: error: ")
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_prints_what_it_found(quick: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``quick`` lends its engine."""
    grid = tmp_path / "tiny.toml"
    grid.write_text(TINY)
    command = ["study", "activations", "--grid", str(grid), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cells"], found["ran"], found["failed"]) == (4, 4, [])
    assert found["cells_per_hour"] > 0
    gelu = next(row for row in found["results"] if row["activation"] == "GELU")
    assert sorted(gelu["seeds"]) == ["0", "1"]
    assert gelu["last_difference"]["seeds"] == 2
    with pytest.raises(SystemExit):
        main(command)
    printed = capsys.readouterr()
    assert "4 of 4, 0 in this run" in printed.out
