"""The upper seam: a backend multiplies real numbers.

A backend implements ``_matmul``. The public ``matmul`` and ``convolve`` are concrete: they check shapes, answer empty
products without a call, and count per layer.
"""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from photonic.backends.chip import Usage
from photonic.backends.handles import register
from photonic.backends.judgement import Judge
from photonic.backends.observation import Observer
from photonic.errors import ClosedError, DetachedError, ShapeError
from photonic.records import BackendSpec

Pullback = Callable[[Tensor, tuple[bool, bool]], tuple[Tensor | None, Tensor | None]]


@dataclass(frozen=True)
class ConvGeometry:
    """A convolution's shape parameters, one value for each spatial dimension; padding is with zeros, both sides."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def output_size(self, size: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial size of the output, floor((size + 2 p - d (k - 1) - 1) / s) + 1 in each dimension."""
        terms = zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in terms)


@dataclass(frozen=True)
class Programming:
    """What one pass over a layer's weight costs a chip that does not hold it.

    Attributes:
        tiles: tiles of the weight, row tiles x column tiles x groups.
        drives: drive codes that are written.
        seconds: settling time after all programmings.
    """

    tiles: int = 0
    drives: int = 0
    seconds: float = 0.0


@dataclass
class Site:
    """Where a backend is used: one layer. Holds its name, its input range and its counters.

    Attributes:
        name: of the layer in its model.
        input_range: a scalar; None: each batch's absolute maximum.
        usage: what the layer's calls have spent.
        inputs: numbers that met the input range.
        clipped: those of them that it clamped.
        gains: (R, G x C) analog gain of each tile; None: the backend's.
        observe: is shown every call of the chip; None: nobody watches.
        judge: is shown what a statistical backend says of its ranges, in place of an error where it is wrong.
        encodings: how often the weight had to be turned into codes, and ``encode_seconds`` how long that took.
    """

    name: str = ""
    input_range: Tensor | None = None
    usage: Usage = field(default_factory=Usage)
    inputs: int = 0
    clipped: int = 0
    gains: Tensor | None = None
    observe: Observer | None = None
    judge: Judge | None = None
    encodings: int = 0
    encode_seconds: float = 0.0


