"""What a calibration's page says in words and tables."""

from __future__ import annotations

from datetime import datetime

from photonic.calibration.reportnumbers import OPEN, alone, span, together
from photonic.calibration.reportpage import Column, Marked, box, facts, paragraph, section, table
from photonic.records import Calibration, Check, Parameter, Provenance, Verification

_VERDICTS = {
    "pass": ("pass", "✓ pass"),
    "fail": ("fail", "✗ fail"),
    "not distinguishable": ("open", "? not distinguishable"),
}


def subtitle(calibration: Calibration) -> str:
    """Geometry and time."""
    spec, known = calibration.spec, calibration.provenance
    parts = [] if spec is None else [f"{spec.n_outputs} outputs, {spec.n_inputs} inputs"]
    parts += [] if known is None else [f"measured {_time(known.ended)}", f"photonic {known.code_version}"]
    return " · ".join(parts) or "of a chip that says nothing of itself"


def verdict(calibration: Calibration) -> Marked:
    """What the verification says, in words."""
    found = calibration.verification
    accepted = [f"Accepted by name: {', '.join(calibration.overrides)}."] if calibration.overrides else []
    if found is None:
        lines = ["The record was not compared with readings that its fit has not seen.", *accepted]
        return box("open", "? not verified", lines)
    kind, title = _VERDICTS[found.verdict]
    shots = f"{found.shots:,} shots that the fit has not seen"
    if found.verdict == "pass":
        lines = [f"The record matches its chip within every margin, on {shots}, at 95 % confidence."]
    elif found.verdict == "fail":
        lines = [f"The record does not match its chip, on {shots}. Causes: {', '.join(found.causes) or 'not told'}."]
    else:
        undecided = [check for check in found.checks if check.verdict == "not distinguishable"]
        needed = max((check.shots_needed or 0 for check in undecided), default=0)
        lines = [f"{found.shots:,} held-out shots cannot decide: {', '.join(check.name for check in undecided)}."]
        lines += [f"About {needed:,} shots would."] if needed else ["How many would is not known."]
    return box(kind, title, lines + accepted)


def checks(calibration: Calibration) -> Marked:
    """One row for each statement of the verification."""
    found = calibration.verification
    if found is None or not found.checks:
        return section("Checks", [paragraph("No check was made.")])
    columns = [
        Column("Check", "short"), Column("Verdict", "short"), Column("Value", "number"), Column("Interval", "number"),
        Column("Margin", "number"), Column("Unit", "short"), Column("Worst place", "words"), Column("Cause", "short"),
        Column("Shots needed", "number"),
    ]  # fmt: skip
    words = (
        "The worst place of each check. A check passes if its interval lies inside the margin (one-sided 95 % at each "
        "end), and fails if an interval that holds for all places and checks together lies outside."
    )
    rows = [_check_row(check) for check in found.checks]
    parts = [paragraph(words, "soft"), table("Checks", columns, rows)]
    return section("Checks", [*parts, *(_suspects(found) if found.suspects else ())])


def _suspects(found: Verification) -> list[Marked]:
    """What explains the readings that the record does not."""
    words = (
        "Faults that a record cannot hold and that explain what it leaves of the readings, the one that explains most "
        "first: significance in standard errors, and the largest effect that is left in margins of a mean error."
    )
    columns = [
        Column("Suspect", "short"), Column("Standard errors", "number"), Column("Named above", "number"),
        Column("Margins", "number"), Column("What it does", "words"),
    ]  # fmt: skip
    rows = [
        [each.name, alone(each.z), alone(each.threshold), _or_dash(each.size), each.note] for each in found.suspects
    ]
    return [paragraph(words, "soft"), table("Suspects", columns, rows)]


def _check_row(check: Check) -> list[str]:
    half = (check.high - check.low) / 2
    value, low, high = together([check.value, check.low, check.high], half if half < OPEN / 2 else None)
    kind, word = _VERDICTS[check.verdict]
    margin = span(alone(check.margin_low, 3), alone(check.margin_high, 3))
    needed = _shots(check.shots_needed, asked=check.verdict == "not distinguishable")
    verdict = Marked(f'<span class="{kind}">{word}</span>')
    return [check.name, verdict, value, span(low, high), margin, _unit(check.unit), check.worst, check.cause, needed]


