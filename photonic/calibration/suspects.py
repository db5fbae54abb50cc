"""Which fault explains what a model leaves: names for chips that are outside the family.

Counts less their predicted means are regressed on what each fault of ``faults`` would do, all outputs together, after
each output's own zero, gain and share of S were taken out of both. The fault that explains most is named first; others
follow only if they still explain a good part as much. A name needs both

- significance: the fault's size over its standard error above ``CLEAR``, readings being the independent units, so that
  drift and what outputs share within a reading widen it, and
- size: the rms over the shots of some reading at least ``WORTH`` of the margin of a mean error.

A fit takes the part of a fault that its parameters can imitate, so sizes are of what is left. Weights that do not
follow their codes are found apart (``stuck_weights``), a statement of the verification: it must hold for a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from photonic.calibration.checks import MEAN_LSB, MEAN_SIGMA
from photonic.calibration.equivalence import Statements
from photonic.calibration.faults import EXPLAINED, NAMES, Seen, changes, in_order
from photonic.calibration.fit import ChipFit
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.noise import Choice, variance
from photonic.calibration.reading import Taken
from photonic.calibration.table import response_errors
from photonic.records import NoiseModel, Suspect, Verification

CLEAR = 6.0  # standard errors
WORTH = 0.5  # margins
FOLLOWS = (0.2, 5.0)  # slope of a weight over its code, relative to what gain and channel power say
_MOST_READINGS = 240
_MOST_COUNTS = 4096  # of a reading; more tell of its outputs alike
_ROOM = 4.0  # standard deviations from a rail
_BESIDE = 0.25  # of what the first fault explains
_FLAT = 1e-8  # of a fault's own change, where nuisances leave nothing of it
_TINY = 1e-30
_OWN = 3  # zero, gain, share of S


def statements(fit: ChipFit, taken: Sequence[Taken]) -> tuple[Statements, ...]:
    """What a fit must satisfy by itself for its record to pass."""
    shots = sum(len(item.counts) for item in taken if item.reading.purpose == "matrix")
    error = response_errors(fit.response)["element_se"][..., 1]
    return (stuck_weights(fit.model.element[..., 1], error, shots),)


def explained(verification: Verification, fit: ChipFit, taken: Sequence[Taken]) -> Verification:
    """A verification that does not pass with the faults that readings show, largest first."""
    if verification.verdict == "pass":
        return verification
    found = (*separate_lines(fit.rin), *find_suspects(fit.model, fit.noise.model, taken))
    return verification.model_copy(update={"suspects": found})


@dataclass(frozen=True)
class _Moments:
    """Of K faults and the residual, each output's own numbers taken out.

    Attributes:
        each: (readings, K + 1, K + 1) sums of products over shots and outputs, over the variance of a shot.
        size: (readings, K) rms over shots and outputs, in margins of a mean error.
    """

    each: Array
    size: Array


def find_suspects(model: ChipModel, noise: NoiseModel, taken: Sequence[Taken]) -> tuple[Suspect, ...]:
    """Faults that explain what the model leaves of readings; none where it leaves nothing of size.

    Args:
        model: of the mean.
        noise: of a shot.
        taken: all readings of a sweep, in order; those of matrices, ramps and held-out points are looked at.
    """
    every = [seen for seen in in_order(model, taken) if seen.taken.reading.purpose in {"matrix", "ramp", "verify"}]
    some = [every[k] for k in np.linspace(0, len(every) - 1, min(len(every), _MOST_READINGS)).astype(int)]
    return _named(_moments(model, noise, some)) if len(some) > len(NAMES) else ()


def separate_lines(rin: Choice) -> tuple[Suspect, ...]:
    """Whether each input has intensity noise of its own, of which the model has one for all."""
    z = rin.z.get("common", 0.0)
    if rin.best != "per line" or z < CLEAR / 2:
        return ()
    text = "likelihood of one factor for all inputs against one for each"
    return (Suspect(name="intensity noise of each input's own", z=z, threshold=CLEAR / 2, note=text),)


def stuck_weights(slope: Array, error: Array, shots: int) -> Statements:
    """The statement that every weight follows its code.

    Args:
        slope: (M, N) of weights over codes, 1 for one like the others of its row and column.
        error: (M, N) standard errors.
        shots: behind them.
    """
    low, high = FOLLOWS
    value, spread = slope.ravel(), error.ravel()

    def bounds(tail: float) -> tuple[Array, Array]:
        reach = float(norm.isf(tail)) * spread
        return value - reach, value + reach

    where = [f"output {i}, input {j}" for i in range(slope.shape[0]) for j in range(slope.shape[1])]
    return Statements(
        "slope of weights over codes", "stuck weight", where, value, spread, bounds, 1.0, low,
        np.full(len(value), high), shots, "of its row and column",
    )  # fmt: skip


def _moments(model: ChipModel, noise: NoiseModel, some: Sequence[Seen]) -> _Moments:
    """In two passes: each output's own numbers first, then what they leave."""
    own = np.zeros((len(model.gain), _OWN, _OWN))
    cross = np.zeros((len(model.gain), _OWN, len(NAMES) + 1))
    tables = [_table(model, noise, seen) for seen in some]
    for x, t, weight, _ in tables:
        own += np.einsum("bma,bmc,bm->mac", x, x, weight, optimize=True)
        cross += np.einsum("bma,bmk,bm->mak", x, t, weight, optimize=True)
    taken_out = np.linalg.pinv(own, rcond=1e-10, hermitian=True) @ cross
    each, size = [], []
    for x, t, weight, margin in tables:
        rest = t - np.einsum("bma,mak->bmk", x, taken_out)
        flat = rest.reshape(-1, rest.shape[-1])
        each.append((flat * weight.reshape(-1, 1)).T @ flat)
        inside = (weight > 0)[..., None]
        squares = np.where(inside, (rest / margin[..., None]) ** 2, 0.0)[..., :-1].sum((0, 1))
        size.append(np.sqrt(squares / max(1, int(inside.sum()))))
    return _Moments(np.array(each), np.array(size))


