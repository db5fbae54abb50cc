"""What the speed table measures: each work in plain PyTorch, on a backend, and as its floor of bare operations."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import photonic

Run = Callable[[], object]
TILE = 64
# elements of a buffer that stays in a core's cache
CACHED = 2**18


@dataclass(frozen=True)
class Work:
    """One line of the table.

    Attributes:
        name: for people.
        model: in plain PyTorch.
        inputs: of a batch.
        step: whether a training step is timed (loss, backward, SGD), "gradients" (no optimiser), or "forward".
        floors: given a kind ("exact", "twin") and whether S needs a product of its own, a run of bare operations.
        repeats: of the run in one timing, where it is short.
    """

    name: str
    model: nn.Module
    inputs: Tensor
    step: str
    floors: Callable[[str, bool, int], Run]
    repeats: int = 1

    def plain(self) -> Run:
        """The work in PyTorch."""
        return self._run(copy.deepcopy(self.model))

    def on(self, spec: str) -> Run:
        """The work on a backend."""
        model = copy.deepcopy(self.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", photonic.NominalCalibrationWarning)
            photonic.convert_(model, photonic.open_backend(spec, seed=0))
        return self._run(model)

    def _run(self, model: nn.Module) -> Run:
        x = self.inputs
        if self.step == "forward":

            @torch.no_grad()
            def forward() -> None:
                for _ in range(self.repeats):
                    model(x)

            return forward
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
        if self.step == "gradients":
            x = x.clone().requires_grad_()

        def step() -> None:
            optimizer.zero_grad()
            x.grad = None
            model(x).square().mean().backward()
            if self.step == "step":
                optimizer.step()

        return step


def linear(signed: bool) -> list[Work]:
    """Linear 1024 -> 1024, batch 256: a training step, and the forward alone."""
    torch.manual_seed(0)
    layer, x = nn.Linear(1024, 1024), torch.rand(256, 1024)
    x = x - 0.5 if signed else x
    name = "Linear 1024 -> 1024, batch 256"

    def floors(step: bool) -> Callable[[str, bool, int], Run]:
        def of(kind: str, second: bool, shots: int) -> Run:
            forward = product_floor(kind, 256 * (shots if kind == "exact" else 1), 1024, 1024, second)
            grad, out = torch.rand(256, 1024), torch.empty(1024, 1024)
            weight, bias = torch.rand(1024, 1024), torch.rand(1024)

            def run() -> None:
                forward()
                if step:
                    torch.mm(grad.T, x, out=out)
                    weight.add_(out, alpha=-1e-6)
                    bias.add_(grad.sum(0), alpha=-1e-6)

            return run

        return of

    return [
        Work(f"{name}, training step", layer, x, "step", floors(True)),
        Work(f"{name}, forward", layer, x, "forward", floors(False)),
    ]


def small_linear(signed: bool) -> Work:
    """Linear 64 -> 64, batch 1."""
    torch.manual_seed(0)
    x = torch.rand(1, 64)

    def of(kind: str, second: bool, shots: int) -> Run:
        forward = product_floor(kind, shots if kind == "exact" else 1, 64, 64, second)

        def run() -> None:
            for _ in range(50):
                forward()

        return run

    return Work("Linear 64 -> 64, batch 1, forward", nn.Linear(64, 64), x - 0.5 if signed else x, "forward", of, 50)


def convolution(signed: bool) -> Work:
    """Conv2d 64 -> 64, 3 x 3, 32 x 32, batch 32, forward and backward."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(64, 64, 3, padding=1), torch.rand(32, 64, 32, 32)
    x = x - 0.5 if signed else x
    floors = convolution_floor(layer, x, inputs_too=True)
    return Work("Conv2d 64 -> 64, 3 x 3, 32 x 32, batch 32, forward and backward", layer, x, "gradients", floors)


