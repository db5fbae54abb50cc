"""Peak memory of tensors, as torch's own profiler sees every allocation."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes alive during a run, what was alive before it included."""
    import gc

    import torch

    for _ in range(3):
        run()
    gc.collect()
    alive = sum(tensor.nbytes for tensor in _tensors(torch))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    now = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return alive + most


def _tensors(torch: object) -> list:  # noqa: ANN - a script
    import gc

    seen, found = set(), []
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage().data_ptr()
            if storage not in seen:
                seen.add(storage)
                found.append(thing)
    return found
