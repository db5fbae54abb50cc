"""The calibration's page: all that the record holds, nothing from elsewhere, and words where something is missing."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from photonic.calibration.model import ChipModel
from photonic.calibration.report import report_html, write_report
from photonic.calibration.reportnumbers import alone, span, together
from photonic.cli import main
from photonic.cli.calibrated import print_record
from photonic.errors import CalibrationError
from photonic.records import (
    Calibration,
    Check,
    ChipSpec,
    DriftModel,
    InputTransfer,
    Parameter,
    Provenance,
    Response,
    Verification,
)

VOID = {"meta", "br", "hr", "img", "link", "input"}
SECTIONS = (
    "Measured and predicted means", "Measured and predicted variances", "Distribution of the counts", "Outputs",
    "Input transfer", "Photon transfer", "Programming curve", "Crosstalk", "INL and DNL of the ADCs", "Allan deviation",
)  # fmt: skip
HOSTILE = '<script>alert("&")</script>'


class Page(HTMLParser):
    """Every element closed where it was opened, its text, rows of tables, pictures by section, and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.pictures: Counter[str] = Counter()
        self.words: dict[str, str] = {}
        self._section = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "h2":
            self._section = ""
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag == "figure":
            self.pictures[self._section] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if "h2" in self.open:
            self._section += data
        else:
            self.words[self._section] = self.words.get(self._section, "") + data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row[0] == name)


def check(name="variance ratio by point", verdict="pass", **fields) -> Check:
    given = {"cause": "noise", "value": 1.03, "low": 1.01, "high": 1.05, "margin_low": 0.9, "margin_high": 1.1}
    return Check(name=name, verdict=verdict, **{**given, "unit": "of predicted", "worst": "point 22", **fields})


def chip(m: int, n: int) -> ChipSpec:
    return ChipSpec(
        chip_id="bench 7", n_outputs=m, n_inputs=n,
        response=Response(counts_per_d=(512.0,), inputs=InputTransfer(shape="mzm", extinction_ratio_db=25.0)),
    )  # fmt: skip


def arrays(spec: ChipSpec, points: int = 12) -> dict[str, np.ndarray]:
    """All that a page draws, of a chip that is nearly as its data sheet says."""
    rng = np.random.default_rng(7)
    m, n = spec.n_outputs, spec.n_inputs
    found = dict(ChipModel.nominal(spec).arrays())
    found["power"] = rng.normal(1, 0.02, n)
    found["power_se"] = np.full(n, 1e-3)
    found["element"] = found["element"] + rng.normal(0, 0.01, (m, n, 2))
    found["neighbour_offsets"] = np.array([[0.0, -1.0], [0.0, 1.0]])
    found["neighbour"] = np.array([[0.01, 0.002], [0.008, 0.001]])
    found["transitions"] = np.arange(-127.5, 127.0) + rng.uniform(-0.2, 0.2, (m, 255))
    for name in ("noise", "check"):
        s, d = rng.uniform(0, 1, (points, m)), rng.uniform(-0.2, 0.2, (points, m))
        found |= {f"{name}_s": s, f"{name}_d": d, f"{name}_mean_predicted": 512 * d}
        found[f"{name}_mean"] = 512 * d + rng.normal(0, 0.05, d.shape)
        found[f"{name}_variance_predicted"] = 0.4 + 0.5 * s
        found[f"{name}_variance"] = (0.4 + 0.5 * s) * rng.chisquare(500, s.shape) / 500
    levels = np.linspace(0, 1, 201)[1:-1]
    found["check_pit"] = np.stack([levels, levels + 0.005])
    tau = 1e-6 * 2.0 ** np.arange(8)
    found |= {"allan_tau_s": tau, "allan_deviation": 1e-3 / np.sqrt(tau)}
    return found


def record(m: int = 4, n: int = 3, **fields) -> Calibration:
    spec = chip(m, n)
    moment = datetime(2026, 11, 25, 7, 6, tzinfo=UTC)
    parameters = (
        Parameter(name="gain", unit="counts per D", value=508.5182, standard_error=0.0462, low=495.3116, high=524.5377,
                  entries=m, array="counts_per_d"),
        Parameter(name="noise, thermal", unit="D^2", value=1.13963e-6, standard_error=5.35e-9, low=1.12914e-6,
                  high=1.15012e-6),
        Parameter(name="noise, rin", unit="relative", status="not identified", entries=0, shots_needed=2_500_000),
        Parameter(name="least level", unit="T", status="not measured", entries=0, note="no dark"),
    )  # fmt: skip
    given = {
        "chip_id": spec.chip_id,
        "nominal": False,
        "response": spec.response,
        "spec": spec,
        "parameters": parameters,
        "goodness": {"weights": "1.05"},
        "verification": Verification(verdict="pass", checks=(check(),), shots=35_600),
        "provenance": Provenance(started=moment, ended=moment, code_version="0.1.0", raw_sha256="ab" * 32,
                                 budget=200_000, shots=195_408, seconds=20.2, conditions={"laser_power": 1.0},
                                 instruments={"laser": "ACME,LX1"}, telemetry_start={"kelvin": 300.15}),
        "arrays": arrays(spec),
    }  # fmt: skip
    return Calibration(**{**given, **fields})


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
        "noise", "",
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
    assert page.row("some ratio")[-1] == (f"{shots:,}" if shots else "" if verdict == "fail" else "not known")


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


