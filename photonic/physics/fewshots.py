"""Few shots of a programmed grid: the arithmetic of ``Evaluation`` on numpy arrays.

Of a single input, nearly all of the time is the start of operations, which numpy starts several times faster than
torch. What does not change from call to call is made once: each channel's level for each of its codes is a table, and
matrices lie as the product reads them. Noise comes from the same generator, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from photonic.physics.detection import Gain
from photonic.physics.draws import NormalDraws
from photonic.physics.many import MANY
from photonic.physics.parameters import ChipParameters
from photonic.physics.transmitter import Transmitter
from photonic.records import NoiseModel

if TYPE_CHECKING:
    from photonic.physics.evaluation import Tiles

# numbers that an operation starts longer than it takes; beyond, torch's cores win
FEW = 2**12
# of a grid's weights, which are held a second time
FEW_WEIGHTS = 2**16
# that are looked up at once where there are many
_CACHED_CODES = 2**16

Array = NDArray[np.float32]
R = TypeVar("R")
T = TypeVar("T", np.float32, np.int64)


def array(values: Tensor) -> Array:
    """A copy as float32, in C order."""
    return np.array(values.detach().numpy(), dtype=np.float32, order="C")


@dataclass(frozen=True)
class LevelTable:
    """Each channel's level for each of its codes, as ``Transmitter.light`` gives them.

    Attributes:
        levels: (n x codes,), channel by channel.
        first: (n,) where the code 0 of each channel is.
    """

    levels: Array
    first: NDArray[np.int64]

    @classmethod
    def of(cls, transmitter: Transmitter, n: int, limits: tuple[float, float]) -> Self | None:
        """Of the first n channels; None where a code does not decide about a level, or codes are no whole numbers."""
        p = transmitter.parameters
        drawn = transmitter.shots_differ or transmitter.memory > 0 or p.input_crosstalk > 0
        if drawn or p.coherent or p.input_bits is None:
            return None
        low, high = int(limits[0]), int(limits[1])
        codes = torch.arange(low, high + 1, dtype=torch.float32).unsqueeze(-1).expand(-1, n)
        # such levels draw nothing
        levels = transmitter.light(codes, None, torch.Generator())
        return cls(array(levels.T).reshape(-1), np.arange(n) * (high + 1 - low) - low)

    def of_codes(self, codes: NDArray[np.integer], first: NDArray[np.int64]) -> Array:
        """Levels of whole codes (..., n), inside their range; ``first`` written out to their shape."""
        levels: Array = self.levels[codes.astype(np.int64, copy=False) + first]
        return levels

    def of_tensor(self, codes: Tensor, channels: int, constant: bool) -> Tensor:
        """Levels of many whole codes, and 1 for one more channel where that is ``constant``.

        Args:
            codes: (C, P, Q), inside their range.
            channels: the dimension that counts channels, -1 or -2.
            constant: whether there is one more.
        """
        levels, first = torch.from_numpy(self.levels), torch.from_numpy(self.first).to(torch.int32)
        light = torch.empty(len(codes), codes.shape[1] + (constant and channels == -2), codes.shape[2])
        if codes.dtype == torch.int16 and codes.is_cpu and codes.stride(-1) == 1 and codes.numel() >= MANY:
            from photonic.physics.compiled import levels as compiled  # numba takes a while to import

            compiled.look_up(codes, levels, first, light[:, : codes.shape[1]], by_row=channels == -2)
            return _with_constant(light, channels) if constant else light
        step = max(1, _CACHED_CODES // max(1, codes.shape[-1]))
        for column, to_column in zip(codes, light, strict=True):
            for start in range(0, codes.shape[-2], step):
                some = slice(start, min(start + step, codes.shape[-2]))
                offset = first if channels == -1 else first[some].unsqueeze(-1)
                index = column[some].to(torch.int32).add_(offset)
                torch.index_select(levels, 0, index.flatten(), out=to_column[some].view(-1))
        return _with_constant(light, channels) if constant else light


def _with_constant(light: Tensor, channels: int) -> Tensor:
    """Light of one more channel, for which there is room where channels come first."""
    if channels == -1:
        return F.pad(light, (0, 1), value=1.0)
    light[:, -1] = 1.0
    return light


class Samples:
    """Where samples of one call after the other are drawn: torch's generator writes, numpy reads."""

    def __init__(self, *shape: int) -> None:
        tensor = torch.empty(shape)
        self._normal = tensor.normal_
        self._array: Array = tensor.numpy()
        # a single factor has no dimensions: then numpy has nothing to broadcast
        self._factors: Array = self._array.reshape(()) if self._array.size == 1 else self._array

    def standard(self, draws: NormalDraws) -> Array:
        """Standard normal samples; overwritten by the next."""
        self._normal(generator=draws.first)
        return self._array

    def normal(self, mean: float, sigma: float, draws: NormalDraws) -> Array:
        """Normal factors, of which a single one has no dimensions; overwritten by the next."""
        self._normal(mean, sigma, generator=draws.first)
        return self._factors


