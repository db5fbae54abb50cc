"""What PyTorch users do with a module, they do with a converted one."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from exact_backend import ExactBackend
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import photonic
from photonic.backends.base import DetachedBackend
from photonic.errors import ClosedError, ConversionError, DetachedError, GradientError, RecomputeError, SpecError


def _net() -> nn.Sequential:
    """Convolutions and a linear layer, all of which take (B, C, L)."""
    return nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.Linear(6, 5), nn.Conv1d(8, 2, 1))


def _converted(backend: photonic.Backend | None = None) -> nn.Sequential:
    model = photonic.convert_(_net(), backend or ExactBackend())
    assert isinstance(model, nn.Sequential)
    return model


def _input(seed: int = 0) -> Tensor:
    return torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(seed))


def _calls(model: nn.Module) -> list[int]:
    return [row.usage.calls for row in photonic.routes(model)]


def test_a_deep_copy_shares_the_chip() -> None:
    """One chip, own weights, own counters, own range."""
    backend = photonic.open_backend("sim:ideal")
    model = photonic.set_input_range(_converted(backend), 9.0)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin(_input()), model(_input()))
    model(_input())
    assert (_calls(model), _calls(twin)) == ([2] * 3, [1] * 3)
    assert backend.chip.usage.calls == 9
    photonic.set_input_range(twin, 1.0)
    assert model[0].input_range == 9.0
    assert twin[0].weight is not model[0].weight


def test_closing_the_backend_closes_it_for_every_copy() -> None:
    """A layer on a closed backend raises."""
    backend = photonic.open_backend("sim:ideal")
    twin = copy.deepcopy(_converted(backend))
    backend.close()
    with pytest.raises(ClosedError, match="open it again"):
        twin(_input())


def test_pickle_keeps_the_spec_string_only() -> None:
    """A loaded model raises at each forward and names its layer and its backend, until it is attached."""
    model = _converted(photonic.open_backend("sim:ideal"))
    expected = model(_input())
    loaded = pickle.loads(pickle.dumps(model))
    assert all(isinstance(loaded[i].backend, DetachedBackend) for i in (0, 2, 3))
    for _ in range(2):
        with pytest.raises(DetachedError, match=r"layer 0 was pickled without its backend 'sim:ideal.*photonic.attach"):
            loaded(_input())
    assert len(photonic.routes(loaded)) == 3
    photonic.attach(loaded, {"0": "sim:ideal", "[23]": ExactBackend()})
    torch.testing.assert_close(loaded(_input()), expected)


def test_pickle_keeps_input_ranges() -> None:
    """Static and learned ones; they belong to the layer, not to the chip."""
    model = photonic.set_input_range(_converted(), {"0": 2.0})
    photonic.set_input_range(model, {"2": 3.0}, learned=True)
    loaded = photonic.attach(pickle.loads(pickle.dumps(model)), ExactBackend())
    assert [loaded[i].input_range for i in (0, 2, 3)] == [2.0, 3.0, None]
    assert isinstance(loaded[2].input_range, nn.Parameter)
    torch.testing.assert_close(loaded(_input()), model(_input()))


def test_state_dict_is_torch_s_both_ways() -> None:
    """Strictly: keys, shapes and order; files load with weights_only."""
    plain, model = _net(), _converted()
    assert list(model.state_dict()) == list(plain.state_dict())
    buffer = io.BytesIO()
    torch.save(plain.state_dict(), buffer)
    buffer.seek(0)
    model.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    torch.testing.assert_close(model(_input()), plain(_input()))
    _net().load_state_dict(model.state_dict(), strict=True)


def test_safetensors_hold_a_converted_model(tmp_path) -> None:
    """Saved converted, loaded plain, and the other way round."""
    files = pytest.importorskip("safetensors.torch")
    plain, model = _net(), _converted()
    files.save_model(model, str(tmp_path / "model.safetensors"))
    files.load_model(plain, str(tmp_path / "model.safetensors"))
    torch.testing.assert_close(model(_input()), plain(_input()))
    files.save_model(_net(), str(tmp_path / "plain.safetensors"))
    assert files.load_model(model, str(tmp_path / "plain.safetensors")) == (set(), [])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_to_a_dtype(dtype: torch.dtype) -> None:
    """Weights, input range and output follow; the backend stays."""
    model = photonic.set_input_range(_converted(), 2.0).to(dtype)
    assert model[0].input_range.dtype == dtype
    assert model(_input().to(dtype)).dtype == dtype
    assert _calls(model) == [1] * 3


def test_half_precision_is_wide_inside() -> None:
    """A bfloat16 layer's product is computed in float32 and rounded once."""
    layer = nn.Linear(512, 3, bias=False, dtype=torch.bfloat16)
    x = torch.randn(2, 512, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = (x.float() @ layer.weight.float().T).bfloat16()
    torch.testing.assert_close(photonic.convert_(layer, ExactBackend())(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_autocast_gives_torch_s_dtype(autocast: torch.dtype) -> None:
    """Of a linear layer and a convolution, for float32 and half-precision inputs, and gradients in float32."""
    for plain, x in ((nn.Linear(6, 5), torch.ones(2, 6)), (nn.Conv1d(4, 2, 3), torch.ones(2, 4, 6))):
        ours = photonic.convert_(copy.deepcopy(plain), ExactBackend())
        with torch.autocast("cpu", dtype=autocast):
            for operand in (x, x.to(autocast)):
                y = ours(operand)
                assert y.dtype == plain(operand).dtype == autocast
        y.float().sum().backward()
        assert ours.weight.grad.dtype == torch.float32


def test_inference_mode_and_no_grad() -> None:
    """Nothing is recorded, and training goes on afterwards."""
    model = _converted()
    with torch.inference_mode():
        assert model(_input()).is_inference()
    with torch.no_grad():
        assert not model(_input()).requires_grad
    model(_input()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_frozen_layers_get_no_gradient() -> None:
    """requires_grad is the user's, and survives conversion."""
    plain = _net()
    plain[0].requires_grad_(False)
    model = photonic.convert_(plain, ExactBackend())
    model(_input()).sum().backward()
    assert [p.grad is None for p in model.parameters()] == [not p.requires_grad for p in model.parameters()]
    assert model[0].weight.grad is None


def test_an_optimiser_made_before_conversion_trains_the_model() -> None:
    """Parameters are the same objects."""
    model = _net()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[2].weight.detach().clone()
    photonic.convert_(model, ExactBackend())(_input()).square().sum().backward()
    optimiser.step()
    assert not torch.equal(model[2].weight, before)


def test_hooks_are_called() -> None:
    """Forward pre-hooks, forward hooks and full backward hooks, registered before or after."""
    seen: list[str] = []
    model = _net()
    model[0].register_forward_pre_hook(lambda *_: seen.append("pre"))
    photonic.convert_(model, ExactBackend())
    model[2].register_forward_hook(lambda *_: seen.append("forward"))
    model[2].register_full_backward_hook(lambda *_: seen.append("backward"))
    model(_input()).sum().backward()
    assert seen == ["pre", "forward", "backward"]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_a_converted_layer_is_refused(reentrant: bool) -> None:
    """A second forward inside backward would measure again, with other noise; the message names the layer."""
    model = _converted(photonic.open_backend("sim"))
    y = checkpoint(model, _input().requires_grad_(), use_reentrant=reentrant)
    with pytest.raises(RecomputeError, match="layer 0 ran again inside backward"):
        y.sum().backward()
    assert _calls(model) == [1] * 3


def test_checkpointing_around_digital_layers_is_fine() -> None:
    """What no chip measures may be computed twice."""
    model = photonic.convert_(_net(), {"3": ExactBackend()})
    hidden = checkpoint(model[:3], _input().requires_grad_(), use_reentrant=False)
    model[3](hidden).sum().backward()
    assert model[0].weight.grad is not None


# after a graph break dynamo asks every tensor for its .grad; it hides that warning, but not from "error"
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("ranged", [False, True])
def test_compiled_models_run_and_are_not_compiled_again(ranged: bool) -> None:
    """Graph breaks are allowed; a counter that moves must not make new code at every step."""
    torch.compiler.reset()
    # one layer: dynamo gives up on code that it made 8 times, and would hide what is looked for
    model = photonic.convert_(nn.Linear(6, 5), ExactBackend())
    if ranged:
        photonic.set_input_range(model, 0.5)
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(model, backend=count)
    made = []
    for step in range(5):
        y = compiled(_input(step))
        made.append(len(graphs))
        y.sum().backward()
        torch.testing.assert_close(y, model(_input(step)))
    assert made[1:] == [made[1]] * 4
    assert _calls(model) == [10]
    torch.compiler.reset()


def test_a_failed_conversion_leaves_the_model_alone() -> None:
    """Everything is opened and checked before the first layer is converted."""
    for backends, error, message in (
        ({"0": "sim:ideal", "3": "sim:nonsense"}, SpecError, "nonsense"),
        ({"0": ExactBackend(), "3": photonic.open_chip("sim:ideal")}, ConversionError, "opens a chip as one"),
        ({"0": ExactBackend(), "3": 3}, ConversionError, "'3' goes to a int; expected a backend"),
    ):
        model = _net()
        with pytest.raises(error, match=message):
            photonic.convert_(model, backends)
        assert {row.backend for row in photonic.routes(model)} == {"digital"}
    with pytest.raises(GradientError, match="offers the gradients"):
        photonic.convert_(model, ExactBackend(), gradient="twin")
    assert type(model[0]) is nn.Conv1d


def test_a_chip_is_one_for_equal_specs_and_noise_is_its_own() -> None:
    """Two layers of one spec string share the chip: no two of their calls have the same noise."""
    model = photonic.convert_(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)), {"0": "sim", "1": "sim"})
    model[1].load_state_dict(model[0].state_dict())
    assert model[0].backend.chip is model[1].backend.chip
    x = torch.ones(4, 6)
    assert not torch.equal(model[0](x), model[1](x))