class _Session:
    """What all views of one opened backend share: whether it is closed, and the lock on counters."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.closed = False


class Backend(ABC):
    """What a layer's matmul runs on: real numbers in, real numbers out. Implement ``_matmul``; the rest is here.

    Args:
        spec: what the backend says of itself; frozen.

    Attributes:
        site: the layer that this view is bound to.
        handle: a number of this view's own, for compiled code.
        results_are_new: whether every result is a new tensor that nobody else holds, which a bias may be added to.
    """

    results_are_new: ClassVar[bool] = False

    def __init__(self, spec: BackendSpec) -> None:
        self.spec = spec
        self.site = Site()
        self._session = _Session()
        self.handle = register(self)

    @abstractmethod
    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (G, B, N) times weight (G, M, N) transposed, to (G, B, M); no dimension is empty, all is checked.

        The result has x's dtype, computed in float32 or wider.
        """

    def matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiplies G groups in one go: y[g] = x[g] @ weight[g].T.

        Args:
            x: (G, B, N), floating point.
            weight: (G, M, N), same dtype and device.

        Returns:
            (G, B, M) in the dtype of ``x``.

        Raises:
            ClosedError: after ``close()``.
            ShapeError: shapes or dtypes do not fit.
            RangeError: a number is not finite (backends with converters).
        """
        self._check_open()
        _check_operands(x, weight)
        (groups, batch, inputs), outputs = x.shape, weight.shape[1]
        if not (groups and batch and inputs and outputs):
            # the graph is kept: an empty product still has (zero) gradients
            return x @ weight.mT
        return self._checked(self._matmul(x, weight), (groups, batch, outputs), x.dtype)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """One product of matrices and a bias, which is added digitally; for code that asks for no gradients.

        Args:
            x: (B, N), floating point.
            weight: (M, N), same dtype and device.
            bias: (M,) of the same dtype, or None.

        Returns:
            (B, M) in the dtype of ``x``: the same numbers as by ``matmul``.

        Raises:
            PhotonicError: as ``matmul``.
        """
        self._check_open()
        if bias is not None and (bias.ndim != 1 or bias.shape[0] != weight.shape[0] or bias.dtype != x.dtype):
            raise ShapeError(
                f"expected a bias {tuple(weight.shape[:1])} of {x.dtype}, found {tuple(bias.shape)} of {bias.dtype}"
            )
        y = self._linear(x, weight, bias)
        if y is None:
            y = self.matmul(x.unsqueeze(0), weight.unsqueeze(0)).squeeze(0)
            return y if bias is None else y + bias
        return self._checked(y, (x.shape[0], weight.shape[0]), x.dtype)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """A shorter way for small matrices, where a backend has one; nothing is checked. None: go by ``_matmul``."""
        return None

    def convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        """Convolves x (B, C_in, *size) with weight (C_out, C_in / groups, *kernel) to (B, C_out, *output_size).

        Raises:
            ClosedError: after ``close()``.
            ShapeError: shapes or dtypes do not fit.
        """
        self._check_open()
        _check_convolution(x, weight, geometry)
        size = geometry.output_size(tuple(x.shape[2:]), tuple(weight.shape[2:]))
        if min(size) < 1:
            raise ShapeError(f"the kernel {tuple(weight.shape[2:])} is larger than the padded input {tuple(x.shape)}")
        if x.numel() == 0 or weight.numel() == 0:
            return x.new_zeros((x.shape[0], weight.shape[0], *size)) + 0 * (x.sum() + weight.sum())
        return self._checked(self._convolve(x, weight, geometry), (x.shape[0], weight.shape[0], *size), x.dtype)

    def _checked(self, y: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        # under autocast a differentiable backend gives autocast's dtype
        if y.shape != shape or (y.dtype != dtype and not self.spec.differentiable):
            raise ShapeError(
                f"backend {self.spec.name} must give {shape} of {dtype}, found {tuple(y.shape)} of {y.dtype}"
            )
        return y

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        """Unfolds and multiplies; a backend that has a native convolution overrides this."""
        patches = unfold(x, tuple(weight.shape[2:]), geometry)
        g = geometry.groups
        y = self._matmul(patches, weight.reshape(g, weight.shape[0] // g, -1))
        return fold_output(y, x, weight, geometry)

    def _matmul_vjp(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Pullback]:
        """The product and its pullback; here the ideal one (straight through).

        The pullback takes the gradient of y and which of (x, weight) need theirs. It closes over what it needs, so
        a backend that overrides it (clip masks, gains) pins these at forward time.
        """

        def pullback(grad: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
            return ideal_pullback(grad, x, weight, needs)

        return self.matmul(x, weight), pullback

    def programming(self, groups: int, outputs: int, inputs: int) -> Programming:
        """What a weight (groups, outputs, inputs) costs to program once; nothing for a backend without a chip."""
        return Programming()

    def tiles(self, groups: int, outputs: int, inputs: int) -> tuple[int, int]:
        """Row tiles and column tiles of a weight (groups, outputs, inputs); (1, groups) without a chip."""
        return 1, groups

    def bind(self, site: Site) -> Self:
        """A view for one layer: it shares the chip, the lock and ``close()``, and has a site of its own."""
        view = copy.copy(self)
        view.site = site
        return view

    def state(self) -> dict[str, Any]:
        """What a resumed run needs (see ``Chip.state``)."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - optional: a backend without state ignores it
        """Takes back what ``state()`` gave."""

    def close(self) -> None:
        """Closes the backend and the chip below it, for all views; a second call does nothing."""
        with self._session.lock:
            if not self._session.closed:
                self._session.closed = True
                self._close()

    def _close(self) -> None:  # noqa: B027 - optional: most backends hold nothing that must be released
        """Releases what the subclass holds; called once."""

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.handle = register(twin)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # a copied model runs on the same chip: there is only one; its layers get sites of their own
        return self.bind(Site(self.site.name, copy.deepcopy(self.site.input_range, memo), gains=self.site.gains))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # a chip cannot be pickled: what travels is the spec string, and the layer raises until it is attached again
        return DetachedBackend, (self.spec.name, self.site.name)

    def _check_open(self) -> None:
        if self._session.closed:
            raise ClosedError(f"backend {self.spec.name} is closed; open it again with photonic.open_backend")

    def _record(self, usage: Usage) -> None:
        """Adds to the counters of this view's layer; what is traced into compiled code is not counted."""
        if torch.compiler.is_compiling():
            return
        with self._session.lock:
            self.site.usage.add(usage)