class Rooms(Generic[R]):
    """What the calls of one size share, by the number of inputs.

    Args:
        make: for so many inputs.
    """

    def __init__(self, make: Callable[[int], R]) -> None:
        self._make, self._rooms = make, dict[int, R]()

    def of(self, count: int) -> R:
        """The room for so many inputs."""
        room = self._rooms.get(count)
        if room is None:
            # the last batch of a data set is smaller than the others, and hardly a third size comes
            if len(self._rooms) > 1:
                self._rooms.clear()
            room = self._rooms[count] = self._make(count)
        return room


def full(values: NDArray[T], *shape: int) -> NDArray[T]:
    """Written out: where shapes are the same, numpy has nothing to work out."""
    return np.array(np.broadcast_to(values, shape), order="C")


class Products:
    """Where (C, B, n) light meets C matrices (n, 2 K): what outputs give, and the variance of each beside it.

    One product for both: of few inputs, a second one is mostly its start.

    Args:
        matrix: (C, n, K) or (C, n, 2 K).
        count: B.

    Attributes:
        both: (C, B, K or 2 K), overwritten by each product.
    """

    def __init__(self, matrix: Array, count: int) -> None:
        columns, _, width = matrix.shape
        self._matrix, self.both = matrix, np.empty((columns, count, width), np.float32)
        self._flat = (matrix[0], self.both[0]) if columns == 1 else None

    def of(self, light: Array) -> Array:
        """Of light (C, B, n)."""
        if self._flat is None:
            return np.matmul(light, self._matrix, out=self.both)
        # starts faster than matmul
        np.dot(light[0], *self._flat)
        return self.both


