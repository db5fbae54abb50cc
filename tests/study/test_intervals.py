"""Means, differences seed by seed and linearity, on tables whose right answer is known."""

from __future__ import annotations

import math
import random

import pytest
from madeup import made_up

from photonic.study.intervals import grouped, linearity, paired, t_interval
from photonic.study.verdicts import last, maximum, verdict


def groups_of(*outcomes):  # type: ignore[no-untyped-def]
    (groups,) = grouped(outcomes).values()
    return groups


def test_an_interval_is_student_s() -> None:
    """Of 1, 2, 3, 4, 5: t(0.975, 4) = 2.7764, s = 1.5811, so 1.9632."""
    found = t_interval([1, 2, 3, 4, 5])
    assert (found.mean, found.seeds) == (3, 5)
    assert found.half == pytest.approx(1.96324, abs=1e-4)
    assert t_interval([1]).half is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    source, hits = random.Random(0), 0
    for _ in range(2000):
        found = t_interval([source.gauss(0.5, 0.1) for _ in range(5)])
        assert found.half is not None
        hits += abs(found.mean - 0.5) <= found.half
    assert 0.935 < hits / 2000 < 0.965


def test_a_paired_difference_leaves_out_what_seeds_share() -> None:
    """Seeds scatter by 10 points, the difference by a tenth of one."""
    rows = [made_up(seed, (0.5 + 0.1 * seed,)) for seed in range(5)]
    rows += [made_up(seed, (0.52 + 0.1 * seed + 0.001 * (seed - 2),), activation="gelu") for seed in range(5)]
    groups = groups_of(*rows)
    found = paired(groups["GELU"], groups["ReLU"], last)
    assert found is not None
    assert found.mean == pytest.approx(0.02)
    assert found.half == pytest.approx(2.7764 * 0.001 * math.sqrt(2.5) / math.sqrt(5), rel=1e-3)
    assert found.decided


def test_seeds_that_only_one_has_are_not_paired() -> None:
    groups = groups_of(made_up(0, (0.5,)), made_up(1, (0.5,), activation="gelu"))
    assert paired(groups["GELU"], groups["ReLU"], last) is None


def test_the_last_epoch_and_the_maximum_are_two_figures() -> None:
    outcome = made_up(0, (0.2, 0.6, 0.4))
    assert (last(outcome), maximum(outcome)) == (0.4, 0.6)


def test_no_interpolation_at_all_is_relu() -> None:
    groups = groups_of(made_up(0, (0.5,), activation="gelu", interpolation=0.0), made_up(1, (0.5,)))
    assert list(groups) == ["ReLU"]
    assert sorted(groups["ReLU"].by_seed) == [0, 1]


@pytest.mark.parametrize(("bend", "decided"), [(0.0, False), (0.1, True)])
def test_linearity_finds_slope_and_bend(bend: float, decided: bool) -> None:
    wobble = {0: 0.003, 1: -0.002, 2: 0.001, 3: -0.002}
    curves = {
        i: groups_of(
            *(
                made_up(seed, (0.5 + 0.2 * i + bend * i * i + shift * i * (1 - i),), activation="silu", interpolation=i)
                for seed, shift in wobble.items()
            )
        )
        for i in (0.0, 0.25, 0.5, 0.75, 1.0)
    }
    found = linearity({i: next(iter(groups.values())) for i, groups in curves.items()}, last)
    assert found is not None
    assert found.bend.mean == pytest.approx(bend, abs=1e-3)
    assert found.slope.mean == pytest.approx(0.2 + bend, abs=2e-3)
    assert found.bend.decided is decided


def test_two_points_are_no_test_of_linearity() -> None:
    group = groups_of(made_up(0, (0.5,)))["ReLU"]
    assert linearity({0.0: group, 1.0: group}, last) is None


NOISE = {"backend": "study", "precision": 64, "ep": 0.5}


def judged(clean: float, relu: float, gelu: float):  # type: ignore[no-untyped-def]
    rows = [made_up(seed, (clean + 0.001 * seed,)) for seed in range(3)]
    rows += [made_up(seed, (relu + 0.001 * seed,), **NOISE) for seed in range(3)]
    rows += [made_up(seed, (gelu + 0.0011 * seed,), **NOISE, activation="gelu") for seed in range(3)]
    settings = grouped(rows)
    (noisy,) = (each for each in settings.values() if "GELU" in each)
    return verdict(noisy, "ReLU", settings)


def test_a_setting_says_who_is_better() -> None:
    found = judged(0.6, 0.3, 0.4)
    assert (found.better, found.worse, found.undecided, found.uninformative) == (("GELU",), (), (), "")
    assert judged(0.6, 0.4, 0.3).worse == ("GELU",)
    assert judged(0.6, 0.4, 0.4).undecided == ("GELU",)


def test_a_setting_that_says_nothing_is_called_so() -> None:
    assert "above chance" in judged(0.6, 0.1, 0.1).uninformative
    assert "without noise" in judged(0.4, 0.2, 0.3).uninformative
