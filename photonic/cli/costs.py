"""Profiles as tables for people."""

from __future__ import annotations

import math

import click

from photonic.analysis.cost import NOT_STATED, Cost, Counts, Digital, LayerProfile, Profile
from photonic.cli.tables import print_rows, print_table

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


def si(value: float | None, unit: str) -> str:
    """Three digits and a prefix: 0.00123 J is 1.23 mJ; what is not stated says so."""
    if value is None:
        return NOT_STATED
    if value == 0:
        return f"0 {unit}"
    # of the rounded number: 999.9 is 1.00 k
    exponent = math.floor(math.log10(float(f"{abs(value):.2e}")) / 3) * 3
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    scaled = value / 10.0**exponent
    digits = max(0, 2 - max(0, math.floor(math.log10(float(f"{abs(scaled):.2e}")))))
    return f"{scaled:.{digits}f} {_PREFIXES[exponent]}{unit}"


def print_profile(model: str, profile: Profile) -> None:
    """Prints the one power and what follows from it, then the layers, then what is not in the figures."""
    batch, *shape = profile.input_shape
    images = "1 image" if batch == 1 else f"{batch} images"
    click.echo(f"{model} on {profile.chip or profile.backend}: {images} of {' x '.join(map(str, shape))}\n")
    if profile.total is None:
        _print_macs(profile)
    else:
        _print_head(profile, profile.total)
        _print_counts(profile, profile.total)
        _print_energy(profile, profile.total)
    _print_notes(profile)


def _print_head(profile: Profile, total: Cost) -> None:
    rows = [
        ("signal light at a balanced pair, full scale", _light(profile, "power_per_pair_w")),
        ("light of the source", _light(profile, "light_w")),
        ("electrical power of the laser", si(profile.laser_w, "W")),
        ("effective bits (enob), one shot", "unlimited" if profile.enob is None else f"{profile.enob:.2f}"),
    ]
    first, further = _sentence(total), _sentence(profile.again or total)
    if first == further:
        rows.append(("a forward, and each further one", first))
    else:
        rows += [("a forward, from an empty chip", first), ("each further one, same weights", further)]
    print_rows(rows)


def _light(profile: Profile, name: str) -> str:
    return NOT_STATED if profile.source is None else si(getattr(profile.source, name), "W")


def _sentence(cost: Cost) -> str:
    """All of one forward in a line."""
    seconds = None if cost.latency is None else cost.latency.total_s
    joules = None if cost.energy is None else cost.energy.total_j
    tops = NOT_STATED if cost.tops is None else f"{cost.tops:.3g}"
    parts = (
        f"{cost.counts.programmed:,} programmings",
        f"latency {si(seconds, 's')}",
        f"energy {si(joules, 'J')}",
        f"MACs/J {_per_j(cost)}",
        f"TOPS {tops}",
    )
    return ", ".join(parts)


def _print_counts(profile: Profile, total: Cost) -> None:
    click.echo("\ncounts and time, from an empty chip")
    head = ("layer", "kind", "tiles", "signs", "per input", "shots", "programmed", "MACs", "latency", "bottleneck")
    digital = ("digital adds", "multiplies")
    rows: list[tuple[str, ...]] = [(*head, *digital)]
    for layer in profile.layers:
        signs = "both" if layer.signed else "one", "-" if layer.shots_per_input is None else str(layer.shots_per_input)
        rows.append((_name(layer), layer.kind, _grids(layer), *signs, *_counted(layer.cost, layer.macs), *_work(layer)))
    both = f"{profile.digital.adds:,}", f"{profile.digital.multiplies:,}"
    rows.append(("total", "", f"{total.counts.tiles:,}", "", "", *_counted(total, total.macs), *both))
    print_table(rows, left=(0, 1, 9))


def _counted(cost: Cost | None, macs: int) -> tuple[str, ...]:
    if cost is None:
        return "-", "-", f"{macs:,}", "-", "digital"
    counts: Counts = cost.counts
    if cost.latency is None:
        return f"{counts.shots:,}", f"{counts.programmed:,}", f"{macs:,}", NOT_STATED, NOT_STATED
    time = cost.latency
    return f"{counts.shots:,}", f"{counts.programmed:,}", f"{macs:,}", si(time.total_s, "s"), time.bottleneck


def _work(layer: LayerProfile) -> tuple[str, str]:
    work: Digital = layer.digital
    return ("-", "-") if layer.cost is None else (f"{work.adds:,}", f"{work.multiplies:,}")


def _print_energy(profile: Profile, total: Cost) -> None:
    click.echo("\nelectrical energy, from an empty chip")
    components = ("laser", "heaters", "TIA", "modulators", "DAC", "ADC", "programming", "total")
    rows: list[tuple[str, ...]] = [("layer", *components, "MACs/J")]
    rows += [(_name(layer), *_joules(layer.cost)) for layer in profile.layers if layer.cost is not None]
    rows.append(("total", *_joules(total)))
    print_table(rows)


def _joules(cost: Cost) -> tuple[str, ...]:
    e = cost.energy
    if e is None:
        return (NOT_STATED,) * 9
    parts = (e.laser_j, e.heaters_j, e.tia_j, e.modulators_j, e.dac_j, e.adc_j, e.write_j, e.total_j)
    return *(si(part, "J") for part in parts), _per_j(cost)


def _per_j(cost: Cost) -> str:
    return NOT_STATED if cost.macs_per_j is None else f"{cost.macs_per_j:.3g}"


def _print_macs(profile: Profile) -> None:
    click.echo("no chip: exact arithmetic has no tiles, shots, latency or energy to state")
    rows = [("layer", "kind", "MACs"), *((_name(row), row.kind, f"{row.macs:,}") for row in profile.layers)]
    print_table([*rows, ("total", "", f"{profile.digital_macs:,}")], left=(0, 1))


def _print_notes(profile: Profile) -> None:
    click.echo("")
    if profile.total is not None:
        click.echo("digital adds and multiplies are outside the chip: neither its latency nor its energy has them")
        if profile.digital_macs:
            click.echo(f"layers that stay digital: {profile.digital_macs:,} MACs, in no total")
    for name, reason in profile.unsupported.items():
        click.echo(f"{name} cannot run on a chip, and its MACs are not counted: {reason}")


def _grids(layer: LayerProfile) -> str:
    return " + ".join(f"{rows} x {columns}" for rows, columns in layer.grids) or "-"


def _name(layer: LayerProfile) -> str:
    return layer.layer or "(model)"
