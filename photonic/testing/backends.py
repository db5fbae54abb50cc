"""The conformance suite for backends: what layers, autograd and users rely on.

Each check looks at one rule only. A backend states its error as ``tolerance``: the norm of the result's error over the
norm of the exact result, for random matrices.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.backends.base import Backend, Site
from photonic.errors import ClosedError, DetachedError, RangeError
from photonic.models.functional import matmul
from photonic.testing.report import Report, Skipped, require, run_checks

BackendFactory = Callable[..., Backend]


@dataclass(frozen=True)
class BackendUnderTest:
    """How to make the backend, and the error that it states.

    Attributes:
        factory: takes ``seed`` and ``device``, gives a fresh backend.
        tolerance: relative error (norm over norm) of a product.
        seeded: equal seeds give equal results.
    """

    factory: BackendFactory
    tolerance: float = 1e-5
    seeded: bool = True

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
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            for g, b, n, m in ((1, 1, 1, 1), (2, 3, 70, 65), (3, 0, 4, 5), (1, 2, 0, 3)):
                x, weight = _operands(g, b, n, m)
                y = backend.matmul(x.to(dtype), weight.to(dtype))
                require(
                    tuple(y.shape) == (g, b, m) and y.dtype == dtype,
                    f"expected {(g, b, m)} of {dtype}, found {tuple(y.shape)} of {y.dtype}",
                )


def check_layouts(case: BackendUnderTest) -> None:
    """Strided and expanded operands are read as they are."""
    with case.open() as backend:
        x, weight = _operands(1, 8, 48, 12)
        wide, tall = x.mT.contiguous().mT, weight.mT.contiguous().mT
        _require_close(case, backend.matmul(wide, tall), x, weight, "operands stored column by column")
        expanded = x.expand(3, -1, -1), weight.expand(3, -1, -1)
        _require_close(case, backend.matmul(*expanded), *expanded, "expanded operands")


def check_product(case: BackendUnderTest) -> None:
    """A product of non-negative inputs is the exact one, within the stated error."""
    with case.open() as backend:
        x, weight = _operands(1, 64, 50, 40)
        _require_close(case, backend.matmul(x.abs(), weight), x.abs(), weight, "a product of non-negative inputs")


def check_signs(case: BackendUnderTest) -> None:
    """Inputs of either sign, or all negative, multiply as they should."""
    with case.open() as backend:
        x, weight = _operands(1, 64, 50, 40)
        for name, signed in (("inputs of both signs", x), ("negative inputs", -x.abs())):
            _require_close(case, backend.matmul(signed, weight), signed, weight, name)


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
        y = backend.matmul(torch.zeros_like(x), weight)
        require(bool(torch.isfinite(y).all()), "inputs of zeros gave a result that is not finite")


def check_seeding(case: BackendUnderTest) -> None:
    """Equal seeds give equal results, call after call; unequal run seeds unequal noise."""
    if not case.seeded:
        raise Skipped("stated as not seeded")
    x, weight = _operands(1, 64, 50, 40)

    def twice(seed: int) -> tuple[Tensor, Tensor]:
        with case.open(seed=seed, device=1) as backend:
            return backend.matmul(x, weight), backend.matmul(x, weight)

    first, again = twice(3), twice(3)
    require(all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "equal seeds gave unequal results")
    if torch.equal(*first):
        raise Skipped("equal seeds give equal results; there is no noise for other seeds to change")
    require(not torch.equal(first[0], twice(4)[0]), "another run seed gives the same noise")


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
                found = _outcome(lambda pair=operands: backend.matmul(*pair))  # type: ignore[misc]
                require(found is RangeError, f"expected RangeError for {bad}, found {_called(found)}")


def check_close(case: BackendUnderTest) -> None:
    """A closed backend refuses, through all its views; closing twice is allowed; a fresh one works."""
    x, weight = _operands(1, 2, 3, 4)
    backend = case.open()
    view = backend.bind(Site("layer"))
    backend.close()
    backend.close()
    for closed in (backend, view):
        found = _outcome(lambda b=closed: b.matmul(x, weight))  # type: ignore[misc]
        require(found is ClosedError, f"expected ClosedError after close(), found {_called(found)}")
    with case.open() as fresh:
        fresh.matmul(x, weight)


def check_threads(case: BackendUnderTest) -> None:
    """Callers from several threads get their own product, and every call is counted."""
    with case.open() as backend:
        x, weight = _operands(1, 16, 20, 12)
        x = x.abs()
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda i: backend.matmul(x, weight * (1 if i % 2 else -1)), range(32)))
        exact = x @ weight.mT
        wrong = sum(bool((y * exact).sum() * (1 if i % 2 else -1) <= 0) for i, y in enumerate(results))
        require(wrong == 0, f"{wrong} of 32 concurrent products belong to another call")
        require(backend.site.usage.calls == 32, f"32 calls were made, {backend.site.usage.calls} counted")


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
    found_error = _outcome(lambda: copied.matmul(x, weight))
    require(found_error is ClosedError, "a copy outlives the backend that it shares")


def check_pickling(case: BackendUnderTest) -> None:
    """Pickling keeps the spec string, and what comes back raises until it is attached."""
    with case.open() as backend:
        x, weight = _operands(1, 2, 3, 4)
        back = pickle.loads(pickle.dumps(backend.bind(Site("layer"))))
        require(back.spec.name == backend.spec.name, f"expected {backend.spec.name!r} back, found {back.spec.name!r}")
        found = _outcome(lambda: back.matmul(x, weight))
        require(found is DetachedError, f"expected DetachedError from an unpickled backend, found {_called(found)}")


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
    exact = x.double() @ weight.double().mT
    error = float((y.double() - exact).norm() / exact.norm())
    require(error <= case.tolerance, f"{what}: relative error {error:.3g}, stated is {case.tolerance:g}")


def _outcome(call: Callable[[], object]) -> type[BaseException] | None:
    """The class of what a call raises, or None."""
    try:
        call()
    except Exception as error:
        return type(error)
    return None


def _called(found: type[BaseException] | None) -> str:
    return "no error" if found is None else found.__name__
