"""The study's noise model as a backend: what it computes, its gradients, its options, and that models run on it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

import photonic
from photonic.backends.paper import PaperBackend, open_paper
from photonic.errors import ChipError, RecomputeError, SpecError
from photonic.models.studynoise import STUDY_POINTS, NoiseModel, StudyNoise
from photonic.physics.codenoise import Gaussian, Laplacian
from photonic.physics.codes import MidTread, SignCodes
from photonic.testing import BACKEND_CHECKS, check_backend
from photonic.train import TrainConfig, train


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


def test_the_gradient_is_masked_by_the_clamps_of_inputs_and_outputs():
    """What was clamped gets none; weights are never masked; ends of the range are inside."""
    backend = photonic.open_backend("paper?bits=6&ep=0")
    x = torch.tensor([[0.5, 2.0, 1.0]], requires_grad=True)
    weight = torch.tensor([[0.25, 0.25, 0.125], [3.0, 1.0, 0.0]], requires_grad=True)
    y = photonic.matmul(x, weight, backend)
    dx, dw = torch.autograd.grad(y.sum(), (x, weight))
    # output 2 is 0.5 * 1 + 1 * 1, beyond 1: it gives no gradient; input 2 was clamped
    assert dx.tolist() == [[0.25, 0.0, 0.125]]
    assert dw.tolist() == [[0.5, 1.0, 1.0], [0.0, 0.0, 0.0]]


def test_the_gradient_sees_the_noise_of_its_own_forward():
    """Each output is the product of the operands that its backward uses."""
    backend = photonic.open_backend("paper?precision=8&ep=0.5&outputs=false", seed=3)
    x, weight = (_randn(3, 5) / 3).requires_grad_(), (_randn(1, 5, seed=1) / 3).requires_grad_()
    y = photonic.matmul(x, weight, backend)
    dx, dw = torch.autograd.grad(y[0].sum(), (x, weight))
    programmed, seen = dx[0].detach(), dw[0].detach()
    assert float(y[0].detach()) == pytest.approx(float(programmed @ seen), rel=1e-5)
    assert not torch.allclose(programmed, _q(weight.detach(), 8)[0], atol=1e-3)


def test_a_convolution_s_gradient_is_that_of_its_noisy_operands_too():
    """Natively, without unfolding."""
    backend = photonic.open_backend("paper?precision=8&ep=0.5&outputs=false", seed=3)
    conv = nn.Conv2d(2, 1, 3, bias=False)
    photonic.convert_(conv, backend)
    x = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = conv(x)
    dx, dw = torch.autograd.grad(y.sum(), (x, conv.weight))
    assert float(y.detach()) == pytest.approx(float((dx * dw.detach()).sum()), rel=1e-5)


def test_activation_checkpointing_is_refused():
    """It would run again with other noise."""
    layer = photonic.convert_(nn.Linear(4, 4), "paper?bits=6&ep=0.5")
    x = torch.rand(2, 4, requires_grad=True)
    y = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    with pytest.raises(RecomputeError, match="other noise"):
        y.sum().backward()


# the suite's operands have any size, the study's clamp to [-1, 1]; and its gradient is that of the noisy operands
STUDY = {"gradient"}
UNSCALED = {"layouts", "product", "signs", "tiling", "groups", "convolution", "scales"}


def test_scaled_to_the_largest_value_it_conforms_but_for_the_study_s_gradient():
    """At 8 bits with few errors; its products are within 3 %."""
    report = check_backend(lambda seed, device: open_paper(bits=8, ep=0.05, scale="max", seed=seed), tolerance=0.03)
    assert set(report.failed) == STUDY
    assert set(report.passed) == set(BACKEND_CHECKS) - STUDY


def test_as_the_study_has_it_it_conforms_but_for_what_is_clamped():
    """Shapes, seeds, threads, views, pickling, closing, what is not finite."""
    report = check_backend(lambda seed, device: open_paper(bits=8, ep=0.05, seed=seed), tolerance=0.03)
    assert set(report.failed) == STUDY | UNSCALED
    assert set(report.passed) == set(BACKEND_CHECKS) - STUDY - UNSCALED


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


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("spec", ["paper?bits=6", "paper?bits=6&ep=0.5&scale=max", "paper?quantiser=sign"])
def test_what_is_not_finite_becomes_nan(spec, bad):
    """A clamp would hide infinity."""
    x = torch.ones(1, 2, 2)
    x[0, 0, 0] = bad
    y = photonic.open_backend(spec).matmul(x, torch.ones(1, 2, 2))
    assert bool(y[0, 0].isnan().all())


def test_a_model_learns_as_with_the_noise_op_for_op():
    """Converted by one line; routes show the calls."""
    x = torch.rand(256, 16, generator=torch.Generator().manual_seed(0))
    labels = (x[:, :8].sum(1) > x[:, 8:].sum(1)).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 2))
    other = copy.deepcopy(model)
    photonic.convert_(model, photonic.open_backend("paper?bits=6&ep=0.5", seed=1))
    StudyNoise(other, STUDY_POINTS["linear"], NoiseModel.of(MidTread(64), ep=0.5))
    for each in (model, other):
        optimizer = torch.optim.Adam(each.parameters(), lr=1e-2)
        for _ in range(80):
            loss = F.cross_entropy(4 * each(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert float((each(x).argmax(1) == labels).double().mean()) > 0.93
    assert all(route.usage.calls == 81 for route in photonic.routes(model))


def test_photonic_train_learns_the_digits_on_it(tmp_path):
    """The job as users run it, with its digital control."""
    config = TrainConfig(backend="paper?bits=6&ep=0.5", epochs=6, limit=600)
    result = train(config, out=tmp_path / "run")
    assert result.accuracy.photonic > 0.8
    assert result.accuracy.photonic_std > 0


def test_compiled_models_run_on_it_with_a_graph_break():
    """Its products stay out of the graph."""
    model = photonic.convert_(nn.Sequential(nn.Linear(6, 4), nn.GELU()), "paper?bits=6&ep=0.5")
    with torch.no_grad():  # with gradients, torch warns of itself where a graph resumes
        y = torch.compile(model, backend="eager")(torch.rand(3, 6))
    assert y.shape == (3, 4)


def test_autocast_gives_autocast_s_dtype_and_computes_in_float32():
    """On the grid of 64, which bfloat16 products would leave."""
    layer = photonic.convert_(nn.Linear(6, 4, bias=False), "paper?bits=6")
    x = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x).bfloat16().float())
