"""Trained networks have the same accuracy on the twin as on the exact chip."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import photonic

FOLDS = 5
MARGIN = 0.005
T_90 = 1.685  # Student's t for a two-sided 90 % interval at 39 degrees of freedom; less for more


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.SiLU(), nn.Linear(96, 32), nn.SiLU(), nn.Linear(32, 10))


def _convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def _strided_and_grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1, stride=2), nn.GELU(),
        nn.Conv2d(24, 48, 3, padding=1, stride=2, groups=4), nn.Tanh(), nn.Flatten(), nn.Linear(192, 10),
    )  # fmt: skip


def _digits() -> tuple[Tensor, Tensor, Tensor]:
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return x, torch.tensor(digits.target), torch.randperm(len(x), generator=torch.Generator().manual_seed(0))


def _trained(make: Callable[[], nn.Module], x: Tensor, y: Tensor, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(15):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def _correct(model: nn.Module, spec: str, x: Tensor, y: Tensor, seed: int, repeats: int) -> Tensor:
    """Right answers in each of the repeats."""
    here = photonic.convert_(copy.deepcopy(model), photonic.open_backend(spec, seed=seed))
    with torch.inference_mode():
        return torch.stack([(here(x).argmax(1) == y).sum() for _ in range(repeats)]).double()


@pytest.mark.slow
@pytest.mark.parametrize("make", [_perceptron, _convolutional, _strided_and_grouped])
@pytest.mark.parametrize(
    ("chip", "repeats"),
    # the lower the accuracy, the more of it is noise
    [("typical?device=1", 40), ("pessimistic?device=2&adc_bits=7", 120), ("crossbar-typical?device=3", 40)],
)
def test_accuracy_is_the_same(make: Callable[[], nn.Module], chip: str, repeats: int) -> None:
    """The 90 % interval of the mean gap over the repeats lies within half a point; all 1,797 images, by 5 folds."""
    x, y, order = _digits()
    right = {scheme: torch.zeros(repeats, dtype=torch.float64) for scheme in ("sim", "twin")}
    for fold, test in enumerate(order.chunk(FOLDS)):
        train = order[~torch.isin(order, test)]
        model = _trained(make, x[train], y[train], seed=fold)
        for scheme in right:
            right[scheme] += _correct(model, f"{scheme}:{chip}", x[test], y[test], 1000 + fold, repeats)
    exact, twin = (right[scheme] / len(x) for scheme in ("sim", "twin"))
    gap = exact - twin
    half = T_90 * float(gap.std()) / math.sqrt(repeats)
    print(
        f"{make.__name__} on {chip}: exact {exact.mean():.4f}, twin {twin.mean():.4f}, {gap.mean():+.5f} +- {half:.5f}"
    )
    assert 0.3 < float(exact.mean()) < 0.995  # noise shows
    assert abs(float(gap.mean())) + half < MARGIN
