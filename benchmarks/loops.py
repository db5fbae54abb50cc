"""What a compiled loop takes for each number, and torch's operations for the same, in ns, on torch's threads.

python benchmarks/loops.py
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import torch

from photonic.physics import codes, modulator, ringleak
from photonic.physics.codes import MidTread
from photonic.physics.draws import NormalDraws
from photonic.physics.presets import PRESETS
from photonic.physics.ringbank import RingBank, RingBankParameters

COUNT = 2**22


def least_ns(work: Callable[[], object], count: int) -> float:
    """The fastest of some runs."""
    return min(timeit.repeat(work, number=1, repeat=15)) / count * 1e9


def both_ns(work: Callable[[], object], count: int, *modules: object) -> tuple[float, float]:
    """By the loop, and by torch's operations: modules think that there are few numbers."""
    work()
    loop = least_ns(work, count)
    kept = [module.many for module in modules]  # type: ignore[attr-defined]
    for module in modules:
        module.many = lambda *_, **__: False  # type: ignore[attr-defined]
    torchs = least_ns(work, count)
    for module, many in zip(modules, kept, strict=True):
        module.many = many  # type: ignore[attr-defined]
    return loop, torchs


def main() -> None:
    draws, x = NormalDraws(), torch.rand(COUNT)
    draws.seed(0)
    transfer = PRESETS["typical"].input_transfer
    parameters = RingBankParameters.model_validate(PRESETS["typical"].model_dump())
    leakage = RingBank.draw(parameters, torch.Generator().manual_seed(0))._leakage  # noqa: SLF001 - what is timed
    tuning = 6 * torch.rand(32, 64, 64)
    draws.fill_(x)
    rows = {
        "normal sample": (least_ns(lambda: draws.fill_(x), COUNT), least_ns(x.normal_, COUNT)),
        "input to code": both_ns(lambda: modulator.nearest_codes(transfer, x), COUNT, modulator),
        "mid-tread quantiser": both_ns(lambda: MidTread(64).quantise(x), COUNT, codes),
        "ring's share of leakage": both_ns(lambda: leakage.remaining(tuning), tuning.numel(), ringleak),
    }
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; ns for each number\n")
    print("| | loop | torch | torch / loop |\n| --- | --- | --- | --- |")
    for name, (loop, torchs) in rows.items():
        print(f"| {name} | {loop:.2f} | {torchs:.2f} | {torchs / loop:.1f} |")


if __name__ == "__main__":
    main()
