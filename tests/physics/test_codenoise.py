"""The study's digital values and the error probability of noise on them, against what is drawn."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import erfinv

from photonic.errors import SpecError
from photonic.physics.codenoise import Gaussian, Impulse, Laplacian, NoNoise, Poisson, Shot, Uniform
from photonic.physics.codes import CLAMPED, CLIPPED, FULL, MidTread, SignCodes, bits_of, precision_of
from photonic.physics.draws import NormalDraws
from photonic.physics.errorprobability import (
    NOISE_KINDS,
    error_probability,
    mean_variance,
    noise_of_error_probability,
    noise_of_variance,
)

KINDS = [kind for kind in NOISE_KINDS if kind != "quantisation"]
DRAWS = 200_000


def _draws(seed: int = 0) -> NormalDraws:
    draws = NormalDraws()
    draws.seed(seed)
    return draws


def _measured(noise, codes, clamp: bool) -> tuple[float, float]:
    """Error probability as it is drawn, and its standard error."""
    values = codes.values.float()
    each = max(DRAWS // len(values), 100)
    x = values.repeat(each, 1)
    noisy = noise.noisy(x, _draws())
    wrong = codes.quantise(noisy.clamp(-1, 1) if clamp else noisy) != x
    p = float(wrong.double().mean())
    return p, math.sqrt(max(p * (1 - p), 1e-4) / wrong.numel())


def test_mid_tread_rounds_ties_toward_zero_and_does_not_saturate():
    """sign(x) ceil(|x p| - 1/2) / p."""
    x = torch.tensor([0.0, 0.125, -0.125, 0.126, -0.126, 0.375, 1.3, -7.0])
    assert MidTread(4).quantise(x).tolist() == [0, 0, 0, 0.25, -0.25, 0.25, 1.25, -7.0]


@pytest.mark.parametrize(("p", "levels"), [(1, 3), (2, 5), (4, 9), (64, 129), (256, 513)])
def test_clamped_there_are_2_p_plus_1_values(p, levels):
    """At p = 1 the quantiser is ternary."""
    codes = MidTread(p)
    found = codes.quantise(torch.linspace(-3, 3, 100_001, dtype=torch.float64).clamp(-1, 1)).unique()
    assert len(found) == len(codes.values) == levels
    torch.testing.assert_close(found, codes.values)
    torch.testing.assert_close(codes.quantise(codes.values), codes.values)


def test_sign_codes_have_one_bit():
    """Zero is positive; NaN stays."""
    assert SignCodes().quantise(torch.tensor([-2.0, -1e-9, 0.0, 0.3])).tolist() == [-1, -1, 1, 1]
    assert bool(SignCodes().quantise(torch.tensor([math.nan])).isnan())


def test_both_conventions_of_bits_are_explicit():
    """64 steps are 6 bits in the study's experiments, 63 in its library; with sign they are log2(129)."""
    assert [precision_of(6, name) for name in ("study", "library", "signed")] == [64, 63, 31]
    assert bits_of(64) == 6
    assert bits_of(63, "library") == 6
    assert bits_of(31, "signed") == 6
    assert precision_of(0) == 1
    with pytest.raises(SpecError, match="study, library, signed"):
        precision_of(6, "paper")
    with pytest.raises(SpecError, match="whole, from 1"):
        precision_of(0, "library")
    with pytest.raises(SpecError, match="whole number from 1"):
        MidTread(0)


# sigma p, and sigma, of the study (paper's erf formula)
@pytest.mark.parametrize(
    ("ep", "lsb"), [(0.01, 0.194), (0.05, 0.255), (0.2, 0.390), (0.5, 0.741), (0.6, 0.954), (0.8, 1.974)]
)
def test_sigma_of_the_study(ep, lsb):
    """sigma = 1 / (2 sqrt(2) p erfinv(1 - EP))."""
    for p in (1, 4, 64, 256):
        noise = noise_of_error_probability("gaussian", ep, MidTread(p))
        assert isinstance(noise, Gaussian)
        assert noise.sigma * p == pytest.approx(lsb, abs=6e-4)
        assert noise.sigma == pytest.approx(1 / (2 * math.sqrt(2) * p * erfinv(1 - ep)))


def test_closed_forms_of_the_other_kinds():
    """Laplacian, uniform and impulse."""
    codes = MidTread(8)
    assert noise_of_error_probability("laplacian", 0.3, codes) == Laplacian(-1 / (16 * math.log(0.3)))
    assert noise_of_error_probability("uniform", 0.3, codes) == Uniform(1 / (8 * 0.7))
    impulse = noise_of_error_probability("impulse", 0.3, codes)
    assert isinstance(impulse, Impulse)
    assert impulse.probability == pytest.approx(0.3 * 17 / 16)


# zeros have no shot noise, one photon is the least, and a lost value may be right by chance
UNREACHABLE = {("shot", 1, 0.8), ("shot", 2, 0.8), ("impulse", 1, 0.8)}
UNREACHABLE |= {("poisson", 1, 0.5), ("poisson", 1, 0.8), ("poisson", 2, 0.5), ("poisson", 2, 0.8)}


