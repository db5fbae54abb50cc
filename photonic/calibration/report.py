"""The page of a calibration: what a lab keeps beside the record, made from the record alone."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from photonic.calibration import reportcounts as counts
from photonic.calibration import reportfitted as fitted
from photonic.calibration import reportmesh as mesh
from photonic.calibration import reporttables as words
from photonic.calibration.reportpage import Marked, figures, page, paragraph, section
from photonic.calibration.reportplots import Picture
from photonic.errors import CalibrationError, RangeError, ShapeError
from photonic.records import Calibration


class _Figures(NamedTuple):
    """Pictures, what arrays they need and of how many dimensions (0: any), and what it means if those are absent."""

    title: str
    draw: Callable[[Calibration], list[Picture]]
    needs: dict[str, int]
    absent: str
    alike: tuple[str, ...] = ()  # arrays that must have one shape


_HELD_OUT = "The record does not keep this of its held-out readings."
_MEANS = ("check_mean", "check_mean_predicted")
_VARIANCES = ("check_variance", "check_variance_predicted")
_NOISE = ("noise_s", "noise_d", "noise_variance", "noise_variance_predicted")
_ERRORS = ("matrix_error", "matrix_error_low", "matrix_error_high")

_SECTIONS = (
    _Figures("Measured and predicted means", counts.means, dict.fromkeys(_MEANS, 2), _HELD_OUT, _MEANS),
    _Figures("Measured and predicted variances", counts.variances, dict.fromkeys(_VARIANCES, 2), _HELD_OUT, _VARIANCES),
    _Figures("Distribution of the counts", counts.distribution, {"check_pit": 2}, _HELD_OUT),
    _Figures(
        "Outputs",
        fitted.outputs,
        {"counts_per_d": 1, "zero_count": 1},
        "The record has no gain and zero of each output.",
    ),
    _Figures(
        "Input transfer",
        fitted.transfer,
        {"inverse_v_pi": 1, "bias_rad": 1, "level_min": 1, "power": 1},
        "The record has no transfer of each input channel.",
        ("inverse_v_pi", "bias_rad", "power"),
    ),
    _Figures(
        "Programs of the mesh",
        mesh.programs,
        {"matrix": 3, "programmed": 3, "power": 1, "counts_per_d": 1} | dict.fromkeys(_ERRORS, 1),
        "The record has no matrices of programs; only a mesh has them.",
        _ERRORS,
    ),
    _Figures(
        "Photon transfer",
        counts.photon_transfer,
        dict.fromkeys(_NOISE, 2),
        "The record does not keep the variances of its noise readings.",
        _NOISE,
    ),
    _Figures(
        "Programming curve",
        fitted.programming,
        {"curves": 2, "element": 3},
        "The record has no curve of weight over code; a chip that is programmed by phases has none.",
    ),
    _Figures(
        "Crosstalk",
        fitted.crosstalk,
        {"neighbour_offsets": 2, "neighbour": 2, "neighbour_target": 1, "curves": 2},
        "The record has no crosstalk between weights.",
    ),
    _Figures(
        "INL and DNL of the ADCs",
        fitted.converters,
        {"transitions": 2},
        "The record has no transitions of the ADCs: its model rounds to the nearest count and clips.",
    ),
    _Figures(
        "Allan deviation",
        counts.allan,
        {"allan_tau_s": 1, "allan_deviation": 0},
        "The record has none: it takes one pattern that is read again and again.",
    ),
)


def write_report(calibration: Calibration, path: str | os.PathLike[str]) -> Path:
    """Writes the page of a record, whole or not at all.

    Args:
        calibration: measured.
        path: ends in ``.html``; a file that is there is replaced.

    Returns:
        The path.

    Raises:
        CalibrationError: the record is nominal, the name does not end in ``.html``, or it cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".html":
        raise CalibrationError(f"a report is a file NAME.html, found {target}")
    text = report_html(calibration)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise CalibrationError(f"{target} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def report_html(calibration: Calibration) -> str:
    """The page as text: one file that asks for no other.

    Raises:
        CalibrationError: the record is nominal: nothing was measured.
    """
    if calibration.nominal:
        raise CalibrationError(
            f"the calibration of {calibration.chip_id} is nominal: it is computed from the chip's data sheet, nothing "
            "was measured and there is nothing to report; photonic calibrate measures one"
        )
    parts = [
        words.verdict(calibration),
        words.checks(calibration),
        words.parameters(calibration),
        *(_pictures(calibration, item) for item in _SECTIONS),
        words.drift(calibration),
        words.goodness(calibration),
        words.provenance(calibration),
    ]
    return page(f"Calibration of {calibration.chip_id}", words.subtitle(calibration), parts)


def _pictures(calibration: Calibration, item: _Figures) -> Marked:
    """The section's pictures, or why there are none."""
    missing = _missing(calibration, item)
    if missing:
        return section(item.title, [paragraph(f"{item.absent} ({missing})", "soft")])
    try:
        found = item.draw(calibration)
    except (RangeError, ShapeError) as error:  # such as transitions of no ADC
        return section(item.title, [paragraph(f"These arrays cannot be drawn: {error}", "soft")])
    parts = [figures(found)] if found else [paragraph(_nothing(calibration, item))]
    if item.title == "Input transfer" and calibration.response.inputs.shape != "mzm":
        shape = calibration.response.inputs.shape
        words = {"field": "The inputs carry fields: their sine is fitted to each channel."}
        parts.insert(0, paragraph(words.get(shape, f"The inputs are {shape}: no curve to fit, only powers.")))
    return section(item.title, parts)


def _missing(calibration: Calibration, item: _Figures) -> str:
    """Which arrays are not there, hold nothing, or do not fit each other."""
    a = calibration.arrays
    absent = [name for name in item.needs if name not in a]
    if absent:
        return f"not in the record: {', '.join(absent)}"
    odd = [name for name, dimensions in item.needs.items() if dimensions and a[name].ndim != dimensions]
    unlike = len({a[name].shape for name in item.alike}) > 1
    if odd or unlike:
        names = odd or item.alike
        return f"arrays of shapes that do not fit: {', '.join(f'{name} {a[name].shape}' for name in names)}"
    empty = [name for name in item.needs if not a[name].size and not name.startswith("neighbour")]
    return f"empty: {', '.join(empty)}" if empty else ""


def _nothing(calibration: Calibration, item: _Figures) -> str:
    """Why a section whose arrays are there has no picture."""
    if item.title == "Crosstalk" and not len(calibration.arrays["neighbour_offsets"]):
        row = next((each for each in calibration.parameters if each.name == "crosstalk"), None)
        return "None found." if row is None or not row.note else f"None found: {row.note}."
    if item.title == "Photon transfer":
        return "All readings are near a rail of the ADC, where their variance says nothing of the noise."
    return "The record does not say what chip it is of (spec), so that these arrays have no scale."
