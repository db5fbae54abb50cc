"""Few rows through a weight that stays: the statistics of ``statistics`` on numpy arrays.

Of a single input, nearly all of the time is the start of operations, and numpy starts them several times faster. Noise
comes from the same generator, in the same order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from photonic.backends.encoding import Geometry
from photonic.backends.fewrows import ValueCodes, decoded
from photonic.backends.plans import Plan
from photonic.backends.twin.prepared import Prepared
from photonic.backends.twin.statistics import Common
from photonic.physics.draws import NormalDraws
from photonic.physics.fewshots import Array, LevelTable, Products, Rooms, Samples, array, full
from photonic.records import InputTransfer


class Room:
    """Where the products of one call after the other are worked out.

    Args:
        matrix: see ``Products``.
        first: see ``LevelTable``.
        cut: the tiling.
        count: B.
        dark: what is added to each product.
        limit: of a tile's mean.
        base: of an output.

    Attributes:
        shots: of each, the products, and of these the means and the variances (C, B, M).
        samples: one for each output.
        common: one for each tile's shot, (R, B, C).
        first: (C, B, n).
        size: (C, B, M) for absolute values.
        dark: (C, B, 2 M).
        limit: (C, B, M).
        base: (B, M).
    """

    def __init__(
        self, matrix: Array, first: NDArray[np.int64], cut: Geometry, count: int, dark: Array, limit: Array, base: Array
    ) -> None:
        each = cut.columns, count, cut.outputs
        products = Products(matrix, count), Products(matrix, count)
        self.shots = [(shot, shot.both[..., : cut.outputs], shot.both[..., cut.outputs :]) for shot in products]
        self.samples, self.common = Samples(count, cut.outputs), Samples(cut.rows, count, cut.columns)
        self.first, self.size = full(first, cut.columns, count, len(first)), np.empty(each, np.float32)
        self.dark = full(dark, cut.columns, count, 2 * cut.outputs)
        self.limit, self.base = full(limit, *each), full(base, count, cut.outputs)


class FewOutputs:
    """A weight of one group, and how few rows go through it; one call at a time.

    Args:
        prepared: the weight.
        levels: of the channels in use.
        transfer: of the inputs.
        common: what outputs of one shot share.
        rail: |count| at which the ADC clips; None: it does not.

    Attributes:
        prepared: the same object.
    """

    def __init__(
        self, prepared: Prepared, levels: LevelTable, transfer: InputTransfer, common: Common, rail: float | None
    ) -> None:
        cut, n = prepared.cut, len(levels.first)
        self.prepared, self._cut, self._levels = prepared, cut, levels
        self._codes, self._common, self._rail = ValueCodes(transfer), common, rail
        self._rin = common.rin**0.5
        matrix = array(prepared.matrix[0].permute(1, 2, 0))  # (C, K, M)
        power = array(prepared.power[:, None] if prepared.uniform else prepared.power[0].permute(1, 2, 0))
        self._worth = array(prepared.worth[0].unsqueeze(1))
        self._power, self._dark_power = power[..., :n, :], power[..., n:, :].sum(axis=-2, keepdims=True)
        shot = np.zeros_like(self._worth) if prepared.shot is None else array(prepared.shot[0].unsqueeze(1))
        matrix = np.concatenate([matrix, power * shot], axis=-1)
        light = np.ascontiguousarray(matrix[:, :n])
        # what constant light adds to each tile, and to the first one the variance that all have without light
        dark = matrix[:, n:].sum(axis=1, keepdims=True)
        dark[0, :, cut.outputs :] += array(prepared.fixed[0])
        limit = (0.0 if rail is None else rail + 0.5) * array(prepared.count[0].abs().unsqueeze(1))
        base = array(prepared.base[0])
        self._rooms = Rooms(lambda count: Room(light, levels.first, cut, count, dark, limit, base))

    def products(self, x: Array, plan: Plan, draws: NormalDraws) -> tuple[Array, int]:
        """(B, M) of x (B, N), and how many tile outputs' means are beyond the rails.

        Args:
            x: few.
            plan: of the product, with inputs "plain" or "time".
            draws: of all noise; seeded for the call.
        """
        room, clipped = self._rooms.of(len(x)), 0
        light = self._light(x, plan, room)
        shots = room.shots[: len(light)]
        for shot, (products, mean, _) in zip(light, shots, strict=True):
            both = products.of(shot)
            both += room.dark
            if self._rail is not None:
                clipped += int(np.count_nonzero(np.abs(mean, room.size) > room.limit))
        y = self._mean(light, room, draws)
        if not self.prepared.silent:
            samples, variance = room.samples.standard(draws), _total(shots[0][2])
            if len(shots) == 2:
                variance += _total(shots[1][2])
            np.sqrt(variance, variance)
            np.multiply(samples, variance, samples)
            np.add(y, samples, y)
        return decoded(y, plan), clipped

    def _light(self, x: Array, plan: Plan, room: Room) -> list[Array]:
        """(C, B, n) for each shot of x (B, N)."""
        codes = self._codes.of(x, plan).astype(np.int64)
        shots = (codes,) if plan.inputs == "plain" else codes
        return [self._levels.of_codes(self._tiled(shot), room.first) for shot in shots]

    def _tiled(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(C, B, n) of (B, N); what a tile has beyond N gets the dark code 0."""
        cut = self._cut
        if cut.columns == 1:
            return codes[np.newaxis]
        padded = np.zeros((len(codes), cut.columns * cut.n), np.int64)
        padded[:, : cut.inputs] = codes
        return padded.reshape(len(codes), cut.columns, cut.n).swapaxes(0, 1)

    def _mean(self, light: list[Array], room: Room, draws: NormalDraws) -> Array:
        """(B, M) with what outputs share, in memory of its own; overwrites the means."""
        common, shots = self._common, room.shots[: len(light)]
        if self._rin > 0:
            for _, mean, _ in shots:
                np.multiply(mean, self._over_outputs(room.common.normal(1.0, self._rin, draws)), mean)
        first = _total(shots[0][1])
        y: Array = first + room.base if len(shots) == 1 else first - _total(shots[1][1])
        if common.common_mode > 0:
            for shot in light:
                factor = self._over_outputs(room.common.normal(0.0, common.common_mode**0.5, draws))
                y += _total((np.matmul(shot, self._power) + self._dark_power) * self._worth * factor)
        return y

    def _over_outputs(self, factors: Array) -> Array:
        """(C, B, 1 or M) of (R, B, C): one for each shot of row tile, column tile and input."""
        cut, swapped = self._cut, factors.T
        return swapped if cut.rows == 1 else np.repeat(swapped, cut.m, axis=-1)[..., : cut.outputs]


def _total(tiles: Array) -> Array:
    """(B, M) of (C, B, M)."""
    found: Array = tiles[0] if len(tiles) == 1 else tiles.sum(axis=0)
    return found