def _table(model: ChipModel, noise: NoiseModel, seen: Seen) -> tuple[Array, Array, Array, Array]:
    """Own numbers' features (B, M, 3), faults and residual (B, M, K + 1), weights (B, M), and margins (B, M)."""
    d, s, found = changes(model, seen)
    some = slice(None, None, max(1, d.size // _MOST_COUNTS))  # when all is known of what came before
    d, s, found = d[some], s[some], found[:, some]
    volts = d * model.gain + model.zero
    spread = np.abs(model.gain) * np.sqrt(variance(noise, s, d, model.own_noise))
    expected, clear = volts, np.ones(volts.shape, dtype=bool)
    if model.spec.adc_bits is not None:
        low, high = model.spec.count_range
        clear = (volts - low > _ROOM * spread + 1) & (high - volts > _ROOM * spread + 1)
        if model.transitions is not None:
            expected = _counted(volts, model.transitions, low)
    rest = seen.taken.counts.double().numpy()[some] - expected
    t = np.concatenate([np.moveaxis(found * model.gain, 0, -1), rest[..., None]], axis=-1)
    features = np.stack([np.ones_like(d), d, s], axis=-1)
    return features, t, clear / (spread**2 + 1 / 12), np.maximum(MEAN_LSB, MEAN_SIGMA * spread)


def _counted(volts: Array, transitions: Array, low: float) -> Array:
    """Mean counts of values before the ADC, as noise smooths its steps."""
    place = low + 0.5 + np.arange(transitions.shape[1])
    rows = np.broadcast_to(transitions, (volts.shape[1], transitions.shape[1]))
    return np.stack([np.interp(volts[:, i], row, place) for i, row in enumerate(rows)], axis=1)


def _named(found: _Moments) -> tuple[Suspect, ...]:
    """The faults that explain most, one after the other."""
    each, chosen, explained = found.each.copy(), list[Suspect](), list[float]()
    whole = each.sum(0)
    for _ in range(len(NAMES)):
        total = each.sum(0)
        sums, squares = total[:-1, -1], np.diagonal(total)[:-1]
        free = squares > _FLAT * np.diagonal(whole)[:-1]
        z = np.where(free, _significance(each), 0.0)
        gain = np.where(z > CLEAR, sums**2 / np.maximum(squares, _TINY), 0.0)
        best = int(gain.argmax())
        if gain[best] <= _BESIDE * max(explained, default=0.0):
            break
        size = float(found.size[:, best].max() * abs(sums[best]) / squares[best])
        if size >= WORTH and NAMES[best] not in {each.name for each in chosen}:
            chosen.append(Suspect(name=NAMES[best], z=float(z[best]), threshold=CLEAR, size=size, least=WORTH,
                                  note=EXPLAINED[NAMES[best]]))  # fmt: skip
        explained.append(float(gain[best]))
        each = _without(each, total, best)
    return tuple(chosen)


def _significance(each: Array) -> Array:
    """(K,) of each fault alone: its size over its standard error.

    The error is White's for independent readings with the correction by leverage (HC3; MacKinnon and White, J. Econom.
    29, 305 (1985)), so that a fault which one reading alone shows is not significant.
    """
    scores, squares = each[:, :-1, -1], np.diagonal(each, axis1=1, axis2=2)[:, :-1]
    whole = np.maximum(squares.sum(0), _TINY)
    size = scores.sum(0) / whole
    left = (scores - size * squares) / np.maximum(1 - squares / whole, _TINY)
    found: Array = np.abs(size) * whole / np.maximum(np.sqrt((left**2).sum(0)), _TINY)
    return found


def _without(each: Array, total: Array, taken: int) -> Array:
    """Moments of what is left of all others when what they have in common with one is taken out."""
    share = total[taken] / total[taken, taken]
    share[taken] = 1.0
    row = each[:, taken]
    found: Array = (
        each
        - share[:, None] * row[:, None, :]
        - row[:, :, None] * share
        + share[:, None] * share * each[:, taken, taken][:, None, None]
    )
    found[:, taken], found[:, :, taken] = 0.0, 0.0
    return found
