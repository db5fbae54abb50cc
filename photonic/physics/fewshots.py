"""Few shots of a programmed grid: the arithmetic of ``Evaluation`` on numpy arrays.

Of a single input, nearly all of the time is the start of operations, which numpy starts several times faster than
torch. What does not change from call to call is made once: each channel's level for each of its codes is a table, and
matrices lie as the product reads them. Noise comes from the same generator, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from photonic.physics.detection import Gain
from photonic.physics.draws import NormalDraws
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

    def of_codes(self, codes: NDArray[np.integer]) -> Array:
        """Levels of whole codes (..., n), inside their range."""
        return self.levels.take(codes + self.first)

    def of_tensor(self, codes: Tensor, channels: int, constant: bool) -> Tensor:
        """Levels of many whole codes, and 1 for one more channel where that is ``constant``.

        Args:
            codes: (C, P, Q), inside their range.
            channels: the dimension that counts channels, -1 or -2.
            constant: whether there is one more.
        """
        levels, first = torch.from_numpy(self.levels), torch.from_numpy(self.first).to(torch.int32)
        light = torch.empty(len(codes), codes.shape[1] + (constant and channels == -2), codes.shape[2])
        step = max(1, _CACHED_CODES // max(1, codes.shape[-1]))
        for column, to_column in zip(codes, light, strict=True):
            for start in range(0, codes.shape[-2], step):
                some = slice(start, min(start + step, codes.shape[-2]))
                offset = first if channels == -1 else first[some].unsqueeze(-1)
                index = column[some].to(torch.int32).add_(offset)
                torch.index_select(levels, 0, index.flatten(), out=to_column[some].view(-1))
        if constant and channels == -2:
            light[:, -1] = 1.0
        elif constant:
            light = F.pad(light, (0, 1), value=1.0)
        return light


class Samples:
    """Where samples of one call after the other are drawn: torch's generator writes, numpy reads."""

    def __init__(self, *shape: int) -> None:
        self._tensor = torch.empty(shape)
        self._array: Array = self._tensor.numpy()

    def standard(self, draws: NormalDraws) -> Array:
        """Standard normal samples; overwritten by the next."""
        draws.fill_(self._tensor)
        return self._array

    def normal(self, mean: float, sigma: float, draws: NormalDraws) -> Array:
        """Normal samples; overwritten by the next."""
        self._tensor.normal_(mean, sigma, generator=draws.first)
        return self._array


class Room:
    """What the calls of one size share: places for samples, and constants in full.

    Args:
        shape: of the outputs' own samples.
        common: of what outputs share.
        constants: written out in full: where shapes are the same, numpy has nothing to work out.
    """

    def __init__(self, shape: tuple[int, ...], common: tuple[int, ...], *constants: Array) -> None:
        self.each, self.common = Samples(*shape), Samples(*common)
        self.constants = [np.array(values, dtype=np.float32, order="C") for values in constants]


class Rooms:
    """Rooms by the number of inputs."""

    def __init__(self) -> None:
        self._rooms: dict[int, Room] = {}

    def of(self, count: int, make: Callable[[], Room]) -> Room:
        """The room for so many inputs."""
        room = self._rooms.get(count)
        if room is None:
            # the last batch of a data set is smaller than the others, and hardly a third size comes
            if len(self._rooms) > 1:
                self._rooms.clear()
            room = self._rooms[count] = make()
        return room


