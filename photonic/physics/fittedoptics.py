"""What a calibration knows of the optics of a chip that has a code for each weight.

    t - w_ij = (t - w0_ij) prod_l (1 - sum_q n_lq s(c_neighbour)^(q + 1)),  w0_ij = sum_q e_ijq h_q(c_ij)
    S_i = 1/N sum_j (a_0 + a_1 |w0_ij|) p_j T_j

h are curves of the code that all elements share, piecewise linear: h_0 = 1, h_1 = s. ``photonic.calibration.model`` has
the same equations in numpy, for fitting.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.physics.optics import Optics, Surroundings


@dataclass(frozen=True)
class FittedOptics(Optics):
    """Weights of codes as a calibration has them.

    Attributes:
        code_range: lowest and highest drive code.
        curves: (Q, K) h at evenly spread codes, the first one 1 and the second s.
        element: (M, N, Q) e.
        offsets: where the neighbours are, rows and columns away.
        neighbour: (L, Q') n.
        target: t.
        power_law: a.
    """

    code_range: tuple[float, float]
    curves: Tensor
    element: Tensor
    offsets: tuple[tuple[int, int], ...]
    neighbour: Tensor
    target: float
    power_law: tuple[float, float]

    def matrices(self, codes: Tensor, around: Surroundings) -> tuple[Tensor, Tensor]:
        """W_D (T, m, N), and W_S of the same shape or (1, 1, N) where S does not depend on the weights.

        Outputs that are not in use hold the code of no drive, or the nearest there is.
        """
        n, dtype, used = self.element.shape[1], codes.dtype, codes.shape[1]
        below = max((rows for rows, _ in self.offsets), default=0)
        if below > 0:
            idle = max(0.0, self.code_range[0])
            codes = F.pad(codes, (0, 0, 0, min(below, self.element.shape[0] - used)), value=idle)
        curves = self._curves(codes)
        own = self.element[:used, :, 0].to(dtype).expand(len(codes), used, n).clone()
        for q, curve in enumerate(curves, start=1):
            own.addcmul_(self.element[:used, :, q].to(dtype), curve[:, :used])
        fixed, follows = self.power_law
        power = own.new_full((1, 1, n), fixed / n) if follows == 0 else own.abs().mul_(follows).add_(fixed).div_(n)
        if self.offsets:
            taken = self._taken(curves[0])[:, :used]
            own = torch.addcmul(own, self.target - own, taken)
        return own.div_(n), power

    def _curves(self, codes: Tensor) -> list[Tensor]:
        """h_1 = s and further ones, each (T, m, N): linear between the nodes, constant beyond the last ones."""
        low, high = self.code_range
        last = self.curves.shape[1] - 1
        place = (codes - low).mul_(last / (high - low)).clamp_(0, last)
        left = place.to(torch.int64).clamp_(max=last - 1)
        share = place.sub_(left)
        curves = [(curve, curve.diff()) for curve in self.curves[1:].to(codes.dtype)]
        return [torch.take(curve, left).addcmul_(torch.take(step, left), share) for curve, step in curves]

    def _taken(self, s: Tensor) -> Tensor:
        """What the neighbours of each element take, (T, m, N), from s (T, m, N), one after the other.

        As a sum of what each takes of what is left, in which small terms lose no digits.
        """
        taken = torch.zeros_like(s)
        for (rows, columns), coefficients in zip(self.offsets, self.neighbour.tolist(), strict=True):
            term = torch.zeros_like(s)
            for coefficient in reversed(coefficients):
                term.add_(coefficient).mul_(s)
            here, there = _overlap(s.shape[1], rows), _overlap(s.shape[2], columns)
            part = taken[:, here[0], there[0]]
            part += (1 - part) * term[:, here[1], there[1]]
        return taken


def _overlap(size: int, step: int) -> tuple[slice, slice]:
    """Where there is something ``step`` further along, and what is there."""
    if abs(step) >= size:
        return slice(0, 0), slice(0, 0)
    return slice(max(0, -step), size - max(0, step)), slice(max(0, step), size - max(0, -step))