class Room:
    """Where the counts of one call after the other are worked out.

    Args:
        matrix: see ``Products``.
        first: see ``LevelTable``.
        tiles: R and m.
        count: B.
        constants: what is written out to the shape of D: offset and rails, in counts.

    Attributes:
        products: of D, and perhaps of its variance.
        d: (C, B, R m) where D will be.
        variance: the same, of its variance.
        by_tile: (C, B, R, m) D again.
        samples: one for each output.
        common: one for each tile's shot.
        first: (C, B, n).
        constants: (C, B, R m) each.
    """

    def __init__(
        self, matrix: Array, first: NDArray[np.int64], tiles: tuple[int, int], count: int, *constants: Array
    ) -> None:
        columns, outputs = len(matrix), tiles[0] * tiles[1]
        self.products = Products(matrix, count)
        both = self.products.both
        self.d, self.variance = both[..., :outputs], both[..., outputs:]
        self.by_tile = both.reshape(columns, count, both.shape[-1] // outputs, *tiles)[:, :, 0]
        self.samples, self.common = Samples(columns, count, outputs), Samples(columns, count, tiles[0], 1)
        self.first = full(first, columns, count, len(first))
        self.constants = [full(values, columns, count, outputs) for values in constants]


class FewShots:
    """A grid of R x C tiles, ready to be read; one call at a time.

    Args:
        levels: of the channels in use.
        tiles: as programmed.
        gain: of these tiles.
        noise: variances in D^2.
        adc_noise_lsb: standard deviation of the ADC's own noise, in counts.
        count_range: rails of the ADC.
        draws: of noise; seeded by the caller.
    """

    def __init__(
        self,
        levels: LevelTable,
        tiles: Tiles,
        gain: Gain,
        noise: NoiseModel,
        adc_noise_lsb: float,
        count_range: tuple[float, float],
        draws: NormalDraws,
    ) -> None:
        columns, rows, m = tiles.signed.shape[:3]
        n = len(levels.first)
        self._levels, self._draws, self._tiles = levels, draws, (rows, m)
        matrix, dark = _light_to(tiles.signed, n, tiles.constant)
        self._power, self._dark_power = _light_to(tiles.power, n, tiles.constant)
        self._per_d = array(gain.counts_per_d.expand(columns, 1, rows, m).reshape(columns, 1, -1))
        # in counts^2: shot noise follows the light, thermal noise and the ADC's own do not
        thermal, shot = (_of_outputs(each, rows) * self._per_d**2 for each in gain.receivers(noise))
        fixed = thermal + np.float32(adc_noise_lsb**2)
        self._sigma = np.sqrt(fixed) if noise.shot == 0 else None
        if noise.shot > 0:
            matrix = np.concatenate([matrix, self._power * shot], axis=-1)
            dark = np.concatenate([dark, self._dark_power * shot + fixed], axis=-1)
        self._matrix, self._base = np.ascontiguousarray(matrix), dark
        self._rin, self._balance = noise.rin**0.5, noise.common_mode**0.5
        self._silent = noise.thermal == noise.shot == adc_noise_lsb == 0
        rails = [np.array(rail, dtype=np.float32) for rail in count_range]
        constants = array(gain.offset.repeat(rows)), *rails
        self._rooms = Rooms(lambda count: Room(self._matrix, levels.first, self._tiles, count, *constants))

    @staticmethod
    def possible(parameters: ChipParameters, transitions: Tensor | None) -> bool:
        """Whether a chip is read as this class does it: light on detectors, an ADC that rounds."""
        return not parameters.coherent and parameters.adc_bits is not None and transitions is None

    def counts(self, codes: NDArray[np.integer]) -> NDArray[np.int16]:
        """Counts (R, C, B, m) of codes (C, B, n) in their range."""
        room = self._rooms.of(codes.shape[1])
        light, d = self._levels.of_codes(codes, room.first), room.d
        both = room.products.of(light)
        both += self._base
        offset, low, high = room.constants
        if self._rin > 0:
            np.multiply(room.by_tile, room.common.normal(1.0, self._rin, self._draws), room.by_tile)
        d += offset
        if self._balance > 0:
            self._add_common(d, light, room.common)
        if not self._silent:
            sigma = np.sqrt(room.variance, room.variance) if self._sigma is None else self._sigma
            samples = room.samples.standard(self._draws)
            samples *= sigma
            d += samples
        np.rint(d, d)
        np.maximum(d, low, out=d)
        np.minimum(d, high, out=d)
        whole: NDArray[np.int16] = d.astype(np.int16)
        rows, m = self._tiles
        if rows == 1:
            return whole.reshape(1, *whole.shape)
        return np.ascontiguousarray(whole.reshape(*whole.shape[:2], rows, m).transpose(2, 0, 1, 3))

    def _add_common(self, d: Array, light: Array, factors: Samples) -> None:
        """Adds what balancing lets through: one factor for each tile's shot, times S."""
        shared = factors.normal(0.0, self._balance, self._draws).reshape(*d.shape[:2], self._tiles[0])
        s = np.matmul(light, self._power) + self._dark_power
        d += np.repeat(shared, self._tiles[1], axis=-1) * s * self._per_d


def _of_outputs(values: Tensor | float, rows: int) -> Array:
    """One number for all outputs, or (m,) of each tile as (R m,)."""
    return array(values.repeat(rows)) if isinstance(values, Tensor) else np.array(values, dtype=np.float32)


def _light_to(matrix: Tensor, n: int, constant: bool) -> tuple[Array, Array]:
    """What n channels' light does, (C, n, R m) from (C, R, m, K), and what constant light does, (C, 1, R m)."""
    flat = matrix.flatten(1, 2)
    dark = flat[..., n:].sum(-1) if constant else flat.new_zeros(flat.shape[:2])
    return array(flat[..., :n].mT), array(dark.unsqueeze(1))
