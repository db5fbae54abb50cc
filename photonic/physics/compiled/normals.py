"""Standard normal samples from a counter: a compiled loop (docs/decisions/0019).

Bits are those of Philox4x32-10 (Salmon et al., SC'11: a bijection of a 128-bit counter under a 64-bit key); the
transform is that of Box and Muller (Ann. Math. Stat. 29, 610). A sample depends on the key and its place alone.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray, float32, int32, njit, uint32, uint64  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores
from photonic.physics.draws import PART_SAMPLES

# of a part: four for each counter
SAMPLES = PART_SAMPLES
_COUNTERS = SAMPLES // 4
# of samples, below which a second thread takes longer to start than it saves
ALONE = 2**15

# constants of Philox4x32
_MULTIPLY = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10
_WORD = np.uint64(32)
_SIGN = np.uint32(0x80000000)
_ONE, _HALF = np.float32(1.0), np.float32(0.5)
_ROOT_HALF_BITS = np.int32(0x3F3504F3)
_ROOT_HALF, _LN2 = np.float32(math.sqrt(0.5)), np.float32(math.log(2.0))
_EIGHTH = np.float32(math.pi / 4 * 2.0**-31)


@njit(inline="always")
def bits(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four words of a counter of four, under a key of two."""
    for _ in range(_ROUNDS):
        first, second = _MULTIPLY[0] * uint64(c0), _MULTIPLY[1] * uint64(c2)
        c0, c2 = uint32(uint32(second >> _WORD) ^ c1 ^ k0), uint32(uint32(first >> _WORD) ^ c3 ^ k1)
        c1, c3 = uint32(second), uint32(first)
        k0, k1 = uint32(k0 + _WEYL[0]), uint32(k1 + _WEYL[1])
    return c0, c1, c2, c3


@njit(inline="always")
def _radius(word):
    """sqrt(-2 ln u), u = (w + 1/2) / 2^31 of 31 bits: at most 6.6.

    ln(2^e m) = e ln 2 + ln m with m in [sqrt(1/2), sqrt(2)), and ln(1 + t) by a polynomial (that of Cephes' logf).
    """
    u = np.float32(float32(int32(uint32(word >> uint32(1)))) + _HALF)
    whole = u.view(np.int32)
    exponent = int32(int32(whole - _ROOT_HALF_BITS) >> int32(23))
    t = np.int32(whole - int32(exponent << int32(23))).view(np.float32) - _ONE
    p = float32(7.0376836292e-2)
    p = p * t + float32(-1.1514610310e-1)
    p = p * t + float32(1.1676998740e-1)
    p = p * t + float32(-1.2420140846e-1)
    p = p * t + float32(1.4249322787e-1)
    p = p * t + float32(-1.6668057665e-1)
    p = p * t + float32(2.0000714765e-1)
    p = p * t + float32(-2.4999993993e-1)
    p = p * t + float32(3.3333331174e-1)
    logarithm = t + t * t * (p * t - _HALF) + (float32(exponent) - float32(31.0)) * _LN2
    return math.sqrt(max(float32(-2.0) * logarithm, float32(0.0)))


@njit(inline="always")
def _signed(size, sign):
    """The size with the highest bit of a word as its sign."""
    return np.uint32(np.float32(size).view(np.uint32) ^ uint32(sign & _SIGN)).view(np.float32)


@njit(inline="always")
def pair(word, angle):
    """Two samples of two words.

    Two bits of the angle are the signs. The other 30 place it in a quadrant about its middle, so that with phi in
    [-pi/4, pi/4) cosine and sine are (cos phi -+ sin phi) / sqrt(2).
    """
    phi = float32(int32(uint32(angle << uint32(2)))) * _EIGHTH
    z = phi * phi
    sine = float32(-1.9515295891e-4) * z + float32(8.3321608736e-3)
    sine = phi + phi * z * (sine * z + float32(-1.6666654611e-1))
    cosine = float32(2.443315711809948e-5) * z + float32(-1.388731625493765e-3)
    cosine = _ONE - _HALF * z + z * z * (cosine * z + float32(4.166664568298827e-2))
    radius = _radius(word) * _ROOT_HALF
    return _signed(radius * (cosine - sine), angle), _signed(radius * (cosine + sine), uint32(angle << uint32(1)))


@njit(inline="always")
def fill_part(out, part, key):
    """Writes the ``SAMPLES`` of a part; the key is two words of the key, two of the counter."""
    high, base = uint32(part >> 22), uint32(part << 10)  # 2^10 counters each
    for i in range(_COUNTERS):
        w0, w1, w2, w3 = bits(uint32(base + uint32(i)), high, key[2], key[3], key[0], key[1])
        out[i], out[i + _COUNTERS] = pair(w0, w1)
        out[i + 2 * _COUNTERS], out[i + 3 * _COUNTERS] = pair(w2, w3)


_CALL = cores.call(("out", "u8"), ("first", "i8"), ("key", "4u4"))


@cores.kernel(cores.FAST)
def _fill(arguments):
    call = carray(arguments, 1, _CALL)[0]
    out, key = cores.array(call.out, call.parts * SAMPLES, np.float32), call.key
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        fill_part(out[part * SAMPLES : (part + 1) * SAMPLES], part + call.first, key)


def fill_(out: Tensor, first: int, key: tuple[int, int, int, int]) -> None:
    """Overwrites a contiguous float32 tensor on the CPU with independent standard normal samples.

    Args:
        out: any shape.
        first: number of the first part of the stream.
        key: the stream, 32 bits each; what is left of the last part is not used.
    """
    flat = out.view(-1)
    whole, rest = divmod(len(flat), SAMPLES)
    call = np.zeros(1, _CALL)
    call["key"], call["first"] = key, first
    if whole:
        call["out"], call["parts"] = flat.data_ptr(), whole
        cores.run(_fill, call, alone=len(flat) < ALONE)
    if rest:
        last = flat.new_empty(SAMPLES)
        call["out"], call["parts"], call["first"] = last.data_ptr(), 1, first + whole
        cores.run(_fill, call, alone=True)
        flat[-rest:] = last[:rest]
