"""Peak memory of tensors, as torch's own profiler sees every allocation on the CPU."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_bytes(build: Callable[[], Callable[[], object]], runs: int = 4) -> int:
    """The most bytes alive at once while a run is built and done a few times, weights included.

    Args:
        build: makes what is run.
        runs: how often.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run = build()
        for _ in range(runs):
            run()
    assert watched.profiler is not None
    now = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most
