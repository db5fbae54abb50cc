"""A real M x N matrix on two meshes and a row of attenuators: W / sigma_max = U diag(s) V^T.

Light passes the mesh of V^T (N modes), min(M, N) attenuators, and the mesh of U (M modes); the modes that have no
attenuator end there, or begin there dark. Source: Miller, Photonics Research 1, 1 (2013), with the meshes of
``photonic.physics.clements``. The drives of a tile are, in this order, P = N^2 + min(M, N) + M^2 phases in radians::

    V theta, V phi, V output, attenuators, U theta, U phi, U output

An attenuator is an MZI used as a one-port and driven in push-pull: its field factor is sin(a / 2), without a phase.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from photonic.errors import RangeError, ShapeError
from photonic.physics import clements
from photonic.physics.clements import Phases

_NEGLIGIBLE = 1e-9  # crosstalk below this is left out: 8256 heaters would add less than 6e-5 rad
_ROWS = 512  # of the crosstalk matrix at once: 34 MB for 8256 heaters


def drive_count(m: int, n: int) -> int:
    """P, the number of phases that program one M x N matrix."""
    return n * n + min(m, n) + m * m


def mean_phase(m: int, n: int) -> float:
    """Mean over the heaters of their phases in radians, for M x N matrices of independent normal weights.

    The singular vectors are then Haar-random orthogonal matrices, whose elements an MZI nulls with
    sin^2(theta / 2) ~ Beta(1/2, a/2), N - a of them with a = 1 ... N - 1 (as Russell et al., New J. Phys. 19, 033007
    (2017) derive it for unitary ones); phi and output phases are pi on average. Attenuators, of which there are few, as
    in a large square matrix: singular values on a quarter circle, whose 2 asin(s) is pi/2 - 2/pi on average.
    """
    attenuators = min(m, n) * (math.pi / 2 - 2 / math.pi)
    return (attenuators + _phase_sum(m) + _phase_sum(n)) / drive_count(m, n)


def _phase_sum(size: int) -> float:
    """Mean of all phases of one mesh, summed."""
    # means of an angle x in [0, pi/2] with density cos^k x, k = a - 1, and that density's integrals, by recurrence
    means, integrals = [math.pi / 4, math.pi / 2 - 1], [math.pi / 2, 1.0]
    for k in range(2, size):
        integrals.append((k - 1) / k * integrals[k - 2])
        means.append(means[k - 2] - 1 / (k * k * integrals[k]))
    theta = sum((size - a) * 2 * means[a - 1] for a in range(1, size))
    return theta + (clements.mzi_count(size) + size) * math.pi


def program(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The phases that make each matrix on a perfect device.

    Singular vectors have the sign that makes the largest element of U's column positive, so a matrix always gets the
    same phases. Where singular values are equal the vectors are LAPACK's choice, and as good as any.

    Args:
        weights: (T, M, N), real.

    Returns:
        Drives (T, P) in [0, 2 pi), float64, and the largest singular value of each matrix (T,), by which the caller
        multiplies what the device gives. A matrix of zeros gets 0, and closed attenuators.

    Raises:
        ShapeError: the weights are not (T, M, N), or not real.
        RangeError: a weight is not finite.
    """
    if weights.ndim != 3 or weights.is_complex() or 0 in weights.shape[1:]:
        raise ShapeError(f"expected real weights (T, M, N), found {tuple(weights.shape)} of {weights.dtype}")
    if not weights.isfinite().all():
        raise RangeError("expected finite weights, found NaN or infinity; look at the layer's weights")
    u, s, vh = torch.linalg.svd(weights.to(torch.float64), full_matrices=True)
    u, vh = _signed(u, vh)
    largest = s[:, 0]
    share = s / torch.where(largest > 0, largest, 1.0).unsqueeze(1)
    attenuators = 2 * torch.asin(share.clamp(0.0, 1.0))
    first, second = clements.decompose(vh), clements.decompose(u)
    drives = (first.theta, first.phi, first.output, attenuators, second.theta, second.phi, second.output)
    return torch.cat(drives, dim=1), largest


def transfer(
    drives: Tensor,
    m: int,
    n: int,
    *,
    splitter_v: Tensor | None = None,
    splitter_u: Tensor | None = None,
    loss_db: float = 0.0,
) -> Tensor:
    """The matrices of fields that devices with these phases make.

    Args:
        drives: (T, P) phases in radians, of any size.
        m: outputs.
        n: inputs.
        splitter_v: (N (N - 1) / 2, 2) deviation of the couplers' angles in V's mesh from pi/4, radians.
        splitter_u: (M (M - 1) / 2, 2), the same of U's mesh.
        loss_db: of the power, in each MZI, attenuators included.

    Returns:
        (T, M, N) complex128; after ``program``, on a perfect device, real and W / sigma_max.
    """
    if drives.ndim != 2 or drives.shape[1] != drive_count(m, n):
        raise ShapeError(f"expected drives (T, {drive_count(m, n)}) for {m} x {n}, found {tuple(drives.shape)}")
    rank = min(m, n)
    parts = drives.to(torch.float64).split(_sizes(m, n), dim=1)
    first = clements.unitary(Phases(*parts[:3]), splitter=splitter_v, loss_db=loss_db)
    second = clements.unitary(Phases(*parts[4:]), splitter=splitter_u, loss_db=loss_db)
    fields = torch.sin(parts[3] / 2) * 10 ** (-loss_db / 20)
    return second[:, :, :rank] @ (fields.unsqueeze(2) * first[:, :rank])


