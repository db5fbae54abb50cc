"""The command line: one JSON object, one line for a mistake, the right exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from photonic.cli import doctor, main
from photonic.cli.group import Interrupted, Photonic
from photonic.errors import ReadbackError
from photonic.train import session

QUICK = ["--epochs", "1", "--limit", "96"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, list(args))


def test_table(run):
    """`photonic train` prints every number the issue names, and where the run is."""
    result = run("train", *QUICK)
    assert result.exit_code == 0
    for label in (
        "digital control",
        "photonic, mean of 10 noisy passes",
        "photonic weights run digitally",
        "effective bits (enob)",
        "saturated ADC counts",
        "chip calls",
        "programmed tiles",
        "shots",
        "in the chip",
        "outside it",
        "nominal",
        "run folder: runs",
    ):
        assert label in result.stdout


def test_table_names_the_layers_that_saturate(run):
    """And no others; the JSON has all of them."""
    result = run("train", *QUICK, "--backend", "sim?adc_full_scale=0.01", "--route", "5=digital", "--out", "here")
    assert re.findall(r"^    in (\S+) +(\S+) %$", result.stdout, re.MULTILINE)
    layers = json.loads(run("train", "--resume", "here", "--json").stdout)["layers"]
    shown = dict(re.findall(r"^    in (\S+) +(\S+) %$", result.stdout, re.MULTILINE))
    assert shown == {use["layer"]: f"{100 * use['saturated_fraction']:.4f}" for use in layers}


def test_json_is_one_object(run):
    """--json prints one object on stdout, with the keys of the issue nested; the rest goes to stderr."""
    result = run("train", *QUICK, "--json", "--out", "here")
    content = json.loads(result.stdout)
    assert set(content["accuracy"]) >= {"digital", "photonic", "digital_same_weights"}
    assert set(content["chip"]) == {"calls", "tiles_programmed", "shots"}
    assert set(content["seconds"]) >= {"chip", "total"}
    assert set(content) >= {"backend", "enob", "saturated_fraction", "out", "seed", "test_images", "warnings"}
    assert content["out"] == "here"
    assert result.stdout.count("\n") == 1
    assert len(re.findall("nominal calibration", result.stderr)) == 1


def test_resume_of_a_finished_run_prints_it(run):
    """Resuming a finished run prints the same object again, and says that it was finished."""
    first = run("train", *QUICK, "--json", "--out", "here")
    again = run("train", "--resume", "here", "--json")
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert "here is finished" in again.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "2", "--epochs 2 contradicts 1"),
        ("--backend", "digital", "--backend digital contradicts sim"),
        ("--route", "1=digital", "--route"),
        ("--seed", "1", "--seed 1 contradicts 0"),
        ("--out", "there", "there contradicts"),
    ],
)
def test_resume_refuses_contradictions(run, option, value, message):
    """What contradicts the run's config is refused by the option's name; what repeats it is not."""
    run("train", *QUICK, "--out", "here")
    assert run("train", "--resume", "here", *QUICK).exit_code == 0
    assert_refused(run("train", "--resume", "here", option, value), message)


def assert_refused(result, message):
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("photonic: error: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["frobnicate"], "frobnicate"),
        (["train", "--frobnicate"], "--frobnicate"),
        (["train", "surplus"], "surplus"),
        (["train", "--epochs", "0"], "--epochs"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--batch-size", "-1"], "--batch-size"),
        (["train", "--lr", "0"], "--lr"),
        (["train", "--lr", "nan"], "lr"),
        (["train", "--seed", "-1"], "--seed"),
        (["train", "--limit", "0"], "--limit"),
        (["train", "--activation", "glu"], "--activation"),
        (["train", "--route", "sim"], "GLOB=SPEC"),
        (["train", "--route", "nothing.*=digital"], "nothing.*"),
        (["train", "--model", "resnet19"], "unknown model 'resnet19'"),
        (["train", "--model", ""], "model"),
        (["train", "--backend", "simm"], "unknown backend 'simm'"),
        (["train", "--backend", "sim:typicl"], "preset"),
        (["train", "--backend", "sim?adc_bit=6"], "adc_bit"),
        (["train", "--backend", "sim?adc_bits="], "needs a value"),
        (["train", "--backend", "no.such:factory"], "no.such"),
        (["train", "--backend", ""], "backend"),
        (["train", "--data", "nodigits"], "nodigits"),
        (["train", "--data", ""], "data"),
        (["train", "--resume", "nowhere"], "nowhere is no run folder"),
        (["train", "--out", "file/run"], "cannot make the run folder"),
        (["train", "--out", "full"], "is not empty"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, args, message):
    """A mistake is one line on stderr and exit 2, with no traceback and no file."""
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert_refused(run(*args), message)
    assert sorted(tmp_path.rglob("*")) == before


def test_diverging_training_is_one_line(run, tmp_path):
    """A run that fails in its first epoch says why and leaves no folder."""
    result = run("train", *QUICK, "--lr", "1e30", "--out", "here")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("photonic: error: the loss of the digital model is")
    assert not (tmp_path / "here").exists()


def test_full_disk_is_one_line(run, monkeypatch):
    """What the operating system refuses is one line too."""

    def full(*_):
        raise OSError(28, "No space left on device", "curves.png")

    monkeypatch.setattr(session, "draw_curves", full)
    result = run("train", *QUICK)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "photonic: error: curves.png: No space left on device"


def test_ctrl_c_says_how_to_resume(run, monkeypatch):
    """Ctrl-C is exit 130 and one line with the command that goes on, which works."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "_evaluate", interrupt)
        result = run("train", *QUICK, "--out", "here")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "photonic: interrupted; go on with: photonic train --resume here"
    assert run("train", "--resume", "here").exit_code == 0


