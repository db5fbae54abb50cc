"""What a bench learns when it is opened: delays, the sample clock, and whether its weights settle in time."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.benchfile import BenchFile
from photonic.backends.visa.brightness import Brightness
from photonic.backends.visa.player import Codes, Player
from photonic.backends.visa.timing import Sampler, check_sync, learn, skew_of
from photonic.errors import LabError, TimingError

Array = NDArray[np.float64]
SPAN = 1024  # symbols between the sync patterns at first, for the sample clock
_PLAYS = 3
_SETTLED = 3.0  # times settle_time_s, after which weights that had not settled would have moved
_SIGMAS = 5.0


def learn_timing(player: Player, bench: BenchFile, shots: int = SPAN) -> Sampler:
    """Finds each output's symbols by sync patterns alone, then reads them as data are read, and checks them.

    The first play begins when ``settle_time_s`` has passed since weights were programmed, the last a few times later;
    a list of tiles is tried as well, where the weight bank has one.

    Args:
        player: of the bench.
        bench: its file's content.
        shots: between the sync patterns; fewer where memories hold fewer.

    Raises:
        TimingError: an output does not show the pattern, symbols are not settled at the sampled phase, or weights are
            not settled when the bench file says that they are.
    """
    timing, bright = bench.timing, Brightness(bench.spec)
    while shots > 1 and not player.fits(1, 1, shots):
        shots //= 2
    segment, full = player.segment(shots), bright.full_weights()
    player.forget()  # weights are programmed for the first of these plays
    records = []
    for play in range(_PLAYS):
        if play == _PLAYS - 1:
            time.sleep(_SETTLED * timing.settle_time_s)
        records.append(_record(player, bench, bright, full, shots)[:, 0])
    longest = int(np.ceil(timing.max_skew_symbols * timing.samples_per_symbol))
    plays = [learn(record, segment, player.pattern, longest) for record in records]
    sampler = Sampler(skew_of(plays, segment, timing), timing.samples_per_symbol, timing.sample_phase)
    outputs = np.setdiff1d(np.arange(bench.chip.n_outputs), timing.silent_outputs)
    # plays as if they were tiles
    symbols = sampler.take(np.stack(records, axis=1)[outputs], outputs, segment.sync_symbols())
    check_sync(player.reader.read(symbols), timing)
    _check_settled(player.reader.contrasts(symbols), bench, "")
    if player.fits(1 + _PLAYS, 1, 1):
        parked = np.full_like(full, max(0.0, bench.chip.weight_code_range[0]))
        tiles = np.concatenate([parked, *[full] * _PLAYS], axis=0)
        record = _record(player, bench, bright, tiles, 1)[outputs, 1:]
        symbols = sampler.take(record, outputs, player.segment(1).sync_symbols())
        _check_settled(player.reader.contrasts(symbols), bench, " in a list of tiles")
    return sampler


def _record(player: Player, bench: BenchFile, bright: Brightness, tiles: Codes, shots: int) -> Codes:
    """(M, T, samples) of sync symbols around ``shots`` dark ones; no measurement."""
    if not player.fits(len(tiles), 1, shots):
        raise LabError(
            "one shot with its sync and guard symbols does not fit the memories of waveform source and digitizer; "
            "lower timing.sync_symbols, timing.guard_symbols or timing.samples_per_symbol"
        )
    dark = np.full((1, shots, bench.chip.n_inputs), bench.chip.dark_code)
    parts = player.records(tiles, dark, bright.even(), player.segment(shots), 1.0, marked=False)
    return np.concatenate([record for _, record in parts])


def read_reference(player: Player, bench: BenchFile, sampler: Sampler) -> Array:
    """(M,) contrast of the sync pattern with all weights at +1, of one play."""
    bright, outputs = Brightness(bench.spec), np.arange(bench.chip.n_outputs)
    record = _record(player, bench, bright, bright.full_weights(), 1)
    symbols = sampler.take(record, outputs, player.segment(1).sync_symbols())
    return np.asarray(player.reader.contrasts(symbols).mean((1, 2)))


def _check_settled(contrasts: Array, bench: BenchFile, where: str) -> None:
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
            f"weights have not settled{where}; raise timing.settle_time_s"
        )
