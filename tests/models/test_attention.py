"""Attention: projections on the backend, torch's numerics, and no fused path around them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from exact_backend import ExactBackend
from torch import Tensor, nn

import photonic
from photonic.errors import ConversionError, ShapeError

MASKS = {
    "none": {},
    "bool": {"attn_mask": torch.ones(5, 6, dtype=torch.bool).triu(2)},
    "float": {"attn_mask": torch.linspace(-1, 1, 30).reshape(5, 6)},
    "per head": {"attn_mask": torch.linspace(-1, 1, 3 * 2 * 30).reshape(6, 5, 6)},
    "padding": {"key_padding_mask": torch.tensor([[False] * 6, [False] * 4 + [True] * 2, [True] + [False] * 5])},
    "both": {
        "attn_mask": torch.ones(5, 6, dtype=torch.bool).triu(3),
        "key_padding_mask": torch.tensor([[False] * 6, [False] * 4 + [True] * 2, [False] * 6]),
    },
    "float padding": {"key_padding_mask": torch.linspace(-2, 0, 18).reshape(3, 6)},
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "widths": {"kdim": 7, "vdim": 3},
    "bias kv": {"add_bias_kv": True},
    "zero attention": {"add_zero_attn": True},
    "all": {"kdim": 7, "vdim": 3, "add_bias_kv": True, "add_zero_attn": True},
}


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _pair(**options: Any) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    """Torch's attention of 2 heads and width 8, and a converted copy."""
    theirs = nn.MultiheadAttention(8, 2, **options)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    return theirs, photonic.convert_(copy.deepcopy(theirs), ExactBackend())


