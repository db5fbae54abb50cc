"""Heat that reaches the neighbours on a rectangular grid of heaters (reference/sim.md e.10)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# below it the exponential is not what was fitted (SCATTER, SimPhony: a polynomial there)
SHORTEST_DISTANCE_UM = 23.0
_NEGLIGIBLE = 1e-7


def check_pitch(thermal_crosstalk: float, heater_pitch_um: float) -> None:
    """Refuses heaters that are nearer than the exponential was fitted for.

    Raises:
        ValueError: with the field and the bound, for a record's validator.
    """
    if thermal_crosstalk > 0 and heater_pitch_um <= SHORTEST_DISTANCE_UM:
        raise ValueError(
            f"heater_pitch_um must be above {SHORTEST_DISTANCE_UM:g} with thermal_crosstalk: nearer heaters do not "
            f"follow a exp(-b d); found {heater_pitch_um}"
        )


class HeaterGrid:
    """Gamma of M x N heaters: Gamma_ii = 1, Gamma_ij = a exp(-b d) for two at the distance d.

    Rows are as far apart as columns, so heat from a row r away is one Toeplitz matrix over the columns, whichever the
    row: a matmul for each r, cut where a exp(-b d) falls below 1e-7.

    Args:
        outputs: M.
        inputs: N.
        coupling: a.
        decay_per_um: b.
        pitch_um: between neighbours.
    """

    def __init__(self, outputs: int, inputs: int, coupling: float, decay_per_um: float, pitch_um: float) -> None:
        self._outputs = outputs
        reach_um = math.log(max(coupling, _NEGLIGIBLE) / _NEGLIGIBLE) / decay_per_um
        rows = torch.arange(min(outputs, int(reach_um / pitch_um) + 1), dtype=torch.float64)
        columns = torch.arange(inputs, dtype=torch.float64)
        distance = torch.hypot(rows[:, None, None], columns[:, None] - columns) * pitch_um
        self._kernels = coupling * torch.exp(-decay_per_um * distance)
        self._kernels[0].fill_diagonal_(0.0)  # its own ring's detuning is what a heater is driven for

    @property
    def most(self) -> float:
        """What a ring receives at most where every heater gives 1."""
        # a row of the grid has neighbours on both of its sides
        received = self._kernels.sum(dim=1).amax(dim=1)
        return float(received[0] + 2 * received[1:].sum())

    def received(self, detuning: Tensor, idle: float) -> Tensor:
        """(Gamma - 1) times the detuning: what rings receive from the other heaters.

        Args:
            detuning: (T, m, N) of the first m rows; not changed.
            idle: detuning of the rings in the chip's other rows, which heat too.

        Returns:
            (T, m, N).
        """
        m = detuning.shape[1]
        beyond = min(self._outputs, m + len(self._kernels) - 1) - m
        heat = F.pad(detuning, (0, 0, 0, beyond), value=idle)
        kernels = self._kernels.to(detuning.dtype)
        received = heat @ kernels[0]
        for row in range(1, min(len(kernels), heat.shape[1])):
            reached = heat @ kernels[row]
            received[:, row:] += reached[:, :-row]
            received[:, :-row] += reached[:, row:]
        return received[:, :m]
