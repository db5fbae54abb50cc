"""A chip of your own in a few lines: it measures, and ``photonic.Chip`` does the rest.

Try it: ``photonic train --backend examples.tiny_chip:open_chip`` from the root of the repository, or run this file to
see the conformance suite pass.
"""

import torch
from torch import Tensor

from photonic import Chip, ChipSpec, Conditions, InputTransfer, NoiseModel, Response
from photonic.testing import check_chip

SIGMA_D = 0.002  # noise of one output, in D
RESPONSE = Response(inputs=InputTransfer(code_one=255), counts_per_d=(512.0,), noise=NoiseModel(thermal=SIGMA_D**2))


class TinyChip(Chip):
    """16 x 16, linear, with independent noise in every output."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(ChipSpec(chip_id="tiny", n_outputs=16, n_inputs=16, seeded=True, response=RESPONSE))
        self.generator = torch.Generator().manual_seed(seed)

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
        tiles = weights.float().unflatten(-1, (16, 16)) / 127  # (R, C, M, N)
        d = torch.einsum("rcmn,cbn->rcbm", tiles, inputs / 255) / 16
        d += SIGMA_D * torch.randn(d.shape, generator=self.generator)
        return (512 * d).round().clamp(-128, 127).short()


def open_chip(seed: int = 0) -> TinyChip:
    """What ``package.module:factory`` calls; options of the spec string come as keywords."""
    return TinyChip(seed)


if __name__ == "__main__":
    print(check_chip(lambda seed, device: TinyChip(seed)))
