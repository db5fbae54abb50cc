"""One unitary on a rectangular mesh of Mach-Zehnder interferometers.

Source: Clements et al., Optica 3, 1460 (2016). One MZI on the modes (m, m + 1) has a phase ``phi`` on its upper input,
a coupler, a phase ``theta`` on its upper arm, and a coupler; both couplers are exp(i pi/4 sigma_x)::

    T(theta, phi) = i e^(i theta/2) [[e^(i phi) sin(theta/2),  cos(theta/2)],
                                     [e^(i phi) cos(theta/2), -sin(theta/2)]]

so theta = pi is the bar and theta = 0 the cross state. U = diag(e^(i output)) T ... T, and light meets column 0 first.
The physical order of the K = N (N - 1) / 2 MZIs is fixed: by column, N of them, then from mode 0 on; even columns
couple the modes (0, 1), (2, 3), ..., odd ones (1, 2), (3, 4), ... (N = 2 leaves its odd column empty).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.errors import RangeError, ShapeError

_UNITARY_TOLERANCE = 1e-9  # of U^H U - 1: far above rounding in float64, far below what float32 would bring


@dataclass(frozen=True)
class Phases:
    """What the heaters of T meshes are told, in radians, MZIs in the physical order.

    Attributes:
        theta: (T, K) phase between the couplers of each MZI.
        phi: (T, K) phase before each MZI.
        output: (T, N) phase of each mode after the last column.
    """

    theta: Tensor
    phi: Tensor
    output: Tensor


def mzi_count(n: int) -> int:
    """MZIs of a mesh of N modes."""
    return n * (n - 1) // 2


def places(n: int) -> Tensor:
    """Column and upper mode of each MZI: (K, 2) integers, in the physical order."""
    return torch.tensor([(c, m) for c in range(n) for m in range(c % 2, n - 1, 2)], dtype=torch.int64).reshape(-1, 2)


def wrapped(angle: Tensor) -> Tensor:
    """The same angle in [0, 2 pi)."""
    # twice, because a tiny negative angle becomes a whole turn by rounding
    return torch.remainder(torch.remainder(angle, 2 * math.pi), 2 * math.pi)


def decompose(unitary: Tensor) -> Phases:
    """The phases that make each matrix: elements are zeroed diagonal by diagonal from the lower left corner.

    An MZI that finds two zeros is left in the bar state.

    Args:
        unitary: (T, N, N), taken as complex128.

    Returns:
        Phases in [0, 2 pi), float64; ``theta`` is in [0, pi].

    Raises:
        ShapeError: the matrices are not (T, N, N).
        RangeError: one of them is not unitary.
    """
    n = _modes(unitary)
    # tiles last: every step works on one number per tile, or on runs of them
    matrix = unitary.to(torch.complex128).permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
    theta = torch.empty(mzi_count(n), unitary.shape[0], dtype=torch.float64, device=unitary.device)
    phi = torch.empty_like(theta)
    plan = list(_plan(n))
    for left, mode, line, index in plan:
        theta[index], phi[index] = _null(matrix, left, mode, line)
    output = torch.angle(matrix.diagonal(dim1=0, dim2=1)).T.contiguous()
    for left, mode, _, index in reversed(plan):
        if left:
            phi[index] = _move_through(output, mode, theta[index], phi[index])
    return Phases(theta.T.contiguous(), wrapped(phi).T.contiguous(), wrapped(output).T.contiguous())


def unitary(phases: Phases, *, splitter: Tensor | None = None, loss_db: float = 0.0) -> Tensor:
    """The matrices that meshes with these phases make of their inputs' fields, column by column.

    Args:
        phases: of T meshes, radians.
        splitter: (K, 2) deviation of the first and second coupler's angle from pi/4, in radians; one device's, for all
            tiles. None: perfect couplers.
        loss_db: of the power of both modes that pass an MZI. The modes at the edges, which skip a column, lose nothing
            there: the matrix is distorted, not only smaller.

    Returns:
        (T, N, N) complex128: out = U in.
    """
    tiles, n = phases.output.shape
    shapes, expected = [tuple(phases.theta.shape), tuple(phases.phi.shape)], (tiles, mzi_count(n))
    if shapes != [expected, expected]:
        raise ShapeError(f"theta and phi of {n} modes must be {expected}, found {shapes[0]} and {shapes[1]}")
    a, b, c, d = (entry.unsqueeze(-1) for entry in _entries(phases, splitter, 10 ** (-loss_db / 20)))
    field = torch.eye(n, dtype=torch.complex128, device=phases.theta.device).repeat(tiles, 1, 1)
    begin = 0
    for column in range(n):
        first, end = column % 2, begin + (n - column % 2) // 2
        now, upper, lower = slice(begin, end), field[:, first : n - 1 : 2], field[:, first + 1 :: 2]
        mixed = (a[:, now] * upper).addcmul_(b[:, now], lower)
        lower.mul_(d[:, now]).addcmul_(c[:, now], upper)
        upper.copy_(mixed)
        begin = end
    return field.mul_(_unit(phases.output).unsqueeze(-1))


def _entries(phases: Phases, splitter: Tensor | None, amplitude: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The matrix [[a, b], [c, d]] of each MZI, (T, K) each, with couplers exp(i (pi/4 + error) sigma_x)."""
    if splitter is None:
        splitter = phases.theta.new_zeros(phases.theta.shape[1], 2)
    elif splitter.shape != (phases.theta.shape[1], 2):
        raise ShapeError(f"splitter must be {(phases.theta.shape[1], 2)}, found {tuple(splitter.shape)}")
    angle = splitter.to(torch.float64) + math.pi / 4
    (cos_1, cos_2), (sin_1, sin_2) = angle.cos().unbind(-1), angle.sin().unbind(-1)
    inner, outer = _unit(phases.theta), _unit(phases.phi) * amplitude
    return (
        (cos_2 * cos_1 * inner - sin_2 * sin_1) * outer,
        (cos_2 * sin_1 * inner + sin_2 * cos_1) * (1j * amplitude),
        (sin_2 * cos_1 * inner + cos_2 * sin_1) * (1j * outer),
        (cos_2 * cos_1 - sin_2 * sin_1 * inner) * amplitude,
    )


