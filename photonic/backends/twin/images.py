"""Pixels as the light of a native convolution: looked up by code, some images at a time, which stay in cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.backends.twin.light import TOLERANCE, LevelBasis
from photonic.physics.many import many

# of a tensor of images, at a time
CACHED_ELEMENTS = 2**17
# of a bfloat16 product: levels, weights and sums are each within 2^-9
HALF_ROUNDING = 3 * 2.0**-9


@dataclass(frozen=True)
class Lookup:
    """The functions of a ``LevelBasis`` above their values at the code 0, so that padding is 0.

    Attributes:
        mean: (q, codes) what the mean follows; with two shots odd in the code, whose sign is the input's.
        power: (codes,) what the power follows, the first function alone; with two shots even.
        dark: (q,) the functions at the code 0.
        weights: (n, q) of each modulator.
        lowest: code.
        small: dtype of the functions but the first, which are small beside it.
        noise: dtype of the power.
        signed: whether codes have the sign of the input, so that the power is not what the mean follows.
    """

    mean: Tensor
    power: Tensor
    dark: Tensor
    weights: Tensor
    lowest: int
    small: torch.dtype
    noise: torch.dtype
    signed: bool

    @classmethod
    def of(cls, basis: LevelBasis, two: bool, half: bool) -> Lookup:
        """For one shot, or for ``two`` of both signs; with ``half``, bfloat16 where it is precise enough."""
        dark = basis.functions[:, -basis.lowest]
        mean, lowest = basis.functions - dark.unsqueeze(1), basis.lowest
        power = mean[0]
        if two:
            above = mean[:, 1 - lowest :]
            mean = torch.cat([-above.flip(1), mean[:, -lowest : 1 - lowest], above], dim=1)
            power = torch.cat([above[0].flip(0), power[-lowest : 1 - lowest], above[0]])
            lowest = -above.shape[1]
        most = float((basis.weights[:, 1:].abs() @ basis.functions[1:].abs()).max()) if len(mean) > 1 else 0.0
        wide, narrow = mean.dtype, torch.bfloat16 if half else mean.dtype
        small = narrow if most * HALF_ROUNDING <= TOLERANCE[wide] else wide
        return cls(mean.contiguous(), power.contiguous(), dark, basis.weights, lowest, small, narrow, two)

    @property
    def level(self) -> Tensor:
        """(n,) of each modulator at the code 0."""
        return self.weights @ self.dark

    @property
    def power_level(self) -> Tensor:
        """The same of the first function alone."""
        return self.weights[:, 0] * self.dark[0]


@dataclass(frozen=True)
class Images:
    """Light of B images above the dark.

    Attributes:
        first: (B, C_in, *size) what the mean follows, by the first function.
        others: (B, G x (q - 1) x C_in / G, *size) by the others; None: q is 1.
        power: (B, C_in, *size) what the power follows; None: not asked for.
    """

    first: Tensor
    others: Tensor | None
    power: Tensor | None

    @classmethod
    def of(cls, x: Tensor, groups: int, code: Callable[[Tensor], Tensor], lookup: Lookup, power: bool) -> Images:
        """Looks up images.

        Args:
            x: (B, C_in, *size).
            groups: of channels.
            code: gives some images' codes, floating point, its own to overwrite.
            lookup: of the levels.
            power: whether it is asked for.
        """
        count, (b, channels, *size) = len(lookup.mean), x.shape
        # of one group after the other, each function's images together
        first = torch.empty(b, groups, channels // groups, *size, dtype=lookup.mean.dtype, device=x.device)
        others = first.new_empty(b, groups, count - 1, *first.shape[2:], dtype=lookup.small)
        tables, out = [lookup.mean[0], *lookup.mean[1:].to(lookup.small)], [first, *others.unbind(2)]
        powers = torch.empty_like(first, dtype=lookup.noise) if power else None
        if powers is not None:
            tables.append(lookup.power.to(lookup.noise))
            out.append(powers)
        for some in blocks(b, x[0].numel()):
            codes = code(x[some]).unflatten(1, (groups, -1)).flatten(0, 1)
            _look_up(codes, lookup.lowest, tables, [each[some].flatten(0, 1) for each in out])
        return cls(
            first.flatten(1, 2),
            others.flatten(1, 3) if count > 1 else None,
            None if powers is None else powers.flatten(1, 2),
        )


def _look_up(codes: Tensor, lowest: int, tables: list[Tensor], out: list[Tensor]) -> None:
    """Writes what codes mean by each table; overwrites the codes."""
    if many(codes) and all(table.itemsize in (2, 4) for table in tables):
        from photonic.physics.compiled import pixels  # numba takes a while to import

        for first in range(0, len(tables), 4):
            pixels.look_up(codes, lowest, tables[first : first + 4], out[first : first + 4])
        return
    index = codes.sub_(lowest).to(torch.int32).flatten()
    for table, to in zip(tables, out, strict=True):
        to.copy_(table.index_select(0, index).view(to.shape))


def blocks(count: int, each: int) -> Iterator[slice]:
    """Slices of ``count`` images of ``each`` elements, about ``CACHED_ELEMENTS`` at a time."""
    step = max(1, CACHED_ELEMENTS // each)
    for start in range(0, count, step):
        yield slice(start, start + step)