def test_what_is_missing_is_said():
    """Without any array there is a reason in the place of every picture."""
    bare = Page(report_html(record(arrays={}, verification=None, provenance=None, parameters=(), spec=None)))
    assert not bare.pictures
    assert all("not in the record: " in bare.words[name] for name in SECTIONS)
    assert "not verified" in bare.words[""]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("Measured and predicted means", ["check_mean", "check_mean_predicted"]),
        ("Input transfer", ["inverse_v_pi", "bias_rad", "power", "level_min"]),
        ("Photon transfer", ["noise_s", "noise_d", "noise_variance", "noise_variance_predicted"]),
        ("Programming curve", ["curves", "element"]),
        ("Crosstalk", ["neighbour", "neighbour_offsets", "neighbour_target", "curves"]),
    ],
)
def test_arrays_that_miss_or_do_not_fit_are_named(section, names):
    """One missing at a time, and one of another shape."""
    full = {name: record().arrays[name] for name in names}
    for name in names:
        page = Page(report_html(record(arrays={key: value for key, value in full.items() if key != name})))
        assert f"not in the record: {name})" in page.words[section]
    odd = {**full, names[0]: full[names[0]][None]}
    assert f"do not fit: {names[0]}" in Page(report_html(record(arrays=odd))).words[section]


def test_arrays_of_unlike_shapes_are_named():
    full = {name: record().arrays[name] for name in ("check_mean", "check_mean_predicted")}
    page = Page(report_html(record(arrays={**full, "check_mean": full["check_mean"][:, 1:]})))
    assert "do not fit: check_mean (12, 3), check_mean_predicted (12, 4)" in page.words["Measured and predicted means"]


def test_arrays_that_make_no_sense_do_not_stop_the_page():
    """Transitions of no ADC, and values that are not numbers."""
    full = {name: record().arrays[name].copy() for name in ("check_mean", "check_mean_predicted", "curves", "element")}
    full["check_mean"][0, 0] = full["element"][0, 0, 0] = np.nan
    page = Page(report_html(record(arrays={**full, "transitions": np.zeros((4, 6))})))
    assert "expected 2^bits - 1 transitions, found 6" in page.words["INL and DNL of the ADCs"]
    assert page.pictures["Measured and predicted means"] == 2
    assert page.pictures["Programming curve"] == 4


def test_linear_inputs_have_powers_only():
    spec = chip(4, 3)
    straight = spec.response.model_copy(update={"inputs": InputTransfer()})
    names = ("inverse_v_pi", "bias_rad", "level_min", "power")
    page = Page(report_html(record(response=straight, arrays={name: record().arrays[name] for name in names})))
    assert page.pictures["Input transfer"] == 1
    assert "The inputs are linear" in page.words["Input transfer"]


def test_no_crosstalk_is_a_finding():
    none = {"neighbour_offsets": np.zeros((0, 2)), "neighbour": np.zeros((0, 1))}
    full = {name: record().arrays[name] for name in ("curves", "neighbour_target")}
    page = Page(report_html(record(arrays={**full, **none})))
    assert "None found." in page.words["Crosstalk"]


def test_readings_at_a_rail_are_no_photon_transfer():
    full = {name: array for name, array in record().arrays.items() if name.startswith("noise")}
    full["noise_mean_predicted"] = np.full_like(full["noise_mean_predicted"], 127.0)
    page = Page(report_html(record(arrays=full)))
    assert "near a rail" in page.words["Photon transfer"]
    assert not page.pictures["Photon transfer"]


def test_a_large_chip_s_page_stays_small():
    """64 x 64 with 80 points: at most 3 MB."""
    big = record(64, 64)
    assert len(report_html(big.replaced(arrays=arrays(big.spec, points=80))).encode()) < 3e6


@pytest.mark.parametrize(
    ("values", "resolution", "texts"),
    [
        ([508.5182, 0.0462], 0.0462, ["508.518", "0.046"]),
        ([-4.8e-5, 4e-4, 0.0083], 4e-4, ["−0.00005", "0.00040", "0.00830"]),
        ([-1e-9, 0.2], 0.01, ["0.000", "0.200"]),
        ([1.5e7, None], None, ["1.500\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁷", ""]),
        ([0.0], None, ["0"]),
        ([1.0, 1e9, -1e9], 0.1, ["1.00", "∞", "−∞"]),
        ([3.0, 5.0], 400.0, ["3.000", "5.000"]),
    ],
)
def test_numbers(values, resolution, texts):
    assert together(values, resolution) == texts


def test_numbers_without_errors():
    assert [alone(value) for value in (0.9, 0.25, 0.0, 100.0, 12345.0, 300.15, 2.3e-4)] == [
        "0.9", "0.25", "0", "100", "12,345", "300.15", "2.3\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁴",
    ]  # fmt: skip
    assert [alone(value, 3) for value in (1.3494, 0.09530, 0.2)] == ["1.35", "0.0953", "0.2"]
    assert (
        span("1.1\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁶", "1.2\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁶")
        == "1.1 to 1.2\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁶"
    )


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
