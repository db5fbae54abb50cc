"""An incoherent crossbar of phase-change cells, or of other attenuators, with balanced detection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from photonic.physics.many import many
from photonic.physics.optics import Optics, Surroundings
from photonic.physics.parameters import ChipParameters
from photonic.physics.sections import switch

_COLD = "temperature has no first-order effect on a crossbar's cells, and would do nothing here"


class CrossbarParameters(ChipParameters):
    """M x N pairs of cells, one cell on each arm of a balanced detector: w = (T_plus - T_minus) / (1 - T_min).

    Transmissions are relative to a cell at its clearest, whose loss is ``device_loss_db``. A positive weight is
    programmed into the plus arm's cell, a negative one into the minus arm's, and the other cell stays at T_min: a
    weight of zero is two dark cells, so the pair's floor cancels in D and is left in S alone.

    A cell has levels T_k = (1 - l)^k, k = 0, 1, ... (torchonn's PCMLinear; Zhu et al., arXiv 2112.08512), which reach
    from 1 to T_min = 1 / extinction, so l follows from levels and extinction: 4 bits are 16 levels in each cell, and
    l = 0.128 with them is 8.92 dB. The levels are not evenly spaced and the codes of weights are; the driver takes the
    level whose weight is nearest, which is coarser than ``weight_bits``.

    Temperature has no first-order effect on the cells: they are no resonators, and hold their phase without power.

    ``power_per_pair_w`` is the light of both arms with all inputs and all weights at +1, S = (1 + T_min) / (1 - T_min).
    Each arm is fed for itself, so half of the source's light or more ends in the dark cells.
    """

    architecture: ClassVar[str] = "crossbar"

    cell_levels: int | None = Field(
        default=16,
        ge=2,
        le=4096,
        description="that a cell can be programmed to, log-spaced; None: continuous",
        json_schema_extra=switch("cell levels", None),
    )
    cell_extinction_db: float | None = Field(
        default=8.92,
        gt=0,
        description="largest over smallest transmission of a cell; None: infinite",
        json_schema_extra=switch("cell extinction", None),
    )
    cell_spread: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="of each cell's transmission, relative; hidden",
        json_schema_extra=switch("cell spread", 0.0),
    )
    read_spread: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="of each cell at every reading, over the transmission of a clear one; measured: 0.007",
        json_schema_extra=switch("cell read noise", 0.0),
    )
    drift_exponent: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="nu in T(t) = T_0 (t / t_0)^-nu; no optical value is known, electrical ones are 0.05 to 0.11",
        json_schema_extra=switch("cell drift", 0.0),
    )
    age_s: float = Field(default=1.0, gt=0, description="t, since the cells were programmed")
    drift_t0_s: float = Field(default=1.0, gt=0, description="t_0, when the transmissions were what they should be")
    cell_write_j_per_db: float = Field(
        default=1.7e-9,
        ge=0,
        description="J, of erasing a cell by one dB (Zhou et al., Nature Commun. 14, 2887 (2023)); writing is taken to "
        "cost the same",
    )

    @model_validator(mode="after")
    def _cells_exist(self) -> Self:
        if self.cell_levels is not None and self.cell_extinction_db is None:
            raise ValueError(
                f"cell_extinction_db must be given with cell_levels ({self.cell_levels}): no finite number of "
                "log-spaced levels reaches down to a transmission of 0; found None"
            )
        if self.age_s < self.drift_t0_s:
            raise ValueError(
                f"age_s must be at least drift_t0_s ({self.drift_t0_s:g}), where the power law begins; "
                f"found {self.age_s}"
            )
        return self

    @model_validator(mode="after")
    def _cells_keep_their_temperature(self) -> Self:
        for name in ("temperature_error_k", "warm_up_k", "temperature_drift_k", "thermal_memory_k"):
            if getattr(self, name) != 0:
                raise ValueError(f"{name} must be 0: {_COLD}; found {getattr(self, name)}")
        return self

    def draw_optics(self, generator: torch.Generator) -> Crossbar:
        """Draws the cells of one device."""
        return Crossbar.draw(self, generator)

    @property
    def darkest(self) -> float:
        """T_min, the least transmission of a cell."""
        return 0.0 if self.cell_extinction_db is None else 10 ** (-self.cell_extinction_db / 10)

    @property
    def level_step(self) -> float | None:
        """l, what the transmission loses from one level to the next; None: no levels."""
        return None if self.cell_levels is None else float(1 - self.darkest ** (1 / (self.cell_levels - 1)))

    @property
    def drift(self) -> float:
        """What is left of a transmission at the age of the cells."""
        return float((self.age_s / self.drift_t0_s) ** -self.drift_exponent)

    @property
    def write_j_per_drive(self) -> float | None:
        """A pair's clear cell is erased to T_min and one is written anew; holding them takes nothing.

        With weights drawn evenly from -1 to 1 each of the two steps is 10 lg(T / T_min) = 10 lg(1 + |w| (X - 1)) dB
        deep on average, X = 1 / T_min, which is 10 / ln 10 (X ln X / (X - 1) - 1). Without a finite extinction no depth
        is stated.
        """
        if self.cell_extinction_db is None:
            return None
        over = 1 / self.darkest
        depth_db = 10 / math.log(10) * (over * math.log(over) / (over - 1) - 1)
        return 2 * max(depth_db, 0.0) * self.cell_write_j_per_db

    @property
    def full_scale_current_a(self) -> float:
        """Photocurrent of D = 1: the difference of the arms, of which the light of the pair is the sum."""
        return self.responsivity_a_per_w * self.signal_power_w * (1 - self.darkest) / (1 + self.darkest)

    @property
    def _source_per_signal(self) -> float:
        arms = 2 / (1 + self.darkest)  # each is fed what the clear one gives
        return arms * self.n_outputs * 10 ** (self.insertion_loss_db / 10)


@dataclass(frozen=True)
class Crossbar(Optics):
    """The hidden truth of one device's cells.

    Attributes:
        parameters: of the chip.
        factor: (2, M, N) actual over nominal transmission, of the plus arm's cells and of the minus arm's.
    """

    parameters: CrossbarParameters
    factor: Tensor

    @classmethod
    def draw(cls, parameters: CrossbarParameters, generator: torch.Generator) -> Crossbar:
        """Draws a device; the number of draws does not depend on the spread."""
        shape = 2, parameters.n_outputs, parameters.n_inputs
        # log-normal: transmissions are positive
        spread = parameters.cell_spread * torch.randn(shape, generator=generator, dtype=torch.float64)
        return cls(parameters, torch.exp(spread))

    @property
    def repeatable(self) -> bool:
        """Not where the cells read another value each time."""
        return self.parameters.read_spread == 0

    def matrices(self, codes: Tensor, around: Surroundings) -> tuple[Tensor, Tensor]:
        """W_D (T, m, N), the difference of the two arms, and W_S (T, m, N), their sum."""
        p = self.parameters
        unit = 1 / ((1 - p.darkest) * p.n_inputs)
        if many(codes) and p.weight_bits is not None and p.read_spread == 0:
            return self._arms(codes, unit * p.drift)
        weights = self._programmed(codes / p.weight_code_one)
        plus = self._read(weights.clamp(min=0), 0, around.generator)
        minus = self._read(weights.neg_().clamp_(min=0), 1, around.generator)
        return (plus - minus).mul_(unit), plus.add_(minus).mul_(unit)

    def _arms(self, codes: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """The same for whole codes of cells that always read alike."""
        from photonic.physics.compiled import cells  # numba takes a while to import

        p = self.parameters
        low, high = (int(end) for end in p.weight_code_range)
        weights = self._programmed(torch.arange(low, high + 1, dtype=codes.dtype) / p.weight_code_one)
        factor = self.factor[:, : codes.shape[1]].to(codes.dtype).contiguous()
        return cells.arms(codes, low, weights, factor, p.darkest, scale)

    def _programmed(self, weights: Tensor) -> Tensor:
        """The weights that the cells can take."""
        p = self.parameters
        if p.cell_levels is None or p.level_step is None:
            return weights
        # half way from level k to the next is T_k (1 + (1 - l)) / 2, so the nearest level follows from a logarithm
        transmission = weights.abs().mul_(1 - p.darkest).add_(p.darkest)
        nearest = transmission.mul_(2 / (2 - p.level_step)).log_().div_(math.log1p(-p.level_step)).ceil_()
        nearest = nearest.clamp_(0, p.cell_levels - 1).to(torch.int32)
        levels = self._levels.to(weights.dtype)
        return levels.index_select(0, nearest.flatten()).view(weights.shape).copysign_(weights)

    @cached_property
    def _levels(self) -> Tensor:
        """Weights (levels,) of 0 or more, from 1 down to 0, the other cell dark."""
        p = self.parameters
        # the first exponent is exactly 0 and the last exactly 1, so that 1 and 0 are weights
        exponent = torch.linspace(0, 1, p.cell_levels or 0, dtype=torch.float64)
        transmission = torch.tensor(p.darkest, dtype=torch.float64) ** exponent
        return (transmission - p.darkest) / (1 - p.darkest)

    def _read(self, magnitude: Tensor, arm: int, generator: torch.Generator) -> Tensor:
        """Transmissions (T, m, N) of one arm's cells; overwrites the weights that they stand for."""
        p = self.parameters
        transmission = magnitude.mul_(1 - p.darkest).add_(p.darkest)
        if p.cell_spread > 0:
            transmission.mul_(self.factor[arm, : transmission.shape[1]].to(transmission.dtype))
        transmission.mul_(p.drift)
        if p.read_spread > 0:
            noise = torch.randn(transmission.shape, generator=generator, dtype=transmission.dtype)
            transmission.add_(noise, alpha=p.read_spread).clamp_(min=0)  # no cell adds light
        return transmission
