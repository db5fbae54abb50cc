"""A coherent mesh of Mach-Zehnder interferometers with homodyne detection."""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from photonic.physics import svdmesh
from photonic.physics.heaters import check_pitch
from photonic.physics.optics import Optics, Surroundings
from photonic.physics.parameters import ChipParameters
from photonic.physics.sections import switch


class MeshParameters(ChipParameters):
    """Two Clements rectangles around a row of attenuators: W / sigma_max = U diag(s) V^T (svdmesh, clements).

    Inputs are fields; an output beats against a local oscillator, I_plus - I_minus = 2 R sqrt(P_s P_lo) Re(E), so
    D = Re(W / sigma_max E), and both arms together see S = S_0 + k D^2 with S_0 = sqrt(P_lo / P_s) / 2 and
    k = sqrt(P_s / P_lo) / 2, in the unit of D.

    ``power_per_pair_w`` is P_s, the light of one input at full level if all of it reached one detector pair.
    ``weight_bits`` are those of the phases, evenly over 2 pi.
    """

    architecture: ClassVar[str] = "mesh"
    coherent: ClassVar[bool] = True

    local_oscillator_ratio: float = Field(default=1.0, gt=0, description="P_lo / P_s at each detector pair")
    phase_error_rad: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of each heater, left after trimming; hidden",
        json_schema_extra=switch("phase error", 0.0),
    )
    splitter_error_rad: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="of each coupler's angle from pi/4; hidden",
        json_schema_extra=switch("splitter error", 0.0),
    )
    uneven_loss: bool = Field(
        default=True,
        description="modes at the edge pass fewer interferometers; their loss differs",
        json_schema_extra=switch("uneven loss", False),
    )
    lo_phase_spread_rad: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of each local oscillator; hidden",
        json_schema_extra=switch("local oscillator phase", 0.0),
    )
    lo_phase_drift_rad: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="standard deviation, AR(1) with drift_s",
        json_schema_extra=switch("local oscillator drift", 0.0),
    )
    lo_phase_rad_per_k: float = Field(default=0.05, description="path difference of signal and local oscillator")
    thermal_crosstalk: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="a in a exp(-b d) between heaters",
        json_schema_extra=switch("thermal crosstalk", 0.0),
    )
    thermal_decay_per_um: float = Field(default=0.127, gt=0, description="b")
    heater_pitch_um: float = Field(default=60.0, gt=0)

    @model_validator(mode="after")
    def _common_source(self) -> Self:
        if self.rin_per_line:
            raise ValueError("rin_per_line needs a laser for each channel; a coherent mesh has one")
        return self

    @model_validator(mode="after")
    def _drives_exist(self) -> Self:
        if self.input_bits is not None and self.input_bits < 2:
            raise ValueError(f"input_bits must be at least 2: fields have a sign; found {self.input_bits}")
        check_pitch(self.thermal_crosstalk, self.heater_pitch_um)
        return self

    def draw_optics(self, generator: torch.Generator) -> Mesh:
        """Draws the mesh of one device."""
        return Mesh(self, generator)

    @property
    def drive_shape(self) -> tuple[int, ...]:
        """(P,), see ``svdmesh.drive_count``."""
        return (svdmesh.drive_count(self.n_outputs, self.n_inputs),)

    @property
    def weight_code_range(self) -> tuple[float, float]:
        """Phases from 0 to 2 pi."""
        return 0.0, 2 * math.pi if self.weight_bits is None else 2.0**self.weight_bits - 1

    @property
    def radians_per_code(self) -> float:
        """One step of a phase."""
        return 1.0 if self.weight_bits is None else 2 * math.pi / 2**self.weight_bits

    @property
    def path_loss_db(self) -> float:
        """Of a path through every column of both rectangles."""
        return svdmesh.nominal_loss_db(self.n_outputs, self.n_inputs, self.device_loss_db)

    @property
    def insertion_loss_db(self) -> float:
        """From the source to a detector, through the whole mesh."""
        return self.coupling_loss_db + self.modulator_loss_db + self.routing_loss_db + self.path_loss_db

    @property
    def full_scale_current_a(self) -> float:
        """2 R sqrt(P_s P_lo)."""
        return 2 * self.responsivity_a_per_w * self.signal_power_w * math.sqrt(self.local_oscillator_ratio)

    @property
    def _source_per_signal(self) -> float:
        oscillators = self.n_outputs * self.local_oscillator_ratio
        return self.n_inputs * 10 ** (self.insertion_loss_db / 10) + oscillators * 10 ** (
            (self.coupling_loss_db + self.routing_loss_db) / 10
        )

    @property
    def hold_w_per_drive(self) -> float:
        """At the mean phase of a random matrix (svdmesh.mean_phase), about 0.6 pi: interferometers stay near cross."""
        return self.heater_pi_w * svdmesh.mean_phase(self.n_outputs, self.n_inputs) / math.pi

    @property
    def phase_drift_rad(self) -> float:
        """Of the local oscillators."""
        return self.lo_phase_drift_rad


