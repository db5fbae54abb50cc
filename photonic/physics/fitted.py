"""A chip from what a calibration has found out about it: the model of ``photonic.calibration.model``, as a device.

    D_i = 1/N sum_j w_ij p_j T_j(u_j)           the count before the ADC is g_i D_i + z_i

Its optics are in ``fittedoptics``. Noise is the record's, in D^2: no ampere and no watt is known of such a chip, and
asking for one raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from photonic.errors import ArraysError, CalibrationError
from photonic.physics.device import Defects, Device
from photonic.physics.fittedoptics import FittedOptics
from photonic.physics.parameters import ChipParameters
from photonic.physics.receiver import Receiver, own_noise_of
from photonic.physics.transmitter import Transmitter
from photonic.records import ChipSpec, DriftModel, EnergyModel, InputTransfer, NoiseModel, Response

_MOST_DRIFT = 0.3  # as of any simulated laser
# what a simulation does; a chip's other conditions are refused by its twin
_SIMULATED = ("laser_power", "analog_gain")


class FittedParameters(ChipParameters):
    """A measured chip as the machinery of simulated chips sees it: its data sheet, with the response that was fitted.

    Effects that a record does not tell apart are off, and what they do together is in the response.
    """

    architecture: ClassVar[str] = "fitted"
    states_power: ClassVar[bool] = False

    # a chip may have fewer bits than those that are simulated from primary quantities
    weight_bits: int | None = Field(default=8, ge=1, le=15)
    adc_bits: int | None = Field(default=8, ge=1, le=16)
    measured: ChipSpec = Field(description="the fitted response in place of the nominal one")
    drift_variance: float = Field(default=0.0, ge=0, description="of a drift that stands still, in place of itself")

    @classmethod
    def of(cls, spec: ChipSpec, response: Response, drift_variance: float = 0.0) -> FittedParameters:
        """The parameters of a chip with a code for each weight.

        Args:
            spec: of the chip when it was measured.
            response: that was fitted.
            drift_variance: that is added to the common intensity noise, where the drift itself is not simulated.

        Raises:
            CalibrationError: a chip that these equations do not describe.
        """
        _refuse_other_chips(spec, response)
        return cls(
            n_outputs=spec.n_outputs,
            n_inputs=spec.n_inputs,
            input_bits=spec.input_bits,
            weight_bits=spec.weight_bits,
            adc_bits=spec.adc_bits,
            adc_full_scale=spec.adc_full_scale,
            settle_time_s=spec.settle_time_s,
            shot_noise=False,
            thermal_noise_a_per_rthz=0.0,
            rin_db_per_hz=None,
            extinction_ratio_db=None,
            drift_variance=drift_variance,
            measured=ChipSpec(**{**spec.model_dump(), **_as_simulated(spec), "response": response.model_dump()}),
        )

    def drifting(self, drift: DriftModel) -> Self:
        """The same chip with the drift of its record, which all outputs share as they share the laser.

        Raises:
            CalibrationError: a drift that cannot be simulated.
        """
        walk, sigma = drift.kind == "random walk", drift.sigma if drift.kind == "ar1" else 0.0
        if sigma >= _MOST_DRIFT or (drift.kind == "ar1" and drift.time_s is None):
            raise CalibrationError(
                f"the record of {self.measured.chip_id}: expected an AR(1) drift below {_MOST_DRIFT:g} of the gain "
                f"with its time, found {sigma:g} and {drift.time_s} s; calibrate the chip when it has settled"
            )
        changes: dict[str, object] = {
            "laser_drift": sigma,
            "laser_walk_per_root_s": drift.per_root_s if walk else 0.0,
            "drift_s": drift.time_s or self.drift_s,
            "drift_variance": 0.0,
        }
        return type(self)(**{**dict(self), **changes})

    @property
    def sheet(self) -> ChipSpec:
        """The chip's own data sheet."""
        return self.measured

    @property
    def response(self) -> Response:
        """As it was fitted."""
        return self.measured.response

    @property
    def noise(self) -> NoiseModel:
        """As it was fitted, with the variance of a drift that is not simulated."""
        noise = self.measured.response.noise
        return noise.model_copy(update={"rin": noise.rin + self.drift_variance}) if self.drift_variance else noise

    @property
    def lsb(self) -> float:
        """One count in D, from the rms gain: the outputs' ADCs are alike, and only their mean noise is recorded."""
        return 1.0 / math.sqrt(float(np.mean(np.square(self.measured.response.counts_per_d))))

    @property
    def adc_noise_lsb(self) -> float:
        """Standard deviation of the ADCs' own noise, in counts."""
        return math.sqrt(self.noise.converter) / self.lsb

    @property
    def input_transfer(self) -> InputTransfer:
        """As it was fitted."""
        return self.measured.response.inputs

    @property
    def weight_code_one(self) -> float:
        """Drive code of a weight of +1."""
        return self.measured.response.weight_code_one

    @property
    def weight_code_range(self) -> tuple[float, float]:
        """Lowest and highest drive code."""
        return self.measured.weight_code_range

    @property
    def energy(self) -> EnergyModel:
        """As the chip's data sheet states it.

        Raises:
            CalibrationError: it does not.
        """
        if self.measured.energy is None:
            raise CalibrationError(f"the data sheet of {self.measured.chip_id} states no energy")
        return self.measured.energy

    @property
    def signal_power_w(self) -> float:
        """Not known.

        Raises:
            CalibrationError: always.
        """
        raise CalibrationError(
            f"the record of {self.measured.chip_id} has counts and no optical power; take the simulated chip of a "
            "preset, such as 'sim', where watts are needed"
        )


