"""From an error probability or a variance to noise of a kind, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import erfinv

from photonic.errors import SpecError
from photonic.physics.codenoise import CodeNoise, Gaussian, Impulse, Laplacian, NoNoise, Poisson, Shot, Uniform
from photonic.physics.codes import Codes, MidTread

# how far Poisson noise, which is discrete, may miss what was asked for
_POISSON_MISS = 0.02


@dataclass(frozen=True)
class NoiseKind:
    """A family of noise with one number, its strength; EP rises with it.

    Attributes:
        make: noise of a strength.
        power: the mean square is proportional to strength ** power.
        largest: of the strength.
        strength: of an EP in closed form on mid-tread codes, by EP and p; None: found numerically.
    """

    make: Callable[[float], CodeNoise]
    power: int = 2
    largest: float = math.inf
    strength: Callable[[float, int], float] | None = None


def _gaussian_sigma(ep: float, precision: int) -> float:
    return 1 / (2 * math.sqrt(2) * precision * float(erfinv(1 - ep)))


QUANTISATION = "quantisation"
NOISE_KINDS: dict[str, NoiseKind] = {
    "gaussian": NoiseKind(Gaussian, strength=_gaussian_sigma),
    "thermal": NoiseKind(Gaussian, strength=_gaussian_sigma),
    "laplacian": NoiseKind(Laplacian, strength=lambda ep, p: -1 / (2 * p * math.log(ep))),
    "uniform": NoiseKind(Uniform, strength=lambda ep, p: 1 / (p * (1 - ep))),
    "poisson": NoiseKind(lambda strength: Poisson(1 / strength), power=1, largest=1.0),
    "shot": NoiseKind(Shot, power=1),
    "impulse": NoiseKind(Impulse, power=1, largest=1.0, strength=lambda ep, p: ep * (2 * p + 1) / (2 * p)),
    QUANTISATION: NoiseKind(lambda strength: NoNoise()),
}


def error_probability(noise: CodeNoise, codes: Codes, ends: str | None = None) -> float:
    """Probability that a code, all being equally frequent, is read as another one after the noise.

    Args:
        noise: on the codes.
        codes: digital values.
        ends: of the outermost cells, as ``Codes.cells`` has them; None: the one that noise is stated by.

    Raises:
        SpecError: other ends.
    """
    low, high = codes.cells(codes.ends if ends is None else ends)
    return float(1 - noise.mass(codes.values, low, high).mean())


def noise_of_error_probability(kind: str, ep: float, codes: Codes) -> CodeNoise:
    """Noise of a kind with this error probability; of 0 there is none.

    Poisson noise is discrete and meets some EP only nearly; ``error_probability`` says which it has.

    Args:
        kind: one of ``NOISE_KINDS``.
        ep: in [0, 1); of the sign codes below 1/2.
        codes: digital values.

    Raises:
        SpecError: another kind, or an EP that it cannot have.
    """
    chosen = _kind(kind)
    if not 0 <= ep < 1:
        raise SpecError(f"an error probability lies in [0, 1), found {ep}")
    if ep == 0:
        return NoNoise()
    if kind == QUANTISATION:
        raise SpecError(f"quantisation alone has no noise, and so the error probability 0, found {ep}")
    if chosen.strength is not None and isinstance(codes, MidTread):
        strength = chosen.strength(ep, codes.precision)
        if strength > chosen.largest:
            raise _unreachable(kind, ep, error_probability(chosen.make(chosen.largest), codes))
        return chosen.make(strength)
    return _searched(kind, chosen, ep, codes)


def noise_of_variance(kind: str, variance: float, codes: Codes) -> CodeNoise:
    """Noise of a kind with this mean square, averaged over the codes; of 0 there is none.

    Raises:
        SpecError: another kind, a variance below 0, or one that the kind cannot have.
    """
    chosen = _kind(kind)
    if not (math.isfinite(variance) and variance >= 0):
        raise SpecError(f"a variance is finite and at least 0, found {variance}")
    if variance == 0:
        return NoNoise()
    if kind == QUANTISATION:
        raise SpecError(f"quantisation alone has no noise, and so the variance 0, found {variance}")
    unit = mean_variance(chosen.make(1.0), codes)
    strength = (variance / unit) ** (1 / chosen.power)
    if strength > chosen.largest:
        raise SpecError(f"{kind} noise has at most the variance {unit:.4g}, found {variance:g}")
    return chosen.make(strength)


def mean_variance(noise: CodeNoise, codes: Codes) -> float:
    """Mean square of the noise, all codes being equally frequent."""
    return float(noise.variance(codes.values).mean())


def _searched(kind: str, chosen: NoiseKind, ep: float, codes: Codes) -> CodeNoise:
    """By halving the interval of log(strength); EP rises with the strength, of Poisson noise in steps."""

    def reached(log_strength: float) -> float:
        return error_probability(chosen.make(math.exp(log_strength)), codes)

    low, high = math.log(1e-12), math.log(min(chosen.largest, 1e12))
    if reached(high) < ep:
        raise _unreachable(kind, ep, reached(high))
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < ep else (low, middle)
    best = min((low, high), key=lambda at: abs(reached(at) - ep))
    if abs(reached(best) - ep) > _POISSON_MISS:
        raise SpecError(
            f"{kind} noise jumps over the error probability {ep:g}: it has {reached(low):.3f} or {reached(high):.3f}; "
            "take one of these"
        )
    return chosen.make(math.exp(best))


def _kind(name: str) -> NoiseKind:
    if name not in NOISE_KINDS:
        raise SpecError(f"a kind of noise is one of {', '.join(NOISE_KINDS)}, found {name!r}")
    return NOISE_KINDS[name]


def _unreachable(kind: str, ep: float, most: float) -> SpecError:
    return SpecError(f"{kind} noise has at most the error probability {most:.4g} on these codes, found {ep:g}")
