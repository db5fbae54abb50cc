"""All weights and the zero of each output together, from all shots.

The matrix of a setting knows the sum of a row far better than any one weight, and so do dark readings know the zero
only as well as they are many: what one says of the others lies in the covariances. For given curves and neighbours a
row is linear in its numbers; this is its least squares on the sums over shots, nothing left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from photonic.calibration.effective import Effective
from photonic.calibration.model import Array
from photonic.calibration.programming import Programming, basis_of
from photonic.records import ChipSpec


@dataclass(frozen=True)
class Rows:
    """What was found, in counts.

    Attributes:
        raw: (M, N, Q) coefficients of the curves.
        zero: (M,).
        inverse: (M, N Q + 1, N Q + 1) of the normal matrix of the coefficients and the zero, shots of weight 1.
        noise: (M,) variance of such a shot.
    """

    raw: Array
    zero: Array
    inverse: Array
    noise: Array

    @property
    def covariance(self) -> Array:
        """(M, N, Q, N, Q) of the coefficients, curves and neighbours taken as known."""
        m, n, q = self.raw.shape
        found: Array = self.noise[:, None, None, None, None] * self.inverse[:, :-1, :-1].reshape(m, n, q, n, q)
        return found

    @property
    def zero_se(self) -> Array:
        """(M,) likewise."""
        return np.asarray(np.sqrt(self.noise * self.inverse[:, -1, -1]))

    def errors(self, gain: Array, power: Array) -> RowErrors:
        """Standard errors in the documented gauge.

        Args:
            gain: (M,) of raw = gain power element.
            power: (N,).
        """
        m, n, _ = self.raw.shape
        scale = gain[:, None] * power
        element = self.raw / scale[..., None]
        own = np.einsum("mjqjq->mjq", self.covariance) / scale[..., None] ** 2
        # of the mean over a row of its slopes, which is what the gauge takes as its gain
        with_mean = np.einsum("mjqk,mk->mjq", self.covariance[..., 1], 1 / scale) / (n * scale[..., None])
        of_mean = np.einsum("mjk,mj,mk->m", self.covariance[:, :, 1, :, 1], 1 / scale, 1 / scale) / n**2
        variance = own - 2 * element * with_mean + element**2 * of_mean[:, None, None]
        power_se = power * np.sqrt(np.maximum(variance[..., 1], 0.0).mean(0) / m)
        variance[..., 1] *= 1 - 1 / m  # the mean over a column is its power
        return RowErrors(np.abs(gain) * np.sqrt(of_mean), np.sqrt(np.maximum(variance, 0.0)), power_se)


@dataclass(frozen=True)
class RowErrors:
    """Standard errors.

    Attributes:
        gain: (M,) in the unit of the gains.
        element: (M, N, Q).
        power: (N,).
    """

    gain: Array
    element: Array
    power: Array


def fit_rows(spec: ChipSpec, data: Effective, found: Programming, dark: tuple[Array, Array] | None) -> Rows:
    """Solves every row.

    Args:
        spec: of the chip.
        data: settings, with the moments of their shots.
        found: curves, neighbours, and the scale of what these take.
        dark: (M,) zeros from readings without light, and their standard errors; None: there are none.
    """
    basis, taken = basis_of(spec, data.codes, found)
    sums = data.moments
    features = (1.0 - taken)[..., None] * basis  # (K, M, N, Q)
    size = np.abs(found.scale)
    power = size.mean(0) / size.mean()
    pull = found.crosstalk.target * taken * power if found.crosstalk.offsets else None
    m, n, q = found.raw.shape
    by_scale = slope_of_scale(power, q)
    solved, inverses = np.empty((m, n * q + 1)), np.empty((m, n * q + 1, n * q + 1))
    light = torch.from_numpy(np.ascontiguousarray(sums.light_light.transpose(1, 2, 0)))  # (N, N, K)
    for i in range(m):
        on = sums.usable[:, i]
        normal, right = _row(light, features[:, i] * on[:, None, None], data, i)
        if pull is not None:
            _add_pull(normal, right, features[:, i], pull[:, i] * on[:, None], data, i, by_scale)
        if dark is not None:
            sure = data.noise[i] / max(dark[1][i] ** 2, 1e-12 * data.noise[i])
            normal[-1, -1] += sure
            right[-1] += sure * dark[0][i]
        inverses[i] = np.linalg.pinv(normal, rcond=1e-12, hermitian=True)
        solved[i] = inverses[i] @ right
    return Rows(raw=solved[:, :-1].reshape(m, n, q), zero=solved[:, -1], inverse=inverses, noise=data.noise)


def slope_of_scale(power: Array, curves: int) -> Array:
    """(N Q,) derivative of a row's mean slope over the powers (N,) by its coefficients."""
    found = np.zeros((len(power), curves))
    found[:, 1] = 1.0 / (len(power) * power)
    return found.ravel()


def _add_pull(
    normal: Array, right: Array, features: Array, pull: Array, data: Effective, i: int, by_scale: Array
) -> None:
    """What neighbours move weights towards follows the row's own mean slope.

    Args:
        normal: of the row's numbers, its zero last; gets the rank-one part.
        right: likewise.
        features: (K, N, Q).
        pull: (K, N) change of the weights by the mean slope.
        data: settings.
        i: the row.
        by_scale: (N Q,) derivative of the mean slope.
    """
    sums, along = data.moments, np.append(by_scale, 0.0)
    seen = np.einsum("kab,kb->ka", sums.light_light, pull)
    beside = np.append(np.einsum("ka,kaq->aq", seen, features).ravel(), float((sums.light * pull).sum()))
    normal += np.outer(beside, along) + np.outer(along, beside) + float((seen * pull).sum()) * np.outer(along, along)
    right += along * float((sums.light_volts[:, :, i] * pull).sum())


def _row(light: torch.Tensor, features: Array, data: Effective, i: int) -> tuple[Array, Array]:
    """Normal matrix and right side of one row, the zero last; ``light`` is (N, N, K), ``features`` (K, N, Q)."""
    sums, (_, n, q) = data.moments, features.shape
    on = sums.usable[:, i]
    own = torch.from_numpy(np.ascontiguousarray(features.transpose(1, 0, 2)))  # (N, K, Q)
    size = n * q
    normal, right = np.empty((size + 1, size + 1)), np.empty(size + 1)
    block = np.empty((n, q, n, q))
    for a in range(q):
        scaled = light * own[:, :, a].unsqueeze(1)  # light of j and j', times curve a of j
        block[:, a] = torch.bmm(scaled.transpose(0, 1), own).transpose(0, 1).numpy()
    normal[:-1, :-1] = block.reshape(size, size)
    beside = np.einsum("kn,knq->nq", sums.light, features).ravel()
    normal[:-1, -1], normal[-1, :-1], normal[-1, -1] = beside, beside, float((sums.ones * on).sum())
    right[:-1] = np.einsum("kn,knq->nq", sums.light_volts[:, :, i], features).ravel()
    right[-1] = float((sums.volts[:, i] * on).sum())
    return normal, right
