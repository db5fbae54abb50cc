"""Working values: what least squares on them finds is the maximum of the likelihood of the counts."""

from __future__ import annotations

import numpy as np
import pytest

from photonic.calibration.working import working_values
from photonic.errors import ShapeError


def _mean_by_turns(counts: np.ndarray, sigma: float, table: np.ndarray | None, rails: tuple[float, float]) -> float:
    """Mean of one output by taking turns of averaging and reading."""
    mean = float(counts.mean())
    for _ in range(80):
        seen = working_values(counts, np.full_like(counts, mean), np.full_like(counts, sigma), table, rails)
        mean = float(seen.mean())
    return mean


@pytest.mark.parametrize("sigma", [0.25, 0.6, 1.5])
@pytest.mark.parametrize("true", [-3.31, 0.5, 125.6])
def test_means_are_found_through_wide_codes_rounding_and_rails(sigma: float, true: float) -> None:
    rng = np.random.default_rng(5)
    table = np.sort(np.arange(-127.5, 127) + rng.normal(0, 0.3, 255))[None]
    errors = []
    for _ in range(20):
        counts = np.searchsorted(table[0], true + sigma * rng.standard_normal(1000)) - 128.0
        errors.append(_mean_by_turns(counts[:, None], sigma, table, (-128, 127)) - true)
    spread = np.std(errors, ddof=1)
    assert abs(np.mean(errors)) < 4 * spread / 20**0.5
    assert spread < 3.5 * max(sigma, 0.3) / 1000**0.5  # the likelihood's own, not that of the codes' middles


def test_counts_alone_would_be_wrong() -> None:
    rng = np.random.default_rng(6)
    counts = np.round(np.minimum(126.6 + rng.standard_normal((20000, 1)), 127))
    assert abs(counts.mean() - 126.6) > 0.1
    assert abs(_mean_by_turns(counts, 1.0, None, (-128, 127)) - 126.6) < 0.03


def test_a_count_far_from_its_prediction_is_taken_at_its_nearer_edge() -> None:
    found = working_values(np.array([[10.0]]), np.array([[90.0]]), np.array([[0.5]]), None, (-128, 127))
    assert found[0, 0] == pytest.approx(90 - 79.5 * (1 + 1 / 3), abs=0.01)


def test_a_table_of_another_converter_is_refused() -> None:
    with pytest.raises(ShapeError, match="255"):
        working_values(np.zeros((2, 3)), np.zeros((2, 3)), np.ones((2, 3)), np.zeros((1, 63)), (-128, 127))
