"""`photonic profile` on the command line: the power first, then what follows from it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from photonic.analysis.cost import Profile
from photonic.cli import main
from photonic.cli.costs import si


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, list(args))


def test_the_tables_show_the_power_and_what_follows(run):
    """Effective bits, light and electrical power before the layers; the digital work is said to be in no figure."""
    result = run("profile", "mlp", "--backend", "sim?resident_tiles=64")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "mlp on sim:typical?device=0: 1 image of 1 x 8 x 8"
    for text in ("light of the source", "209 mW", "1.04 W", "6.37", "each further one, same weights", "0 programmings"):
        assert text in result.stdout
    heads = [line.split() for line in lines if line.startswith("layer")]
    assert "bottleneck" in heads[0]
    assert {"laser", "heaters", "TIA", "modulators", "DAC", "ADC", "programming", "MACs/J"} <= set(heads[1])
    assert sum(line.startswith("total") for line in lines) == 2
    assert "neither its latency nor its energy" in result.stdout
    assert "warning" not in result.stderr


def test_json_is_the_profile(run):
    """One object, which is the record again."""
    result = run("profile", "convnet", "--input", "3,12,12", "--classes", "7", "--batch", "4", "--json")
    content = json.loads(result.stdout)
    assert content.pop("model") == "convnet"
    profile = Profile(**content)
    assert profile.input_shape == (4, 3, 12, 12)
    assert profile.layers[-1].macs == 4 * 64 * 7
    again = run("profile", "convnet", "--input", "3,12,12", "--classes", "7", "--batch", "4", "--json")
    assert json.loads(again.stdout) == {"model": "convnet", **content}


def test_not_stated_is_printed_in_words(run):
    """Never 0, and without a chip there are no columns for it at all."""
    ideal = run("profile", "mlp", "--backend", "sim:ideal").stdout
    total = ideal.splitlines()[-3]
    assert total.startswith("total")
    assert total.count("not stated") == 5
    assert "energy not stated" in ideal
    lab = run("profile", "mlp", "--backend", "tests.test_profile:open_lab").stdout
    assert "latency not stated" in lab
    exact = run("profile", "mlp", "--backend", "digital")
    assert exact.exit_code == 0
    assert "no chip" in exact.stdout
    assert "8,832" in exact.stdout
    assert "laser" not in exact.stdout


def test_a_torchvision_model_is_profiled(run):
    """By its name, with its own layers."""
    pytest.importorskip("torchvision")
    content = json.loads(run("profile", "resnet18", "--input", "3,32,32", "--json").stdout)
    assert len(content["layers"]) == 21
    assert [layer["layer"] for layer in content["layers"][:2]] == ["conv1", "layer1.0.conv1"]
    assert all(layer["shots_per_input"] == 1 for layer in content["layers"])  # all behind ReLUs


def test_a_trained_run_is_profiled(run):
    """With the shape of its data; what it kept digital stays so, and options that its config holds are refused."""
    assert run("train", "--epochs", "1", "--limit", "96", "--out", "here", "--route", "1=digital").exit_code == 0
    content = json.loads(run("profile", "here", "--batch", "200", "--json").stdout)
    assert content["input_shape"] == [200, 1, 8, 8]  # more than the run has
    assert [layer["cost"] is None for layer in content["layers"]] == [True, False, False]
    assert "layers that stay digital: 4,096 MACs" in run("profile", "here").stdout
    refused = run("profile", "here", "--input", "1,8,8", "--classes", "3")
    assert refused.exit_code == 2
    assert "leave out --input, --classes" in refused.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("mpl",), "did you mean mlp"),
        (("nowhere/run",), "no run folder"),
        (("mlp", "--backend", "sim:nothing"), "unknown preset"),
        (("mlp", "--input", "8,8"), "expected C,H,W"),
        (("mlp", "--input", "1,8,0"), "expected C,H,W"),
        (("mlp", "--batch", "0"), "--batch"),
        (("mlp", "--backend", "tests.test_profile:Silent"), "profile the chip itself"),
        ((), "MODEL"),
    ],
)
def test_a_mistake_is_one_line(run, args, message):
    """Exit code 2, and nothing on stdout."""
    result = run("profile", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not stated"),
        (0.0, "0 J"),
        (1.0, "1.00 J"),
        (999.6e-9, "1.00 µJ"),
        (99.96e-6, "100 µJ"),
        (0.0123, "12.3 mJ"),
        (1.5e-17, "0.01 fJ"),
        (2.5e18, "2500 PJ"),
    ],
)
def test_three_digits_and_a_prefix(value, text):
    """For people."""
    assert si(value, "J") == text