class FewShots:
    """A grid of R x C tiles, ready to be read.

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
        n = len(levels.first)
        columns, self._rows, self._m = tiles.signed.shape[:3]
        self._levels, self._noise, self._draws = levels, noise, draws
        self._matrix, self._dark = _light_to(tiles.signed, n, tiles.constant)
        self._power, self._dark_power = _light_to_power(tiles.power, n, tiles.constant)
        per_d = array(gain.counts_per_d.expand(columns, 1, self._rows, self._m).reshape(columns, 1, -1))
        # variance = thermal + shot S in D^2, to which the ADC adds its own in counts^2
        self._fixed = np.float32(noise.thermal) + np.float32(adc_noise_lsb**2) / per_d**2
        if adc_noise_lsb == 0:
            self._fixed = self._fixed[:, :, :1]
        self._rin, self._balance = noise.rin**0.5, noise.common_mode**0.5
        self._silent = noise.thermal == noise.shot == adc_noise_lsb == 0
        rails = [np.array(rail, dtype=np.float32) for rail in count_range]
        self._constants = (array(gain.offset.repeat(self._rows)), per_d, *rails)
        self._rooms = Rooms()

    @staticmethod
    def possible(parameters: ChipParameters, transitions: Tensor | None) -> bool:
        """Whether a chip is read as this class does it: light on detectors, an ADC that rounds."""
        return not parameters.coherent and parameters.adc_bits is not None and transitions is None

    def counts(self, codes: NDArray[np.integer]) -> NDArray[np.int16]:
        """Counts (R, C, B, m) of codes (C, B, n) in their range."""
        light = self._levels.of_codes(codes)
        d = np.matmul(light, self._matrix)
        if self._dark is not None:
            d += self._dark
        room, grid = self._room(d.shape), (*d.shape[:2], self._rows, self._m)
        offset, per_d, low, high = room.constants
        if self._rin > 0:
            by_tile = d.reshape(grid)
            by_tile *= room.common.normal(1.0, self._rin, self._draws)
        d += offset
        s = self._total(light)
        if self._balance > 0:
            shared = room.common.normal(0.0, self._balance, self._draws)
            d += np.repeat(shared[..., 0], self._m, axis=-1) * s * per_d
        if not self._silent:
            samples = room.each.standard(self._draws)
            samples *= per_d
            samples *= self._sigma(s)
            d += samples
        np.rint(d, out=d)
        np.maximum(d, low, out=d)
        np.minimum(d, high, out=d)
        whole: NDArray[np.int16] = d.astype(np.int16)
        if self._rows == 1:
            return whole.reshape(1, *whole.shape)
        return np.ascontiguousarray(whole.reshape(grid).transpose(2, 0, 1, 3))

    def _total(self, light: Array) -> Array:
        """S, (C, B, 1) where all outputs see the same, or (C, B, R m)."""
        s: Array = np.matmul(light, self._power)
        if self._power.ndim == 1:
            s = s[..., np.newaxis]
        if self._dark_power is not None:
            s += self._dark_power
        return s

    def _sigma(self, s: Array) -> Array:
        """Standard deviation of the independent part, in D (see ``detection``); overwrites S."""
        if self._noise.shot == 0:
            fixed: Array = np.sqrt(self._fixed)
            return fixed
        s *= self._noise.shot
        variance: Array = s + self._fixed
        np.sqrt(variance, out=variance)
        return variance

    def _room(self, shape: tuple[int, ...]) -> Room:
        def make() -> Room:
            constants = [np.broadcast_to(values, shape) for values in self._constants]
            return Room(shape, (*shape[:2], self._rows, 1), *constants)

        return self._rooms.of(shape[1], make)


def _light_to(matrix: Tensor, n: int, constant: bool) -> tuple[Array, Array | None]:
    """What n channels' light does, (C, n, R m) from (C, R, m, K), and what the constant light does, (C, 1, R m)."""
    flat = matrix.flatten(1, 2)
    return array(flat[..., :n].mT), array(flat[..., n].unsqueeze(1)) if constant else None


def _light_to_power(power: Tensor, n: int, constant: bool) -> tuple[Array, Array | None]:
    """The same; (n,) and a number where all outputs see the same power."""
    if power.shape[:3] != (1, 1, 1):
        return _light_to(power, n, constant)
    each = power[0, 0, 0]
    return array(each[:n]), array(each[n]) if constant else None
