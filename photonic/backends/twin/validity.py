"""Where a twin is right: what it refuses, and what it must do tile by tile."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from photonic.backends.twin.light import Light
from photonic.backends.twin.prepared import Prepared
from photonic.errors import SpecError
from photonic.physics.parameters import ChipParameters
from photonic.physics.receiver import Receiver
from photonic.records import ChipSpec, NoiseModel

# noise of a reading, in counts: from the first on, quantisation adds 1/12 count^2 of its own to within 2.5 % of the
# variance, whatever the signal (Widrow and Kollar, Quantization Noise, ch. 4: exp(-2 pi^2 sigma^2)); below the second
# a count is decided by less of the signal than any statistical model holds
FINE_COUNTS = 0.5
COARSE_COUNTS = 0.05
# tile outputs that a product is judged by
SAMPLED = 2**17
# of the variance: beyond, a convolution tells its tiles apart
RIN_SHARE = 0.05


def refuse_unknown_effects(parameters: ChipParameters, name: str) -> None:
    """Refuses a chip with an effect that a twin, which knows one moment and single shots, cannot carry.

    Raises:
        SpecError: the fields, and what to do.
    """
    p = parameters
    found = {
        "modulator_bandwidth_hz": p.modulator_bandwidth_hz is not None,
        "warm_up_k": p.warm_up_k != 0,
        "temperature_drift_k": p.temperature_drift_k > 0,
        "laser_drift": p.laser_drift > 0,
        "laser_walk_per_root_s": p.laser_walk_per_root_s > 0,
        "gain_drift": p.gain_drift > 0,
        "bias_drift_rad": p.bias_drift_rad > 0,
        "lo_phase_drift_rad": p.phase_drift_rad > 0,
        "thermal_memory_k": p.thermal_memory_k != 0,
    }
    present = [field for field, on in found.items() if on]
    if present:
        raise SpecError(
            f"{name}: a twin holds a chip at one moment, without memory from shot to shot, but {', '.join(present)} "
            "changes it in time; switch it off, or take the exact chip (sim)"
        )


def refuse_unknown_codes(spec: ChipSpec) -> None:
    """Refuses a chip whose codes a twin would misread: it takes 0 as dark, and rails on both sides of a count of 0.

    Raises:
        SpecError: what the chip's data sheet says, and what to do.
    """
    dark, zero, (low, high) = spec.dark_code, spec.response.inputs.code_zero, spec.count_range
    if dark != 0 or zero != 0 or low + high not in (-1, 0):
        raise SpecError(
            f"{spec.chip_id}: a twin takes inputs that are dark at code 0 and counts on both sides of 0, found "
            f"dark_code {dark:g}, code_zero {zero:g} and counts from {low:g} to {high:g}; take the exact chip (sim)"
        )


def needs_tiles(parameters: ChipParameters, gain: float, receiver: Receiver) -> bool:
    """Whether counts must be made tile by tile: the sum of the tiles does not tell what the converters make of them.

    Args:
        parameters: of the chip.
        gain: the least analog gain before the ADC.
        receiver: of the device.
    """
    p = parameters
    if p.coherent:
        return True  # S holds each tile's D^2
    if p.adc_bits is None:
        return False
    if receiver.transitions is not None:
        return True
    quietest = 1.0 if receiver.own_noise is None else float(receiver.own_noise[0].min())
    return math.sqrt(quietest * p.noise.thermal * (gain / p.lsb) ** 2 + p.adc_noise_lsb**2) < FINE_COUNTS


def clipped(light: Light, prepared: Prepared, rail: float) -> tuple[int, int]:
    """Tile outputs of a sample of shots, and those of them that are beyond the rails.

    Args:
        light: (G, P, C, K) of the sample.
        prepared: the weight.
        rail: |count| at which the ADC clips.
    """
    outputs = tile_outputs(light, prepared)
    return outputs.numel(), int((outputs.abs() > (rail + 0.5) * prepared.count.abs().unsqueeze(2)).sum())


def coarse(light: Light, prepared: Prepared, parameters: ChipParameters) -> tuple[int, int]:
    """Tile outputs of a sample of shots, and those of them with less noise than ``COARSE_COUNTS``."""
    noise, count = parameters.noise, prepared.count.unsqueeze(2)
    least = COARSE_COUNTS**2 - parameters.adc_noise_lsb**2
    s = prepared.column_power(light.plus)
    thermal, shot = (noise.thermal, noise.shot) if prepared.receivers is None else prepared.receivers
    detector = (s * shot + thermal) * prepared.worth.unsqueeze(2).square()
    few = (detector < least * count.square()) & (count != 0)
    return few.numel(), int(few.sum())


def shared(light: Light, prepared: Prepared, noise: NoiseModel, shots: int) -> tuple[float, Tensor]:
    """What outputs of one shot share of the variance at the worst output, and (G, 1, M) its mean: RIN.

    Args:
        light: (G, P, C, K) of a sample of shots.
        prepared: the weight.
        noise: of a reading, in D^2.
        shots: averaged for a result.
    """
    outputs, s = tile_outputs(light, prepared), prepared.column_power(_each(light))
    common = outputs.square() * noise.rin + (s * prepared.worth.unsqueeze(2)).square() * noise.common_mode
    common = common.sum(1).mean(1, keepdim=True).mul_(light.readings / shots)
    independent = prepared.variance(light.total, light.readings).mean(1, keepdim=True)
    share = common / (common + independent).clamp(min=torch.finfo(common.dtype).tiny)
    return float(share.max()), common


def tile_outputs(light: Light, prepared: Prepared) -> Tensor:
    """(G, C, P, M) what each tile gives in each shot, in the output."""
    found: Tensor = _each(light).transpose(1, 2) @ prepared.matrix.permute(0, 2, 3, 1)
    return found


def _each(light: Light) -> Tensor:
    """Light of every shot, both signs one after the other."""
    return light.plus if light.minus is None else torch.cat([light.plus, light.minus], dim=1)
