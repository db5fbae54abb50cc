"""The study's noise, operation for operation: chains, gradients, where it is inserted, seeds."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import photonic
from photonic.errors import ConversionError
from photonic.models.studynoise import (
    AddNoise,
    AnalogToDigital,
    Clamp,
    DigitalToAnalog,
    InsertionPoints,
    NoiseModel,
    NoisyParameter,
    ReducePrecision,
    StudyNoise,
)
from photonic.physics.codenoise import Poisson
from photonic.physics.codes import MidTread, SignCodes

CODES = MidTread(8)
EVERYWHERE = InsertionPoints(before=True, after=True, weights=True)


def _quiet() -> NoiseModel:
    return NoiseModel.of(CODES, ep=0.0)


def _noisy(seed: int = 0, ep: float = 0.5) -> NoiseModel:
    return NoiseModel.of(CODES, ep=ep, seed=seed)


def _rp(x):
    return torch.sign(x) * torch.ceil((x * 8).abs() - 0.5) / 8


def _randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 5))


def test_chains_without_noise_are_clamp_and_precision():
    """Both orders are the same then; weights likewise."""
    x = _randn(1000)
    expected = _rp(x.clamp(-1, 1))
    for kind in (DigitalToAnalog, AnalogToDigital, NoisyParameter):
        assert torch.equal(kind(_quiet())(x), expected)
        assert torch.equal(kind(_quiet())(x.clone().requires_grad_()), expected)


def test_after_the_noise_inputs_are_not_quantised_again_and_outputs_are():
    """What is fed in is analog; what is read is digital and within [-1, 1]."""
    x = _randn(10_000)
    fed, read = DigitalToAnalog(_noisy())(x), AnalogToDigital(_noisy())(x)
    assert len(fed.unique()) > 5000
    assert float(fed.abs().max()) > 1
    torch.testing.assert_close(read.unique(), CODES.values.float())
    added = fed - _rp(x.clamp(-1, 1))
    assert float(added.std()) == pytest.approx(0.0927, rel=0.03)  # sigma at EP .5, p = 8


@pytest.mark.parametrize("kind", [DigitalToAnalog, Clamp])
def test_the_clamp_s_gradient_passes_within_the_ends_and_stops_beyond(kind):
    """Ends included; all else straight through."""
    x = torch.tensor([-1.5, -1.0, -0.3, 0.0, 1.0, 1.0001], requires_grad=True)
    module = kind() if kind is Clamp else kind(_noisy())
    (found,) = torch.autograd.grad((module(x) * torch.arange(1.0, 7.0)).sum(), x)
    assert found.tolist() == [0, 2, 3, 4, 5, 0]


def test_an_output_s_gradient_is_masked_where_the_noisy_value_was_clamped():
    """The clamp sees the noise."""
    x = torch.full((20_000,), 1.0, requires_grad=True)
    y = AnalogToDigital(_noisy())(x)
    (found,) = torch.autograd.grad(y.sum(), x)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert float(found.mean()) == pytest.approx(0.5, abs=0.02)


def test_a_weight_s_gradient_goes_to_the_latent_unmasked():
    """A latent of 5 gets the gradient 1, and is not clamped."""
    latent = torch.tensor([5.0, 0.2], requires_grad=True)
    (found,) = torch.autograd.grad(NoisyParameter(_noisy())(latent).sum(), latent)
    assert found.tolist() == [1, 1]


@pytest.mark.parametrize("module", [ReducePrecision(CODES), AddNoise(NoiseModel.of(CODES, Poisson(20.0)))])
def test_precision_and_noise_are_straight_through(module):
    """Any kind of noise, signal-dependent kinds included."""
    x = _randn(100).requires_grad_()
    (found,) = torch.autograd.grad((module(x) * 3).sum(), x)
    assert torch.equal(found, torch.full_like(x, 3.0))


def test_a_product_s_gradient_is_that_of_the_noisy_operands():
    """Of the same forward pass."""
    layer = nn.Linear(6, 3)
    seen = []
    noise = StudyNoise(layer, InsertionPoints(before=True, weights=True), _noisy())
    layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = (_randn(4, 6) / 4).requires_grad_()
    y = layer(x)
    y.sum().backward()
    latent = layer.parametrizations.weight.original
    torch.testing.assert_close(latent.grad, seen[0].detach().sum(0).expand(3, -1))
    assert not torch.equal(latent.grad, x.detach().sum(0).expand(3, -1))
    noise.remove()


def test_weights_are_drawn_anew_at_every_access_and_in_evaluation():
    """No mode switches the noise off."""
    network = _network().eval()
    StudyNoise(network, EVERYWHERE, _noisy())
    assert not torch.equal(network[0].weight, network[0].weight)
    assert not torch.equal(network[3].bias, network[3].bias)
    x = torch.rand(2, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(network(x), network(x))


def test_logits_are_on_the_grid_where_the_study_has_them_read():
    """The last layer's output is read as well, bias included."""
    network = _network()
    StudyNoise(network, EVERYWHERE, _noisy())
    logits = network(_randn(50, 2, 5, 5))
    torch.testing.assert_close(logits * 8, (logits * 8).round())
    assert float(logits.detach().abs().max()) <= 1


