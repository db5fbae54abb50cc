"""How the gain of one shot goes with that of later ones: what single readings say of a drift.

The response says what every shot of a setting should give; what all outputs have beyond that in common, along their
results, is the gain of the shot. Its products with that of shots l later average to the covariance of the drift,

    c_l = sigma^2 exp(-l dt / tau) + b,

in which neither the noise of outputs nor intensity noise has a part: both are new in every shot. b takes up what stays
over a setting, an error of the response or a slower drift. Readings for the response are several times as many as those
of one vector, from which ``drift`` finds kind and size; the two are put together where they agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import chi2

from photonic.calibration.drift import DriftFit
from photonic.calibration.singles import Array, Receivers, Shots, covariance_of
from photonic.records import DriftModel

_LAGS = 14
_REACH = 5.0  # correlation times, of the longest lag, if it is half of a setting or less
_SLOWEST = 0.25  # of a setting: a drift that lasts longer is not seen within one
_FASTEST = 0.5  # shots
_LEAST_SETTINGS = 32  # whose scatter says how sure they are
_AGREES = 0.01  # probability of a larger disagreement by chance, from which on there is none
_Z = 1.959963984540054


@dataclass(frozen=True)
class Correlations:
    """Covariance of the gains of two shots, relative.

    Attributes:
        lags: (L,) shots apart.
        value: (L,).
        covariance: (L, L) of ``value``, as settings differ.
        total: the variance of a shot's gain, noise included.
    """

    lags: Array
    value: Array
    covariance: Array
    total: float

    def weights(self, variance: float, time: float) -> Array:
        """(L, L) inverse of the covariance that values of such a drift have; its scale is the measured one.

        Weights from the measured covariance itself would favour the settings whose products happen to be small. Sums
        over pairs of a stationary Gaussian process: Bartlett, J. R. Stat. Soc. Suppl. 8, 27 (1946).
        """
        reach = int(self.lags[-1] + 10 * time) + 1
        apart = np.arange(-2 * reach, 2 * reach + 1)
        known = np.where(apart == 0, self.total, variance * np.exp(-np.abs(apart) / time))

        def at(shift: Array) -> Array:
            return np.asarray(known[np.arange(-reach, reach + 1) + shift[..., None] + 2 * reach])

        lag = self.lags.astype(int)
        one, other = np.broadcast_arrays(lag[:, None], lag)
        sums = (at(0 * one) * at(other - one) + at(other) * at(-one)).sum(-1)
        inverse = np.linalg.inv(sums)
        return np.asarray(inverse * (len(lag) / float((inverse * self.covariance).sum())))


def lags_of(drift: DriftModel, spacing_s: float, shots: int) -> Array | None:
    """Which lags tell of a drift in settings of so many shots; None: it is none, or too fast or too slow for them."""
    if drift.kind != "ar1" or drift.time_s is None:
        return None
    time = drift.time_s / spacing_s
    if not _FASTEST < time < _SLOWEST * shots:
        return None
    return np.unique(np.rint(np.geomspace(1, max(4.0, min(_REACH * time, shots / 2)), _LAGS)))


def gain_correlations(
    settings: Iterable[Shots], receivers: Receivers, theta: Array, lags: Array
) -> Correlations | None:
    """From single readings in the order in which they were taken; None: too few settings.

    Args:
        settings: shots of one each, without a pause.
        receivers: that read them.
        theta: (4,) terms of the noise, with which outputs are weighed.
        lags: (L,) shots apart.
    """
    products, sizes = [], []
    for shots in settings:
        known = covariance_of(shots, receivers, theta)
        along = known.vector[2]
        weighed = known.times(along)
        gain = (weighed * np.where(known.keep, shots.counts - known.mean, 0.0)).sum(-1)
        size = (weighed * along).sum(-1)
        pairs = [(slice(None, len(gain) - lag), slice(lag, None)) for lag in (0, *lags.astype(int))]
        products.append([gain[a] @ gain[b] for a, b in pairs])
        sizes.append([size[a] @ size[b] for a, b in pairs])
    if len(products) < _LEAST_SETTINGS:
        return None
    total = np.sum(sizes, axis=0)
    value = np.sum(products, axis=0) / total
    off = ((np.array(products) - value * np.array(sizes)) / total)[:, 1:]
    return Correlations(lags, value[1:], np.asarray(off.T @ off * (len(off) / (len(off) - 1))), float(value[0]))


def together(fit: DriftFit, seen: Correlations, spacing_s: float) -> tuple[DriftModel | None, float]:
    """The drift that both favour, None where they disagree, and the probability of a larger disagreement.

    Args:
        fit: an AR(1) process, with the covariance of its logarithms.
        seen: of single readings.
        spacing_s: of these.
    """
    model = fit.model
    if fit.covariance is None or model.time_s is None:
        return None, 1.0
    if seen.total <= model.sigma**2:
        return None, 0.0  # single shots vary by less than the drift alone would make them
    start = np.array([2 * math.log(model.sigma), math.log(model.time_s / spacing_s)])
    weights, size = seen.weights(*np.exp(start)), float(seen.total)
    prior, root = np.linalg.inv(np.linalg.cholesky(fit.covariance)), np.linalg.cholesky(weights).T

    def left(at: Array) -> Array:
        modelled = np.exp(at[0] - seen.lags / math.exp(at[1])) + size * at[2]
        return np.concatenate([prior @ (at[:2] - start), root @ (seen.value - modelled)])

    found = least_squares(left, np.append(start, 0.0))
    chance = float(chi2.sf(2 * found.cost, len(seen.lags) - 1))
    if chance < _AGREES:
        return None, chance
    # errors by the scatter of the settings, whatever the weights
    inverse, pulled = np.linalg.inv(found.jac.T @ found.jac), found.jac[2:].T @ root
    spread = found.jac[:2].T @ found.jac[:2] + pulled @ seen.covariance @ pulled.T
    log_se = np.sqrt(np.diagonal(inverse @ spread @ inverse))
    sigma, time_s = math.exp(found.x[0] / 2), math.exp(found.x[1]) * spacing_s
    changes = {
        "sigma": sigma,
        "sigma_interval": _interval(sigma, float(log_se[0]) / 2),
        "time_s": time_s,
        "time_interval_s": _interval(time_s, float(log_se[1])),
    }
    return model.model_copy(update=changes), chance


def _interval(value: float, log_se: float) -> tuple[float, float]:
    return value * math.exp(-_Z * log_se), value * math.exp(_Z * log_se)
