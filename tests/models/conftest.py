"""Backends for the tests of models."""

from __future__ import annotations

import pytest

from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.simulated import open_simulated


@pytest.fixture
def ideal() -> CalibratedBackend:
    """A chip of 8 x 8 without noise and converters: results equal torch's."""
    return CalibratedBackend(open_simulated("ideal", n_outputs=8, n_inputs=8))


@pytest.fixture
def typical() -> CalibratedBackend:
    """The default chip."""
    return CalibratedBackend(open_simulated("typical"))