def device_of(parameters: FittedParameters, transfer: InputTransfer, arrays: Mapping[str, np.ndarray]) -> Device:
    """The device that a record's arrays describe; nothing is drawn.

    Args:
        parameters: of the chip.
        transfer: of its inputs as its data sheet had them when it was measured: what ``inverse_v_pi`` is relative to.
        arrays: of the record, see ``photonic.calibration.model``.

    Raises:
        ArraysError: one is missing, of another shape, or not finite.
        CalibrationError: transitions for an ADC whose counts are not centred.
    """
    a = _checked(parameters, arrays)
    m, n, nominal = parameters.n_outputs, parameters.n_inputs, parameters.response.counts_per_d[0]
    optics = FittedOptics(
        code_range=parameters.weight_code_range,
        curves=a["curves"],
        element=a["element"],
        offsets=tuple((int(rows), int(columns)) for rows, columns in a["neighbour_offsets"].tolist()),
        neighbour=a["neighbour"],
        target=float(a["neighbour_target"]),
        power_law=(float(a["power_law"][0]), float(a["power_law"][1])),
    )
    receiver = Receiver(
        gain=a["counts_per_d"] / nominal,
        offset_d=a["zero_count"] / nominal,
        imbalance=torch.zeros(m, dtype=torch.float64),
        transitions=_transitions(parameters.measured, a.get("transitions")),
        own_noise=_own_noise(parameters.measured, arrays),
    )
    nothing = torch.zeros(m, n, dtype=torch.float64)
    return Device(optics, _transmitter(parameters, transfer, a), receiver, Defects(nothing.bool(), nothing))


def _transmitter(parameters: FittedParameters, transfer: InputTransfer, a: Mapping[str, Tensor]) -> Transmitter:
    """Half phases, or levels where inputs are linear, as slope x code + bias."""
    linear = transfer.shape == "linear"
    span = transfer.code_one - transfer.code_zero
    inverse_v_pi = torch.ones_like(a["power"]) if linear else a["inverse_v_pi"]
    slope = inverse_v_pi * ((1.0 if linear else math.pi / 2) / span)
    return Transmitter(
        parameters=parameters,
        shape=transfer.shape,
        inverse_v_pi=inverse_v_pi,
        bias_rad=(0.0 if linear else a["bias_rad"]) - slope * transfer.code_zero,
        power=a["power"],
        dac=None,
        slope=slope,
        level_min=0.0 if linear else float(a["level_min"]),
        memory=0.0,
        noise_lsb=0.0,
        line_rin=0.0,
    )


def _refuse_other_chips(spec: ChipSpec, response: Response) -> None:
    """Refuses what the equations do not describe."""
    noise, lowest = response.noise, spec.input_code_range[0]
    if spec.layout != "elementwise":
        raise CalibrationError(
            f"chip {spec.chip_id} has layout {spec.layout!r}: its record says what a few measured programs do "
            "and nothing of others, so it has no twin; take the simulated chip of a preset, such as 'sim:mesh-typical'"
        )
    if response.inputs.shape == "field" or spec.response.inputs.shape != response.inputs.shape:
        raise CalibrationError(
            f"chip {spec.chip_id}: expected a record of inputs of shape 'mzm' or 'linear', as the data sheet has them; "
            f"found {response.inputs.shape!r}, and {spec.response.inputs.shape!r} in the data sheet"
        )
    if response.inputs.shape == "linear" and lowest < response.inputs.code_zero and (noise.shot or noise.common_mode):
        raise CalibrationError(
            f"chip {spec.chip_id}: noise that follows the power S, found shot = {noise.shot:g} and common_mode = "
            f"{noise.common_mode:g}, is not simulated where input codes give negative levels: the record has no twin; "
            "calibrated backends take it"
        )