class DetachedBackend(Backend):
    """What is left of a backend after pickling: its spec string. Every use raises until a live one is attached."""

    def __init__(self, name: str, layer: str = "") -> None:
        super().__init__(BackendSpec(name=name))
        self.site.name = layer

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        raise self._error()

    def _check_open(self) -> None:
        raise self._error()

    def _error(self) -> DetachedError:
        return DetachedError(
            f"layer {self.site.name or '(unnamed)'} was pickled without its backend {self.spec.name!r}; "
            f"call photonic.attach(model, photonic.open_backend({self.spec.name!r}))"
        )


def ideal_pullback(
    grad: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x @ weight.mT with respect to x and weight, each only if needed."""
    return grad @ weight if needs[0] else None, grad.mT @ x if needs[1] else None


def columns(x: Tensor, kernel: tuple[int, ...], geometry: ConvGeometry) -> Tensor:
    """Cuts x (B, C, *size) with 1 or 2 spatial dimensions into patches (B, C x kernel, L), zeros around."""
    stride, padding, dilation = geometry.stride, geometry.padding, geometry.dilation
    if len(kernel) == 1:
        x, kernel = x.unsqueeze(2), (1, *kernel)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    found: Tensor = torch.nn.functional.unfold(x, kernel, dilation, padding, stride)
    return found


def unfold(x: Tensor, kernel: tuple[int, ...], geometry: ConvGeometry) -> Tensor:
    """Cuts x (B, C, *size) with 1 or 2 spatial dimensions into patches (G, B x L, C / G x kernel)."""
    patches = columns(x, kernel, geometry)
    b, _, length = patches.shape
    grouped = patches.reshape(b, geometry.groups, -1, length)
    return grouped.permute(1, 0, 3, 2).reshape(geometry.groups, b * length, -1)


def fold_output(y: Tensor, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """Turns products (G, B x L, C_out / G) into (B, C_out, *output_size)."""
    size = geometry.output_size(tuple(x.shape[2:]), tuple(weight.shape[2:]))
    channels = y.reshape(y.shape[0], x.shape[0], -1, y.shape[-1]).permute(1, 0, 3, 2)
    return channels.reshape(x.shape[0], weight.shape[0], *size)


def _check_operands(x: Tensor, weight: Tensor) -> None:
    left, right = x.shape, weight.shape
    if not len(left) == len(right) == 3 or left[0] != right[0] or left[2] != right[2]:
        raise ShapeError(f"expected x (G, B, N) and weight (G, M, N), found {tuple(left)} and {tuple(right)}")
    _check_dtypes(x, weight)


def _check_convolution(x: Tensor, weight: Tensor, geometry: ConvGeometry) -> None:
    g = geometry.groups
    fits = x.ndim == weight.ndim == len(geometry.stride) + 2
    if not fits or x.shape[1] != weight.shape[1] * g or weight.shape[0] % g:
        raise ShapeError(
            f"expected x (B, C_in, *size) and weight (C_out, C_in / {g}, *kernel) with C_out a multiple of {g}, "
            f"found {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    _check_dtypes(x, weight)


def _check_dtypes(x: Tensor, weight: Tensor) -> None:
    if not x.is_floating_point() or x.dtype != weight.dtype or x.device != weight.device:
        raise ShapeError(
            f"expected x and weight of one floating-point dtype on one device, found {x.dtype} on {x.device} "
            f"and {weight.dtype} on {weight.device}"
        )
