"""A record with all that a page shows, and a reader of pages."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np

from photonic.calibration.model import ChipModel
from photonic.records import Calibration, Check, ChipSpec, InputTransfer, Parameter, Provenance, Response, Verification

VOID = {"meta", "br", "hr", "img", "link", "input"}
SECTIONS = (
    "Measured and predicted means", "Measured and predicted variances", "Distribution of the counts", "Outputs",
    "Input transfer", "Photon transfer", "Programming curve", "Crosstalk", "INL and DNL of the ADCs", "Allan deviation",
)  # fmt: skip


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
        """Cells of the first row that begins with this name."""
        return next(row for row in self.rows if row[0] == name)


def check(name="variance ratio by point", verdict="pass", **fields) -> Check:
    """One check of a verification."""
    given = {"cause": "noise", "value": 1.03, "low": 1.01, "high": 1.05, "margin_low": 0.9, "margin_high": 1.1}
    return Check(name=name, verdict=verdict, **{**given, "unit": "of predicted", "worst": "point 22", **fields})


def chip(m: int, n: int) -> ChipSpec:
    """A data sheet with curved inputs."""
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
    """A whole record, with ``fields`` replaced."""
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
