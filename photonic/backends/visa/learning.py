"""What a bench learns when it is opened: delays, the sample clock, and whether its weights settle in time."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.benchfile import BenchFile
from photonic.backends.visa.brightness import Brightness
from photonic.backends.visa.player import Player
from photonic.backends.visa.timing import Sampler, check_sync, learn, skew_of
from photonic.errors import TimingError

Array = NDArray[np.float64]
_PLAYS = 3
_SPAN_SYMBOLS = 1024  # between the sync patterns, for the sample clock
_SETTLED = 3.0  # times settle_time_s, after which weights that had not settled would have moved
_SIGMAS = 5.0


def learn_timing(player: Player, bench: BenchFile) -> Sampler:
    """Finds each output's symbols by sync patterns alone, then reads them as data are read, and checks them.

    The first play begins when ``settle_time_s`` has passed since weights were programmed, the last a few times later.

    Raises:
        TimingError: an output does not show the pattern, symbols are not settled at the sampled phase, or weights are
            not settled when the bench file says that they are.
    """
    timing = bench.timing
    shots = _SPAN_SYMBOLS
    while shots > 1 and not player.fits(1, 1, shots):
        shots //= 2
    segment = player.segment(shots)
    dark, bright = np.full((1, shots, bench.chip.n_inputs), bench.chip.dark_code), Brightness(bench.spec)
    tile, light = bright.full_weights(), bright.even()
    player.forget()  # weights are programmed for the first of these plays
    records = []
    for play in range(_PLAYS):
        if play == _PLAYS - 1:
            time.sleep(_SETTLED * timing.settle_time_s)
        parts = player.records(tile, dark, light, segment, 1.0, marked=False)
        records.append(np.concatenate([record[:, 0] for _, record in parts]))
    longest = int(np.ceil(timing.max_skew_symbols * timing.samples_per_symbol))
    plays = [learn(record, segment, player.pattern, longest) for record in records]
    sampler = Sampler(skew_of(plays, segment, timing), timing.samples_per_symbol, timing.sample_phase)
    outputs = np.setdiff1d(np.arange(bench.chip.n_outputs), timing.silent_outputs)
    stacked = np.stack(records, axis=1)[outputs]  # (K, plays, samples): plays as if they were tiles
    symbols = sampler.take(stacked, outputs, segment.sync_symbols())
    check_sync(player.reader.read(symbols), timing)
    _check_settled(player.reader.contrasts(symbols), bench)
    return sampler


def read_reference(player: Player, bench: BenchFile) -> Array:
    """(M,) contrast of the sync pattern with all weights at +1, of one play."""
    sampler, bright = player.sampler, Brightness(bench.spec)
    if sampler is None:
        raise TimingError("the delays of the outputs are not known")
    segment, n = player.segment(1), bench.chip.n_inputs
    dark = np.full((1, 1, n), bench.chip.dark_code)
    parts = player.records(bright.full_weights(), dark, bright.even(), segment, 1.0, marked=False)
    found = [
        player.reader.contrasts(sampler.take(record, outputs, segment.sync_symbols()))[:, 0].mean(-1)
        for outputs, record in parts
    ]
    return np.concatenate(found)


def _check_settled(contrasts: Array, bench: BenchFile) -> None:
    """Compares the first play with the last one, (K, plays, 2) contrasts."""
    change = contrasts[:, -1].mean(-1) - contrasts[:, 0].mean(-1)
    # begin and end of the same play differ by noise alone, were weights settled
    noise = contrasts[:, 1:, 0] - contrasts[:, 1:, 1]
    size = float(np.sqrt((contrasts[:, 1:].mean((1, 2)) ** 2).mean()))
    moved, error = float(np.sqrt((change**2).mean())), float(np.sqrt((noise**2).mean() / 2))
    if not moved <= bench.timing.max_unsettled * size + _SIGMAS * error:
        raise TimingError(
            f"the response changes by {moved / max(size, 1e-30):.1%} after timing.settle_time_s "
            f"({bench.timing.settle_time_s:g} s) has passed, the bench allows {bench.timing.max_unsettled:.1%}: "
            "weights have not settled; raise timing.settle_time_s"
        )