def network(signed: bool) -> Work:
    """A small CNN, batch 128: 3-32-pool-64-pool-128-10; a training step."""
    torch.manual_seed(0)
    convolutions = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
    heads = nn.Linear(4096, 128), nn.Linear(128, 10)
    pool, relu = nn.MaxPool2d(2), nn.ReLU()
    model = nn.Sequential(
        convolutions[0], relu, pool, convolutions[1], relu, pool, nn.Flatten(), heads[0], relu, heads[1]
    )
    x = torch.rand(128, 3, 32, 32)
    x = x - 0.5 if signed else x
    plain = Work("", model, x, "step", lambda kind, second, shots: lambda: None).plain()

    def of(kind: str, second: bool, shots: int) -> Run:
        # what the backend adds to the plain step: draws, and the products of S; only the first layer's input has signs
        images = torch.rand(128, 32, 16, 16)
        extra = [
            convolution_extra(kind, convolutions[0], x, second, shots),
            convolution_extra(kind, convolutions[1], images, second, 1),
            product_extra(kind, 128, 4096, 128, second),
            product_extra(kind, 128, 128, 10, second),
        ]

        def run() -> None:
            plain()
            for part in extra:
                part()

        return run

    return Work("small CNN, batch 128, training step", model, x, "step", of)


def product_floor(kind: str, batch: int, inputs: int, outputs: int, second: bool) -> Run:
    """GEMMs and draws of a product, ``out=`` into buffers that stay in cache."""
    if kind == "twin":
        x, weight, out = torch.rand(batch, inputs), torch.rand(outputs, inputs), torch.empty(batch, outputs)
        extra = product_extra(kind, batch, inputs, outputs, second)

        def run() -> None:
            torch.mm(x, weight.T, out=out)
            extra()

        return run
    columns, n = -(-inputs // TILE), min(inputs, TILE)
    shots = min(batch, max(1, CACHED // outputs))
    xs, weights = torch.rand(columns, shots, n), torch.rand(columns, outputs, n)
    out, noise = torch.empty(shots, outputs), torch.empty(shots, outputs)

    def tiled() -> None:
        for _ in range(0, batch, shots):
            for column in range(columns):
                torch.mm(xs[column], weights[column].T, out=out)
                if second:
                    torch.mm(xs[column], weights[column].T, out=out)
                noise.normal_()

    return tiled


def product_extra(kind: str, batch: int, inputs: int, outputs: int, second: bool) -> Run:
    """The same without the product itself."""
    tiles = 1 if kind == "twin" else -(-inputs // TILE)
    noise = torch.empty(min(CACHED, batch * outputs))
    x, weight, out = torch.rand(batch, inputs), torch.rand(outputs, inputs), torch.empty(batch, outputs)

    def run() -> None:
        for _ in range(0, tiles * batch * outputs, len(noise)):
            noise.normal_()
        if second:
            torch.mm(x, weight.T, out=out)

    return run


def convolution_extra(kind: str, layer: nn.Conv2d, x: Tensor, second: bool, shots: int) -> Run:
    """Draws of a convolution, and the convolution of S where it depends on the weights."""
    positions = x.shape[0] * x.shape[2] * x.shape[3]
    tiles = 1 if kind == "twin" else -(-layer.weight[0].numel() // TILE) * shots
    draws = tiles * positions * layer.out_channels
    noise = torch.empty(min(CACHED, draws))
    weight = layer.weight.detach()

    def run() -> None:
        for _ in range(0, draws, len(noise)):
            noise.normal_()
        if second:
            F.conv2d(x, weight, None, padding=1)

    return run


def convolution_floor(layer: nn.Conv2d, x: Tensor, inputs_too: bool) -> Callable[[str, bool, int], Run]:
    """The products of the tiles (exact) or torch's convolution (twin), the draws, and torch's own backward."""
    weight = layer.weight.detach()
    grad = torch.rand(x.shape[0], layer.out_channels, *x.shape[2:])

    def of(kind: str, second: bool, shots: int) -> Run:
        extra = convolution_extra(kind, layer, x, second and kind == "twin", shots)
        positions, inputs = x.shape[0] * x.shape[2] * x.shape[3], weight[0].numel()
        rows = CACHED // layer.out_channels
        patch, part, out = (
            torch.rand(rows, TILE),
            torch.rand(TILE, layer.out_channels),
            torch.empty(rows, layer.out_channels),
        )

        def run() -> None:
            if kind == "twin":
                F.conv2d(x, weight, None, padding=1)
            else:
                for _ in range(0, positions * shots * (2 if second else 1), rows):
                    for _ in range(0, inputs, TILE):
                        torch.mm(patch, part, out=out)
            extra()
            torch.ops.aten.convolution_backward(
                grad, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (inputs_too, True, False)
            )

        return run

    return of
