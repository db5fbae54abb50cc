"""Few rows through a weight that stays: the statistics of ``statistics`` on numpy arrays.

Of a single input, nearly all of the time is the start of operations, and numpy starts them several times faster. Noise
comes from the same generator, in the same order.
"""

from __future__ import annotations

import numpy as np

from photonic.backends.fewrows import ValueCodes
from photonic.backends.plans import Plan
from photonic.backends.twin.prepared import Prepared
from photonic.backends.twin.statistics import Common
from photonic.physics.draws import NormalDraws
from photonic.physics.fewshots import Array, LevelTable, Room, Rooms, Samples, array
from photonic.records import InputTransfer


class FewOutputs:
    """A weight of one group, and how few rows go through it.

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
        matrix = prepared.matrix[0].permute(1, 2, 0)  # (C, K, M)
        self._matrix = array(matrix[:, :n])
        self._dark = array(matrix[:, n:]) if prepared.constant else None
        self._limit = (0.0 if rail is None else rail + 0.5) * array(prepared.count[0].abs().unsqueeze(1))
        self._rooms = Rooms()
        self._worth = array(prepared.worth[0].unsqueeze(1))
        self._base, self._fixed = array(prepared.base[0]), array(prepared.fixed[0])
        self._shot = None if prepared.shot is None else array(prepared.shot[0].unsqueeze(1))
        power = prepared.power if prepared.uniform else prepared.power[0].permute(1, 2, 0)
        self._power = array(power[:n] if prepared.uniform else power[:, :n])
        self._dark_power = array(power[n:] if prepared.uniform else power[:, n:]) if prepared.constant else None

    def products(self, x: Array, plan: Plan, draws: NormalDraws) -> tuple[Array, int]:
        """(B, M) of x (B, N), and how many tile outputs' means are beyond the rails.

        Args:
            x: few.
            plan: of the product, with inputs "plain" or "time".
            draws: of all noise; seeded for the call.
        """
        light = self._light(x, plan)
        each = np.matmul(light, self._matrix)  # (shots, C, B, M)
        if self._dark is not None:
            each += self._dark
        room = self._rooms.of(x.shape[0], lambda: self._room(x.shape[0]))
        clipped = 0 if self._rail is None else int(np.count_nonzero(np.abs(each) > room.constants[0]))
        y = self._mean(each, light, room.common, draws)
        if not self.prepared.silent:
            noise = room.each.standard(draws)[0]
            noise *= self._sigma(light)
            y += noise
        if plan.weights == "space":
            half = y.shape[1] // 2
            y = y[:, :half] - y[:, half:]
        y = y * plan.scale
        return y, clipped

    def _light(self, x: Array, plan: Plan) -> Array:
        """(shots, C, B, n) of x (B, N)."""
        values: Array = x / (plan.scale or 1.0)
        if plan.inputs == "time":
            values = np.stack([np.maximum(values, 0.0), np.maximum(-values, 0.0)])
        else:
            values = values[np.newaxis]
        codes = self._codes.of(values).astype(np.int64)
        cut = self._cut
        if cut.columns == 1:
            return self._levels.of_codes(codes[:, np.newaxis])
        # what a tile has beyond N gets the dark code 0
        padded = np.zeros((*codes.shape[:2], cut.columns * cut.n), np.int64)
        padded[..., : cut.inputs] = codes
        return self._levels.of_codes(padded.reshape(*codes.shape[:2], cut.columns, cut.n).swapaxes(1, 2))

    def _room(self, count: int) -> Room:
        cut = self._cut
        each, common = (cut.columns, count, cut.outputs), (cut.rows, count, cut.columns)
        return Room((1, count, cut.outputs), common, np.broadcast_to(self._limit, each))

    def _mean(self, each: Array, light: Array, factors: Samples, draws: NormalDraws) -> Array:
        """(B, M) with what outputs share; overwrites ``each``."""
        common = self._common
        if common.rin > 0:
            for part in each:
                part *= self._over_outputs(factors.normal(1.0, common.rin**0.5, draws))
        tiles = each[0] if len(each) == 1 else each[0] - each[1]
        if common.common_mode > 0:
            for shot in light:
                factor = self._over_outputs(factors.normal(0.0, common.common_mode**0.5, draws))
                tiles = tiles + self._power_of(shot) * self._worth * factor
        y: Array = tiles[0] if len(tiles) == 1 else tiles.sum(axis=0)
        if len(each) == 1:
            y += self._base
        return y

    def _over_outputs(self, factors: Array) -> Array:
        """(C, B, 1 or M) of (R, B, C): one for each shot of row tile, column tile and input."""
        cut, swapped = self._cut, factors.T
        return swapped if cut.rows == 1 else np.repeat(swapped, cut.m, axis=-1)[..., : cut.outputs]

    def _power_of(self, light: Array) -> Array:
        """S of each tile, (..., C, B, 1 or M), from light (..., C, B, n)."""
        s: Array = np.matmul(light, self._power)
        s = s[..., np.newaxis] if self.prepared.uniform else s
        return s if self._dark_power is None else s + self._dark_power

    def _sigma(self, light: Array) -> Array:
        """(B or 1, M) standard deviation of what outputs do not share."""
        fixed = self._fixed * len(light)
        if self._shot is None:
            found: Array = np.sqrt(fixed)
            return found
        s = self._power_of(light) * self._shot  # (shots, C, B, M)
        total: Array = s[0, 0] if s.shape[:2] == (1, 1) else s.sum(axis=(0, 1))
        total += fixed
        np.sqrt(total, out=total)
        return total
