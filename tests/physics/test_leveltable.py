"""Levels from a table against the modulators' own curves."""

from __future__ import annotations

import pytest
import torch

from photonic.backends.datasheet import preset_parameters
from photonic.physics import fewshots, seeds
from photonic.physics.fewshots import LevelTable
from photonic.physics.transmitter import Transmitter


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("cached", [2**16, 100])
@pytest.mark.parametrize("shots", [41, 410])  # by torch's operations, and by a compiled loop
def test_many_levels_are_those_of_the_modulators(
    by_channel: bool, constant: bool, cached: int, shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both layouts, in parts that do not divide the whole, with no warning of torch's."""
    monkeypatch.setattr(fewshots, "_CACHED_CODES", cached)
    transmitter = Transmitter.draw(
        preset_parameters("sim", "typical", {}, ()), seeds.generator("device", 3, "transmitter")
    )
    table = LevelTable.of(transmitter, 27, (0.0, 255.0))
    assert table is not None
    codes = torch.randint(0, 256, (3, shots, 27), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    expected = transmitter.light(codes.float(), None, torch.Generator())
    given = codes.mT.contiguous() if by_channel else codes
    found = table.of_tensor(given, -2 if by_channel else -1, constant)
    found = found.mT if by_channel else found
    torch.testing.assert_close(found[..., :27], expected, rtol=0, atol=1e-6)
    assert found.shape[-1] == 27 + constant
    assert bool((found[..., 27:] == 1).all())
    # no two modulators of this chip are alike
    assert float((expected - expected[..., :1]).abs().max()) > 1e-2


@pytest.mark.parametrize("wrong", [-1, 30_000])
def test_a_code_beyond_the_table_is_refused(wrong: int) -> None:
    transmitter = Transmitter.draw(preset_parameters("sim", "typical", {}, ()), seeds.generator("device", 3, "x"))
    table = LevelTable.of(transmitter, 27, (0.0, 255.0))
    assert table is not None
    codes = torch.zeros(3, 410, 27, dtype=torch.int16)
    codes[2, 409, 0 if wrong < 0 else 26] = wrong
    for channels, given in ((-1, codes), (-2, codes.mT.contiguous())):
        with pytest.raises(IndexError, match="inside the table"):
            table.of_tensor(given, channels, constant=False)