def _as_simulated(spec: ChipSpec) -> dict[str, object]:
    """What the twin's data sheet says otherwise: no condition that it would ignore."""
    conditions = {name: spec.conditions[name] for name in _SIMULATED if name in spec.conditions}
    numbers = {name: tuple(v for v in values if not isinstance(v, str)) for name, values in conditions.items()}
    kept = {name: values for name, values in numbers.items() if values}
    return {
        "conditions": kept,
        "tile_conditions": tuple(name for name in spec.tile_conditions if name == "analog_gain" and name in kept),
        # where the dark code is not 0 the seam fills tiles up, which knows it
        "partial_tiles": spec.partial_tiles and spec.dark_code == 0,
    }


def _checked(parameters: FittedParameters, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The arrays as tensors, float64; a None in a shape is any length."""
    m, n = parameters.n_outputs, parameters.n_inputs
    shapes: dict[str, tuple[int | None, ...]] = {
        "counts_per_d": (m,),
        "zero_count": (m,),
        "inverse_v_pi": (n,),
        "bias_rad": (n,),
        "power": (n,),
        "level_min": (1,),
        "curves": (None, None),
        "element": (m, n, None),
        "neighbour_offsets": (None, 2),
        "neighbour": (None, None),
        "neighbour_target": (1,),
        "power_law": (2,),
    }
    missing = sorted(shapes.keys() - arrays.keys())
    if missing:
        raise ArraysError(
            f"the record of {parameters.measured.chip_id} lacks the arrays {', '.join(missing)}, which a twin is made "
            "of; calibrate the chip with photonic calibrate"
        )
    found = {name: torch.tensor(arrays[name], dtype=torch.float64) for name in shapes}
    wrong = [
        f"{name} {tuple(found[name].shape)}, expected {shape}"
        for name, shape in shapes.items()
        if len(shape) != found[name].ndim
        or any(want not in (None, size) for want, size in zip(shape, found[name].shape, strict=True))
    ] + [f"{name} not finite" for name in shapes if not found[name].isfinite().all()]
    if not wrong and (found["element"].shape[2] != len(found["curves"]) or min(found["curves"].shape) < 2):
        wrong.append("element and curves of different numbers of curves, or fewer than 2 curves or nodes")
    if not wrong and not bool((found["curves"][0] == 1).all()):
        wrong.append("the first of the curves not 1 everywhere")
    if not wrong and len(found["neighbour"]) != len(found["neighbour_offsets"]):
        wrong.append("neighbour and neighbour_offsets of different lengths")
    if wrong:
        raise ArraysError(
            f"the record of {parameters.measured.chip_id} does not fit its chip: {'; '.join(wrong)}; calibrate again"
        )
    if "transitions" in arrays:
        found["transitions"] = torch.tensor(arrays["transitions"], dtype=torch.float64)
    return found


def _own_noise(spec: ChipSpec, arrays: Mapping[str, np.ndarray]) -> Tensor | None:
    found = own_noise_of(spec, arrays)
    return None if found is None else torch.tensor(found, dtype=torch.float64)


def _transitions(spec: ChipSpec, found: Tensor | None) -> Tensor | None:
    """Levels of each ADC, or (K,) of all alike."""
    if found is None:
        return None
    bits = spec.adc_bits
    shapes = [] if bits is None else [(rows, 2**bits - 1) for rows in (1, spec.n_outputs)]
    if tuple(found.shape) not in shapes or not found.isfinite().all() or bool((found.diff(dim=-1) < 0).any()):
        raise ArraysError(
            f"the record of {spec.chip_id}: transitions must rise and be one of {shapes}, found {tuple(found.shape)}"
        )
    centred = -(2.0 ** ((bits or 0) - 1)), 2.0 ** ((bits or 0) - 1) - 1
    if spec.count_range != centred:
        raise CalibrationError(
            f"chip {spec.chip_id}: an ADC with transitions of its own counts from {centred[0]:g} to {centred[1]:g}, "
            f"found {spec.count_range}; leave the transitions out of the record"
        )
    return found[0] if len(found) == 1 else found