class Mesh(Optics):
    """The hidden truth of one mesh.

    Args:
        parameters: of the chip.
        generator: the number of draws does not depend on the spreads.
    """

    def __init__(self, parameters: MeshParameters, generator: torch.Generator) -> None:
        p = self._parameters = parameters
        m, n = p.n_outputs, p.n_inputs

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self._phase_error = p.phase_error_rad * normal(*p.drive_shape)
        self._splitter_v = p.splitter_error_rad * normal(n * (n - 1) // 2, 2)
        self._splitter_u = p.splitter_error_rad * normal(m * (m - 1) // 2, 2)
        self._lo_phase = p.lo_phase_spread_rad * normal(m)
        self.s_offset = math.sqrt(p.local_oscillator_ratio) / 2
        self.s_per_d2 = 1 / (2 * math.sqrt(p.local_oscillator_ratio))

    @cached_property
    def _crosstalk(self) -> Tensor:
        p = self._parameters
        return svdmesh.crosstalk_matrix(
            p.n_outputs, p.n_inputs, p.thermal_crosstalk, p.thermal_decay_per_um, p.heater_pitch_um
        )

    def matrices(self, codes: Tensor, around: Surroundings) -> tuple[Tensor, Tensor]:
        """W_D (T, M, N), or (T, M, 2 N) with the inputs' quadrature, and W_S = 0: the power follows from D."""
        p = self._parameters
        phases = codes.to(torch.float64) * p.radians_per_code + self._phase_error
        if p.thermal_crosstalk > 0:
            phases = svdmesh.crosstalk(phases, self._crosstalk)
        field = svdmesh.transfer(
            phases,
            p.n_outputs,
            p.n_inputs,
            splitter_v=self._splitter_v if p.splitter_error_rad else None,
            splitter_u=self._splitter_u if p.splitter_error_rad else None,
            loss_db=p.device_loss_db if p.uneven_loss else 0.0,
        )
        if p.uneven_loss:
            # the link budget has paid for the whole path
            field = field * 10 ** (p.path_loss_db / 20)
        angle = self._oscillators(around, len(codes))
        if bool(angle.any()):
            field = field * torch.polar(torch.ones_like(angle), -angle).unsqueeze(-1)
        signed = field.real if p.extinction_ratio_db is None else torch.cat([field.real, -field.imag], dim=-1)
        w_d = signed.to(codes.dtype).contiguous()
        return w_d, torch.zeros(1, 1, w_d.shape[-1], dtype=codes.dtype)

    def _oscillators(self, around: Surroundings, tiles: int) -> Tensor:
        """Phase (T, M) of the local oscillators."""
        angle = self._lo_phase if around.phase_rad is None else self._lo_phase + around.phase_rad
        if around.kelvin is None:
            return angle.expand(tiles, -1)
        return angle + around.kelvin.to(torch.float64).unsqueeze(-1) * self._parameters.lo_phase_rad_per_k
