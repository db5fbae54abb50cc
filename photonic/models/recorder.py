"""Watches the layers of a model over some batches: what goes in, and what their chips count."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from photonic.backends.base import Backend
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Usage
from photonic.backends.encoding import EncodedWeight, encode_weight, per_output
from photonic.backends.observation import Observation
from photonic.backends.signs import Sign, encode_weight_signs
from photonic.errors import RangeError
from photonic.models.histogram import Histogram
from photonic.models.ranges import inputs_of
from photonic.models.routes import weight_shapes
from photonic.models.tilecounts import TileCounts
from photonic.records import ChipSpec, Response

# what the variance of a result is in that of one shot
SIGN_VARIANCE: Mapping[Sign, float] = {"plain": 1.0, "space": 1.0, "time": 2.0, "offset": 4.0}


class LayerRecord:
    """What one pass of the data showed of a layer.

    Args:
        name: of the layer.
        module: converted, on a chip; has the attributes of ``layers.OnBackend``.
        count: keep each tile's counts too; all are measured at one gain and one static range.

    Attributes:
        histogram: of |x|.
        forwards: calls of the layer.
        usage: of the chip, by this layer.
        sign: how the inputs were encoded; and ``shots``, how many evaluations are averaged.
        worth: (R, G x C) what a variance of 1 in D of every count of a tile adds to the squared error of the layer's
            results, at an input range of 1; of the last product where products differ in their tiles.
        total_worth: the same of all tiles, and ``adc_worth`` that of a variance behind the analog gain.
        tiles: their counts; None where products differ in their tiles.
    """

    def __init__(self, name: str, module: Any, count: bool) -> None:
        self.name, self.module, self._count = name, module, count
        self.histogram, self.usage = Histogram(), Usage()
        self.forwards, self._squares = 0, 0.0
        self.sign: Sign = "plain"
        self.shots, self.total_worth, self.adc_worth = 1, 0.0, 0.0
        self.worth = torch.zeros(0)
        self.tiles: TileCounts | None = None
        self._seen: EncodedWeight | None = None
        self._grids: set[tuple[int, ...]] = set()

    @property
    def backend(self) -> Backend:
        """Of the layer."""
        backend: Backend = self.module.backend
        return backend

    @property
    def spec(self) -> ChipSpec:
        """Of its chip."""
        spec: ChipSpec = self.module.backend.spec.chip
        return spec

    @property
    def response(self) -> Response:
        """Of its calibration."""
        backend = self.backend
        return backend.calibration.response if isinstance(backend, CalibratedBackend) else self.spec.response

    @property
    def span(self) -> float:
        """Root mean square of each call's largest |x|: the range that a batch of its own would have had."""
        return math.sqrt(self._squares / max(self.forwards, 1))

    @property
    def grid(self) -> tuple[int, int] | None:
        """(R, G x C), where every product of the layer has these tiles whatever the signs of its inputs."""
        shapes = weight_shapes(self.module)
        if len(shapes) != 1 or self.sign == "space" or self._grids != {tuple(self.backend.tiles(*shapes[0]))}:
            return None
        return self.backend.tiles(*shapes[0])

    def weights(self) -> list[Tensor]:
        """(G, M, N) of each product."""
        module = self.module
        if not isinstance(module, nn.MultiheadAttention):
            found = [module.weight]
        elif module.in_proj_weight is not None:
            found = [module.in_proj_weight]
        else:
            found = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
        shapes = weight_shapes(module)
        return [weight.detach().double().reshape(shape) for weight, shape in zip(found, shapes, strict=True)]

    def see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook: counts what goes in.

        Raises:
            RangeError: the input holds NaN or infinite values.
        """
        self.forwards, self._seen = self.forwards + 1, None
        try:
            largest = max(self.histogram.update(x) for x in inputs_of(module, args, kwargs))
        except RangeError as error:
            raise RangeError(f"layer {self.name or '(model)'}: {error}") from error
        self._squares += largest**2

    def observe(self, seen: Observation) -> None:
        """Takes note of one call of the chip."""
        self.usage.add(seen.measured.usage)
        self.sign, self.shots = seen.sign, seen.shots
        cut, gain = seen.encoded.cut, seen.conditions.get("analog_gain", 1.0)
        if seen.encoded is not self._seen:
            self._seen = seen.encoded
            self._weigh(seen.encoded, gain if isinstance(gain, Tensor) else torch.full((1, 1), float(gain)))
        if not self._count or self.spec.adc_bits is None or len(self._grids) > 1:
            return
        if self.tiles is None:
            uniform = float(gain.flatten()[0]) if isinstance(gain, Tensor) else float(gain)
            self.tiles = TileCounts(self.spec, self.response, cut, uniform)
        self.tiles.update(seen)

    def assume(self) -> None:
        """Stands in for a chip that nobody asked, as a twin's: its weights at a scale for each row, at a gain of 1."""
        self.sign = "time" if self.histogram.signed and not self.spec.signed_inputs else "plain"
        for weight in self.weights():
            signed = encode_weight_signs(weight, self.sign, "plain" if self.spec.signed_weights else "space")
            encoded = encode_weight(signed, self.spec, self.response, per_row=True)
            self._weigh(encoded, torch.ones(1, 1), self.forwards)

    def _weigh(self, encoded: EncodedWeight, gain: Tensor, times: int = 1) -> None:
        cut, factor = encoded.cut, encoded.factor.squeeze(-2).double().cpu()
        per_d = per_output(self.response.counts_per_d, cut, factor) * gain.unsqueeze(-1)
        output = torch.arange(cut.rows * cut.m).view(cut.rows, 1, cut.m)
        squares = ((factor * per_d) ** 2).masked_fill_(output >= cut.outputs, 0.0)
        worth = squares.sum(-1) * (SIGN_VARIANCE[self.sign] * times)
        self.total_worth += float(worth.sum())
        self.adc_worth += float((worth / gain**2).sum())
        self._grids.add(tuple(worth.shape))
        if len(self._grids) > 1:
            self.tiles = None
        self.worth = self.worth + worth if self.worth.shape == worth.shape else worth


@contextmanager
def recording(layers: Sequence[tuple[str, Any]], count: bool) -> Iterator[list[LayerRecord]]:
    """Records layers while the block runs.

    Args:
        layers: names, and converted modules on a chip.
        count: as for ``LayerRecord``.
    """
    records = [LayerRecord(name, module, count) for name, module in layers]
    sites = [record.backend.site for record in records]
    handles = [record.module.register_forward_pre_hook(record.see, with_kwargs=True) for record in records]
    watched = [site.observe for site in sites]
    try:
        for site, record in zip(sites, records, strict=True):
            site.observe = record.observe
        yield records
        for record in records:
            if record.histogram.largest > 0 and record.usage.calls == 0:
                record.assume()
    finally:
        for handle in handles:
            handle.remove()
        for site, before in zip(sites, watched, strict=True):
            site.observe = before
