"""The study's noise model as a backend: what it computes, its gradients, its options, and that models run on it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import photonic
from photonic.backends.paper import PaperBackend, open_paper
from photonic.errors import ChipError, GradientError, RangeError, SpecError
from photonic.physics.codenoise import Gaussian, Laplacian
from photonic.physics.codes import MidTread, SignCodes
from photonic.testing import BACKEND_CHECKS, check_backend


def _randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _q(x, p=64):
    x = x.clamp(-1, 1)
    return torch.sign(x) * torch.ceil((x * p).abs() - 0.5) / p


def test_without_noise_it_is_clamp_and_precision_around_the_product():
    """RP(clamp(RP(clamp(x)) RP(clamp(w)))), unscaled; convolutions natively."""
    backend = photonic.open_backend("paper?bits=6&ep=0")
    x, weight = _randn(2, 5, 7) / 3, _randn(2, 4, 7, seed=1) / 3
    torch.testing.assert_close(backend.matmul(x, weight), _q(_q(x) @ _q(weight).mT), rtol=0, atol=1 / 64 + 1e-6)
    assert float((backend.matmul(x, weight) != _q(_q(x) @ _q(weight).mT)).double().mean()) < 0.05  # ties
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    expected = _q(F.conv2d(_q(images), _q(conv.weight), padding=1))
    y = photonic.convert_(copy.deepcopy(conv), backend)(images)
    assert float((y != expected).double().mean()) < 0.05


def test_noise_is_the_study_s_at_every_insertion_point():
    """Variances of one input, one weight and one output alone, at EP .5 and p = 64: sigma = .01158."""
    one, half = torch.ones(1, 200_000, 1), torch.full((1, 1, 1), 0.5)
    sigma = 0.01158
    fed = open_paper(precision=64, ep=0.5, outputs=False, weights=False).matmul(one * 0.25, half)
    assert float(fed.std()) == pytest.approx(sigma / 2, rel=0.01)
    programmed = open_paper(precision=64, ep=0.5, outputs=False, inputs=False)
    weights = programmed.matmul(torch.full((1, 1, 1), 0.5), one * 0.25)
    assert float(weights.std()) == pytest.approx(sigma / 2, rel=0.01)
    read = open_paper(precision=64, ep=0.5, inputs=False, weights=False).matmul(one * 0.25, half)
    assert float((read != 0.125).double().mean()) == pytest.approx(0.5, abs=0.01)  # the EP itself
    torch.testing.assert_close(read * 64, (read * 64).round())


def test_outputs_lie_on_the_grid_within_one():
    """The clamp comes before the precision."""
    y = photonic.open_backend("paper?precision=4&ep=0.8").matmul(_randn(1, 50, 40), _randn(1, 30, 40, seed=1))
    assert float(y.abs().max()) == 1
    torch.testing.assert_close(y * 4, (y * 4).round())


def test_the_study_s_gradient_is_masked_and_of_the_noisy_operands():
    """What was clamped gets none at inputs and outputs; weights are never masked."""
    backend = photonic.open_backend("paper?bits=6&ep=0")
    x = torch.tensor([[0.5, 2.0]], requires_grad=True)
    weight = torch.tensor([[0.25, 0.3], [3.0, 1.0]], requires_grad=True)
    y = photonic.matmul(x, weight, backend, gradient="study")
    dx, dw = torch.autograd.grad(y.sum(), (x, weight))
    # output 2 is 0.5 * 1 + 1 * 1, beyond 1: it gives no gradient; input 2 was clamped
    assert dx.tolist() == [[0.25, 0.0]]
    assert dw.tolist() == [[0.5, 1.0], [0.0, 0.0]]


def test_the_study_s_gradient_sees_the_noise_of_its_own_forward():
    """Forward and pullback share one draw: y is the product of the operands that backward uses."""
    backend = photonic.open_backend("paper?precision=8&ep=0.5&outputs=false", seed=3)
    x, weight = (_randn(3, 5) / 3).requires_grad_(), (_randn(1, 5, seed=1) / 3).requires_grad_()
    y = photonic.matmul(x, weight, backend, gradient="study")
    (dx,) = torch.autograd.grad(y.sum(), x)
    (programmed,) = dx.unique(dim=0)
    assert not torch.allclose(programmed, _q(weight.detach(), 8)[0], atol=1e-3)
    backend.restore({"calls": 0})
    again = photonic.matmul(x, weight, backend, gradient="study")
    assert torch.equal(again, y)
    (dw,) = torch.autograd.grad(again.sum(), weight)
    assert not torch.allclose(dw, _q(x.detach(), 8).sum(0, keepdim=True), atol=1e-3)


def test_the_ideal_gradient_is_that_of_the_exact_product():
    """Straight through everything."""
    backend = photonic.open_backend("paper?bits=2&ep=0.5")
    x, weight = _randn(4, 6).requires_grad_(), _randn(3, 6, seed=1).requires_grad_()
    dx, dw = torch.autograd.grad(photonic.matmul(x, weight, backend).sum(), (x, weight))
    torch.testing.assert_close(dx, weight.detach().sum(0).expand(4, -1))
    torch.testing.assert_close(dw, x.detach().sum(0).expand(3, -1))
    with pytest.raises(GradientError, match="ideal', 'study"):
        photonic.matmul(x, weight, backend, gradient="twin")


# what a model that clamps to [-1, 1] cannot do with operands of any size; nothing else fails
UNSCALED = {"layouts", "product", "signs", "tiling", "groups", "convolution", "scales"}


def test_scaled_to_the_largest_value_it_conforms():
    """Every check, at 8 bits with few errors; its products are within 3 %."""
    report = check_backend(lambda seed, device: open_paper(bits=8, ep=0.05, scale="max", seed=seed), tolerance=0.03)
    report.raise_for_failures()
    assert set(report.passed) == set(BACKEND_CHECKS)


def test_as_the_study_has_it_it_conforms_but_for_what_is_clamped():
    """The suite's operands have any size; the study's clamp to [-1, 1] is the one thing that stands in the way."""
    report = check_backend(lambda seed, device: open_paper(bits=8, ep=0.05, seed=seed), tolerance=0.03)
    assert set(report.failed) == UNSCALED


@pytest.mark.parametrize("noise", ["laplacian", "uniform", "poisson", "impulse", "thermal", "shot"])
def test_every_kind_of_noise_is_there(noise):
    """Noisy and finite."""
    backend = photonic.open_backend(f"paper?precision=16&ep=0.3&noise={noise}")
    x, weight = _randn(1, 20, 30) / 4, _randn(1, 10, 30, seed=1) / 4
    y = backend.matmul(x, weight)
    assert bool(y.isfinite().all())
    assert not torch.equal(y, backend.matmul(x, weight))


def test_quantisation_alone_has_no_noise():
    """The same twice; an error probability contradicts it."""
    backend = photonic.open_backend("paper?precision=4&noise=quantisation")
    x, weight = _randn(1, 20, 30), _randn(1, 10, 30, seed=1)
    assert torch.equal(backend.matmul(x, weight), backend.matmul(x, weight))
    with pytest.raises(SpecError, match="quantisation alone"):
        photonic.open_backend("paper?precision=4&ep=0.5&noise=quantisation")


def test_options_mean_what_they_say():
    """Conventions of bits, sign codes, equal variance."""
    assert open_paper(bits=6).codes == MidTread(64)
    assert open_paper(bits=6, convention="library").codes == MidTread(63)
    assert open_paper(bits=6, convention="signed").codes == MidTread(31)
    one_bit = photonic.open_backend("paper?quantiser=sign&ep=0.1")
    assert isinstance(one_bit, PaperBackend)
    assert one_bit.codes == SignCodes()
    assert set(one_bit.matmul(_randn(1, 20, 5), _randn(1, 10, 5)).unique().tolist()) == {-1.0, 1.0}
    same = open_paper(precision=16, ep=0.5, noise="laplacian", match="variance")
    assert isinstance(same.noise, Laplacian)
    gaussian = open_paper(precision=16, ep=0.5).noise
    assert isinstance(gaussian, Gaussian)
    assert 2 * same.noise.scale**2 == pytest.approx(gaussian.sigma**2)


@pytest.mark.parametrize(
    "spec",
    [
        "paper?precision=64&ep=0.5",
        "paper?bits=6.0&ep=0.5",
        "paper?bits=5&convention=library&ep=0.2&noise=laplacian&outputs=false",
        "paper?quantiser=sign&ep=0.1&scale=max",
    ],
)
def test_its_name_opens_it_again(spec):
    """All options beyond the standard ones."""
    backend = photonic.open_backend(spec)
    again = photonic.open_backend(backend.spec.name)
    assert isinstance(backend, PaperBackend)
    assert isinstance(again, PaperBackend)
    assert (again.options, again.codes, again.noise) == (backend.options, backend.codes, backend.noise)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("paper", "one of precision=P, bits=B"),
        ("paper?ep=0.5", "one of precision=P, bits=B"),
        ("paper?bits=6&precision=64", "one of precision=P, bits=B"),
        ("paper?quantiser=sign&bits=1", "one of precision=P, bits=B"),
        ("paper?quantiser=flash", "one of precision=P, bits=B"),
        ("paper?bits=6&ep=1.5", "error probability lies in"),
        ("paper?bits=6&ep=much", "ep of paper is a number"),
        ("paper?bits=6&noise=pink", "kind of noise"),
        ("paper?bits=6&convention=mine", "convention of bits"),
        ("paper?precision=0", "whole number from 1"),
        ("paper?bits=6&scale=row", "scale of paper is one of unit, max"),
        ("paper?bits=6&match=mean", "match of paper is one of ep, variance"),
        ("paper?bits=6&inputs=3", "inputs of paper is true or false"),
        ("paper?bits=6&enob=3", "takes the options"),
        ("paper:cifar?bits=6", "takes the options"),
        ("paper?bits=6&shots=2", "not a chip"),
    ],
)
def test_what_cannot_be_honoured_is_refused(spec, message):
    """No option is ignored."""
    with pytest.raises(SpecError, match=message):
        photonic.open_backend(spec)


def test_a_resumed_run_goes_on_with_the_same_noise():
    """The index of the call is all that it needs."""
    x, weight = _randn(1, 4, 6), _randn(1, 3, 6, seed=1)
    first = photonic.open_backend("paper?bits=6&ep=0.5", seed=7)
    first.matmul(x, weight)
    state, expected = first.state(), first.matmul(x, weight)
    second = photonic.open_backend("paper?bits=6&ep=0.5", seed=7)
    second.restore(state)
    assert torch.equal(second.matmul(x, weight), expected)
    with pytest.raises(ChipError, match="expected the state"):
        second.restore({"calls": -1})


def test_a_layer_s_input_range_is_its_full_scale():
    """Inputs are clamped there instead of at 1, and keep their scale."""
    layer = nn.Linear(4, 2, bias=False)
    nn.init.constant_(layer.weight, 0.125)
    photonic.convert_(layer, "paper?bits=6&outputs=false")
    photonic.set_input_range(layer, 4.0)
    assert layer(torch.tensor([[3.0, -1.0, 0.5, 9.0]])).tolist() == [[0.8125] * 2]


def test_numbers_that_are_not_finite_are_refused():
    """A clamp would hide infinity."""
    backend = photonic.open_backend("paper?bits=6")
    with pytest.raises(RangeError, match="input of layer"):
        backend.matmul(torch.full((1, 2, 2), torch.inf), torch.ones(1, 2, 2))


def test_models_train_on_it():
    """Converted by one line, with either gradient; routes show the calls."""
    x = torch.rand(256, 16, generator=torch.Generator().manual_seed(0))
    labels = (x[:, :8].sum(1) > x[:, 8:].sum(1)).long()
    for gradient in ("ideal", "study"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 2))
        photonic.convert_(model, photonic.open_backend("paper?bits=6&ep=0.5", seed=1), gradient=gradient)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(80):
            loss = F.cross_entropy(4 * model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = float((model(x).argmax(1) == labels).double().mean())
        assert accuracy > 0.85
        assert all(route.usage.calls == 81 for route in photonic.routes(model))


def test_compiled_models_run_on_it():
    """One graph, as with every backend."""
    model = photonic.convert_(nn.Sequential(nn.Linear(6, 4), nn.GELU()), "paper?bits=6&ep=0.5")
    y = torch.compile(model, fullgraph=True, backend="eager")(torch.rand(3, 6))
    assert y.shape == (3, 4)
