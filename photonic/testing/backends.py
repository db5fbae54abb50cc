"""The conformance suite for backends: what layers, autograd and users rely on.

Each check looks at one rule only. A backend's ``tolerance`` is its error's norm over the exact result's norm.
"""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.errors import ClosedError, DetachedError, RangeError
from photonic.models.functional import matmul
from photonic.testing.report import Report, Skipped, called, in_threads, outcome, require, run_checks

BackendFactory = Callable[..., Backend]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class BackendUnderTest:
    """How to make the backend, and the error that it states.

    Attributes:
        factory: takes ``seed`` and ``device``, gives a fresh backend.
        tolerance: relative error (norm over norm) of a product.
        seeded: equal seeds give equal results.
        patience_s: how long a call may wait for the calls of other threads.
    """

    factory: BackendFactory
    tolerance: float = 1e-5
    seeded: bool = True
    patience_s: float = 10.0

    def open(self, seed: int = 0, device: int = 0) -> Backend:
        """A fresh backend."""
        return self.factory(seed=seed, device=device)


def check_backend(factory: BackendFactory, *, tolerance: float = 1e-5, seeded: bool = True) -> Report:
    """Runs every check on a backend.

    Args:
        factory: called with ``seed`` and ``device``, it gives a fresh backend each time.
        tolerance: the backend's stated relative error of a product.
        seeded: whether equal seeds give equal results.

    Returns:
        What passed, failed and does not apply; ``report.raise_for_failures()`` raises.
    """
    return run_checks(BACKEND_CHECKS, BackendUnderTest(factory, tolerance, seeded))


def check_shapes(case: BackendUnderTest) -> None:
    """Any G, B, M and N, empty ones too, in every floating-point dtype, to (G, B, M) of the same dtype."""
    with case.open() as backend:
        for dtype in DTYPES:
            for g, b, n, m in ((1, 1, 1, 1), (2, 3, 70, 65), (3, 0, 4, 5), (1, 2, 0, 3)):
                x, weight = _operands(g, b, n, m)
                y = backend.matmul(x.to(dtype), weight.to(dtype))
                require(
                    tuple(y.shape) == (g, b, m) and y.dtype == dtype,
                    f"expected {(g, b, m)} of {dtype}, found {tuple(y.shape)} of {y.dtype}",
                )


def check_layouts(case: BackendUnderTest) -> None:
    """Strided and expanded operands are read as they are, and never written to."""
    with case.open() as backend:
        x, weight = _operands(1, 8, 48, 12)
        before = x.clone(), weight.clone()
        backend.matmul(x, weight)
        require(torch.equal(x, before[0]) and torch.equal(weight, before[1]), "the operands were written to")
        wide, tall = x.mT.contiguous().mT, weight.mT.contiguous().mT
        _require_close(case, backend.matmul(wide, tall), x, weight, "operands stored column by column")
        expanded = x.expand(3, -1, -1), weight.expand(3, -1, -1)
        _require_close(case, backend.matmul(*expanded), *expanded, "expanded operands")


def check_product(case: BackendUnderTest) -> None:
    """A product of non-negative inputs is the exact one, within the stated error and the dtype's own."""
    with case.open() as backend:
        for dtype in DTYPES:
            x, weight = (t.to(dtype) for t in _operands(1, 64, 50, 40))
            _require_close(case, backend.matmul(x.abs(), weight), x.abs(), weight, f"non-negative inputs in {dtype}")


def check_signs(case: BackendUnderTest) -> None:
    """Inputs and weights of both signs, or all negative, multiply as they should."""
    with case.open() as backend:
        x, weight = _operands(1, 64, 50, 40)
        _require_close(case, backend.matmul(x, weight), x, weight, "inputs of both signs")
        _require_close(case, backend.matmul(-x.abs(), weight), -x.abs(), weight, "negative inputs")
        _require_close(case, backend.matmul(x.abs(), -weight.abs()), x.abs(), -weight.abs(), "negative weights")


def check_tiling(case: BackendUnderTest) -> None:
    """A matrix larger than any tile, with sizes that are no multiple of one, is added up digitally."""
    with case.open() as backend:
        x, weight = _operands(1, 32, 301, 203)
        _require_close(case, backend.matmul(x.abs(), weight), x.abs(), weight, "a product of 301 inputs, 203 outputs")


def check_groups(case: BackendUnderTest) -> None:
    """Every group multiplies with its own weight, all in one call."""
    with case.open() as backend:
        x, weight = _operands(5, 16, 20, 12)
        before = backend.site.usage.calls
        _require_close(case, backend.matmul(x.abs(), weight), x.abs(), weight, "5 groups")
        calls = backend.site.usage.calls - before
        require(calls == 1, f"5 groups must be one call, counted {calls}")


