"""Compiled loops over rings compute what torch's operations do."""

from __future__ import annotations

import pytest
import torch

from photonic.physics import ringbank
from photonic.physics.optics import Surroundings
from photonic.physics.presets import PRESETS
from photonic.physics.ringbank import RingBank, RingBankParameters

FIELDS = [
    {"channel_leakage": False},
    {"channel_leakage": False, "thermal_crosstalk": 0.0, "max_detuning_nm": None},
    {"channel_leakage": True},
]


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("shape", [(40, 64, 64), (300, 7, 64)])
def test_weights_of_many_rings(fields: dict[str, object], shape: tuple[int, ...]) -> None:
    """Against float64, which is never compiled; the least code of all, whose driver is at its reach, included."""
    parameters = RingBankParameters.model_validate(PRESETS["typical"].model_dump() | fields)
    bank = RingBank.draw(parameters, torch.Generator().manual_seed(3))
    codes = torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(4)).float()
    around = Surroundings(torch.Generator(), torch.linspace(-0.2, 0.2, shape[0], dtype=torch.float64))
    assert ringbank.many(codes)
    found, wanted = (bank.matrices(values, around)[0] * 64 for values in (codes, codes.double()))
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < (3e-5 if fields["channel_leakage"] else 3e-6)


def test_the_driver_s_table_ends_at_its_reach() -> None:
    parameters = RingBankParameters.model_validate(PRESETS["typical"].model_dump())
    codes = torch.linspace(-127, 127, 2**14)
    reach = parameters.max_detuning_nm / parameters.half_linewidth_nm
    found = ringbank._detuning(codes, parameters)
    assert found.max() == pytest.approx(reach, rel=1e-6)
    assert found[-1] == 0.0
    assert torch.allclose(found, ringbank._detuning(codes.double(), parameters).float(), atol=2e-3 / 127, rtol=1e-5)
