"""Why shallow networks do not learn under the study's noise: how many of their outputs end at -1 or 1.

    python benchmarks/study_saturation.py DIR

Networks of the grid `depth` (p = 128, EP 0.8, ReLU) take 126 steps of Adam on every 25th image of the CIFAR-10 under
DIR; printed is the share of outputs that the last clamp holds, which no gradient passes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from photonic.data import load_dataset
from photonic.models.networks.study import build_study_network
from photonic.models.studynoise import STUDY_POINTS, NoiseModel, StudyNoise
from photonic.physics.codes import MidTread

DEPTHS = [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (3, 1), (4, 1)]
SHOWN = (0, 20, 125)


def held(images: torch.Tensor, labels: torch.Tensor, n_conv: int, n_linear: int) -> list[float]:
    """The share of outputs at -1 or 1 in each step of a training."""
    torch.manual_seed(0)
    network = build_study_network("convnet", (3, 32, 32), 10, nn.ReLU, n_conv=n_conv, n_linear=n_linear)
    StudyNoise(network, STUDY_POINTS["convnet"], NoiseModel.of(MidTread(128), ep=0.8, seed=0))
    optimiser, shares = torch.optim.Adam(network.parameters(), 1e-3), []
    for _ in range(SHOWN[-1] + 1):
        batch = torch.randint(0, len(images), (32,))
        y = network(images[batch])
        shares.append(float((y.detach().abs() >= 1).float().mean()))
        optimiser.zero_grad()
        F.cross_entropy(y, labels[batch]).backward()
        optimiser.step()
    return shares


def main() -> None:
    data = load_dataset("cifar10", root=Path(sys.argv[1]))
    images, labels = data.train_x[::25], data.train_y[::25]
    print("| convolutions | linear | " + " | ".join(f"step {step + 1}" for step in SHOWN) + " |")
    print("| --- " * (2 + len(SHOWN)) + "|")
    for n_conv, n_linear in DEPTHS:
        shares = held(images, labels, n_conv, n_linear)
        print(f"| {n_conv} | {n_linear} | " + " | ".join(f"{shares[step]:.2f}" for step in SHOWN) + " |", flush=True)


if __name__ == "__main__":
    main()
