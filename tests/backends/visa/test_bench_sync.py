"""What sync symbols say: no false alarm in thousands of plays, and each fault that they are there for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from photonic.backends.visa.presence import Presence
from photonic.backends.visa.sections import Timing
from photonic.backends.visa.sync import SyncReader, check_sync
from photonic.backends.visa.waveform import sync_pattern
from photonic.errors import ResponseError, TimingError

TIMING = Timing(symbol_rate_hz=1e6, settle_time_s=1e-3)
PATTERN = sync_pattern(8)
READER = SyncReader(PATTERN)
LATE, EARLY = np.append(0.0, PATTERN[:-1]), np.append(PATTERN[1:], 0.0)  # it is dark around the pattern


def played(
    random: np.random.Generator,
    contrast: NDArray[np.float64],
    pattern: NDArray[np.float64] = PATTERN,
    end: float = 1.0,
    rin: float = 4e-3,
) -> NDArray[np.int16]:
    """Whole counts (K, T, 2, S) with noise of each output, and of all of them alike."""
    tiles = contrast.shape[1]
    light = (1 + rin * random.normal(size=(1, tiles, 2, 8))) * np.array([1.0, end])[:, None]
    own = 0.7 * random.normal(size=(*contrast.shape, 2, 8))
    return np.rint(contrast[..., None, None] * pattern * light + own).astype(np.int16)


@pytest.mark.parametrize("tiles", [1, 4])
@pytest.mark.parametrize("outputs", [1, 2, 4, 16, 64])
def test_a_bench_in_order_gives_no_alarm(outputs: int, tiles: int) -> None:
    """500 plays each of light that is barely seen, and of much; the same weights again and again, and other ones."""
    random = np.random.default_rng(outputs + tiles)
    for scale in (1.0, 5.0, 30.0):
        presence, kept = Presence(TIMING, outputs), random.normal(size=(outputs, tiles)) * scale
        for play in range(500):
            same = play % 2 == 0
            contrast = kept if same else random.normal(size=kept.shape) * scale
            sync = READER.read(played(random, contrast))
            check_sync(sync, TIMING)
            presence.check(sync, None if same else contrast, np.arange(outputs), b"kept" if same else bytes(play))


@pytest.mark.parametrize(
    ("pattern", "end", "text"),
    [
        (LATE, 1.0, "symbol before"),
        (EARLY, 1.0, "symbol after"),
        (0.9 * PATTERN + 0.1 * LATE, 1.0, "symbol before"),
        (PATTERN, 0.8, "weights have not settled"),
    ],
)
def test_each_fault_is_found(pattern: NDArray[np.float64], end: float, text: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        sync = READER.read(played(random, random.normal(size=(16, 4)) * 30, pattern, end))
        with pytest.raises(TimingError, match=text):
            check_sync(sync, TIMING)


@pytest.mark.parametrize("size", [0.0, 0.8, 1.2])
def test_a_response_of_another_size_is_found(size: float) -> None:
    """Where weights have stayed the same; light that has gone against the data sheet as well."""
    random = np.random.default_rng(0)
    contrast, outputs = random.normal(size=(16, 1)) * 30, np.arange(16)
    presence = Presence(TIMING, 16)
    presence.check(READER.read(played(random, contrast)), contrast, outputs, b"")
    with pytest.raises(ResponseError, match="same weights" if size else "data sheet"):
        presence.check(READER.read(played(random, contrast * size)), contrast, outputs, b"")


def test_without_light_nothing_is_said() -> None:
    sync = READER.read(played(np.random.default_rng(0), np.zeros((4, 2))))
    assert not sync.seen
    check_sync(sync, TIMING)
