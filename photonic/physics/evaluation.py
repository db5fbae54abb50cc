"""One device at work: codes of a column of tiles and of its shots to counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.physics import detection
from photonic.physics.detection import Gain
from photonic.physics.device import Device
from photonic.physics.optics import Surroundings
from photonic.physics.parameters import ChipParameters

# shots of one tile column are evaluated in blocks that stay in a core's cache
BLOCK_ELEMENTS = 2**18


@dataclass(frozen=True)
class Tiles:
    """What R programmed tiles of a column do to the light of K channels.

    Attributes:
        signed: (R, K, m) W_D, transposed.
        power: W_S, broadcasts to (R, m, K).
        constant: whether the last of the K channels stands for light that does not depend on the inputs.
    """

    signed: Tensor
    power: Tensor
    constant: bool


class Evaluation:
    """Evaluates shots of a device.

    Args:
        parameters: of the chip.
        device: its hidden truth.
        counts_per_d: of a nominal output.
        count_range: rails of the ADC.
    """

    def __init__(
        self, parameters: ChipParameters, device: Device, counts_per_d: float, count_range: tuple[float, float]
    ) -> None:
        self.parameters, self.device = parameters, device
        self._counts_per_d, self._count_range = counts_per_d, count_range
        # the light carries each line's own RIN already
        self._noise = parameters.noise.model_copy(update={"rin": 0.0} if device.transmitter.line_rin else {})
        self._adc_noise_lsb = parameters.adc_noise_lsb
        self._whole = device.transmitter.shots_differ or parameters.input_crosstalk > 0

    def tiles(self, codes: Tensor, n: int, bias_rad: Tensor | None, around: Surroundings, dtype: torch.dtype) -> Tiles:
        """Programs a column of tiles: codes (R, P), n inputs in use.

        Light of unused channels, at the dark code, joins the constant.
        """
        optics, n_all = self.device.optics, self.parameters.n_inputs
        drives = codes.to(dtype)
        if len(self.parameters.drive_shape) == 2:
            drives = F.pad(drives.unflatten(-1, (-1, n)), (0, n_all - n))
        w_d, w_s = optics.matrices(self.device.defects.apply(drives), around)
        if self.parameters.arm_imbalance_spread > 0:
            half = self.device.receiver.imbalance[: w_d.shape[1], None].to(dtype) / 2
            w_d = w_d + half * w_s
        constant_d, constant_s = None, None
        if n < n_all and not self._whole:
            dark = self._dark(n, bias_rad, around.generator, dtype)
            constant_d, constant_s = (w_d[..., n:] * dark).sum(-1, True), (w_s[..., n:] * dark).sum(-1, True)
            w_d, w_s = w_d[..., :n], w_s[..., :n]
        if self.parameters.arm_imbalance_spread > 0 and optics.s_offset > 0:
            # the local oscillator alone unbalances the pair
            constant_d, constant_s = (half * optics.s_offset).expand_as(w_d[..., :1]), torch.zeros_like(w_s[..., :1])
        if constant_d is None or constant_s is None:
            return Tiles(w_d.transpose(1, 2), w_s, constant=False)
        return Tiles(torch.cat([w_d, constant_d], -1).transpose(1, 2), torch.cat([w_s, constant_s], -1), constant=True)

    def _dark(self, n: int, bias_rad: Tensor | None, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Light (N - n,) of the unused channels."""
        codes = torch.zeros(1, self.parameters.n_inputs, dtype=dtype)
        return self.device.transmitter.light(codes, bias_rad, generator)[0, n:]

    def light(
        self, inputs: Tensor, rows: int, tiles: Tiles, power: float, bias_rad: Tensor | None, around: Surroundings
    ) -> Tensor:
        """Light of a column's shots: (B, K), or (R, B, K) where each shot has its own.

        Args:
            inputs: (B, n) codes in the dtype of the arithmetic.
            rows: R.
            tiles: of the column.
            power: of the source, relative.
            bias_rad: (N,) drift of the modulators' nulls.
            around: for the generator.
        """
        if self._whole:
            inputs = F.pad(inputs, (0, self.parameters.n_inputs - inputs.shape[-1]))
        if self.device.transmitter.shots_differ:
            inputs = inputs.expand(rows, -1, -1)
        light = self.device.transmitter.light(inputs, bias_rad, around.generator)
        if tiles.constant:
            light = F.pad(light, (0, 1), value=1.0)
        return light if power == 1.0 else light * power

    def gain(self, m: int, analog_gain: Tensor | float, drift: Tensor | None, dtype: torch.dtype) -> Gain:
        """From D to counts at the first m outputs; an analog gain for the column's tiles (R,) or for all."""
        receiver = self.device.receiver
        gain = receiver.gain[:m] * self._counts_per_d
        if drift is not None:
            gain = gain * drift[:m]
        if isinstance(analog_gain, Tensor):
            counts_per_d = analog_gain.to(torch.float64).reshape(-1, 1, 1) * gain
        else:
            counts_per_d = (gain * analog_gain).reshape(1, 1, -1)
        return Gain(counts_per_d.to(dtype), (receiver.offset_d[:m] * self._counts_per_d).to(dtype))

    def counts(
        self, light: Tensor, tiles: Tiles, gain: Gain, power: float, generator: torch.Generator, out: Tensor
    ) -> None:
        """Detects and converts, block by block; writes counts (R, B, m) to ``out``."""
        # in counts from here on: the gain joins the matrix, so that the large array is touched once less
        matrix = tiles.signed * gain.counts_per_d
        rows, shots, m = out.shape
        step = max(1, BLOCK_ELEMENTS // (rows * m))
        d_buffer = torch.empty(rows, min(step, shots), m, dtype=light.dtype)
        scratch = torch.empty_like(d_buffer)
        for start in range(0, shots, step):
            part = light[..., start : start + step, :]
            size = part.shape[-2]
            if size < d_buffer.shape[1]:
                d_buffer, scratch = (
                    torch.empty(rows, size, m, dtype=light.dtype),
                    scratch.flatten()[: rows * size * m].view(rows, size, m),
                )
            d = torch.bmm(part.expand(rows, -1, -1), matrix, out=d_buffer)
            s = self._power(part, tiles.power, d, gain, power)
            detection.add_noise_(d, s, gain, self._noise, self._adc_noise_lsb, generator, scratch)
            if self.parameters.adc_bits is not None:
                detection.convert_(d, self._count_range, self.device.receiver.transitions)
            out[:, start : start + step] = d

    def _power(self, light: Tensor, matrix: Tensor, d: Tensor, gain: Gain, power: float) -> Tensor:
        """S, broadcastable to (R, B, m)."""
        optics = self.device.optics
        same = matrix.shape[:2] == (1, 1)  # at all outputs
        s = (light @ matrix[0, 0]).unsqueeze(-1) if same else light @ matrix.mT
        if optics.s_offset > 0:
            s = s + optics.s_offset * power
        if optics.s_per_d2 > 0 and power > 0:
            s = s + (d / gain.counts_per_d).square_().mul_(optics.s_per_d2 / power)
        return s
