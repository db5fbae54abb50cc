"""ADCs and DACs that are not ideal: noise, and nonlinearity as a table of transitions or of levels.

Definitions follow IEEE Std 1241, in LSB, with the sign "actual minus ideal". Code k counts from 0 to 2^bits - 1, the
count is k - 2^(bits - 1). T[k] is the transition into code k, ideally at k - 1/2, so that the ideal ADC rounds and
clips; code k has the width W[k] = T[k + 1] - T[k]. Then INL[k] = T[k] - T_ideal[k] and DNL[k] = W[k] - 1. Code 0 has no
transition and the end codes no width: the table has a 0 there, so that every table has 2^bits values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.errors import RangeError, ShapeError

_ROUNDING_LSB = 1e-9  # of tables that were summed up in floating point, where a missing code has DNL = -1


def enob_noise_lsb(bits: int, enob: float) -> float:
    """Standard deviation, in LSB, of the white noise that leaves ``enob``: sqrt((4^(bits - enob) - 1) / 12).

    With the quantisation's 1/12 LSB^2 it makes the variance of an ideal converter of ``enob`` bits, and a full-scale
    sine has ENOB = (SNDR - 1.76 dB) / 6.02 dB.

    Raises:
        RangeError: ``enob`` is not positive or more than ``bits``.
    """
    if not 0 < enob <= bits:
        raise RangeError(f"enob must be above 0 and at most bits = {bits}, found {enob}")
    return math.sqrt((4 ** (bits - enob) - 1) / 12)


def walden_j(j_per_step: float, enob: float | None) -> float | None:
    """Energy of one conversion, FoM 2^ENOB, which is P = FoM 2^ENOB f_s (Walden, IEEE JSAC 17, 539 (1999)).

    ``enob`` of None is no converter at all: its energy is not stated, for unlimited bits no formula gives one.
    """
    return None if enob is None else j_per_step * 2.0**enob


def transitions_from_inl(inl_lsb: Sequence[float], bits: int) -> Tensor:
    """Transitions (2^bits - 1,) of an ADC with this INL, in counts, float64, not decreasing.

    ``inl_lsb`` holds the INL of each code, 0 first, or 2 or more values evenly spread from the first code to the last,
    between which it is interpolated linearly.

    Raises:
        RangeError: the table has another length, does not start at 0, is not finite, or lets transitions decrease.
    """
    inl = table(inl_lsb, bits)
    if inl[0] != 0:
        raise RangeError(f"code 0 has no transition, so its INL must be 0, found {inl[0].item()}")
    found = _ideal(bits) + inl[1:]
    backwards = (found.diff() < -_ROUNDING_LSB).nonzero()
    if len(backwards):
        k = int(backwards[0]) + 1
        raise RangeError(f"INL may fall by 1 LSB, a missing code; from code {k} on by {float(inl[k] - inl[k + 1]):.4g}")
    return found.cummax(-1).values


def inl_from_dnl(dnl_lsb: Sequence[float]) -> tuple[float, ...]:
    """INL[k] = sum of DNL[i] over i < k, as T[k] is where the width of code k - 1 ends; for all 2^bits codes.

    INL[1] is 0: the first transition is the origin, so the offset is taken out, but not the gain.

    Raises:
        RangeError: the first or the last code, which have no width, has a DNL; or a width is negative: DNL < -1.
    """
    if len(dnl_lsb) < 2 or dnl_lsb[0] != 0 or dnl_lsb[-1] != 0:
        raise RangeError(f"DNL needs 2 or more values, 0 at both ends, found {len(dnl_lsb)}: {list(dnl_lsb)[:4]} ...")
    for k, value in enumerate(dnl_lsb):
        if not value >= -1 - _ROUNDING_LSB:
            raise RangeError(f"DNL must be at least -1 LSB, which is a missing code; found {value} at code {k}")
    return tuple(accumulate(dnl_lsb[:-1], initial=0.0))


def dac_inl_from_dnl(dnl_lsb: Sequence[float]) -> tuple[float, ...]:
    """INL[k] = sum of DNL[i] over i <= k, as DNL[k] is how much the step up to level k exceeds 1 LSB.

    Steps down, DNL < -1, are what a DAC can have. The level of code 0 is the origin.

    Raises:
        RangeError: code 0, which has no step, has a DNL.
    """
    if not dnl_lsb or dnl_lsb[0] != 0:
        raise RangeError(f"code 0 has no step, so its DNL must be 0, found {list(dnl_lsb)[:4]} ...")
    return tuple(accumulate(dnl_lsb))


def inl_dnl(transitions: Tensor, *, end_point: bool = True) -> tuple[Tensor, Tensor]:
    """INL and DNL, (..., 2^bits) each, in LSB, of transitions (..., 2^bits - 1) in counts.

    With ``end_point``, a line through the first and the last transition takes out gain and offset ("terminal based");
    without, transitions are compared with the ideal ones as they are.

    Raises:
        ShapeError: the number of transitions is not 2^bits - 1.
        RangeError: one transition has no end points.
    """
    ideal = _ideal(_bits(transitions)).to(transitions)
    found = _through_ends(transitions, ideal) if end_point else transitions
    return F.pad(found - ideal, (1, 0)), F.pad(found.diff() - 1, (1, 1))


def sar_transitions(bits: int, mismatch: float, count: int, generator: torch.Generator) -> Tensor:
    """Transitions (count, 2^bits - 1), in counts, float64, not decreasing, of successive-approximation ADCs.

    Their capacitors are 2^k (1 + mismatch / sqrt(2^k) xi). A bit is kept if the input reaches the level of the trial
    code, so the transition into code k is the level of k, limited to the interval that earlier decisions left; a level
    outside makes codes missing: equal transitions. Gain and offset are taken out at the ends. While no code is missing,
    the DNL of the code below mid-scale, where all capacitors switch, has the variance
    (2^bits - 1 - 3 / (2^bits - 2)) mismatch^2 in LSB^2, the small part owed to the ends.

    Args:
        bits: 2 or more.
        mismatch: relative standard deviation of the unit capacitor; larger ones average it (area scaling).
        count: of ADCs.
        generator: owned by the caller; draws count x bits samples, whatever the mismatch.

    Raises:
        RangeError: 1 bit, which has no end points.
    """
    levels = _binary_levels(bits, mismatch, count, generator)
    low, high = levels.new_full((count, 1), -math.inf), levels.new_full((count, 1), math.inf)
    for bit in reversed(range(bits)):  # a column for each code that the decisions so far can lead to
        trial = levels[:, 2**bit :: 2 ** (bit + 1)].clamp(low, high)
        low, high = torch.stack((low, trial), -1).flatten(1), torch.stack((trial, high), -1).flatten(1)
    return _through_ends(low[:, 1:], _ideal(bits))


def dac_levels(
    bits: int, inl_lsb: Sequence[float] | None, mismatch: float, count: int, generator: torch.Generator
) -> Tensor:
    """Levels (count, 2^bits) of DACs with such elements as a SAR's capacitors, in LSB, float64; ideally the code.

    Mismatch leaves the first and the last level, and the step to mid-scale has the variance
    (2^bits - 1 - 1 / (2^bits - 1)) mismatch^2. Levels may decrease. ``inl_lsb`` is added to all: a table as for
    ``transitions_from_inl``, but code 0 has a level and an INL. The other arguments are those of ``sar_transitions``.

    Raises:
        RangeError: the table has another length or is not finite.
    """
    codes = torch.arange(1 << bits, dtype=torch.float64)
    levels = _through_ends(_binary_levels(bits, mismatch, count, generator), codes)
    return levels if inl_lsb is None else levels + table(inl_lsb, bits)


def table(values: Sequence[float], bits: int) -> Tensor:
    """(2^bits,) float64 from a table of 2 or more values, interpolated linearly; a full one comes back as it is.

    Raises:
        RangeError: too few or too many values, or one is not finite.
    """
    given, codes = torch.tensor(values, dtype=torch.float64), 1 << bits
    if not (2 <= len(given) <= codes and bool(given.isfinite().all())):
        raise RangeError(
            f"a table of {bits} bits needs 2 to {codes} finite values, found {len(given)}: {list(values[:4])}..."
        )
    # in whole numbers, so that no code misses its value by rounding
    place = torch.arange(codes) * (len(given) - 1)
    left = (place // (codes - 1)).clamp_(max=len(given) - 2)
    return torch.lerp(given[left], given[left + 1], (place - left * (codes - 1)).to(torch.float64) / (codes - 1))


def quantise_(volts: Tensor, transitions: Tensor) -> Tensor:
    """The ADC, in place: from the lowest count up by the number of transitions at or below the value.

    Args:
        volts: (..., m) in LSB, floating point; what is not a number stays so, as it does with ``round``.
        transitions: (m, K) or (K,) in counts, not decreasing, K = 2^bits - 1.

    Raises:
        ShapeError: the shapes do not fit.
    """
    table, m = _fitting(transitions, volts).to(volts.dtype).contiguous(), volts.shape[-1]
    half, lost = 2 ** (_bits(table) - 1), volts.isnan()
    # searchsorted wants the values of one table side by side
    values = volts.contiguous() if table.ndim == 1 else volts.reshape(-1, m).T.contiguous()
    found = torch.searchsorted(table, values, right=True, out_int32=True)
    found = found if table.ndim == 1 else found.T.reshape(volts.shape)
    return volts.copy_(found).sub_(half).masked_fill_(lost, math.nan)


def convert_levels(codes: Tensor, levels: Tensor, offset: int = 0) -> Tensor:
    """The DACs: levels[code + offset] - offset, in units of the code, of the shape and dtype of ``codes``.

    Args:
        codes: (..., n) whole numbers of a floating dtype, from -offset on; not changed.
        levels: (n, L) of each channel, or (L,) of all.
        offset: 2^(bits - 1) - 1 where codes are symmetric about 0.

    Raises:
        ShapeError: the shapes do not fit.
        RangeError: a code has no level.
    """
    n, count = codes.shape[-1], _fitting(levels, codes).shape[-1]
    low, high = (bound.item() for bound in codes.aminmax()) if codes.numel() else (0, 0)
    if not (low >= -offset and high < count - offset):  # so that NaN is refused too
        raise RangeError(f"codes must lie from {-offset} to {count - 1 - offset}, found {low} to {high}")
    row = torch.arange(n, device=codes.device) * count if levels.ndim > 1 else 0
    index = codes.to(torch.int64).add_(row + offset)
    return torch.take((levels - offset).to(codes.dtype), index)


def _ideal(bits: int) -> Tensor:
    """(2^bits - 1,) transitions of the ADC that rounds to counts and clips at its rails."""
    return torch.arange(1, 1 << bits, dtype=torch.float64) - ((1 << bits) / 2 + 0.5)


def _fitting(table: Tensor, values: Tensor) -> Tensor:
    """The table, one for all or one for each of the last dimension's values."""
    n = values.shape[-1]
    if table.ndim != 1 and table.shape[:-1] != (n,):
        raise ShapeError(f"a table for {n} converters must be (K,) or ({n}, K), found {tuple(table.shape)}")
    return table


def _bits(transitions: Tensor) -> int:
    codes = transitions.shape[-1] + 1
    if codes < 2 or codes & (codes - 1):
        raise ShapeError(f"expected 2^bits - 1 transitions, found {codes - 1}")
    return codes.bit_length() - 1


def _binary_levels(bits: int, mismatch: float, count: int, generator: torch.Generator) -> Tensor:
    """(count, 2^bits) sums of the elements that each code switches on."""
    weights = 2.0 ** torch.arange(bits, dtype=torch.float64)
    xi = torch.randn(count, bits, generator=generator, dtype=torch.float64)
    on = torch.arange(1 << bits).bitwise_and(2 ** torch.arange(bits).unsqueeze(1)).ne(0)
    return (weights + mismatch * weights.sqrt() * xi) @ on.to(torch.float64)


def _through_ends(values: Tensor, ideal: Tensor) -> Tensor:
    """Gain and offset corrected so that the first and the last value are ideal."""
    if len(ideal) < 2:
        raise RangeError("one transition has no end points; take a converter of 2 bits or more")
    first, last = values[..., :1], values[..., -1:]
    return (values - first) * ((ideal[-1] - ideal[0]) / (last - first)) + ideal[0]
