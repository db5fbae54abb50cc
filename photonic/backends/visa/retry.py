"""Shots that came too soon after one at a rail, measured again with time to recover before each."""

from __future__ import annotations

import numpy as np

from photonic.backends.visa.player import Codes, Player
from photonic.backends.visa.plays import blocks
from photonic.records import ChipSpec


def after_rails(
    player: Player,
    weights: Codes,
    inputs: Codes,
    gain: float,
    light: float,
    counts: Codes,
    spec: ChipSpec,
    dead: int,
) -> Codes:
    """Counts (R, C, B, M) in which those within ``dead`` shots after a rail of the same output are measured anew.

    In the second measurement dark symbols follow every shot, so that the receiver has recovered before the next.
    """
    low, high = spec.count_range
    railed = (counts <= low) | (counts >= high)
    late = np.zeros_like(railed)
    for shift in range(1, dead + 1):
        late[:, :, shift:] |= railed[:, :, :-shift]
    again = late.any((0, 3))  # (C, B)
    most = int(again.sum(1).max())
    if not most:
        return counts
    rows, columns, _ = weights.shape
    # columns have different shots to repeat: all get as many, the rest dark
    chosen = np.argsort(~again, axis=1, kind="stable")[:, :most]
    wanted = np.take_along_axis(again, chosen, 1)
    some = np.take_along_axis(inputs, chosen[..., None], 1)
    some[~wanted] = spec.dark_code
    found = np.empty((rows, columns, most, counts.shape[-1]), dtype=counts.dtype)
    for part in blocks(rows, columns, most, lambda r, c, b: player.fits(r, c, b, dead)):
        found[part.rows, part.columns, part.shots] = player.counts(
            weights[part.rows, part.columns], some[part.columns, part.shots], gain, light=light, spacing=dead
        )
    merged = counts.copy()
    for c in range(columns):
        places = chosen[c, wanted[c]]
        fresh, old = found[:, c, wanted[c]], merged[:, c, places]
        merged[:, c, places] = np.where(late[:, c, places], fresh, old)
    return merged