def _calls(model: nn.Module) -> dict[str, int]:
    return {row.name: row.usage.calls for row in photonic.routes(model)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_is_torch_s(kind: str, mask: str, need_weights: bool) -> None:
    """Outputs, attention weights and gradients, for every kind of projection and mask."""
    pair = _pair(batch_first=True, **KINDS[kind])
    query, key, value = _random(3, 5, 8), _random(3, 6, pair[0].kdim, seed=1), _random(3, 6, pair[0].vdim, seed=2)
    results = [m(query, key, value, need_weights=need_weights, **MASKS[mask]) for m in pair]
    torch.testing.assert_close(results[1], results[0])
    for y, _ in results:
        y.square().sum().backward()
    for mine, theirs in zip(pair[1].parameters(), pair[0].parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("average", [True, False])
def test_layouts_are_torch_s(batch_first: bool, batched: bool, average: bool) -> None:
    """Batch first or second, unbatched, weights of each head or their mean; self-attention."""
    theirs, ours = _pair(batch_first=batch_first)
    x = _random(5, 4, 8) if batched else _random(5, 8)
    torch.testing.assert_close(
        ours(x, x, x, average_attn_weights=average), theirs(x, x, x, average_attn_weights=average)
    )


def test_unbatched_input_takes_its_masks() -> None:
    """attn_mask (L, S) and key_padding_mask (S,)."""
    theirs, ours = _pair()
    masks = {"attn_mask": MASKS["bool"]["attn_mask"], "key_padding_mask": torch.tensor([False] * 5 + [True])}
    operands = _random(5, 8), _random(6, 8), _random(6, 8)
    torch.testing.assert_close(ours(*operands, **masks), theirs(*operands, **masks))


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_causal_mask_is_torch_s(need_weights: bool) -> None:
    """is_causal is a hint; alone it is refused, as torch refuses it."""
    theirs, ours = _pair(batch_first=True)
    x, mask = _random(3, 5, 8), nn.Transformer.generate_square_subsequent_mask(5)
    options = {"attn_mask": mask, "is_causal": True, "need_weights": need_weights}
    torch.testing.assert_close(ours(x, x, x, **options), theirs(x, x, x, **options))
    with pytest.raises(ShapeError, match="pass the mask as well"):
        ours(x, x, x, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_draws_as_torch_s(need_weights: bool) -> None:
    """In training the same global seed drops the same attention weights; in eval none."""
    results = []
    for module in _pair(batch_first=True, dropout=0.5):
        x = _random(3, 5, 8)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            results.append(module(x, x, x, need_weights=need_weights)[0])
        assert not torch.equal(results[-1], module.eval()(x, x, x)[0])
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("need_weights", [True, False])
def test_dtypes_are_torch_s(autocast: bool, need_weights: bool) -> None:
    """Outputs and attention weights under autocast, and in a half-precision module."""
    pair = _pair(batch_first=True)
    x = _random(3, 5, 8)
    if not autocast:
        pair, x = (pair[0].bfloat16(), pair[1].bfloat16()), x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        theirs, ours = (m(x, x, x, need_weights=need_weights) for m in pair)
    assert [None if t is None else t.dtype for t in ours] == [None if t is None else t.dtype for t in theirs]
    torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0.1)


def test_self_attention_projects_in_one_call() -> None:
    """One packed product for self-attention, else one each for queries, keys and values; one for the output."""
    _, ours = _pair(batch_first=True)
    x = _random(3, 5, 8)
    ours(x, x, x)
    assert _calls(ours) == {"in_proj": 1, "out_proj": 1}
    ours(x, x.clone(), x)
    assert _calls(ours) == {"in_proj": 4, "out_proj": 2}


@pytest.mark.parametrize(
    "masks",
    [
        {"attn_mask": torch.zeros(5, 5)},
        {"attn_mask": torch.zeros(2, 5, 6)},
        {"attn_mask": torch.zeros(5, 6, dtype=torch.int64)},
        {"key_padding_mask": torch.zeros(3, 5, dtype=torch.bool)},
        {"key_padding_mask": torch.zeros(3, 8, dtype=torch.bool)},
        {"key_padding_mask": torch.zeros(3, 6, dtype=torch.int64)},
    ],
)
@pytest.mark.parametrize("kind", ["plain", "bias kv"])
def test_masks_that_do_not_fit_are_refused(masks: dict[str, Tensor], kind: str) -> None:
    """Neither padded nor cropped nor read as numbers: a mask has exactly its shape, and is boolean or float."""
    _, ours = _pair(batch_first=True, **KINDS[kind])
    operands = _random(3, 5, 8), _random(3, 6, 8), _random(3, 6, 8)
    with pytest.raises(ShapeError, match=next(iter(masks))):
        ours(*operands, **masks)


def test_operands_that_do_not_fit_are_refused() -> None:
    """Keys and values of two lengths, four dimensions, another width."""
    _, ours = _pair(batch_first=True)
    x = _random(3, 5, 8)
    for operands in ((x, x, _random(3, 4, 8)), (x[None],) * 3, (x, x, x[0]), (x[..., :7],) * 3):
        with pytest.raises(ShapeError, match="expected"):
            ours(*operands)


def test_batches_of_two_sizes_are_refused() -> None:
    """A key for one sample is not every sample's key, as in torch."""
    attention = photonic.PhotonicMultiheadAttention(8, 2, batch_first=True, backend=ExactBackend())
    key = torch.rand(1, 5, 8)
    with pytest.raises(ShapeError):
        attention(torch.rand(2, 5, 8), key, key, need_weights=False)


def test_attention_is_made_directly() -> None:
    """With torch's arguments, initialisation and state_dict; unconverted it is torch's class again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ours = photonic.PhotonicMultiheadAttention(8, 2, batch_first=True, backend=ExactBackend())
        torch.manual_seed(3)
        theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    x = _random(3, 5, 8)
    torch.testing.assert_close(ours(x, x, x), theirs(x, x, x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert "backend=exact" in ours.extra_repr()
    assert _calls(ours) == {"in_proj": 1, "out_proj": 1}
    assert type(photonic.unconvert_(ours)) is nn.MultiheadAttention
    torch.testing.assert_close(ours(x, x, x), theirs(x, x, x))


@pytest.mark.parametrize("glob", ["*", "", "attn", "*_proj"])
def test_globs_name_both_projections_or_one(glob: str) -> None:
    """The attention's name means both; <name>.in_proj and <name>.out_proj one each, and the other stays exact."""
    model: nn.Module = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2)})
    if glob == "":
        model = model["attn"]
    photonic.convert_(model, {glob: ExactBackend()})
    assert [row.backend for row in photonic.routes(model)] == ["exact", "exact"]