def nominal_loss_db(m: int, n: int, loss_db: float) -> float:
    """Loss in dB of a path that meets an MZI in every column of both meshes, and an attenuator.

    For the link budget; the caller divides the fields by 10^(-dB/20). Paths along the edges lose less.
    """
    # one or two modes leave the last column of their rectangle empty
    columns = sum(size if size > 2 else size - 1 for size in (m, n))
    return (columns + 1) * loss_db


def heaters(m: int, n: int) -> Tensor:
    """Where the heaters lie: (P, 2) float64, along and across the light, in units of the pitch.

    Across: the (upper) mode. Along: phi and theta of V's column c at 2c and 2c + 1, its outputs at 2N, the attenuators
    at 2N + 1, and U's mesh from 2N + 2 in the same way.
    """
    rank, blocks = min(m, n), []
    for start, size in ((0, n), (2 * n + 2, m)):
        column, mode = clements.places(size).unbind(1)
        modes = torch.arange(size)
        blocks += [
            torch.stack((start + 2 * column + 1, mode), dim=1),
            torch.stack((start + 2 * column, mode), dim=1),
            torch.stack((torch.full_like(modes, start + 2 * size), modes), dim=1),
        ]
    attenuators = torch.stack((torch.full((rank,), 2 * n + 1), torch.arange(rank)), dim=1)
    return torch.cat([*blocks[:3], attenuators, *blocks[3:]]).to(torch.float64)


def crosstalk_matrix(m: int, n: int, coefficient: float, decay_per_um: float, pitch_um: float) -> Tensor:
    """How much of each heater's phase appears at each other one: Gamma_ii = 1, Gamma_ij = a exp(-b d).

    d is the distance of the places that ``heaters`` gives. Source: the measured fit of SCATTER and SimPhony,
    a = 0.217 and b = 0.127 per um, which holds beyond 23 um. Signs of the arms are not told apart: heat adds.

    Args:
        m: outputs.
        n: inputs.
        coefficient: a.
        decay_per_um: b.
        pitch_um: of the heaters, both ways.

    Returns:
        (P, P) float64, sparse (COO): couplings below 1e-9 are left out. Made once for a device; the caller keeps it.
    """
    where = heaters(m, n) * pitch_um
    rows, columns, values = [], [], []
    for start in range(0, len(where), _ROWS):
        block = where[start : start + _ROWS]
        distance = torch.cdist(block, where, compute_mode="donot_use_mm_for_euclid_dist")
        gamma = coefficient * torch.exp(-decay_per_um * distance)
        gamma.diagonal(offset=start).fill_(1.0)
        row, column = torch.nonzero(gamma >= _NEGLIGIBLE, as_tuple=True)
        rows.append(row + start)
        columns.append(column)
        values.append(gamma[row, column])
    place = torch.stack((torch.cat(rows), torch.cat(columns)))
    size = (len(where), len(where))
    return torch.sparse_coo_tensor(place, torch.cat(values), size, is_coalesced=True, check_invariants=True)


def crosstalk(drives: Tensor, gamma: Tensor) -> Tensor:
    """The phases that the heaters make together, phi' = Gamma phi.

    Args:
        drives: (T, P) phases in radians that each heater would make alone; they stand for its heat, so [0, 2 pi).
        gamma: (P, P) from ``crosstalk_matrix``.

    Returns:
        (T, P), not wrapped.
    """
    if drives.ndim != 2 or drives.shape[1] != gamma.shape[0]:
        raise ShapeError(f"expected drives (T, {gamma.shape[0]}), found {tuple(drives.shape)}")
    together: Tensor = torch.sparse.mm(gamma, drives.to(gamma.dtype).T)
    return together.T.contiguous()


def _sizes(m: int, n: int) -> list[int]:
    """Lengths of the seven parts of a tile's drives."""
    v, u = clements.mzi_count(n), clements.mzi_count(m)
    return [v, v, n, min(m, n), u, u, m]


def _signed(u: Tensor, vh: Tensor) -> tuple[Tensor, Tensor]:
    """The same decomposition with fixed signs; vectors without a partner are fixed by their own largest element."""
    sign_u, sign_v = _sign(u, dim=1), _sign(vh, dim=2)
    rank = min(u.shape[1], vh.shape[1])
    sign_v[:, :rank, 0] = sign_u[:, 0, :rank]
    return u * sign_u, vh * sign_v


def _sign(vectors: Tensor, dim: int) -> Tensor:
    """Sign of the largest element along ``dim``, which is kept."""
    return vectors.gather(dim, vectors.abs().argmax(dim, keepdim=True)).sign()
