"""The calibration's page: what its pictures show, words where something is missing, and how numbers are told."""

from __future__ import annotations

import numpy as np
import pytest

from photonic.calibration.report import report_html
from photonic.calibration.reportnumbers import alone, span, together
from photonic.records import InputTransfer
from tests.calibration.pages import SECTIONS, Page, arrays, chip, record


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
