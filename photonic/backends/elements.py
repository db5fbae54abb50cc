"""The weight elements of a measured chip, and the codes that give wanted weights: its programming, inverted.

    t - w_ij = (t - w0_ij) prod_l (1 - sum_q n_lq s(c_neighbour)^(q + 1)),  w0_ij = sum_q e_ijq h_q(c_ij)

h are curves of the code that all elements share, piecewise linear: h_0 = 1, h_1 = s. A calibration fits the equations;
here they are solved for the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from photonic.errors import CalibrationError
from photonic.records import ChipSpec

# what an element must reach, relative to a nominal one: below it the noise of its row would be 20 times as large
LEAST_REACH = 0.05
_STEPS = 100
_CODE_TOLERANCE = 0.01  # of what one code makes, where codes are rounded to 1 afterwards
_FINE_TOLERANCE = 1e-11  # of a weight, where they are not
_SAMPLES = 1025  # of s, for the most that a neighbour can take


@dataclass(frozen=True)
class Elements:
    """The elements of a tile of m outputs and n inputs, at their places on the chip.

    Outputs below the tile and inputs beside it hold the code of no drive, and are neighbours too: m' rows are as many
    as reach the tile, and columns are all N of the chip.

    Attributes:
        spec: of the chip.
        m: outputs in use.
        n: inputs in use.
        curves: (Q, K) h at evenly spread codes.
        element: (m', N, Q) e.
        offsets: where the neighbours are, rows and columns away.
        neighbour: (L, Q') n.
        target: t.
        nodes: (m n, K) w0 at the curves' codes.
        first: (m n, 1) where w0 is lowest; what lies before it is not used.
        rising: (m n, K) the largest w0 from ``first`` to here.
        lowest: (m, n) the weight that an element has at its lowest, whatever its neighbours hold.
        highest: (m, n) the same at its highest.
    """

    spec: ChipSpec
    m: int
    n: int
    curves: Tensor
    element: Tensor
    offsets: tuple[tuple[int, int], ...]
    neighbour: Tensor
    target: float
    nodes: Tensor
    first: Tensor
    rising: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float64]], spec: ChipSpec, m: int, n: int, like: Tensor) -> Elements:
        """The elements that a record describes, in the dtype and on the device of ``like``.

        Args:
            arrays: of a measured record, of shapes that fit.
            spec: of the chip.
            m: outputs in use.
            n: inputs in use.
            like: of the arithmetic.

        Raises:
            CalibrationError: an element that hardly reaches any weight, or that neighbours can silence.
        """
        curves, e, coefficients = (torch.tensor(arrays[name]) for name in ("curves", "element", "neighbour"))
        offsets = tuple((int(rows), int(columns)) for rows, columns in arrays["neighbour_offsets"])
        target = float(arrays["neighbour_target"][0])
        below = max((rows for rows, _ in offsets), default=0)
        e = e[: min(spec.n_outputs, m + max(0, below))]
        # in the dtype of the arithmetic, in which values that differ by less are equal
        nodes = (e[:m, :n].flatten(0, 1) @ curves).to(like.dtype)
        # the last of equal ones: where the heater's reach ends, further codes change nothing
        first = nodes.shape[1] - 1 - nodes.flip(1).argmin(1, keepdim=True)
        before = torch.arange(nodes.shape[1]) < first
        rising = torch.where(before, nodes.gather(1, first), nodes).cummax(1).values
        taken = _most_taken(curves[1], coefficients, offsets, (len(e), spec.n_inputs))[:, :m, :n].to(like.dtype)
        low, high = rising[:, 0].view(m, n), rising[:, -1].view(m, n)
        lowest = (low + (target - low) * taken).amax(0)
        highest = (high + (target - high) * taken).amin(0)
        _check_reach(spec, lowest, highest, float(taken.max()))
        return cls(
            spec, m, n, curves.to(like), e.to(like), offsets, coefficients.to(like), target,
            nodes.to(like), first.to(like.device), rising.to(like).contiguous(), lowest.to(like), highest.to(like),
        )  # fmt: skip

    def scale(self, weights: Tensor, per_row: bool) -> Tensor:
        """By what weights (T, m, n) must be divided so that every element reaches its own: (T, m, 1), or (T, 1, 1)."""
        needed = weights / self.highest
        if self.spec.signed_weights:
            needed = torch.maximum(needed, weights / self.lowest)
        return needed.amax(dim=-1 if per_row else (-2, -1), keepdim=True)

    @cached_property
    def lift(self) -> float:
        """The weight that stands for 0: the least that all elements can have, where weights have no sign.

        0 where all elements are dark to within a step of their codes.
        """
        least, (low, high) = float(self.lowest.max()), self.spec.weight_code_range
        return 0.0 if self.spec.signed_weights or least <= 1.0 / (high - low) else least

    def codes(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (T, m, n) of weights that are in reach, and what one code further adds to each weight.

        Codes are not rounded. What neighbours take is solved for in turns.

        Raises:
            CalibrationError: the turns do not settle; what neighbours take grows faster than elements can follow.
        """
        if not self.offsets:
            return self._alone(weights)
        tolerance, taken = self._tolerance, torch.zeros_like(weights)
        for _ in range(_STEPS):
            codes, steps = self._alone((weights - self.target * taken) / (1 - taken))
            before, taken = taken, self._taken(self._curve(1, self._whole(codes)))[:, : self.m, : self.n]
            # weights, which lie between -1 and 1, follow what is taken by at most this much
            if not codes.numel() or (1 + abs(self.target)) * float((taken - before).abs().max()) <= tolerance:
                return codes, steps.mul_(1 - taken)
        raise CalibrationError(
            f"chip {self.spec.chip_id}: expected weights that settle within {tolerance:g} when codes make up for what "
            f"neighbours take, found none after {_STEPS} turns; calibrate again, or use the nominal calibration"
        )

    @property
    def _tolerance(self) -> float:
        """Of weights."""
        if self.spec.weight_bits is None:
            return _FINE_TOLERANCE
        return _CODE_TOLERANCE / self.spec.response.weight_code_one

    def weights(self, codes: Tensor) -> Tensor:
        """w (T, m, N) of codes (T, m, n); inputs that are not in use hold the code of no drive."""
        whole = self._whole(codes)
        s = self._curve(1, whole)
        own = self.element[..., 0] + self.element[..., 1] * s
        for index in range(2, len(self.curves)):
            own = torch.addcmul(own, self.element[..., index], self._curve(index, whole))
        if self.offsets:
            own = torch.addcmul(own, self.target - own, self._taken(s))
        return own[:, : self.m]

    def _whole(self, codes: Tensor) -> Tensor:
        """(T, m, n) to (T, m', N)."""
        idle = max(0.0, self.spec.weight_code_range[0])
        return F.pad(codes, (0, self.element.shape[1] - self.n, 0, len(self.element) - self.m), value=idle)

    def _alone(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of w0 (T, m, n): the first at which an element has it, linear between nodes; and the slope there."""
        wanted = weights.flatten(1).T.contiguous()
        # a rounding error beyond the reach; what is further does not come here
        wanted = torch.minimum(wanted, self.rising[:, -1:])
        right = torch.searchsorted(self.rising, wanted)
        right = torch.maximum(right, self.first + 1)
        left_value, right_value = self.nodes.gather(1, right - 1), self.nodes.gather(1, right)
        rise = right_value.sub_(left_value)
        share = ((wanted - left_value) / rise).clamp_(0, 1)
        low, high = self.spec.weight_code_range
        spacing = (high - low) / (self.nodes.shape[1] - 1)
        codes = ((share + (right - 1)) * spacing + low).clamp_(low, high)  # a rounding error, at the ends
        return codes.T.reshape(weights.shape), rise.div_(spacing).T.reshape(weights.shape)

    def _curve(self, index: int, codes: Tensor) -> Tensor:
        """h of codes of any shape."""
        low, high = self.spec.weight_code_range
        last = self.curves.shape[1] - 1
        place = (codes - low) * (last / (high - low))
        left = place.to(torch.int64).clamp_(0, last - 1)
        curve = self.curves[index]
        return torch.lerp(torch.take(curve, left), torch.take(curve, left + 1), place - left)

    def _taken(self, s: Tensor) -> Tensor:
        """What the neighbours of each element do, (T, m', N), from s of that shape."""
        terms = [_polynomial(s, row) for row in self.neighbour.tolist()]
        return _gathered(terms, self.offsets)


def _polynomial(s: Tensor, coefficients: list[float]) -> Tensor:
    """Sum of coefficients[q] s^(q + 1), by Horner's rule."""
    found = torch.zeros_like(s)
    for coefficient in reversed(coefficients):
        found.add_(coefficient).mul_(s)
    return found


def _gathered(terms: list[Tensor], offsets: tuple[tuple[int, int], ...]) -> Tensor:
    """1 - product over l of 1 - terms[l][..., i + rows_l, j + columns_l]; beyond the edges there is none.

    One after the other, so that small terms lose no digits.
    """
    taken = torch.zeros_like(terms[0])
    for term, (rows, columns) in zip(terms, offsets, strict=True):
        here, there = _overlap(taken.shape[-2], rows), _overlap(taken.shape[-1], columns)
        part = taken[..., here[0], there[0]]
        part += (1 - part) * term[..., here[1], there[1]]
    return taken


def _overlap(size: int, step: int) -> tuple[slice, slice]:
    """Where there is something ``step`` further along, and what is there."""
    if abs(step) >= size:
        return slice(0, 0), slice(0, 0)
    return slice(max(0, -step), size - max(0, step)), slice(max(0, step), size - max(0, -step))


def _most_taken(
    curve: Tensor, neighbour: Tensor, offsets: tuple[tuple[int, int], ...], shape: tuple[int, int]
) -> Tensor:
    """(2, m', N) the least and the most that neighbours of any codes take of each element."""
    if not offsets:
        return curve.new_zeros(2, *shape)
    s = torch.linspace(float(curve.min()), float(curve.max()), _SAMPLES, dtype=curve.dtype)
    # one that takes all leaves nothing, whatever the others do
    ends = [torch.stack(torch.aminmax(_polynomial(s, row))).clamp_(max=1.0) for row in neighbour.tolist()]
    return _gathered([end.view(2, 1, 1).expand(2, *shape) for end in ends], offsets)


def _check_reach(spec: ChipSpec, lowest: Tensor, highest: Tensor, taken: float) -> None:
    """Refuses a tile with an element that holds weights back.

    Raises:
        CalibrationError: which element, and what it reaches.
    """
    if taken >= 1:
        raise CalibrationError(
            f"chip {spec.chip_id}: neighbours may take {taken:.2f} of an element's weight, which leaves nothing to "
            "program; expected less than 1; calibrate again, or use the nominal calibration"
        )
    # without signs all elements must have weights in common, whichever
    lift = 0.0 if spec.signed_weights else max(0.0, float(lowest.max()))
    least = lift + LEAST_REACH
    if float(highest.min()) >= least and (not spec.signed_weights or float(lowest.max()) <= -LEAST_REACH):
        return
    i, j, floor = _worst(spec, lowest, highest)
    raise CalibrationError(
        f"chip {spec.chip_id}: element ({i}, {j}) was measured to reach weights from {float(lowest[i, j]):.3f} to "
        f"{float(highest[i, j]):.3f} whatever its neighbours hold; expected at most {floor:g} to at least "
        f"{floor + LEAST_REACH if not spec.signed_weights else LEAST_REACH:g}. It is stuck or dead, or neighbours take "
        "too much: repair the chip, or use its nominal calibration, which does not know of it"
    )


def _worst(spec: ChipSpec, lowest: Tensor, highest: Tensor) -> tuple[int, int, float]:
    """The element that holds weights back, and what it should go down to."""
    if spec.signed_weights:
        at = int(torch.minimum(highest, -lowest).argmin())
        return (*divmod(at, lowest.shape[1]), -LEAST_REACH)
    # the darkest at its highest, or the brightest at its lowest: which of them is farther from most
    dark, bright = float(highest.median() - highest.min()), float(lowest.max() - lowest.median())
    at = int(highest.argmin() if dark > bright else lowest.argmax())
    return (*divmod(at, lowest.shape[1]), max(0.0, float(lowest.median())))