def parameters(calibration: Calibration) -> Marked:
    """One row for each family."""
    if not calibration.parameters:
        return section("Parameters", [paragraph("The record lists no parameters.")])
    columns = [
        Column("Parameter", "short"), Column("Value", "number"), Column("Standard error", "number"),
        Column("Interval or range", "number"), Column("Unit"), Column("Entries", "number"), Column("Status"),
        Column("Shots needed", "number"), Column("Note", "words"),
    ]  # fmt: skip
    words = "One entry: value and 95 % interval. More: mean, rms of the standard errors, range from least to most."
    rows = [_parameter_row(parameter) for parameter in calibration.parameters]
    return section("Parameters", [paragraph(words, "soft"), table("Parameters", columns, rows)])


def _parameter_row(given: Parameter) -> list[str]:
    value, error, low, high = together(
        [given.value, given.standard_error, given.low, given.high], given.standard_error
    )  # fmt: skip
    between = span(low, high) if low and high else ""
    entries = alone(given.entries) if given.entries else ""
    needed = _shots(given.shots_needed, asked=given.status != "fitted")
    return [given.name, value or "–", error, between, _unit(given.unit), entries, given.status, needed, given.note]


def _unit(text: str) -> str:
    return text.replace("^2", "²")


def _shots(count: int | None, *, asked: bool) -> str:
    return f"{count:,}" if count is not None else "not known" if asked else ""


def drift(calibration: Calibration) -> Marked:
    """What moves, and how long to average."""
    found = calibration.drift
    pairs: dict[str, str] = {"Kind": found.kind}
    if found.kind == "ar1" and found.time_s is not None:
        pairs |= {"Gain, standard deviation, relative": _with_ends(found.sigma, found.sigma_interval)}
        pairs |= {"Correlation time, s": _with_ends(found.time_s, found.time_interval_s)}
    if found.kind == "random walk":
        pairs |= {"Gain, relative per √s": _with_ends(found.per_root_s, found.per_root_s_interval)}
    pairs |= {} if found.block_s is None else {"Longest block to average": f"{alone(found.block_s)} s"}
    until = calibration.valid_until
    none = "no time was set: no drift was found that uses up the margin by the world's clock"
    return section("Drift and validity", [facts({**pairs, "Valid until": none if until is None else _time(until)})])


def _with_ends(value: float, ends: tuple[float, float] | None) -> str:
    if ends is None:
        return f"{alone(value, 3)} (not known to a factor of 100)"
    return f"{alone(value, 3)} (95 %: {span(*together(ends, (ends[1] - ends[0]) / 20))})"


def goodness(calibration: Calibration) -> Marked:
    """How well parts fit, and which hypotheses the data chose."""
    chosen = {name: text if isinstance(text, str) else alone(text) for name, text in calibration.model.items()}
    pairs = {**calibration.goodness, **{f"chosen: {name}": text for name, text in chosen.items()}}
    return section("Goodness of fit", [facts(pairs) if pairs else paragraph("The record says nothing of it.")])


def provenance(calibration: Calibration) -> Marked:
    """Where the record comes from, and what was accepted."""
    known = calibration.provenance
    pairs = {"Chip": calibration.chip_id}
    if known is None:
        pairs["Origin"] = "the record does not say when or how it was measured"
    else:
        pairs |= _measured(known)
    stored = calibration.arrays_sha256 or "not read from a file"
    pairs |= {"Schema version": str(calibration.schema_version), "sha256 of the arrays": stored}
    pairs |= {"Overrides": ", ".join(calibration.overrides) or "none"}
    parts = [facts(pairs)]
    if known is not None and (known.telemetry_start or known.telemetry_end):
        rows = [
            [name, *(_or_dash(part.get(name)) for part in (known.telemetry_start, known.telemetry_end))]
            for name in {**known.telemetry_start, **known.telemetry_end}
        ]
        columns = [Column("Telemetry", "short"), Column("Start", "number"), Column("End", "number")]
        parts.append(paragraph("What the chip said of itself when the sweep began and when it ended.", "soft"))
        parts.append(table("Telemetry", columns, rows))
    return section("Provenance", parts)


def _measured(known: Provenance) -> dict[str, str]:
    conditions = [
        f"{name} = {value if isinstance(value, str) else alone(value)}" for name, value in known.conditions.items()
    ]
    return {
        "Started": _time(known.started),
        "Ended": _time(known.ended),
        "photonic": known.code_version,
        "Budget": f"{known.budget:,} shots",
        "Shots": f"{known.shots:,}",
        "Time": f"{known.seconds:,.1f} s",
        "Seed": "none" if known.seed is None else str(known.seed),
        "sha256 of the raw data": known.raw_sha256,
        "Conditions": ", ".join(conditions) or "not recorded",
        **(
            {f"Instrument, {role}": text for role, text in known.instruments.items()}
            or {"Instruments": "none recorded"}
        ),
    }


def _or_dash(value: float | None) -> str:
    return "–" if value is None else alone(value)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z")