def check_scales(case: BackendUnderTest) -> None:
    """Operands may have any scale; zeros give zeros, not a division by zero."""
    with case.open() as backend:
        x, weight = _operands(1, 32, 30, 20)
        for a, b in ((1e-6, 1e4), (1e5, 1e-3)):
            _require_close(case, backend.matmul(x.abs() * a, weight * b), x.abs() * a, weight * b, f"scales {a}, {b}")
        full = float((torch.ones_like(x) @ weight.mT).norm())
        for name, left, right in (("inputs", x * 0, weight), ("weights", torch.ones_like(x), weight * 0)):
            size = float(backend.matmul(left, right).norm())
            # NaN fails the comparison
            require(size <= case.tolerance * full, f"{name} of zeros gave {size:.3g}, of ones {full:.3g}")


def check_convolution(case: BackendUnderTest) -> None:
    """Convolutions, with their geometry and groups, are torch's within the stated error; empty batches pass."""
    generator = torch.Generator().manual_seed(7)
    with case.open() as backend:
        for sizes, geometry in (
            ((11,), ConvGeometry((2,), (1,), (2,), 1)),
            ((9, 8), ConvGeometry((2, 1), (1, 0), (1, 2), 2)),
        ):
            native = F.conv1d if len(sizes) == 1 else F.conv2d
            x = torch.rand(3, 8, *sizes, generator=generator)
            weight = 0.5 + torch.randn(6, 8 // geometry.groups, *(3,) * len(sizes), generator=generator)
            g = geometry
            exact = native(x.double(), weight.double(), None, g.stride, g.padding, g.dilation, g.groups)
            y = backend.convolve(x, weight, geometry)
            require(y.shape == exact.shape, f"a convolution must give {tuple(exact.shape)}, found {tuple(y.shape)}")
            _require_near(case, y, exact, f"a convolution in {len(sizes)} dimensions")
            empty = backend.convolve(x[:0], weight, geometry).shape
            require(empty == exact[:0].shape, f"an empty batch must give {exact[:0].shape}, found {empty}")


def check_seeding(case: BackendUnderTest) -> None:
    """Equal seeds give equal results, call after call, and nothing else does; unequal run seeds unequal noise."""
    if not case.seeded:
        raise Skipped("stated as not seeded")
    x, weight = _operands(1, 64, 50, 40)

    def twice(seed: int) -> tuple[Tensor, Tensor]:
        with case.open(seed=seed, device=1) as backend:
            return backend.matmul(x, weight), backend.matmul(x, weight)

    before = torch.get_rng_state()
    first, again, other = twice(3), twice(3), twice(4)
    require(all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "equal seeds gave unequal results")
    own = torch.equal(before, torch.get_rng_state())
    require(own, "noise was drawn from (or seeds set on) torch's global generator; own a torch.Generator")
    repeats, blind = torch.equal(*first), torch.equal(first[0], other[0])
    if repeats and blind:
        raise Skipped("equal seeds give equal results; there is no noise for other seeds to change")
    require(not repeats, "two calls one after the other repeat the same noise")
    require(not blind, "another run seed gives the same noise")


def check_finite(case: BackendUnderTest) -> None:
    """NaN and infinity are refused (a differentiable backend passes them on, as torch does)."""
    with case.open() as backend:
        for bad in (float("nan"), float("inf")):
            x, weight = _operands(1, 4, 6, 5)
            spoilt = x.clone()
            spoilt[0, 1, 2] = bad
            for operands in ((spoilt, weight), (x, weight.clone().fill_(bad))):
                if backend.spec.differentiable:
                    silent = bool(torch.isfinite(backend.matmul(*operands)).all())
                    require(not silent, f"{bad} vanished in the result")
                    continue
                found = outcome(lambda pair=operands: backend.matmul(*pair))  # type: ignore[misc]
                require(found is RangeError, f"expected RangeError for {bad}, found {called(found)}")


def check_close(case: BackendUnderTest) -> None:
    """A closed backend refuses, through all its views; closing twice is allowed; a fresh one works."""
    x, weight = _operands(1, 2, 3, 4)
    backend = case.open()
    view = backend.bind(Site("layer"))
    backend.close()
    backend.close()
    for closed in (backend, view):
        found = outcome(lambda b=closed: b.matmul(x, weight))  # type: ignore[misc]
        require(found is ClosedError, f"expected ClosedError after close(), found {called(found)}")
    with case.open() as fresh:
        fresh.matmul(x, weight)


def check_threads(case: BackendUnderTest) -> None:
    """Callers from several threads get their own product, and every call is counted."""
    with case.open() as backend:
        x, weight = _operands(1, 16, 20, 12)
        x = x.abs()
        started = time.monotonic()
        backend.matmul(x, weight)
        patience_s = case.patience_s + 64 * (time.monotonic() - started)  # a slow chip is not a wrong one
        before = backend.site.usage.calls

        def ask(i: int) -> Tensor:
            return backend.matmul(x, weight * (1 if i % 2 else -1))

        results = [y for y in in_threads(ask, 32, workers=4, patience_s=patience_s) if isinstance(y, Tensor)]
        exact = x @ weight.mT
        wrong = sum(bool((y * exact).sum() * (1 if i % 2 else -1) <= 0) for i, y in enumerate(results))
        require(wrong == 0, f"{wrong} of 32 concurrent products belong to another call")
        require((n := backend.site.usage.calls - before) == 32, f"32 calls were made, {n} counted")


def check_views(case: BackendUnderTest) -> None:
    """A view and a deep copy share what is below and count for themselves."""
    with case.open() as backend:
        x, weight = _operands(1, 2, 3, 4)
        view = backend.bind(Site("layer"))
        copied = copy.deepcopy(view)
        view.matmul(x, weight)
        found = (backend.site.usage.calls, view.site.usage.calls, copied.site.usage.calls)
        require(found == (0, 1, 0), f"one call through one view must count there only, counted {found}")
        require(copied.site.name == "layer" and copied.spec == backend.spec, "a copy lost its name or its spec")
    require(outcome(lambda: copied.matmul(x, weight)) is ClosedError, "a copy outlives the backend that it shares")


def check_pickling(case: BackendUnderTest) -> None:
    """Pickling keeps the spec string, and what comes back raises until it is attached."""
    with case.open() as backend:
        x, weight = _operands(1, 2, 3, 4)
        back = pickle.loads(pickle.dumps(backend.bind(Site("layer"))))
        require(back.spec.name == backend.spec.name, f"expected {backend.spec.name!r} back, found {back.spec.name!r}")
        found = outcome(lambda: back.matmul(x, weight))
        require(found is DetachedError, f"expected DetachedError from an unpickled backend, found {called(found)}")


def check_gradient(case: BackendUnderTest) -> None:
    """The gradient arrives at both operands, and it is that of the exact product; backward makes no call."""
    with case.open() as backend:
        x, weight = (t[0].double().requires_grad_() for t in _operands(1, 6, 20, 12))
        upstream = torch.ones(6, 12, dtype=torch.float64)
        y = matmul(x, weight, backend)
        calls = backend.site.usage.calls
        found = torch.autograd.grad(y, (x, weight), upstream)
        expected = upstream @ weight, upstream.T @ x
        same = all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(found, expected, strict=True))
        require(same, "the gradient is not that of the exact product")
        require(backend.site.usage.calls == calls, "backward called the backend")