@pytest.mark.parametrize("name", ["in_proj", "out_proj"])
def test_one_projection_alone_runs_on_its_backend(name: str) -> None:
    """What nobody routed stays exact, also after pickling and attaching; unconverting gives torch's class back."""
    theirs = nn.MultiheadAttention(8, 2)
    ours = photonic.convert_(copy.deepcopy(theirs), {name: ExactBackend()})
    ours = photonic.attach(pickle.loads(pickle.dumps(ours)), ExactBackend())
    x = _random(5, 3, 8)
    torch.testing.assert_close(ours(x, x, x), theirs(x, x, x))
    backends = {row.name: row.backend for row in photonic.routes(ours)}
    assert backends == {**dict.fromkeys(("in_proj", "out_proj"), "digital"), name: "exact"}
    assert _calls(ours)[name] == 1
    assert type(photonic.unconvert_(ours)) is nn.MultiheadAttention


def test_a_shared_attention_answers_to_every_name() -> None:
    """Both projections, whichever of its names the glob uses."""
    attention = nn.MultiheadAttention(8, 2)
    model = photonic.convert_(nn.ModuleDict({"a": attention, "b": attention}), {"b": ExactBackend()})
    assert [row.backend for row in photonic.routes(model)] == ["exact", "exact"]


def test_an_out_projection_is_not_converted_alone() -> None:
    """Its attention would multiply with its weight and never call it."""
    with pytest.raises(ConversionError, match="convert the attention instead"):
        photonic.convert_(nn.MultiheadAttention(8, 2).out_proj, ExactBackend())


def _encoder(**options: Any) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2)


@pytest.mark.parametrize("globs", ["*", "*.linear?", "*.self_attn", "*.out_proj", "layers.1.linear1"])
@pytest.mark.parametrize("padded", [False, True])
def test_inference_of_an_encoder_calls_the_chip(globs: str, padded: bool) -> None:
    """Torch's fused and nested paths read the weights directly: they are off while a layer is converted."""
    model = _encoder().eval()
    x = _random(3, 5, 8)
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 5]) if padded else None
    expected = model(x, src_key_padding_mask=mask)
    photonic.convert_(model, {globs: ExactBackend()})
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            y = model(x, src_key_padding_mask=mask)
        # torch's nested path answers 0 where a position is padded, ours what the layers compute
        seen = slice(None) if mask is None else ~mask
        torch.testing.assert_close(y[seen], expected[seen], rtol=1e-4, atol=1e-5)
    assert {row.usage.calls for row in photonic.routes(model) if row.backend == "exact"} == {2}


def test_unconverting_an_encoder_gives_the_fused_path_back() -> None:
    """The attributes are what they were, also after converting twice."""
    model = _encoder(activation="gelu")
    before = [copy.copy(vars(module)) for module in model.modules()]
    photonic.convert_(photonic.convert_(model, ExactBackend()), ExactBackend())
    assert not model.use_nested_tensor
    assert not model.layers[0].activation_relu_or_gelu
    photonic.unconvert_(model)
    for module, attributes in zip(model.modules(), before, strict=True):
        assert vars(module).keys() == attributes.keys()
    assert model.use_nested_tensor
    assert model.layers[0].activation_relu_or_gelu == 2


def test_a_whole_transformer_is_torch_s() -> None:
    """Encoder and decoder, causal and padded, in training and inference; every layer is called."""
    theirs = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
    ours = photonic.convert_(copy.deepcopy(theirs), ExactBackend())
    source, target = _random(3, 6, 8), _random(3, 5, 8, seed=1)
    masks = {
        "tgt_mask": torch.ones(5, 5, dtype=torch.bool).triu(1),
        "src_key_padding_mask": torch.tensor([[False] * 6, [False] * 6, [False] * 5 + [True]]),
    }
    torch.testing.assert_close(ours(source, target, **masks), theirs(source, target, **masks))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(source, target), theirs.eval()(source, target), rtol=1e-4, atol=1e-5)
    assert min(_calls(ours).values()) >= 2
