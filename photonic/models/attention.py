"""Multi-head attention whose projections run on a backend.

The in-projection and the out-projection are products with weights: they run on the chip. Q K^T and A V are products of
two activations; a chip would have to be programmed anew for every sample, so they stay digital.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photonic.backends.base import Backend
from photonic.errors import ShapeError
from photonic.models import functional
from photonic.models.layers import PhotonicLinear, place_on, within_range


class PhotonicMultiheadAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` with torch's arguments, masks and parameters; also takes ``backend`` and ``gradient``.

    ``backend`` is the in-projection's; ``out_proj`` is a layer of its own. Self-attention projects in one product,
    otherwise queries, keys and values in one each. Torch's fused inference is never taken.
    """

    backend: Backend
    gradient: str
    input_range: Tensor | None

    def __init__(self, *args: Any, backend: Backend, gradient: str = "ideal", **options: Any) -> None:
        super().__init__(*args, **options)
        place_on(self, backend, "in_proj", gradient)
        self.out_proj.__class__ = PhotonicLinear  # type: ignore[assignment]  # as convert_ does: same parameters
        place_on(self.out_proj, backend, "out_proj", gradient)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention.forward``; ``is_causal`` is only a hint: the mask that is passed decides.

        Raises:
            ShapeError: operands or masks of other shapes or dtypes than torch takes.
        """
        batched = query.ndim == 3
        b = 0 if self.batch_first else 1
        batches = batched and query.shape[b] != key.shape[b]
        if query.ndim not in (2, 3) or key.ndim != query.ndim or key.shape[:-1] != value.shape[:-1] or batches:
            found = [tuple(t.shape) for t in (query, key, value)]
            raise ShapeError(
                "expected query, key and value of 2 (unbatched) or 3 dimensions, key and value of one length, "
                f"found {found}"
            )
        if is_causal and attn_mask is None:
            raise ShapeError("is_causal is a hint about attn_mask; pass the mask as well")
        q, k, v = self._project(query, key, value, batched)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), -1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.expand(len(v), -1, -1)], dim=1)
        q, k, v = (self._heads(t) for t in (q, k, v))
        if self.add_zero_attn:
            k, v = (F.pad(t, (0, 0, 0, 1)) for t in (k, v))
        mask = self._mask(key_padding_mask, attn_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        y, weights = _attend(q, k, v, mask, dropout, need_weights)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return y if self.batch_first else y.transpose(0, 1), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor, batched: bool) -> tuple[Tensor, Tensor, Tensor]:
        """In-projections, to (B, L, E) each."""
        itself = query is key and key is value

        def batch_first(t: Tensor) -> Tensor:
            return t.unsqueeze(0) if not batched else t if self.batch_first else t.transpose(0, 1)

        if self.in_proj_weight is not None and itself:
            packed = self._linear(batch_first(query), self.in_proj_weight, self.in_proj_bias)
            q, k, v = packed.chunk(3, dim=-1)
            return q, k, v
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        sources = (query, key, value)
        q, k, v = (self._linear(batch_first(t), w, b) for t, w, b in zip(sources, weights, biases, strict=True))
        return q, k, v

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(within_range(self, x), weight, bias, self.backend, gradient=self.gradient)

    def _heads(self, t: Tensor) -> Tensor:
        """(B, L, E) to (B, heads, L, E / heads)."""
        b, length, _ = t.shape
        return t.reshape(b, length, self.num_heads, -1).transpose(1, 2)

    def _mask(self, padding: Tensor | None, attention: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Both masks as one additive mask, broadcastable to (B, heads, L, S); True means: not attended to."""
        b, heads, length, size = *q.shape[:3], k.shape[2]
        # columns that bias_k and add_zero_attn appended are always attended to; the masks do not know them
        appended = (self.bias_k is not None) + self.add_zero_attn
        source = size - appended
        total: Tensor | None = None
        if attention is not None:
            _check_mask("attn_mask", attention, (length, source), (b * heads, length, source))
            total = F.pad(_additive(attention, q.dtype), (0, appended))
            if total.ndim == 3:
                total = total.reshape(b, heads, length, size)
        if padding is not None:
            padding = padding if padding.ndim == 2 else padding.unsqueeze(0)
            _check_mask("key_padding_mask", padding, (b, source))
            columns = F.pad(_additive(padding, q.dtype), (0, appended)).reshape(b, 1, 1, size)
            total = columns if total is None else total + columns
        return total

    def extra_repr(self) -> str:
        """The backend of the in-projection."""
        return f"backend={self.backend.spec.name}"


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    if tuple(mask.shape) not in shapes:
        raise ShapeError(f"{name} must be {' or '.join(map(str, shapes))}, found {tuple(mask.shape)}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ShapeError(f"{name} must be boolean (True: not attended to) or floating point, found {mask.dtype}")


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as 0 and -inf; a float mask as it is."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, need_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention; the weights are spelled out only where they are asked for, as in torch."""
    if not need_weights:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout), None
    scores = (q * math.sqrt(1.0 / q.shape[-1])) @ k.mT
    weights = F.dropout(F.softmax(scores if mask is None else scores + mask, dim=-1), dropout, training=dropout > 0)
    return weights @ v, weights
