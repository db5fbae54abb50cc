"""The study's vision transformer: patches of 4 x 4, width 512, 8 heads; the activation is in the MLPs alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photonic.errors import SpecError
from photonic.models.activations import GatedActivation
from photonic.models.networks.shapes import DEFAULT_ACTIVATION, MakeActivation, Shape, factory_of

PATCH, WIDTH, HEADS, HEAD_WIDTH, HIDDEN, DROPOUT = 4, 512, 8, 64, 512, 0.5


class Attention(nn.Module):
    """Self-attention; both projections are linear layers, the products of activations are no layer's."""

    def __init__(self) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.norm, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * inner, bias=False)
        self.out, self.dropout = nn.Linear(inner, WIDTH), nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, WIDTH) to the same shape."""
        b, length, _ = x.shape
        packed = self.qkv(self.norm(x)).reshape(b, length, 3, HEADS, HEAD_WIDTH)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT if self.training else 0.0)
        out: Tensor = self.dropout(self.out(y.transpose(1, 2).flatten(2)))
        return out


class Mlp(nn.Sequential):
    """Two linear layers around the activation; a gated one halves what the second sees."""

    def __init__(self, activation: nn.Module) -> None:
        seen = HIDDEN // 2 if isinstance(activation, GatedActivation) else HIDDEN
        layers = [nn.Linear(WIDTH, HIDDEN), activation, nn.Dropout(DROPOUT), nn.Linear(seen, WIDTH)]
        super().__init__(nn.LayerNorm(WIDTH), *layers, nn.Dropout(DROPOUT))


class Block(nn.Module):
    """Attention and MLP, each beside a residual sum and behind a LayerNorm of its own."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(), Mlp(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, WIDTH) to the same shape."""
        x = x + self.attention(x)
        y: Tensor = x + self.mlp(x)
        return y


class Tokens(nn.Module):
    """Patches as vectors, a class token before them, and where they come from.

    Args:
        input_shape: (C, H, W) of the images.
    """

    def __init__(self, input_shape: Shape) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.embed = nn.Linear(channels * PATCH**2, WIDTH)
        self.position = nn.Parameter(torch.randn(1, height * width // PATCH**2 + 1, WIDTH))
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, H W / 16 + 1, WIDTH)."""
        patches = F.unfold(x, PATCH, stride=PATCH).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.embed(patches)], dim=1)
        y: Tensor = self.dropout(tokens + self.position)
        return y


class FirstToken(nn.Module):
    """What the class token has become."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, WIDTH) to (B, WIDTH)."""
        return x[:, 0]


def vit(
    input_shape: Shape, n_classes: int, activation: MakeActivation = DEFAULT_ACTIVATION, depth: int = 4
) -> nn.Sequential:
    """Pre-norm blocks, dropout 0.5, a linear layer on the class token.

    Args:
        input_shape: (C, H, W) of the images; sides are multiples of 4.
        n_classes: number of outputs.
        activation: of the MLPs; a ``GatedActivation`` gives the GeGLU variant.
        depth: blocks.

    Raises:
        SpecError: other sides, or no block.
    """
    if depth < 1 or any(side % PATCH or side < PATCH for side in input_shape[1:]):
        raise SpecError(
            f"expected at least one block and images with sides that are multiples of {PATCH}, found depth {depth} and "
            f"{input_shape[1]} x {input_shape[2]}"
        )
    act = factory_of(activation)
    blocks = [Block(act()) for _ in range(depth)]
    return nn.Sequential(Tokens(input_shape), *blocks, FirstToken(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, n_classes))