BACKEND_CHECKS: dict[str, Callable[[BackendUnderTest], None]] = {
    "shapes": check_shapes,
    "layouts": check_layouts,
    "product": check_product,
    "signs": check_signs,
    "tiling": check_tiling,
    "groups": check_groups,
    "convolution": check_convolution,
    "scales": check_scales,
    "seeding": check_seeding,
    "finite": check_finite,
    "close": check_close,
    "threads": check_threads,
    "views": check_views,
    "pickling": check_pickling,
    "gradient": check_gradient,
}


def _operands(g: int, b: int, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Random x (G, B, N) and weight (G, M, N) of both signs, float32, the same each time.

    Their means are not zero: a sum that cancels would measure little but a chip's noise.
    """
    generator = torch.Generator().manual_seed(g * 1000 + b * 100 + n * 10 + m)
    return 0.5 + torch.randn(g, b, n, generator=generator), 0.5 + torch.randn(g, m, n, generator=generator)


def _require_close(case: BackendUnderTest, y: Tensor, x: Tensor, weight: Tensor, what: str) -> None:
    _require_near(case, y.to(x.dtype), x.double() @ weight.double().mT, what)


def _require_near(case: BackendUnderTest, y: Tensor, exact: Tensor, what: str) -> None:
    error = float((y.double() - exact).norm() / exact.norm())
    # the result's own rounding is no fault of the backend
    stated = case.tolerance + torch.finfo(y.dtype).eps
    require(error <= stated, f"{what}: relative error {error:.3g}, stated is {stated:g}")
