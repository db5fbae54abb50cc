"""Moving input ranges; static and learned ones are in test_layers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from exact_backend import ExactBackend
from torch import Tensor, nn

import photonic
from photonic.errors import RangeError, SpecError
from photonic.models.layers import PhotonicLinear
from photonic.models.ranges import MovingRange, set_input_range


def _layer(moving: float = 0.75, value: float | None = None, **options: object) -> PhotonicLinear:
    layer = PhotonicLinear(2, 2, backend=ExactBackend(), **options)
    set_input_range(layer, value, moving=moving)
    return layer


def _peak(value: float) -> Tensor:
    return torch.tensor([[0.0, 1.0], [-1.0, 0.5]]) * value


def _hooks(layer: nn.Module) -> list[object]:
    return [hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, MovingRange)]


def test_the_first_batch_starts_it_and_the_next_ones_move_it() -> None:
    """r <- m r + (1 - m) largest |x|, before the batch itself is clamped."""
    layer = _layer(0.75)
    layer(_peak(8.0))
    assert layer.input_range == 8.0
    layer(_peak(4.0))
    assert layer.input_range == 7.0
    y = layer(_peak(11.0))
    assert layer.input_range == 8.0
    torch.testing.assert_close(y, nn.functional.linear(_peak(11.0).clamp(-8, 8), layer.weight, layer.bias))
    assert photonic.routes(layer)[0].clipped_fraction == 2 / 12


def test_it_stands_still_in_evaluation() -> None:
    """Before any training each batch has its own range; afterwards the last one holds."""
    layer = _layer().eval()
    layer(_peak(3.0))
    assert layer.input_range is None
    layer.train()(_peak(2.0))
    layer.eval()(_peak(50.0))
    assert layer.input_range == 2.0


def test_it_starts_from_a_value_that_is_given() -> None:
    """And not from the first batch."""
    layer = _layer(0.5, value=10.0)
    layer(_peak(2.0))
    assert layer.input_range == 6.0


def test_it_is_a_buffer_that_state_dict_does_not_hold() -> None:
    """No parameter, no key, the layer's dtype."""
    layer = _layer(dtype=torch.float64)
    layer(_peak(2.0).double())
    assert set(layer.state_dict()) == {"weight", "bias"}
    assert dict(layer.named_buffers())["input_range"].dtype == torch.float64
    assert len(list(layer.parameters())) == 2
    layer.half()
    assert layer.input_range.dtype == torch.float16


def test_copies_move_by_themselves() -> None:
    """A deep copy and an unpickled layer go on from where they were copied."""
    layer = _layer(0.5)
    layer(_peak(4.0))
    loaded = photonic.attach(pickle.loads(pickle.dumps(layer)), ExactBackend())
    for other in (copy.deepcopy(layer), loaded):
        other(_peak(8.0))
        assert other.input_range == 6.0
        assert len(_hooks(other)) == 1
    assert layer.input_range == 4.0


def test_any_other_range_ends_it() -> None:
    """A static or learned range, another moving one, and unconvert_."""
    layer = _layer(0.5)
    set_input_range(layer, 3.0)
    layer(_peak(9.0))
    assert (layer.input_range, _hooks(layer)) == (3.0, [])
    set_input_range(layer, None, moving=0.25)
    set_input_range(layer, None, moving=0.5)
    assert _hooks(layer) == [MovingRange(0.5)]
    photonic.unconvert_(layer)
    assert _hooks(layer) == []
    assert not layer._forward_pre_hooks_with_kwargs


def test_two_forwards_before_one_backward() -> None:
    """The second does not change what the first one saved."""
    layer = _layer(0.5)
    x = _peak(2.0).requires_grad_()
    (layer(x) + layer(3 * x)).sum().backward()
    assert x.grad is not None


def test_zeros_say_nothing_and_nan_is_refused() -> None:
    """Neither changes the range."""
    layer = _layer(0.5)
    layer(_peak(0.0))
    assert layer.input_range is None
    layer(_peak(2.0))
    layer(_peak(0.0))
    layer(torch.empty(0, 2))
    with pytest.raises(RangeError, match="moving range holds NaN or infinite"):
        layer(_peak(float("nan")))
    assert layer.input_range == 2.0


def test_an_attention_s_range_holds_query_key_and_value() -> None:
    """The largest of the three, whichever is passed by name."""
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    photonic.convert_(attention, ExactBackend())
    set_input_range(attention, {"in_proj": None}, moving=0.5)
    query, key, value = (torch.full((1, 3, 4), size) for size in (1.0, 5.0, -7.0))
    attention(query, value=value, key=key)
    assert attention.input_range == 7.0
    attention(query, query, query)
    assert attention.input_range == 4.0
    assert attention.out_proj.input_range is None


def test_what_cannot_be_is_refused() -> None:
    """Learned and moving at once, and weights of the past outside (0, 1); nothing is changed."""
    layer = PhotonicLinear(2, 2, backend=ExactBackend())
    with pytest.raises(SpecError, match="learned or moving"):
        set_input_range(layer, 1.0, learned=True, moving=0.9)
    for weight in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(RangeError, match="weight of the past"):
            set_input_range(layer, 1.0, moving=weight)
    assert layer.input_range is None


def test_a_learned_range_learns_by_what_it_clips() -> None:
    """Too small a range grows towards the inputs under a loss that wants them whole."""
    layer = PhotonicLinear(4, 4, bias=False, backend=ExactBackend())
    set_input_range(layer, 0.5, learned=True)
    nn.init.eye_(layer.weight.requires_grad_(False))
    optimizer = torch.optim.SGD([layer.input_range], lr=1.0)
    x = torch.rand(64, 4, generator=torch.Generator().manual_seed(0)) * 4 - 2
    for _ in range(300):
        loss = (layer(x) - x @ layer.weight.T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 1.4 < float(layer.input_range.detach()) < 2.0
