"""The page of a study: one HTML file that needs no other, made from the finished cells alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from photonic.calibration.reportpage import (
    Column,
    Marked,
    box,
    facts,
    figures,
    html,
    page,
    paragraph,
    section,
    table,
)
from photonic.calibration.reportplots import Picture, picture
from photonic.errors import RunError
from photonic.study.cell import DIGITAL, Cell, label
from photonic.study.figures import Figure, draw_figures, png
from photonic.study.intervals import Group, Interval, Linearity, Setting, grouped, linearity, paired
from photonic.study.outcome import Outcome
from photonic.study.remaining import duration
from photonic.study.store import FIGURES, PAGE, StudyFolder
from photonic.study.verdicts import Verdict, last, maximum, verdict
from photonic.study.words import TITLES, bits_text, setting_text, value_text, varying
from photonic.train.runs import replacing

Settings = Mapping[Setting, Mapping[str, Group]]

_COLUMNS = (
    Column("activation", "short"),
    Column("seeds", "number"),
    Column("last epoch, %", "number"),
    Column("best epoch, %", "number"),
    Column("against reference, last", "number"),
    Column("against reference, best", "number"),
    Column("stopped early", "number"),
)


def write_page(folder: StudyFolder, outcomes: Sequence[Outcome]) -> Path:
    """Writes the page and its figures as files.

    Raises:
        RunError: they cannot be written.
    """
    settings = grouped(outcomes)
    drawn, notes = draw_figures(settings)
    text = study_html(folder.plans(), outcomes, settings, drawn, notes)
    target = folder.path / PAGE
    try:
        pictures = folder.path / FIGURES
        pictures.mkdir(exist_ok=True)
        for old in pictures.glob("*.png"):
            old.unlink()
        for figure in drawn:
            with replacing(pictures / f"{figure.name}.png") as file:
                file.write(png(figure).getbuffer())
        with replacing(target) as file:
            file.write(text.encode())
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def study_html(
    plans: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Outcome],
    settings: Settings,
    drawn: Sequence[Figure],
    notes: Sequence[str],
) -> str:
    """The page as text."""
    title = plans[0]["title"] if len(plans) == 1 else "Activations under noise"
    reference = _reference(plans)
    # names of the fields that tell the settings apart; what is the same everywhere stands at the end
    names = [name for name in varying(outcome.cell for outcome in outcomes) if name not in ("seed",)]
    judged = {setting: verdict(groups, reference, settings) for setting, groups in settings.items()}
    parts = [
        _state(plans, outcomes),
        section("What the seeds say", _said(settings, judged, names, reference)),
        section("Accuracy against the axes", _pictures(drawn, notes)),
        section("All settings", _tables(settings, judged, names, reference)),
        *_lines(settings, names),
        section("What was run", [_what(outcomes, names)]),
        section("With what", [_with(outcomes)]),
    ]
    about = " ".join(plan["about"] for plan in plans if plan["about"]) or "Accuracies of networks under noise."
    return page(title, about, parts)


def _reference(plans: Sequence[Mapping[str, Any]]) -> str:
    named = {plan["reference"] for plan in plans} or {"relu"}
    return label(Cell(backend=DIGITAL, activation=sorted(named)[0]))


def _state(plans: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> Marked:
    """How much of what was asked for is there."""
    asked = {each for plan in plans for each in plan["cells"]}
    there = {outcome.cell.hash for outcome in outcomes}
    missing = len(asked - there)
    seconds = sum(outcome.seconds for outcome in outcomes)
    early = sum(outcome.status != "finished" for outcome in outcomes)
    lines = [
        f"{len(there)} cells are finished; one took {duration(seconds / len(outcomes))} on average, "
        f"all of them {duration(seconds)} of one worker: {3600 * len(outcomes) / max(seconds, 1e-9):.1f} cells per "
        "hour and worker."
    ]
    if early:
        lines.append(
            f"{early} of them were stopped before their last epoch, or diverged; they count with what they had."
        )
    if missing:
        lines.insert(
            0, f"{missing} of {len(asked)} cells that were asked for are missing: this page is not the whole study."
        )
    return box("open" if missing else "pass", "Not finished" if missing else "Finished", lines)


def _said(
    settings: Settings, judged: Mapping[Setting, Verdict | None], names: Sequence[str], reference: str
) -> list[Marked]:
    """The comparisons in words, one row for each setting."""
    found = {setting: each for setting, each in judged.items() if each is not None}
    if not found:
        return [paragraph(f"No setting has {reference} and another activation: there is nothing to compare.")]
    count = sum(len(each.better) + len(each.worse) + len(each.undecided) for each in found.values())
    decided = sum(len(each.better) + len(each.worse) for each in found.values())
    rows = [
        (
            _where(settings[setting], names),
            ", ".join(each.better) or "none",
            ", ".join(each.worse) or "none",
            ", ".join(each.undecided) or "none",
            each.uninformative or "informative",
        )
        for setting, each in found.items()
    ]
    kinds = "short", "words", "words", "words", "words"
    titles = "setting", f"above {reference}", f"below {reference}", "not told apart", "the setting"
    columns = [Column(title, kind) for title, kind in zip(titles, kinds, strict=True)]
    return [
        paragraph(
            f"Differences to {reference} at the last epoch, seed by seed: equal seeds have equal first weights, "
            f"batches and dropout. Of {count} differences the 95 % intervals of {decided} leave out 0; were there no "
            f"difference anywhere, about {0.05 * count:.1f} would. Intervals are Student's t over seeds."
        ),
        table("Comparisons", columns, rows),
    ]


def _pictures(drawn: Sequence[Figure], notes: Sequence[str]) -> list[Marked]:
    if not drawn:
        return [paragraph("No axis has two values.", "soft")]
    panels: list[Picture] = [
        picture(figure.paint, figure.axis, "test accuracy (%)", figure.caption) for figure in drawn
    ]
    lead = (
        "Solid: the last epoch, with intervals. Dashed and dots: the maximum over epochs, which is chosen on the test "
        "images and so is too high, the more so the noisier the accuracy. Dotted: guessing."
    )
    return [paragraph(lead), figures(panels), *(paragraph(note, "soft") for note in notes)]


def _tables(
    settings: Settings, judged: Mapping[Setting, Verdict | None], names: Sequence[str], reference: str
) -> list[Marked]:
    parts = [
        paragraph(
            "Means over seeds with 95 % intervals, and differences to the reference in percentage points, seed by "
            "seed. A * marks an interval that leaves out 0.",
            "soft",
        )
    ]
    for setting, groups in settings.items():
        where = _where(groups, names)
        found = judged[setting]
        heading = Marked(f"<h3>{html(where)}</h3>")
        rows = [_row(group, groups.get(reference)) for group in groups.values()]
        note = [] if found is None or not found.uninformative else [paragraph(f"Uninformative: {found.uninformative}.")]
        parts += [heading, *note, table(where, _COLUMNS, rows)]
    return parts


def _row(group: Group, reference: Group | None) -> tuple[str, ...]:
    differences = [
        None if reference is None or reference is group else paired(group, reference, metric)
        for metric in (last, maximum)
    ]
    early = sum(outcome.status != "finished" for outcome in group.by_seed.values())
    return (
        group.label,
        str(len(group.by_seed)),
        percent(group.interval(last)),
        percent(group.interval(maximum)),
        *("" if each is None else percent(each, signed=True) for each in differences),
        str(early or ""),
    )


def percent(found: Interval, *, signed: bool = False) -> str:
    """A mean with its interval, in percent; a difference has a sign, and a * where its interval leaves out 0."""
    mean = f"{100 * found.mean:+.2f}" if signed else f"{100 * found.mean:.2f}"
    half = " (one seed)" if found.half is None else f" ± {100 * found.half:.2f}"
    return mean + half + (" *" if signed and found.decided else "")


def _lines(settings: Settings, names: Sequence[str]) -> list[Marked]:
    """Tests of linearity in i, where there are at least three of it."""
    rows = []
    for groups in settings.values():
        for smooth in ("gelu", "silu", "geglu", "siglu"):
            found = linearity(_curve(groups, smooth), last)
            if found is not None:
                rows.append((_where(groups, names), smooth, *_fitted(found)))
    if not rows:
        return []
    columns = [
        Column("setting", "short"),
        Column("towards"),
        Column("i"),
        Column("slope, points per unit", "number"),
        Column("bend, points per unit²", "number"),
        Column("straight?", "words"),
    ]
    lead = (
        "Is accuracy linear in the interpolation factor, as the jump of the derivative is (1 - i)? A line and a "
        "parabola are fitted to each seed; a bend whose interval leaves out 0 is a curve that is not straight."
    )
    return [section("Linear in i?", [paragraph(lead), table("Linearity", columns, rows)])]


def _curve(groups: Mapping[str, Group], smooth: str) -> dict[float, Group]:
    """Groups by i: ReLU at 0, then this activation, unscaled and with its own derivative."""
    plain = {"activation": smooth, "scale": 1.0, "leak": 0.0, "backward": None, "derivative_at_zero": None}
    curve = {
        group.cell.interpolation: group
        for group in groups.values()
        if all(getattr(group.cell, name) == value for name, value in plain.items())
    }
    if "ReLU" in groups and curve:
        curve.setdefault(0.0, groups["ReLU"])
    return curve


def _fitted(found: Linearity) -> tuple[str, ...]:
    points = ", ".join(f"{x:g}" for x in found.points)
    if found.bend.half is None:
        straight = "one seed: no interval"
    else:
        straight = "no: it bends" if found.bend.decided else "not told from a line"
    return points, percent(found.slope, signed=True), percent(found.bend, signed=True), straight


def _where(groups: Mapping[str, Group], names: Sequence[str]) -> str:
    """What tells this setting from the others."""
    cell = next(iter(groups.values())).cell
    told = [name for name in names if name not in ("activation", *_ACTIVATION)]
    return setting_text(told, [getattr(cell, name) for name in told]) or "all cells"


_ACTIVATION = ("interpolation", "scale", "leak", "derivative_at_zero", "backward")


def _what(outcomes: Sequence[Outcome], names: Sequence[str]) -> Marked:
    """What all cells have in common, and the axes."""
    cells = [outcome.cell for outcome in outcomes]
    axes = {name: sorted({value_text(getattr(cell, name)) for cell in cells}) for name in [*names, "seed"]}
    shared = {name: getattr(cells[0], name) for name in ("network", "data", "train_images", "test_images", "epochs")}
    shared |= {name: getattr(cells[0], name) for name in ("batch_size", "lr", "schedule", "early_stopping")}
    shown = {TITLES.get(name, name): ", ".join(values) for name, values in axes.items()}
    shown |= {TITLES.get(name, name): value_text(value) for name, value in shared.items() if name not in axes and value}
    precisions = sorted({cell.precision for cell in cells if cell.precision is not None})
    if precisions:
        shown["bits"] = "; ".join(f"p {p}: {bits_text(p)}" for p in precisions)
    return facts(shown)


def _with(outcomes: Sequence[Outcome]) -> Marked:
    """Versions and machines: more than one of them is said."""
    fields = ("code", "torch", "python", "machine", "threads", "train_images", "test_images", "parameters")
    found = {name: ", ".join(sorted({str(getattr(each, name)) for each in outcomes})) for name in fields}
    said = sorted({text for each in outcomes for text in each.warnings})
    return facts(found | ({"warnings": "; ".join(said)} if said else {}))
