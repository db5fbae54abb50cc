"""Fits input ranges and analog gains to data: the least expected error of rounding, noise and clipping."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from photonic.errors import ConversionError, DataError, ShapeError
from photonic.models.expected import Choice, Expected
from photonic.models.range_report import LayerRange, RangeReport
from photonic.models.ranges import assign
from photonic.models.recorder import LayerRecord, recording
from photonic.models.sites import on_chips
from photonic.records import ChipSpec

WIDENINGS = 3  # each doubles the input range of layers that saturate
MOST_SATURATED = 1e-3  # of a layer's counts; beyond the rails nothing is known of a signal

Layer = tuple[str, Any]  # name, and a module with the attributes of layers.OnBackend


def fit_ranges(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    adc: bool = True,
    call: Callable[[Any], object] | None = None,
) -> RangeReport:
    """Sets the input range of every layer on a chip, and the analog gain of each of its tiles, from data.

    The model runs over the data on its chips, in evaluation mode and without gradients. The first pass, in which each
    batch has a range of its own, records |x| of each layer in a histogram and takes the range of the least expected
    error: rounding of the input converter (by the chip's own transfer) + clipping + the chip's noise and the ADC's
    rounding, which grow with the range. The second pass runs at these ranges and the lowest gain, counts what the ADC
    of each tile reads, and takes the gain of the least error: (LSB^2 / 12 + converter noise) / gain^2 + clipping. A
    layer of which more than one count in a thousand stands at a rail even so is measured again at twice the input
    range, up to three times.

    A layer without a range gets a static one; a learned or moving range gets a new value and stays what it is. Gains
    are kept with the layer's view of its backend: a deep copy has them too; ``convert_``, ``attach`` and
    ``unconvert_`` drop them. They belong to the weights that they were fitted on, and stay when the weights change:
    results remain right, for a gain is known when counts are decoded, but a tile that grew may saturate, which
    ``routes`` reports. Fit again after training. Shots of the fit count as any others.

    Args:
        model: with converted layers, not compiled.
        batches: inputs, or tuples that begin with them, as a DataLoader gives; read again for each pass (an iterator
            is kept in memory).
        adc: fit the analog gains too; False: one pass, input ranges only.
        call: how a batch goes through the model, for models that take more than one input. Default: ``model(inputs)``.

    Returns:
        What was chosen, and what error is expected of it; prints as a table.

    Raises:
        ConversionError: no layer is on a chip.
        DataError: there are no batches, or no numbers in them.
        ShapeError: one tensor instead of batches.
        RangeError: an input of a layer is NaN or infinite.
        BackendError: whatever a chip raises. After any error ranges and gains are as they were.
    """
    layers = on_chips(model)
    if not layers:
        raise ConversionError(
            "no layer of this model is on a chip, so there is no range to fit; use photonic.convert_(model, backend)"
        )
    data = _Data(batches, call or (lambda batch: model(batch[0] if isinstance(batch, (tuple, list)) else batch)))
    with torch.no_grad(), _evaluating(model), _undone_on_error(layers):
        with _unclamped(layers):
            first = data.through(layers, count=False)
        if sum(record.histogram.total for record in first) == 0 and any(record.forwards for record in first):
            raise DataError("the batches hold no numbers; give at least one batch with data")
        before = [Expected(record).now() if record.histogram.largest else 0.0 for record in first]
        choices = [_input_range(record) for record in first]
        last = first
        if adc:
            last = _counted(layers, first, data)
            choices = [_range_and_gains(record) for record in last]
        rows = zip(first, last, before, choices, strict=True)
        return RangeReport(tuple(_row(*row) for row in rows), data.passes)


class _Data:
    """The batches, as often as they are needed."""

    def __init__(self, batches: Iterable[Any], call: Callable[[Any], object]) -> None:
        if isinstance(batches, Tensor):
            raise ShapeError(
                f"expected an iterable of batches, found one tensor {tuple(batches.shape)}; pass [x] or x.split(64)"
            )
        self._batches = list(batches) if isinstance(batches, Iterator) else batches
        self._call, self.passes = call, 0

    def through(self, layers: Sequence[Layer], count: bool) -> list[LayerRecord]:
        """Sends all batches through the model and returns what its layers saw."""
        self.passes += 1
        empty = True
        with recording(layers, count) as records:
            for batch in self._batches:
                empty = False
                self._call(batch)
        if empty:
            raise DataError("there are no batches to fit ranges to; give at least one")
        return records


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a block; then each module is again in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _unclamped(layers: Sequence[Layer]) -> Iterator[None]:
    """Each batch's own range for a block: what old ranges clamp would never be seen, and fits would shrink."""
    kept = [(module, module.input_range) for _, module in layers]
    try:
        for module, _ in kept:
            module.input_range = None
        yield
    finally:
        for module, limit in kept:
            module.input_range = limit


@contextmanager
def _undone_on_error(layers: Sequence[Layer]) -> Iterator[None]:
    """Gives ranges and gains back if the block fails. What trial ranges clamp in it is not counted."""
    sites = [(module, module.backend.site) for _, module in layers]
    kept = [(module, _limit(module), site, copy.copy(site)) for module, site in sites]
    try:
        yield
    except BaseException:
        for module, limit, site, before in kept:
            site.gains = before.gains
            if limit is None:
                module.input_range = None
            else:
                assign(module, limit)
        raise
    finally:
        for _, _, site, before in kept:
            site.inputs, site.clipped = before.inputs, before.clipped


def _limit(module: nn.Module) -> float | None:
    limit: Any = module.input_range
    return None if limit is None else float(limit.detach())


def _input_range(record: LayerRecord) -> Choice | None:
    """Sets the best range for the gains as they are; None: nothing was seen."""
    if record.histogram.largest == 0:
        return None
    choice = Expected(record).best()
    assign(record.module, choice.range)
    return choice


def _counted(layers: Sequence[Layer], first: Sequence[LayerRecord], data: _Data) -> list[LayerRecord]:
    """Records again at the new ranges and the lowest gains, at wider ranges where counts still saturate."""
    for record in first:
        if record.histogram.largest > 0:
            offered, grid = _offered(record.spec), record.grid
            record.backend.site.gains = torch.full(grid, min(offered)) if offered and grid else None
    records = list(first)
    for _ in range(WIDENINGS):
        records = _fuller(records, data.through(layers, count=True))
        limits = [(record, _limit(record.module)) for record in records]
        saturated = [(record, limit) for record, limit in limits if limit and _saturates(record)]
        if not saturated:
            return records
        for record, limit in saturated:
            assign(record.module, 2 * limit)
    return _fuller(records, data.through(layers, count=True))


def _fuller(before: Sequence[LayerRecord], after: list[LayerRecord]) -> list[LayerRecord]:
    """Keeps the larger inputs of two passes: what layers clamp or saturate is missing in the layers behind them."""
    for old, new in zip(before, after, strict=True):
        if old.histogram.mean_square > new.histogram.mean_square:
            new.histogram = old.histogram
    return after


def _saturates(record: LayerRecord) -> bool:
    return record.usage.saturated_fraction > MOST_SATURATED


def _range_and_gains(record: LayerRecord) -> Choice | None:
    """Sets the best range, and the best gains where the chip offers some, for what was counted."""
    site, measured = record.backend.site, _limit(record.module)
    if record.histogram.largest == 0 or measured is None:
        return None
    offered = _offered(record.spec) if site.gains is not None else ()
    choice = Expected(record).best_with(offered, measured)
    assign(record.module, choice.range)
    site.gains = choice.gains if offered else None
    return choice


def _offered(spec: ChipSpec) -> tuple[float, ...]:
    """Analog gains that each tile can have by itself; none where there is no ADC to serve."""
    if spec.adc_bits is None or "analog_gain" not in spec.tile_conditions:
        return ()
    return tuple(float(gain) for gain in spec.conditions["analog_gain"])


def _row(first: LayerRecord, last: LayerRecord, before: float, choice: Choice | None) -> LayerRange:
    gains = last.backend.site.gains
    values, tiles = ((), ()) if gains is None else (t.tolist() for t in gains.unique(return_counts=True))
    return LayerRange(
        name=last.name,
        range=None if choice is None else choice.range,
        largest=last.histogram.largest,
        clipped=0.0 if choice is None else choice.clipped,
        error_before=before,
        error_after=0.0 if choice is None else choice.error,
        saturated_before=first.usage.saturated_fraction,
        saturated_after=None if choice is None else choice.saturated,
        gains=dict(zip(values, tiles, strict=True)),
        note=_note(last, choice),
    )


def _note(record: LayerRecord, choice: Choice | None) -> str:
    """What was left alone, and why."""
    if record.forwards == 0:
        return "never called"
    if choice is None:
        return "only zeros seen"
    if _offered(record.spec) and record.backend.site.gains is None and choice.saturated is not None:
        return "gains left: its tiles depend on how it is called"
    return ""
