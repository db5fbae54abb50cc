"""The compiled loop over a crossbar's cells computes what torch's operations do."""

from __future__ import annotations

import pytest
import torch

from photonic.physics import crossbar
from photonic.physics.crossbar import Crossbar, CrossbarParameters
from photonic.physics.optics import Surroundings
from photonic.physics.presets import PRESETS


@pytest.mark.parametrize(
    "fields", [{}, {"cell_levels": None}, {"cell_extinction_db": None, "cell_levels": None}, {"weight_bits": 4}]
)
@pytest.mark.parametrize("shape", [(40, 64, 64), (300, 7, 64)])
def test_arms_of_many_cells(fields: dict[str, object], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code among them; against the many passes in float32, which put the same level to each."""
    parameters = CrossbarParameters.model_validate(PRESETS["crossbar-typical"].model_dump() | fields)
    bank = Crossbar.draw(parameters, torch.Generator().manual_seed(3))
    low, high = (int(end) for end in parameters.weight_code_range)
    codes = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(4)).float()
    assert crossbar.many(codes)
    around = Surroundings(torch.Generator())
    found = bank.matrices(codes, around)
    monkeypatch.setattr(crossbar, "many", lambda _: False)
    for one, other in zip(found, bank.matrices(codes, around), strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one * 64, other * 64, atol=3e-6)


@pytest.mark.parametrize("wrong", [-128.0, 128.0, 0.5, torch.inf, torch.nan])
def test_a_code_without_a_weight_is_refused(wrong: float) -> None:
    parameters = CrossbarParameters.model_validate(PRESETS["crossbar-typical"].model_dump() | {"weight_bits": 8})
    bank = Crossbar.draw(parameters, torch.Generator().manual_seed(3))
    codes = torch.zeros(40, 64, 64)
    codes[-1, -1, -1] = wrong
    with pytest.raises(IndexError, match="from -127 to 127"):
        bank.matrices(codes, Surroundings(torch.Generator()))
