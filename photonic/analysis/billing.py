"""From what a chip is asked to what it costs: the formulas of docs/profile.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

from photonic.analysis.cost import Cost, Counts, Digital, Energy, Latency
from photonic.analysis.tally import Call, Product
from photonic.records import ChipSpec, EnergyModel


def shots_per_input(product: Product) -> int:
    """Shots of one input vector on one tile: two for signs in time, times those that are averaged."""
    return sum(call.shots for call in product.calls) // (math.prod(product.grid) * product.rows)


def cost(products: Sequence[Product], spec: ChipSpec) -> Cost:
    """Counts, time and energy of some products."""
    calls = [call for product in products for call in product.calls]
    grids = {(product.layer, product.weight): product.grid for product in products}
    counts = Counts(
        tiles=sum(map(math.prod, grids.values())),
        shots=sum(call.shots for call in calls),
        programmed=sum(call.programmed for call in calls),
        samples=sum(call.shots * call.inputs for call in calls),
        conversions=sum(call.shots * call.outputs for call in calls),
        drives=sum(call.programmed * call.drives for call in calls),
    )
    times = [latency(call, spec) for call in calls]
    stated = [time for time in times if time is not None]
    whole = reduce(add, stated) if len(stated) == len(times) else None
    held_s = sum(call.held * time.total_s for call, time in zip(calls, stated, strict=False))
    joules = None if spec.energy is None else energy(spec.energy, counts, whole, held_s)
    return Cost.of(sum(product.macs for product in products), counts, whole, joules)


def latency(call: Call, spec: ChipSpec) -> Latency | None:
    """Shots x (time of a shot) x (readings of a shot) + programmings x settling time; None without a time of a shot."""
    if spec.shot_time_s == 0:
        return None
    readings = 1 if spec.simultaneous_outputs is None else math.ceil(call.outputs / spec.simultaneous_outputs)
    symbols_s = call.shots * spec.shot_time_s
    return Latency.of(symbols_s, symbols_s * (readings - 1), call.programmed * spec.settle_time_s)


def energy(model: EnergyModel, counts: Counts, time: Latency | None, held_s: float) -> Energy:
    """Laser and amplifiers over the whole time, heaters of every tile that is held, and what each code costs.

    Args:
        model: of the chip.
        counts: how many codes.
        time: of all of it.
        held_s: tiles held, times the time that they are.
    """
    seconds = None if time is None else time.total_s
    return Energy.of(
        laser_j=_product(model.laser_w, seconds),
        heaters_j=_product(model.hold_w, None if time is None else held_s),
        tia_j=_product(model.tia_w, seconds),
        modulators_j=_product(model.modulator_j, counts.samples),
        dac_j=_product(model.dac_j, counts.samples),
        adc_j=_product(model.adc_j, counts.conversions),
        write_j=_product(model.write_j, counts.drives),
    )


def _product(each: float | None, amount: float | None) -> float | None:
    return None if each is None or amount is None else each * amount


def digital_work(product: Product, *, bias: bool) -> Digital:
    """What decoding leaves to do: ``photonic.backends.encoding.decode`` and its caller, for the outputs in use."""
    results = product.groups * product.rows * product.outputs
    if not product.calls:
        return Digital(bias_adds=results if bias else 0)
    inputs, weights = product.signs
    arms = 2 if weights == "space" else 1
    sums = results * arms * (2 if inputs == "time" else 1)  # what is left after averaging
    columns = product.grid[1] // product.groups
    shots, averaged = sums * product.averaged, product.averaged > 1
    return Digital(
        column_adds=shots * (columns - 1),
        dark_adds=shots,
        average_adds=sums * (product.averaged - 1),
        sign_adds=(results * arms if inputs in ("time", "offset") else 0) + results * (arms - 1),
        bias_adds=results if bias else 0,
        multiplies=shots * columns + (sums if averaged else 0) + results,
    )
