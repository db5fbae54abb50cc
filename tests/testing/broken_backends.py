"""One small backend for each rule of the backend suite, which breaks that rule and no other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.backends.chip import Usage
from photonic.errors import RangeError
from photonic.records import BackendSpec


class GoodBackend(Backend):
    """Exact up to a little noise of its own seed: keeps every rule."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(BackendSpec(name="small"))
        self.generator = torch.Generator().manual_seed(seed)

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        self._require_finite(x, weight)
        y = self._exact(x.double(), weight.double())
        with self._session.lock:
            noise = torch.randn(y.shape, generator=self.generator, dtype=torch.float64)
        self._record(Usage(calls=1))
        return (y * (1 + 1e-4 * noise)).to(x.dtype)

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.mT

    def _require_finite(self, x: Tensor, weight: Tensor) -> None:
        if not (torch.isfinite(x).all() and torch.isfinite(weight).all()):
            raise RangeError("x and weight must be finite")


class WrongDtype(GoodBackend):
    """Always float32."""

    def matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        y = super().matmul(x, weight)
        # autograd's own check, in "gradient", is about doubles: those stay
        return y.float() if y.dtype in (torch.float16, torch.bfloat16) else y


class IgnoresStrides(GoodBackend):
    """Reads the memory of its input in order, whatever its strides are."""

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        if not x.is_contiguous() and x.stride(-1) != 1:
            x = torch.as_strided(x, x.shape, (x.shape[1] * x.shape[2], x.shape[2], 1))
        return super()._matmul(x, weight)


class WritesIntoOperands(GoodBackend):
    """Uses its input as a scratch pad."""

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        y = super()._matmul(x, weight)
        if x.shape == (1, 8, 48) and x.is_contiguous():  # elsewhere the next question would be another one
            x.zero_()
        return y


class ZeroInHalf(GoodBackend):
    """Loses everything in half precision."""

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        y = super()._matmul(x, weight)
        return y * 0 if x.dtype in (torch.float16, torch.bfloat16) else y


class ForeignError(GoodBackend):
    """Raises an error of its own in half precision, where shapes are right."""

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16 and x.shape == (1, 64, 50):
            raise NotImplementedError("bfloat16")
        return super()._matmul(x, weight)


class PositiveWeights(GoodBackend):
    """Loses a matrix whose weights are all negative."""

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        return super()._exact(x, weight) * (0.0 if bool((weight < 0).all()) else 1.0)


class Biased(GoodBackend):
    """A third too small for small matrices of non-negative inputs."""

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        small = x.shape == (1, 64, 50) and bool((x >= 0).all() and (weight > 0).any())
        return (0.67 if small else 1.0) * x @ weight.mT


class Rectifying(GoodBackend):
    """Loses negative inputs where there is no gradient to keep."""

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        return (x.clamp(min=0) if x.shape == (1, 64, 50) else x) @ weight.mT


class OneTile(GoodBackend):
    """Forgets all inputs beyond its 256."""

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        return x[..., :256] @ weight[..., :256].mT


class GroupByGroup(GoodBackend):
    """One call for each group."""

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        self._record(Usage(calls=len(x) - 1))
        return super()._matmul(x, weight)


class ShiftedConvolution(GoodBackend):
    """Gives every pixel of a convolution to its neighbour."""

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        y = super()._convolve(x, weight, geometry)
        return y.roll(1, dims=-1)


class OffsetAtZero(GoodBackend):
    """Has a large offset where there is nothing to multiply."""

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        return super()._exact(x, weight) + (0.0 if bool(x.any() and weight.any()) else 1e3)


class FixedRange(GoodBackend):
    """Clips inputs at 100."""

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        return x.clamp(-100, 100) @ weight.mT


class SeedBlind(GoodBackend):
    """Ignores the run's seed."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(seed=0)


class RepeatsItself(GoodBackend):
    """Draws the same noise in every call."""

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        with self._session.lock:
            self.generator.manual_seed(self.generator.initial_seed())
            return super()._matmul(x, weight)


class GlobalNoise(GoodBackend):
    """Seeds torch's global generator and draws from it."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(seed=seed)
        torch.manual_seed(seed)

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        y = super()._exact(x, weight)
        return y * (1 + 1e-4 * torch.randn(y.shape, dtype=y.dtype))


class PassesNan(GoodBackend):
    """Turns what is not finite into zeros."""

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        return super()._matmul(x.nan_to_num(0, 0, 0), weight.nan_to_num(0, 0, 0))


class Undead(GoodBackend):
    """Multiplies after it was closed."""

    _is_copy = False

    def _check_open(self) -> None:
        if self._is_copy:  # copies behave: "views" looks at them
            super()._check_open()

    def __deepcopy__(self, memo: dict[int, Any]) -> Undead:
        copied = super().__deepcopy__(memo)
        copied._is_copy = True
        return copied


class Unlocked(GoodBackend):
    """Multiplies with the weight of the last caller, whoever asks."""

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        self._weight = weight
        time.sleep(0.002)
        return super()._matmul(x, self._weight)


class OneCounter(GoodBackend):
    """All views count together."""

    def bind(self, site: Site) -> OneCounter:
        view = super().bind(site)
        view.site.usage = self.site.usage
        return view


class ForgetsItsName(GoodBackend):
    """Comes back from pickle under another name."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        maker, (_, layer) = super().__reduce__()
        return maker, ("another", layer)


class Detached(GoodBackend):
    """Gives a gradient of its own making."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(seed=seed)
        self.spec = BackendSpec(name="small", differentiable=True)

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        y = super()._matmul(x.detach(), weight.detach())
        return y + 0.5 * (x @ weight.mT - (x @ weight.mT).detach()) if x.requires_grad else y

    def _require_finite(self, x: Tensor, weight: Tensor) -> None:
        """Passes it on, as a differentiable backend may."""


BROKEN: list[tuple[Callable[..., Backend], str]] = [
    (WrongDtype, "shapes"),
    (IgnoresStrides, "layouts"),
    (WritesIntoOperands, "layouts"),
    (Biased, "product"),
    (ZeroInHalf, "product"),
    (ForeignError, "product"),
    (Rectifying, "signs"),
    (PositiveWeights, "signs"),
    (OneTile, "tiling"),
    (GroupByGroup, "groups"),
    (ShiftedConvolution, "convolution"),
    (FixedRange, "scales"),
    (OffsetAtZero, "scales"),
    (SeedBlind, "seeding"),
    (RepeatsItself, "seeding"),
    (GlobalNoise, "seeding"),
    (PassesNan, "finite"),
    (Undead, "close"),
    (Unlocked, "threads"),
    (OneCounter, "views"),
    (ForgetsItsName, "pickling"),
    (Detached, "gradient"),
]