@pytest.mark.parametrize("ep", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("p", [1, 2, 4, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_probability_that_is_asked_for_is_the_general_definition_s(kind, p, ep):
    """Poisson noise, which is discrete, nearly."""
    codes = MidTread(p)
    if (kind, p, ep) in UNREACHABLE:
        with pytest.raises(SpecError, match=r"has at most the error|jumps over .* it has 0.467 or 0.551"):
            noise_of_error_probability(kind, ep, codes)
        return
    noise = noise_of_error_probability(kind, ep, codes)
    tolerance = 0.02 if kind == "poisson" else 1e-9
    assert error_probability(noise, codes, FULL) == pytest.approx(ep, abs=tolerance)


@pytest.mark.parametrize("p", [1, 4, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_has_the_clamped_error_probability(kind, p):
    """Noise, clamp, quantiser: the end codes are wrong less often."""
    codes = MidTread(p)
    noise = noise_of_error_probability(kind, 0.35, codes)
    measured, error = _measured(noise, codes, clamp=True)
    assert measured == pytest.approx(error_probability(noise, codes, CLAMPED), abs=4.5 * error)


@pytest.mark.parametrize("kind", ["gaussian", "laplacian", "uniform"])
def test_without_a_clamp_it_is_the_formula_s(kind):
    """Every code has a full cell then."""
    codes = MidTread(4)
    noise = noise_of_error_probability(kind, 0.5, codes)
    measured, error = _measured(noise, codes, clamp=False)
    assert measured == pytest.approx(0.5, abs=4.5 * error)


@pytest.mark.parametrize(
    ("ep", "p", "expected"),
    [(0.2, 4, 0.178), (0.5, 4, 0.443), (0.8, 4, 0.710), (0.2, 64, 0.198), (0.5, 64, 0.496), (0.8, 64, 0.794)],
)
def test_the_clamp_lowers_the_error_probability_as_the_study_s_was_measured(ep, p, expected):
    """EP 2 p / (2 p + 1): what an independent Monte-Carlo of the study's layers gave, to its 0.003."""
    codes = MidTread(p)
    noise = noise_of_error_probability("gaussian", ep, codes)
    formula = error_probability(noise, codes, CLAMPED)
    assert formula == pytest.approx(ep * 2 * p / (2 * p + 1))
    assert formula == pytest.approx(expected, abs=0.003)


def test_the_general_definition_with_clipped_ends():
    """What leaves [-1, 1] counts as wrong: half of each end cell is missing."""
    codes = MidTread(4)
    noise = noise_of_error_probability("gaussian", 0.5, codes)
    assert error_probability(noise, codes, CLIPPED) == pytest.approx(1 - 0.5 * 8 / 9)
    with pytest.raises(SpecError, match="full, clipped, clamped"):
        error_probability(noise, codes, "open")


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_has_an_error_probability_of_its_own(kind):
    """A flip of the sign."""
    codes = SignCodes()
    noise = noise_of_error_probability(kind, 0.15, codes)
    measured, error = _measured(noise, codes, clamp=True)
    assert error_probability(noise, codes) == pytest.approx(0.15, abs=1e-6)
    assert measured == pytest.approx(0.15, abs=4.5 * error)


def test_one_bit_of_gaussian_noise_in_closed_form():
    """EP = erfc(1 / (sqrt(2) sigma)) / 2, below one half."""
    noise = noise_of_error_probability("gaussian", 0.2, SignCodes())
    assert isinstance(noise, Gaussian)
    assert noise.sigma == pytest.approx(1 / (math.sqrt(2) * erfinv(1 - 2 * 0.2)), rel=1e-9)
    with pytest.raises(SpecError, match=r"at most the error probability 0\.5"):
        noise_of_error_probability("gaussian", 0.6, SignCodes())


NOISES = [Gaussian(0.2), Laplacian(0.1), Uniform(0.4), Poisson(7.0), Shot(0.05), Impulse(0.3), NoNoise()]


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("x", [0.0, 0.3, -0.8])
def test_variances_are_those_of_the_draws(noise, x):
    """And the noise of every kind but impulses has the mean zero."""
    values = torch.full((1_000_000,), x, dtype=torch.float64)
    added = noise.noisy(values, _draws(3)) - x
    expected = float(noise.variance(values[:1]))
    spread = float(added.square().std()) / 1000
    assert float(added.square().mean()) == pytest.approx(expected, abs=5 * spread + 1e-15)
    if not isinstance(noise, Impulse):
        assert float(added.mean()) == pytest.approx(0.0, abs=5e-3 * math.sqrt(expected) + 1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_can_be_compared_at_one_variance(kind):
    """Averaged over the codes."""
    for codes in (MidTread(4), MidTread(64), SignCodes()):
        noise = noise_of_variance(kind, 0.01, codes)
        assert mean_variance(noise, codes) == pytest.approx(0.01)


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_noise_is_new_seeded_and_leaves_its_operand(noise, dtype):
    """Equal seeds give equal noise, torch's global generator is not touched, shape and dtype stay."""
    x = (torch.arange(-6, 6).reshape(3, 4) / 6).to(dtype).mT
    before, state = x.clone(), torch.get_rng_state()
    first, again = noise.noisy(x, _draws(1)), noise.noisy(x, _draws(1))
    assert torch.equal(first, again)
    assert first.shape == x.shape
    assert first.dtype == dtype
    assert torch.equal(x, before)
    assert first.data_ptr() != x.data_ptr()
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_is_refused():
    """By error, never by another noise."""
    codes = MidTread(4)
    with pytest.raises(SpecError, match="kind of noise"):
        noise_of_error_probability("pink", 0.5, codes)
    for ep in (-0.1, 1.0, math.nan):
        with pytest.raises(SpecError, match=r"\[0, 1\)"):
            noise_of_error_probability("gaussian", ep, codes)
    with pytest.raises(SpecError, match="quantisation alone"):
        noise_of_error_probability("quantisation", 0.1, codes)
    with pytest.raises(SpecError, match=r"at most the error probability 0\.8889"):
        noise_of_error_probability("impulse", 0.9, codes)
    with pytest.raises(SpecError, match="at most the variance"):
        noise_of_variance("impulse", 5.0, codes)
    assert all(noise_of_error_probability(kind, 0.0, codes) == NoNoise() for kind in NOISE_KINDS)
