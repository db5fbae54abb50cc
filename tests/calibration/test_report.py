"""The calibration's page: all that the record holds in words, nothing from elsewhere; the command that writes it."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner

from photonic.calibration.report import report_html, write_report
from photonic.calibration.reportpage import Column, table
from photonic.cli import main
from photonic.cli.calibrated import print_record
from photonic.errors import CalibrationError
from photonic.records import Calibration, DriftModel, Parameter, Verification
from tests.calibration.pages import SECTIONS, Page, check, chip, record

HOSTILE = '<script>alert("&")</script>'


@pytest.fixture(scope="module")
def text() -> str:
    return report_html(record())


@pytest.fixture(scope="module")
def whole(text) -> Page:
    return Page(text)


def test_the_page_holds_all_that_the_record_says(whole):
    """Each parameter, each check, and where the record comes from; digits as the standard error allows."""
    assert whole.row("gain")[1:5] == ["508.518", "0.046", "495.312 to 524.538", "counts per D"]
    assert whole.row("noise, thermal")[1:5] == [
        "1.1396\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁶",
        "0.0054\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁶",
        "1.1291 to 1.1501\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁶",
        "D²",
    ]
    assert whole.row("noise, rin")[6:8] == ["not identified", "2,500,000"]
    assert whole.row("least level")[6:] == ["not measured", "not known", "no dark"]
    assert whole.row("variance ratio by point") == [
        "variance ratio by point", "✓ pass", "1.030", "1.010 to 1.050", "0.9 to 1.1", "of predicted", "point 22",
        "noise",
    ]  # fmt: skip
    assert whole.row("kelvin") == ["kelvin", "300.15", "–"]
    for said in (
        "ab" * 32,
        "200,000 shots",
        "195,408",
        "laser_power = 1",
        "ACME,LX1",
        "2026-11-25 07:06:00 UTC",
        "1.05",
    ):
        assert said in whole.words["Provenance"] + whole.words["Goodness of fit"]


def test_every_section_has_pictures_with_words_for_those_who_do_not_see_them(whole):
    pictured = {name: whole.pictures[name] for name in SECTIONS}
    assert all(pictured.values()), pictured
    labels = [value for tag, name, value in whole.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == len(set(labels)) == sum(pictured.values())
    assert all(len(label) > 30 for label in labels)


def test_the_page_asks_for_nothing_else(text):
    """No address but parts of the page itself and data in it; no id twice, so that these lead to one place."""
    assert not re.search(r"https?://|\bsrc=|@import|<script|<link", text)
    page = Page(text)
    for _, name, value in page.attributes:
        if name in {"href", "xlink:href"}:
            assert value.startswith(("#", "data:image/png;base64,"))
        for target in re.findall(r"url\(([^)]*)\)", value):
            assert target.startswith("#")
    ids = Counter(value for _, name, value in page.attributes if name == "id")
    assert set(ids.values()) <= {1}
    links = {value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")}
    assert links <= ids.keys()


def test_text_of_a_record_is_never_markup():
    hostile = record(
        chip_id=HOSTILE,
        parameters=(Parameter(name=HOSTILE, unit=HOSTILE, value=1.0, note=HOSTILE),),
        verification=Verification(
            verdict="fail", checks=(check(HOSTILE, "fail", cause=HOSTILE, worst=HOSTILE),), causes=(HOSTILE,), shots=1
        ),
        goodness={HOSTILE: HOSTILE},
        model={HOSTILE: HOSTILE},
        overrides=(HOSTILE,),
        provenance=record().provenance.model_copy(
            update={
                "instruments": {HOSTILE: HOSTILE},
                "conditions": {HOSTILE: HOSTILE},
                "telemetry_end": {HOSTILE: 1.0},
            }
        ),
    )
    text = report_html(hostile)
    assert "<script" not in text
    assert Page(text).text.count(HOSTILE) >= 15


@pytest.mark.parametrize(
    ("verdict", "shots", "said"),
    [
        ("fail", None, ["✗ fail", "Causes: noise, shape."]),
        ("not distinguishable", 160_000, ["? not distinguishable", "cannot decide: some ratio", "160,000 shots would"]),
        ("not distinguishable", None, ["How many would is not known"]),
    ],
)
def test_a_verdict_is_said_in_words(verdict, shots, said):
    found = Verification(
        verdict=verdict,
        checks=(check("other"), check("some ratio", verdict, shots_needed=shots)),
        causes=("noise", "shape") if verdict == "fail" else (),
        shots=500,
    )
    page = Page(report_html(record(verification=found, overrides=("failed",), arrays={})))
    for words in [*said, "Accepted by name: failed."]:
        assert words in page.words[""]
    assert page.row("some ratio")[-1] == (f"{shots:,}" if shots else "noise" if verdict == "fail" else "not known")


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        (
            {"kind": "ar1", "sigma": 0.005, "sigma_interval": (0.004, 0.0063), "time_s": 20.0},
            ["0.005 (95 %: 0.00400 to 0.00630)", "20 (not known to a factor of 100)"],
        ),
        (
            {"kind": "random walk", "per_root_s": 1e-4, "per_root_s_interval": (5e-5, 2e-4)},
            ["1 × 10⁻⁴ (95 %: 0.500 to 2.000 × 10⁻⁴)"],
        ),
        ({"kind": "none found"}, ["none found", "no time was set"]),
    ],
)
def test_drift_is_shown_with_its_intervals(drift, said, capsys):
    """On the page, and in what the command prints."""
    given = record(drift=DriftModel(**drift))
    words = Page(report_html(given)).words["Drift and validity"].replace("\N{NO-BREAK SPACE}", " ")
    for text in said:
        assert text in words
    print_record(given)
    printed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("drift: "))
    assert drift["kind"] in printed
    for name in ("sigma_interval", "per_root_s_interval"):
        assert name not in drift or " to ".join(f"{end:.2g}" for end in drift[name]) in printed


def test_a_date_of_expiry_is_shown():
    until = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)
    assert "2031-05-06 07:08:00" in Page(report_html(record(valid_until=until))).words["Drift and validity"]


def test_the_command_writes_the_page(tmp_path):
    record(arrays={"power": np.ones(3)}).save(tmp_path / "chip7.json")
    result = CliRunner().invoke(main, ["report", str(tmp_path / "chip7.json")])
    assert result.exit_code == 0
    assert re.search(r"^verdict +pass$", result.stdout, re.MULTILINE)
    assert Page((tmp_path / "chip7.html").read_text(encoding="utf-8")).row("gain")
    out = tmp_path / "other.html"
    found = CliRunner().invoke(main, ["report", str(tmp_path / "chip7.json"), "-o", str(out), "--json"])
    assert json.loads(found.stdout) == {"report": str(out), "verdict": "pass"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chip7.html", "chip7.json", "chip7.npz", "other.html"]


def test_the_command_refuses(tmp_path):
    """A nominal record, no record, another file name, a folder that is not there: 2, one line, nothing written."""
    Calibration.from_spec(chip(2, 2)).save(tmp_path / "nominal.json")
    record(arrays={}).save(tmp_path / "fine.json")
    before = sorted(tmp_path.iterdir())
    for given, expected in (
        (["nominal.json"], "nothing was measured"),
        (["none.json"], "cannot be read"),
        (["fine.json", "-o", str(tmp_path / "fine.json")], "NAME.html"),
        (["fine.json", "-o", str(tmp_path / "absent" / "x.html")], "cannot be written"),
    ):
        result = CliRunner().invoke(main, ["report", str(tmp_path / given[0]), *given[1:]])
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert expected in result.stderr
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(CalibrationError, match="nominal"):
        write_report(Calibration.from_spec(chip(2, 2)), tmp_path / "x.html")


def test_a_column_that_says_nothing_is_left_out():
    columns = [Column("Name"), Column("Shots needed", "number"), Column("Note")]
    page = table("some", columns, [["a", "", "b"], ["c", "", ""]])
    assert "Shots needed" not in page
    assert page.count("<td") == 2
    assert "Shots needed" in table("some", columns, [["a", "", ""], ["c", "7", ""]])
    assert "Note" in table("none", columns, [])