def test_ctrl_c_before_the_run(run, monkeypatch):
    """Ctrl-C while the data loads leaves nothing and says so."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("photonic.train.job.load_dataset", interrupt)
    result = run("train", *QUICK)
    assert result.exit_code == 130
    assert result.stderr == "photonic: interrupted before anything was written\n"


def test_help_names_every_option(run):
    """--help prints to stdout and exits with 0."""
    result = run("train", "--help")
    assert result.exit_code == 0
    options = "data download model activation backend route epochs batch-size lr seed out resume limit json"
    assert all(f"--{option}" in result.stdout for option in options.split())


def test_doctor(run):
    """doctor lists versions, extras and backends, and exits with 0 where the main job can run."""
    result = run("doctor")
    assert result.exit_code == 0
    for label in ("python", "torch", "backends", "core", "extra lab", "photonic train can run"):
        assert label in result.stdout
    content = json.loads(run("doctor", "--json").stdout)
    assert content["ready"]
    assert {"digital", "sim"} <= set(content["schemes"])
    assert set(content["extras"]) >= {"core", "data", "lab", "remote"}


def test_doctor_answers_no(run, monkeypatch):
    """Without a package that the main job needs, doctor exits with 1 and gives the line that installs it."""
    found = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "matplotlib" else found(name))
    result = run("doctor")
    assert result.exit_code == 1
    assert "matplotlib (missing)" in result.stdout
    assert "pip install 'photonic-torch'" in result.stdout
    assert "cannot run" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_a_real_process(tmp_path, number):
    """Ctrl-C and SIGTERM end a real process with 130 and the line that goes on."""
    path = tmp_path / "run"
    command = [sys.executable, "-m", "photonic.cli", "train", "--epochs", "500", "--out", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (path / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"photonic: interrupted; go on with: photonic train --resume {path}"


@pytest.mark.slow
def test_real_process_is_clean(tmp_path):
    """A real process prints only the object on stdout and no traceback or bar into a pipe."""
    command = [sys.executable, "-m", "photonic.cli", "train", *QUICK, "--json", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    json.loads(done.stdout)
    assert all(line.startswith("photonic: ") for line in done.stderr.splitlines())


@pytest.mark.parametrize(("first", "code"), [(ReadbackError("refused"), 2), (KeyboardInterrupt(), 130)])
def test_what_could_not_be_made_safe_is_told(first, code):
    """The notes of an error, and of the one that it came from, are in its line; once each."""
    group = Photonic("photonic")

    @group.command("fail")
    def fail():
        first.add_note("laser could NOT be made safe")
        if isinstance(first, KeyboardInterrupt):
            raise Interrupted("interrupted; go on") from first
        raise first

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == code
    assert result.stderr.rstrip().endswith("; laser could NOT be made safe")
    assert result.stderr.count("safe") == 1