def test_the_whole_chain_without_noise_is_written_out_by_hand():
    """Every operation in its place."""
    network = _network()
    w0, b0, w3, b3 = (t.detach().clone() for t in network.parameters())
    x = _randn(7, 2, 5, 5)
    h = nn.functional.conv2d(_q(x), _q(w0), _q(b0))
    h = nn.functional.relu(_q(h)).flatten(1)
    expected = _q(nn.functional.linear(_q(h), _q(w3), _q(b3)))
    StudyNoise(network, EVERYWHERE, _quiet())
    assert torch.equal(network(x), expected)


def _q(x):
    return _rp(x.clamp(-1, 1))


def test_noise_can_be_removed_and_leaves_the_learnt_weights():
    """State and results are as before."""
    network, x = _network(), _randn(3, 2, 5, 5)
    before, keys = network(x), list(network.state_dict())
    noise = StudyNoise(network, EVERYWHERE, _noisy())
    assert list(network.state_dict()) != keys
    noise.remove()
    assert sorted(network.state_dict()) == sorted(keys)
    assert torch.equal(network(x), before)


def test_seeds_and_keys_decide_the_noise():
    """The same key gives the same noise again; torch's global generator is not touched."""
    network, x = _network(), _randn(3, 2, 5, 5)
    model = _noisy(seed=4)
    StudyNoise(network, EVERYWHERE, model)
    state = torch.get_rng_state()

    def run(*key):
        model.begin(*key)
        return network(x)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_copies_have_noise_of_their_own():
    """A copied network repeats the noise from where it was copied, and does not disturb the first."""
    network, x = _network(), _randn(3, 2, 5, 5)
    StudyNoise(network, EVERYWHERE, _noisy())
    copied = copy.deepcopy(network)
    first = network(x)
    assert torch.equal(copied(x), first)


def test_a_network_with_noise_learns():
    """Adam on the latent parameters."""
    network, x = _network(), _randn(64, 2, 5, 5)
    StudyNoise(network, EVERYWHERE, _noisy(ep=0.2))
    labels = (x.mean((1, 2, 3)) > 0).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(4 * network(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.6 * sum(losses[:3]) / 3 * 10


def test_one_bit_is_a_noise_model_too():
    """Sign codes in every place."""
    network = _network()
    StudyNoise(network, EVERYWHERE, NoiseModel.of(SignCodes(), ep=0.1))
    assert set(network(_randn(3, 2, 5, 5)).unique().tolist()) <= {-1.0, 1.0}


def test_a_converted_network_is_refused():
    """It would have noise twice."""
    network = photonic.convert_(_network(), "digital")
    assert network is not None
    photonic.convert_(network, photonic.open_backend("sim:ideal"))
    with pytest.raises(ConversionError, match="noise twice"):
        StudyNoise(network, EVERYWHERE, _noisy())


def test_points_without_anything_are_refused():
    """No network goes without noise in silence."""
    with pytest.raises(ConversionError, match="nothing at"):
        StudyNoise(nn.Sequential(nn.ReLU()), EVERYWHERE, _noisy())


def test_modules_can_be_pickled():
    """With their draws."""
    module = DigitalToAnalog(_noisy())
    back, x = pickle.loads(pickle.dumps(module)), _randn(10)
    assert torch.equal(back(x), module(x))
