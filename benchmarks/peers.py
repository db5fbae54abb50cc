"""Other simulators of analog accelerators on the works of the speed table, as ratios to plain PyTorch in one process.

    python -m venv peers && peers/bin/pip install 'torch==2.13.0' aihwkit-lightning analogvnn dataclasses
    peers/bin/python benchmarks/peers.py

It needs nothing of photonic, because aihwkit-lightning pins its own torch. Configuration:
8-bit inputs, 8-bit outputs, output noise 0.04 and weight noise 0.0175 in the
library's own units: the work is comparable, the accuracy is not. What is not installed is named.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

PEERS = {
    "aihwkit-lightning, 64 x 1024 tiles": "aihwkit_lightning",
    "aihwkit-lightning, 512 x 1024 tiles": "aihwkit_lightning",
    "AnalogVNN (no tiles, no ADC range)": "analogvnn",
}
WORKS = ("step", "forward", "latency")


def lightning(layer: nn.Linear, rows: int) -> nn.Module:
    """AnalogLinear with tiles of ``rows`` inputs."""
    from aihwkit_lightning.nn.conversion import convert_to_analog
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig, WeightModifierType

    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = rows
    config.forward.inp_res = config.forward.out_res = 2**8 - 2
    config.forward.out_bound = 12.0
    config.forward.out_noise = 0.04
    config.modifier.std_dev = 0.0175
    config.modifier.type = WeightModifierType.ADD_NORMAL
    config.pre_post.input_range.enable = True
    return convert_to_analog(nn.Sequential(layer), config)


class Vnn(nn.Module):
    """A layer between AnalogVNN's own precision and noise layers."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        from analogvnn.nn.noise.GaussianNoise import GaussianNoise
        from analogvnn.nn.precision.ReducePrecision import ReducePrecision

        self.layer = layer
        self.inputs, self.outputs = ReducePrecision(precision=2**8), ReducePrecision(precision=2**8)
        self.noise, self.weights = GaussianNoise(std=0.04, precision=2**8), GaussianNoise(std=0.0175, precision=2**8)

    def forward(self, x: Tensor) -> Tensor:
        """Weight noise on every call, as the others."""
        weight = self.weights(self.layer.weight)
        return self.outputs(self.noise(nn.functional.linear(self.inputs(x), weight, self.layer.bias)))


def build(peer: str, layer: nn.Linear) -> nn.Module:
    """The peer's version of a layer."""
    if peer.startswith("aihwkit"):
        return lightning(layer, 64 if "64 x" in peer else 512)
    return Vnn(layer)


def run_of(model: nn.Module, x: Tensor, work: str) -> Callable[[], None]:
    """One timing of a work."""
    if work != "step":
        repeats = 20 if work == "latency" else 1

        def forward() -> None:
            with torch.no_grad():
                for _ in range(repeats):
                    model(x)

        return forward
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def ratio(peer: str, work: str, rounds: int) -> float:
    """Median time of the peer over that of the plain layer, interleaved."""
    size, batch = (64, 1) if work == "latency" else (1024, 256)
    torch.manual_seed(0)
    x = torch.rand(batch, size)
    runs = [run_of(nn.Linear(size, size), x, work), run_of(build(peer, nn.Linear(size, size)).train(), x, work)]
    times: list[list[float]] = [[], []]
    for run in runs * 3:
        run()
    gc.disable()
    for _ in range(rounds):
        for found, run in zip(times, runs, strict=True):
            started = time.perf_counter()
            run()
            found.append(time.perf_counter() - started)
    gc.enable()
    return statistics.median(times[1]) / statistics.median(times[0])


def main() -> None:
    """Prints a table; each peer runs in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=sorted(PEERS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    if asked.only:
        print(" | ".join(f"{ratio(asked.only, work, asked.rounds):.1f}" for work in WORKS))
        return
    print(f"torch {torch.__version__}, 2 threads; ratios to plain PyTorch\n")
    print("| peer | Linear 1024, batch 256, training step | forward | Linear 64, batch 1, forward |")
    print("| --- | --- | --- | --- |")
    for peer, module in PEERS.items():
        if importlib.util.find_spec(module) is None:
            print(f"| {peer} | not installed: pip install {module.replace('_', '-')} | | |")
            continue
        command = [sys.executable, __file__, "--only", peer, "--rounds", str(asked.rounds)]
        done = subprocess.run(command, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1:] or ["failed"]
        print(f"| {peer} | {(done.stdout.strip().splitlines() or last)[-1]} |")


if __name__ == "__main__":
    main()