def _unit(angle: Tensor) -> Tensor:
    """exp(i angle)."""
    return torch.polar(torch.ones_like(angle), angle)


def _modes(unitary: Tensor) -> int:
    """N of a stack of unitary matrices, which it checks."""
    if unitary.ndim != 3 or unitary.shape[1] != unitary.shape[2] or unitary.shape[1] == 0:
        raise ShapeError(f"expected square matrices (T, N, N) with N > 0, found {tuple(unitary.shape)}")
    matrix = unitary.to(torch.complex128)
    error = matrix.mH @ matrix - torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    worst = error.abs().max().item() if error.numel() else 0.0
    if not worst <= _UNITARY_TOLERANCE:  # so that NaN is refused too
        raise RangeError(f"expected unitary matrices, found |U^H U - 1| = {worst:.3g}; normalise them in float64")
    return int(unitary.shape[1])


def _plan(n: int) -> Iterator[tuple[bool, int, int, int]]:
    """The order in which elements are zeroed, which is not the order in which light meets the MZIs.

    Yields:
        Whether the MZI stands on the output side (it mixes rows, else columns), its upper mode, the column or row of
        the element that it zeroes, and its index in the physical order.
    """
    for diagonal in range(n - 1):
        for step in range(diagonal + 1):
            left = diagonal % 2 == 1
            mode = n - 2 - diagonal + step if left else diagonal - step
            column = n - 1 - step if left else step
            index = column // 2 * (n - 1) + column % 2 * (n // 2) + mode // 2
            yield left, mode, step if left else n - 1 - step, index


def _null(matrix: Tensor, left: bool, mode: int, line: int) -> tuple[Tensor, Tensor]:
    """Zeroes one element in place and gives the MZI's theta and phi, (T,) each.

    Left: matrix[mode + 1, line] by U <- T U; the columns before are zero already. Right: matrix[line, mode] by
    U <- U T^dagger; the rows below are.
    """
    pair = matrix[mode : mode + 2, line:] if left else matrix[: line + 1, mode : mode + 2].transpose(0, 1)
    kept, zeroed = (pair[0, 0], pair[1, 0]) if left else (pair[1, line], pair[0, line])
    # |kept| cos(theta/2) = |zeroed| sin(theta/2), written so that two zeros give the bar state
    theta = math.pi - 2 * torch.atan2(zeroed.abs(), kept.abs())
    phi = torch.angle((zeroed if left else -zeroed) * kept.conj())
    first, second = _ideal(theta, phi)
    if not left:
        first, second = first.conj(), second.conj()
    pair.copy_((first.unsqueeze(1) * pair[:1]).addcmul_(second.unsqueeze(1), pair[1:]))
    return theta, phi


def _ideal(theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """The two columns, (2, T) each, of a perfect MZI's matrix."""
    inner = torch.polar(torch.full_like(theta, 0.5), theta)
    bar, cross = inner - 0.5, 1j * (inner + 0.5)
    return torch.stack((bar, cross)) * _unit(phi), torch.stack((cross, -bar))


def _move_through(output: Tensor, mode: int, theta: Tensor, phi: Tensor) -> Tensor:
    """Rewrites T^dagger D as D' T': changes ``output`` (N, T) to D' and gives the phi of T'; theta stays."""
    difference = output[mode] - output[mode + 1]
    output[mode + 1] += math.pi - theta
    output[mode] = output[mode + 1] - phi
    return difference
