"""What a bench learns when it is opened: delays, the sample clock, and whether its weights settle in time."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.benchfile import BenchFile
from photonic.backends.visa.brightness import Brightness
from photonic.backends.visa.player import Codes, Player
from photonic.backends.visa.sync import check_sync
from photonic.backends.visa.timing import Learned, Sampler, clearest, learn, skew_of
from photonic.backends.visa.waveform import Segment
from photonic.errors import LabError, TimingError

Array = NDArray[np.float64]
SPAN = 1024  # symbols between the sync patterns at first, for the sample clock
_PLAYS = 3
_SETTINGS = 12  # of a mesh, until each output has shown the pattern: a single one leaves some outputs nearly dark
_CLEAR = 0.9  # part of an output's variance that the pattern explains where nothing else need be tried
_REPEATS = 12  # of the reference, by which small errors of the sampled phase are seen
_SETTLED = 3.0  # times settle_time_s, after which weights that had not settled would have moved
_SIGMAS = 5.0


def learn_timing(player: Player, bench: BenchFile, shots: int = SPAN) -> Sampler:
    """Finds each output's symbols by sync patterns alone, then reads them as data are read, and checks them.

    Then programs weights and looks at them twice, when ``settle_time_s`` has passed and a few times later, and tries a
    list of tiles, where the weight bank has one.

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
    segment = player.segment(shots)
    player.forget()  # weights are programmed for the first of these plays
    records, plays = _plays(player, bench, bright, segment, 0)
    for setting in range(1, _SETTINGS if bench.chip.layout == "program" else 1):
        if (np.delete(np.mean([play.explained for play in plays], 0), list(timing.silent_outputs)) >= _CLEAR).all():
            break
        plays = clearest(plays, _plays(player, bench, bright, segment, setting)[1])
    sampler = Sampler(skew_of(plays, segment, timing), timing.samples_per_symbol, timing.sample_phase)
    outputs = np.setdiff1d(np.arange(bench.chip.n_outputs), timing.silent_outputs)
    # plays as if they were tiles
    symbols = sampler.take(np.stack(records, axis=1)[outputs], outputs, segment.sync_symbols())
    check_sync(player.reader.read(symbols), timing)
    _check_settling(player, bench, bright, sampler, outputs)
    return sampler


def _plays(
    player: Player, bench: BenchFile, bright: Brightness, segment: Segment, setting: int
) -> tuple[list[Codes], list[Learned]]:
    """Records (M, samples) of some plays of sync symbols with full weights, and what each of them says."""
    full, timing = bright.full_weights(setting), bench.timing
    records = [_record(player, bench, bright, full, segment.shots)[:, 0] for _ in range(_PLAYS)]
    longest = int(np.ceil(timing.max_skew_symbols * timing.samples_per_symbol))
    return records, [learn(record, segment, player.pattern, longest) for record in records]


def _check_settling(
    player: Player, bench: BenchFile, bright: Brightness, sampler: Sampler, outputs: NDArray[np.intp]
) -> None:
    """Compares full weights just after they were programmed, alone and in a list, with what they give later."""
    full, settle_s = bright.full_weights(), bench.timing.settle_time_s
    other = np.full_like(full, max(0.0, bench.chip.weight_code_range[0]))
    sync = player.segment(1).sync_symbols()

    def symbols(tiles: Codes) -> Codes:  # (K, T, 2, S)
        return sampler.take(_record(player, bench, bright, tiles, 1)[outputs], outputs, sync)

    contrasts = player.reader.contrasts
    symbols(other)
    early = contrasts(symbols(full))
    time.sleep(_SETTLED * settle_s)
    later = np.concatenate([symbols(full) for _ in range(_REPEATS)], axis=1)
    check_sync(player.reader.read(later), bench.timing)
    size = float(np.sqrt((contrasts(later).mean((1, 2)) ** 2).mean()))
    _compare(early, contrasts(later), size, bench, "")
    if player.fits(2, 1, 1):
        # weights are full now: the first tile of the list differs most from what was there before
        listed = contrasts(symbols(np.concatenate([other, full])))
        symbols(other)
        time.sleep(_SETTLED * settle_s)
        parked = np.concatenate([contrasts(symbols(other)) for _ in range(_PLAYS)], axis=1)
        _compare(listed[:, :1], parked, size, bench, " in a list of tiles")
    promised = bright.reference()
    if promised is not None:
        found = promised.copy()
        found[outputs] = contrasts(later).mean((1, 2))
        player.presence.learn(found, promised)


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


def _compare(early: Array, later: Array, size: float, bench: BenchFile, where: str) -> None:
    """Contrasts (K, 1, 2) of the first play with those (K, plays, 2) of later ones, relative to ``size``."""
    change = early.mean((1, 2)) - later.mean((1, 2))
    # begin and end of a later play differ by noise alone
    noise = later[..., 0] - later[..., 1]
    moved, error = float(np.sqrt((change**2).mean())), float(np.sqrt((noise**2).mean() / 2))
    if not moved <= bench.timing.max_unsettled * size + _SIGMAS * error:
        raise TimingError(
            f"the response{where} is {moved / max(size, 1e-30):.1%} away from where it settles, after "
            f"timing.settle_time_s ({bench.timing.settle_time_s:g} s); the bench allows "
            f"{bench.timing.max_unsettled:.1%}: weights have not settled; raise timing.settle_time_s"
        )
