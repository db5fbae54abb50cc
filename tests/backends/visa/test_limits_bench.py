"""What the bench saw: whatever is called, from whichever thread, no level, slew or power beyond the limits arrived."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from photonic.backends.visa.limits import PowerBudget, WeightLimits
from photonic.backends.visa.opening import Access, open_weights
from photonic.backends.visa.roles import WeightBank
from photonic.errors import LabError
from photonic.testing.bench import VirtualBench

LOW, HIGH, SLEW, OHM, TOTAL_W, SAFE = 0.25, 3.5, 2e3, 1.0, 60.0, 0.25
EXTREMES = (np.nan, np.inf, -np.inf, -1.0, 0.0, 3.6, 1e9)


class Seen:
    """Levels of both boxes at each programming, as they arrived."""

    def __init__(self, bench: VirtualBench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lock = threading.Lock()
        self.events: list[tuple[float, int, np.ndarray]] = []
        self.lists: list[np.ndarray] = []
        for index, box in enumerate(bench.model.boxes):
            self._watch(index, box, monkeypatch)

    def _watch(self, index: int, box: object, monkeypatch: pytest.MonkeyPatch) -> None:
        program, listed = box._program, box._list  # type: ignore[attr-defined]

        def watched(levels: np.ndarray) -> None:
            with self._lock:
                self.events.append((time.monotonic(), index, levels.copy()))
                program(levels)

        def watched_list(*given: object) -> None:
            listed(*given)
            self.lists.append(box.list_v.copy())  # type: ignore[attr-defined]

        monkeypatch.setattr(box, "_program", watched)
        monkeypatch.setattr(box, "_list", watched_list)


def _anything(bank: WeightBank, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(25):
        levels = rng.uniform(LOW, HIGH, 8)
        if rng.random() < 0.3:
            levels[rng.integers(8)] = rng.choice(EXTREMES)
        try:
            match rng.integers(6):
                case 0:
                    bank.program_list(np.stack([levels, rng.uniform(LOW, HIGH, 8)]), rng.choice([1e-4, 2e-3, np.nan]))
                case 1:
                    bank.make_safe()
                case 2:
                    bank.disable()
                case 3:
                    bank.enable()
                case _:
                    bank.program(levels)
        except LabError:
            continue


def test_nothing_beyond_the_limits_ever_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = WeightLimits.uniform(8, volts_min=LOW, volts_max=HIGH, safe_v=SAFE, slew_v_per_s=SLEW, resistance_ohm=OHM)
    budget = PowerBudget(TOTAL_W)
    with VirtualBench("sim:typical?n_inputs=4&n_outputs=4", physics="ideal", weight_boxes=2) as bench:
        seen = Seen(bench, monkeypatch)
        banks = [
            open_weights(
                Access(name, f"TCPIP0::127.0.0.1::{bench.ports[name]}::SOCKET"),
                limits,
                channels=range(8),
                settle_time_s=0.0,
                budget=budget,
            )
            for name in ("dac-1", "dac-2")
        ]
        threads = [threading.Thread(target=_anything, args=(banks[n % 2], n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for bank in banks:
            bank.close()
    _judge(seen)


def _judge(seen: Seen) -> None:
    now, since = [np.zeros(8), np.zeros(8)], [0.0, 0.0]
    assert len(seen.events) > 20  # else it tells nothing
    for at, index, levels in seen.events:
        assert ((levels >= LOW) & (levels <= HIGH)).all()
        if not (levels == SAFE).all():  # making safe does not ramp
            assert (np.abs(levels - now[index]) <= SLEW * (at - since[index]) + 1e-9).all()
        now[index], since[index] = levels, at
        assert sum(float((each**2 / OHM).sum()) for each in now) <= TOTAL_W * (1 + 1e-9)
    for levels in seen.lists:
        assert ((levels >= LOW) & (levels <= HIGH)).all()
        assert (levels**2 / OHM).sum(1).max() <= TOTAL_W
