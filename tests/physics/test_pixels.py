"""Inputs in compiled loops: codes of a modulator, and tables of their light."""

from __future__ import annotations

import pytest
import torch

from photonic.backends.twin.images import _look_up
from photonic.physics import modulator
from photonic.physics.compiled import pixels
from photonic.physics.many import MANY
from photonic.records import InputTransfer


@pytest.mark.parametrize(("one", "zero"), [(255.0, 0.0), (15.0, 0.0), (1800.0, 200.0), (-120.0, 7.0)])
def test_codes_are_the_nearest(one: float, zero: float) -> None:
    """Against float64; where two codes are equally near but for rounding, the other one is right too."""
    transfer = InputTransfer(shape="mzm", code_zero=zero, code_one=one)
    values = torch.cat([torch.rand(MANY * 20), torch.tensor([0.0, 1.0, 1.0 + 1e-7, -1e-9, 0.25, 0.2499999])])
    found = modulator.nearest_codes(transfer, values)
    exact = modulator.codes(transfer, values.double())
    assert torch.equal(found, found.round())
    assert (found - exact).abs().max() < 0.5 + 2e-6 * abs(one - zero)
    assert (found != exact.round()).float().mean() < 1e-3


def test_signed_codes_have_the_value_s_sign() -> None:
    transfer = InputTransfer(shape="mzm", code_zero=0.0, code_one=255.0)
    values = 2 * torch.rand(MANY) - 1
    found = modulator.nearest_codes(transfer, values, signed=True)
    wanted = modulator.nearest_codes(transfer, values.double(), signed=True)
    assert (found != wanted).sum() <= 2
    assert ((found == 0) | (found.sign() == values.sign())).all()


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("count", [1, 4, 6])
def test_tables_are_looked_up(groups: int, count: int) -> None:
    """Into images that lie apart, of two dtypes; more tables than one loop takes."""
    torch.manual_seed(0)
    codes = torch.randint(-30, 225, (5 * groups, 4, 13, 17 * 3)).float()
    tables = [torch.randn(255).to(torch.bfloat16 if place % 2 else torch.float32) for place in range(count)]
    room = [torch.zeros(5 * groups, 3, *codes.shape[1:], dtype=table.dtype) for table in tables]
    out = [each[:, 1] for each in room]
    _look_up(codes.clone(), -30, tables, out)
    for table, each, apart in zip(tables, out, room, strict=True):
        assert torch.equal(each, table[codes.long() + 30])
        assert not apart[:, ::2].any()


@pytest.mark.parametrize("wrong", [-1.0, 255.0, 17.5, 1e9, torch.nan])
def test_a_code_that_is_in_no_table_is_refused(wrong: float) -> None:
    codes, out = torch.zeros(MANY), torch.empty(MANY)
    codes[MANY - 1] = wrong
    with pytest.raises(IndexError, match="from 0 to 254"):
        _look_up(codes.unsqueeze(0), 0, [torch.zeros(255)], [out.unsqueeze(0)])


@pytest.mark.parametrize("curved", [True, False])
@pytest.mark.parametrize("n", [27, 64, 2000])
def test_codes_of_channels_that_differ(n: int, curved: bool) -> None:
    """Against float64; at the ends of the range they are clipped, where channels ask for more."""
    torch.manual_seed(3)
    rows = 20_000 // n + 3
    line = torch.stack([0.1 * torch.rand(n), 0.6 + 0.5 * torch.rand(n), 150 + 20 * torch.rand(n), 5 * torch.randn(n)])
    values = torch.rand(2, rows, n)
    found = pixels.channel_codes(values, line, (60.0, 140.0), curved=curved)
    floor, rise, slope, offset = line.double()
    x = floor + rise * values.double()
    exact = ((x.clamp(0, 1).sqrt().asin() if curved else x) * slope + offset).clamp(60, 140)
    assert found.dtype == torch.int16
    assert (found.double() - exact).abs().max() < 0.5 + 1e-3
    assert (found != exact.round()).double().mean() < 1e-4
    assert (int(found.min()), int(found.max())) == (60, 140)
