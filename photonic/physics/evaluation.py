"""One device at work: codes of a grid of tiles and of their shots to counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.physics.detection import Gain
from photonic.physics.detector import Detector
from photonic.physics.device import Device
from photonic.physics.draws import NormalDraws
from photonic.physics.fewshots import FewShots, LevelTable
from photonic.physics.optics import Surroundings
from photonic.physics.parameters import ChipParameters
from photonic.physics.shotnoise import COMPACT, ShotNoise

# several columns are multiplied at once, which keeps all cores busy; of the results, parts that fit the cores' own
# caches take the many small steps from D to counts
PRODUCT_ELEMENTS = 2**19
CACHED_ELEMENTS = 2**18
LIGHT_ELEMENTS = 2**17
_GAINS_KEPT = 32
FORGOTTEN = 1e-17  # below the rounding of float64


@dataclass(frozen=True)
class Tiles:
    """What C columns of R programmed tiles do to the light of K channels.

    Attributes:
        signed: (C, R, m, K) W_D times the gain: the large results are touched once less.
        power: (C, R, m, K) W_S, which may be compact; 1 in place of C, R, m where the power is the same for all.
        constant: whether the last of the K channels stands for light that does not depend on the inputs.
    """

    signed: Tensor
    power: Tensor
    constant: bool

    @property
    def nbytes(self) -> int:
        """Memory of the matrices."""
        return self.signed.nbytes + self.power.nbytes


@dataclass(frozen=True)
class Source:
    """What the light of a call is made with.

    Attributes:
        power: of the source, relative.
        bias_rad: (N,) drift of the modulators' nulls, or None.
    """

    power: float = 1.0
    bias_rad: Tensor | None = None


@dataclass(frozen=True)
class Factors:
    """What drifts within a call, shot by shot.

    Attributes:
        laser: (C, B, R, 1) relative power; None: 1.
        gain: (C, B, R, M) relative gain of the outputs; None: 1.
    """

    laser: Tensor | None = None
    gain: Tensor | None = None

    @property
    def still(self) -> bool:
        """Whether nothing drifts."""
        return self.laser is None and self.gain is None

    def apply_(self, d: Tensor, s: Tensor, gain: Gain, columns: slice, shots: slice) -> tuple[Tensor, Gain]:
        """Scales D in place; S and the gain of these columns and shots are returned.

        With more light D, S, the local oscillator and the signal's own power beside it all grow alike.
        """
        if self.laser is not None:
            laser = self.laser[columns, shots].to(d.dtype)
            d.mul_(laser)
            s = s * laser
        if self.gain is not None:
            relative = self.gain[columns, shots, :, : d.shape[-1]].to(d.dtype)
            d.mul_(relative)
            gain = replace(gain, counts_per_d=gain.counts_per_d * relative)
        return s, gain


_STILL = Factors()


class Evaluation:
    """Evaluates shots of a device.

    Args:
        parameters: of the chip.
        device: its hidden truth.
        counts_per_d: of a nominal output.
        count_range: rails of the ADC.
        code_range: of the inputs.
        draws: of noise; seeded by the caller.
    """

    def __init__(
        self,
        parameters: ChipParameters,
        device: Device,
        counts_per_d: float,
        count_range: tuple[float, float],
        code_range: tuple[float, float],
        draws: NormalDraws,
    ) -> None:
        self.parameters, self.device, self._code_range = parameters, device, code_range
        self._counts_per_d, self._count_range, self._draws = counts_per_d, count_range, draws
        # the light carries each line's own RIN already
        noise = parameters.noise.model_copy(update={"rin": 0.0} if device.transmitter.line_rin else {})
        rails = None if parameters.adc_bits is None else count_range
        self._detector = Detector(noise, parameters.adc_noise_lsb, rails, device.receiver.transitions, draws)
        self._gains: list[tuple[tuple[int, float | None, torch.dtype], Tensor | None, Gain]] = []
        self._levels: dict[int, LevelTable | None] = {}
        self._whole = device.transmitter.shots_differ or parameters.input_crosstalk > 0

    @property
    def remembered(self) -> int:
        """How many shots before a modulator still remembers, to rounding."""
        kept = self.device.transmitter.memory
        return 0 if kept == 0 else math.ceil(math.log(FORGOTTEN) / math.log(kept)) if kept < 1 else 2**62

    def tiles(self, codes: Tensor, n: int, gain: Gain, bias_rad: Tensor | None, around: Surroundings) -> Tiles:
        """Programs tiles, in the dtype of the gain.

        Light of unused channels, at the dark code, joins the constant.

        Args:
            codes: (R, C, P).
            n: inputs in use.
            gain: of these tiles.
            bias_rad: (N,) drift of the modulators' nulls, or None.
            around: for C x R tiles.
        """
        rows, columns = codes.shape[:2]
        flat = codes.transpose(0, 1).flatten(0, 1)  # a column's tiles side by side
        per_d = gain.counts_per_d.squeeze(1).expand(columns, rows, -1).flatten(0, 1).unsqueeze(-1)
        step = max(1, CACHED_ELEMENTS // (2 * codes.shape[-1]))
        signed = power = codes.new_empty(0)
        constant = False
        for start in range(0, len(flat), step):
            some = slice(start, start + step)
            here = around if around.kelvin is None else replace(around, kelvin=around.kelvin[some])
            w_d, w_s, constant = self.programmed(flat[some], n, bias_rad, here, per_d.dtype)
            same = w_s.shape[:2] == (1, 1)
            if start == 0:
                signed = w_d.new_empty(len(flat), *w_d.shape[1:])
                kept = COMPACT.get(w_s.dtype, w_s.dtype)
                power = w_s if same else w_s.new_empty(len(flat), *w_s.shape[1:], dtype=kept)
            torch.mul(w_d, per_d[some], out=signed[some])
            if not same:
                power[some] = w_s
        grid = columns, rows
        return Tiles(signed.unflatten(0, grid), power.unsqueeze(0) if same else power.unflatten(0, grid), constant)

    def programmed(
        self, codes: Tensor, n: int, bias_rad: Tensor | None, around: Surroundings, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, bool]:
        """W_D and W_S of tiles (T, P), and whether their last channel is constant."""
        drives, optics, n_all = codes.to(dtype), self.device.optics, self.parameters.n_inputs
        if len(self.parameters.drive_shape) == 2:
            drives = drives.unflatten(-1, (-1, n))
            drives = F.pad(drives, (0, n_all - n)) if n < n_all else drives
        w_d, w_s = optics.matrices(self.device.defects.apply(drives), around)
        half = None
        if self.parameters.arm_imbalance_spread > 0:
            half = self.device.receiver.imbalance[: w_d.shape[1], None].to(dtype) / 2
            w_d = w_d + half * w_s
        return self._with_constant(w_d, w_s, n, half, bias_rad, around)

    def _with_constant(
        self, w_d: Tensor, w_s: Tensor, n: int, half: Tensor | None, bias_rad: Tensor | None, around: Surroundings
    ) -> tuple[Tensor, Tensor, bool]:
        """The matrices for the inputs in use, and a last channel for what does not depend on them."""
        constant_d, constant_s = None, None
        optics = self.device.optics
        if n < self.parameters.n_inputs and not self._whole:
            codes = torch.zeros(1, self.parameters.n_inputs, dtype=w_d.dtype)
            dark = self.device.transmitter.light(codes, bias_rad, around.generator)[0]
            used = torch.arange(len(dark)) % self.parameters.n_inputs < n
            unused = dark[~used]
            constant_d, constant_s = (w_d[..., ~used] * unused).sum(-1, True), (w_s[..., ~used] * unused).sum(-1, True)
            w_d, w_s = w_d[..., used], w_s[..., used]
        if half is not None and optics.s_offset > 0:
            # the local oscillator alone unbalances the pair
            unbalanced = (half * optics.s_offset).expand_as(w_d[..., :1])
            constant_d = unbalanced if constant_d is None else constant_d + unbalanced
            constant_s = torch.zeros_like(w_s[..., :1]) if constant_s is None else constant_s
        if constant_d is None or constant_s is None:
            return w_d, w_s, False
        return torch.cat([w_d, constant_d], -1), torch.cat([w_s, constant_s], -1), True

    def gain(self, m: int, analog_gain: Tensor | float, drift: Tensor | None, dtype: torch.dtype) -> Gain:
        """From D to counts at the first m outputs; the analog gain of all tiles, or of each (R, C)."""
        key = m, None if isinstance(analog_gain, Tensor) else analog_gain, dtype
        if drift is not None:
            return self._gain(m, analog_gain, drift, dtype)
        for known, setting, found in self._gains:
            if known == key and (setting is None or torch.equal(setting, analog_gain)):  # type: ignore[arg-type]
                return found
        found = self._gain(m, analog_gain, None, dtype)
        setting = analog_gain.clone() if isinstance(analog_gain, Tensor) else None
        self._gains = [*self._gains[-_GAINS_KEPT:], (key, setting, found)]
        return found

    def _gain(self, m: int, analog_gain: Tensor | float, drift: Tensor | None, dtype: torch.dtype) -> Gain:
        receiver = self.device.receiver
        gain = receiver.gain[:m] * self._counts_per_d
        if drift is not None:
            gain = gain * drift[:m]
        if isinstance(analog_gain, Tensor):
            counts_per_d = analog_gain.to(torch.float64).T[:, None, :, None] * gain
        else:
            counts_per_d = (gain * analog_gain).reshape(1, 1, 1, -1)
        own = None if receiver.own_noise is None else receiver.own_noise[:, :m].to(dtype)
        return Gain(counts_per_d.to(dtype), (receiver.offset_d[:m] * self._counts_per_d).to(dtype), own)

    def counts(
        self, inputs: Tensor, tiles: Tiles, gain: Gain, source: Source, out: Tensor, factors: Factors = _STILL
    ) -> None:
        """Modulates, detects and converts, block by block.

        Args:
            inputs: (C, B, n) codes.
            tiles: C columns of R.
            gain: of these.
            source: of the light.
            out: (R, C, B, m) counts, overwritten.
            factors: what drifts within the call.
        """
        if not out.numel():
            return
        matrix = tiles.signed.flatten(1, 2)
        rows, columns, shots, m = out.shape
        alone = factors.still and self._shot_noise_alone(tiles)
        # with a second product beside it, one column's keeps all cores busy
        elements = CACHED_ELEMENTS if alone else PRODUCT_ELEMENTS
        step = min(shots, max(1, elements // (rows * m)))
        if self.device.transmitter.memory > 0:
            step = shots  # each shot remembers the one before
        wide = min(columns, max(1, elements // (step * rows * m)))
        light_wide = max(wide, LIGHT_ELEMENTS // (step * inputs.shape[-1]))
        results = matrix.new_empty(wide * step * rows * m)
        scratch = matrix.new_empty(1 + alone, min(len(results), max(CACHED_ELEMENTS, rows * m)))
        for first in range(0, columns, light_wide):
            for start in range(0, shots, step):
                block = slice(start, start + step)
                codes = inputs[first : first + light_wide, block]
                light = self._light(codes, rows, tiles, source)
                for begin in range(0, len(light), wide):
                    part = light[begin : begin + wide]
                    here = slice(first + begin, first + begin + len(part))
                    d, each = _beginning(results, (len(part), part.shape[-2], rows, m)), gain.columns(here)
                    self._multiply(part, matrix[here], d)
                    power, counts = _columns(tiles.power, here), out[:, here, block].permute(1, 2, 0, 3)
                    if alone:
                        # held by nobody else: the next block's takes its place
                        self._detector.read(d, (part, self._shot_noise(power, each)), each, scratch, counts)
                    else:
                        s = self._power(part, power.to(d.dtype), d, each, source.power)
                        s, each = factors.apply_(d, s, each, here, block)
                        self._detector.read(d, s, each, scratch, counts)

    def few_shots(self, tiles: Tiles, gain: Gain) -> FewShots | None:
        """The same for few shots of tiles that stay; None where it is not possible."""
        levels = self.level_table(tiles.signed.shape[-1] - tiles.constant)
        fits = FewShots.possible(self.parameters, self.device.receiver.transitions)
        if levels is None or not fits or gain.counts_per_d.dtype != torch.float32:
            return None
        detector = self._detector
        return FewShots(levels, tiles, gain, detector.noise, detector.adc_noise_lsb, self._count_range, self._draws)

    def level_table(self, n: int) -> LevelTable | None:
        """Levels of the first n channels for all codes; None where a code does not decide about them."""
        if n not in self._levels:
            self._levels[n] = LevelTable.of(self.device.transmitter, n, self._code_range)
        return self._levels[n]

    def _multiply(self, light: Tensor, matrix: Tensor, d: Tensor) -> None:
        """Writes D in counts (C, B, R, m)."""
        if light.ndim == 4:
            d.copy_((light @ matrix.unflatten(1, d.shape[2:]).mT).transpose(1, 2))
        else:
            torch.bmm(light, matrix.mT, out=d.flatten(2))

    def _shot_noise_alone(self, tiles: Tiles) -> bool:
        """Whether S has a product of its own, of the light alone, and nothing but shot noise follows it."""
        optics, noise = self.device.optics, self._detector.noise
        still = not self.device.transmitter.shots_differ and optics.s_offset == optics.s_per_d2 == 0
        return still and noise.shot > 0 and noise.common_mode == 0 and tiles.power.shape[:3] != (1, 1, 1)

    def _shot_noise(self, power: Tensor, gain: Gain) -> ShotNoise:
        return ShotNoise.of(power, gain, self._detector.noise, self._detector.adc_noise_lsb)

    def _light(self, inputs: Tensor, rows: int, tiles: Tiles, source: Source) -> Tensor:
        """Light (C, B, K) of shots, or (C, R, B, K) where each tile's shots have their own."""
        light = self._looked_up(inputs, tiles, source)
        if light is None:
            light = self._modulated(inputs.to(tiles.signed.dtype), rows, source)
            light = F.pad(light, (0, 1), value=1.0) if tiles.constant else light
        return light if source.power == 1.0 else light.mul_(source.power)

    def _looked_up(self, inputs: Tensor, tiles: Tiles, source: Source) -> Tensor | None:
        """Light of many whole codes (C, B, n) from a table; None where a code alone does not decide about it."""
        n, (low, high) = inputs.shape[-1], self._code_range
        if inputs.is_floating_point() or source.bias_rad is not None or tiles.signed.dtype != torch.float32:
            return None
        if inputs.numel() < n * (high - low):
            return None  # the table would be longer
        table = self.level_table(n)
        if table is None:
            return None
        # patches come channel by channel, and stay so
        by_channel = inputs.stride(-1) != 1
        codes = inputs.mT if by_channel else inputs
        light = table.of_tensor(codes, -2 if by_channel else -1, tiles.constant)
        return light.mT if by_channel else light

    def _modulated(self, inputs: Tensor, rows: int, source: Source) -> Tensor:
        """Light of codes, floating point, by the modulators' own curves."""
        transmitter = self.device.transmitter
        if self._whole and inputs.shape[-1] < self.parameters.n_inputs:
            inputs = F.pad(inputs, (0, self.parameters.n_inputs - inputs.shape[-1]))
        if transmitter.shots_differ:
            inputs = inputs.unsqueeze(1).expand(-1, rows, -1, -1)
        return transmitter.light(inputs, source.bias_rad, self._draws.first)

    def _power(self, light: Tensor, power: Tensor, d: Tensor, gain: Gain, source: float) -> Tensor:
        """S, broadcastable to (C, B, R, m)."""
        optics = self.device.optics
        s: Tensor
        if power.shape[:3] == (1, 1, 1):
            each = light.transpose(1, 2) if light.ndim == 4 else light.unsqueeze(2)  # (C, B, R or 1, K)
            s = (each @ power[0, 0, 0]).unsqueeze(-1)
        elif light.ndim == 3:
            s = (light @ power.flatten(1, 2).mT).unflatten(-1, power.shape[1:3])
        else:
            s = (light @ power.mT).transpose(1, 2)
        if optics.s_offset > 0:
            s = s + optics.s_offset * source
        if optics.s_per_d2 > 0 and source > 0:
            s = s + (d / gain.counts_per_d).square_().mul_(optics.s_per_d2 / source)
        return s


def _beginning(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The beginning of a buffer, in this shape."""
    return buffer[: math.prod(shape)].view(shape)


def _columns(values: Tensor, which: slice) -> Tensor:
    """A range of the first dimension, which may be 1 for all."""
    return values if len(values) == 1 else values[which]
