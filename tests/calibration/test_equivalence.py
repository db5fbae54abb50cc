import json
from collections import Counter

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import ncx2

from photonic.calibration.equivalence import Confidence, Statements, decide, overall
from photonic.calibration.pooled import noncentrality
from photonic.errors import RangeError
from photonic.records.calibration import Check


def gaussian(value, error, *, shots=1000, low=0.9, ideal=1.0):
    value = np.asarray(value, dtype=float)
    error = np.broadcast_to(error, value.shape)

    def bounds(tail):
        return value + ndtri(tail) * error, value - ndtri(tail) * error

    where = [f"output {k}" for k in range(len(value))]
    high = ideal + np.full(len(value), 0.1)
    return Statements("ratio", "noise", where, value, error, bounds, ideal, low, high, shots)


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (1.02, 0.04, "pass"),
        (1.04, 0.04, "not distinguishable"),  # not different from 1, which is no proof of a match
        (1.13, 0.01, "fail"),
        (1.13, 0.04, "not distinguishable"),  # centre outside, interval reaches inside
        (0.85, 0.01, "fail"),
        (0.96, 0.05, "not distinguishable"),
    ],
)
def test_the_verdict_is_where_the_interval_lies(value, error, verdict):
    check = decide(gaussian([value], error), Confidence())
    assert check.verdict == verdict
    assert (check.low >= 0.9 and check.high <= 1.1) == (verdict == "pass")
    assert (check.low > 1.1 or check.high < 0.9) == (verdict == "fail")
    assert (check.shots_needed is not None) == (verdict == "not distinguishable")


def test_the_worst_statement_is_named_with_its_interval():
    check = decide(gaussian([1.0, 0.93, 1.05], [0.01, 0.01, 0.01]), Confidence())
    assert (check.verdict, check.worst, check.value) == ("pass", "output 1", 0.93)
    assert check.low == pytest.approx(0.93 - 1.645 * 0.01, abs=1e-4)
    failed = decide(gaussian([1.0, 1.3, 0.6], [0.01, 0.2, 0.01]), Confidence())
    assert (failed.verdict, failed.worst) == ("fail", "output 2")


def test_the_sides_on_which_nothing_can_fail_take_no_part_of_the_level():
    one = gaussian([0.02], 0.01, low=0.0, ideal=0.0)
    assert (one.sides, gaussian([1.0], 0.01).sides) == (1, 2)
    assert decide(one, Confidence()).verdict == "pass"
    assert Confidence(0.95, 5).fail_tail(4) == pytest.approx(0.05 / 20)


def test_a_false_pass_is_as_rare_as_the_level_says_however_many_statements():
    generator = np.random.default_rng(1)
    for count in (1, 30):  # one lies on its margin, the others match
        truth = np.ones(count)
        truth[0] = 1.1
        passed = [
            decide(gaussian(truth + 0.015 * generator.standard_normal(count), 0.015), Confidence()).verdict == "pass"
            for _ in range(2000)
        ]
        assert np.mean(passed) == pytest.approx(0.05, abs=0.015)


def test_a_false_fail_is_rarer_than_the_level_says_with_many_statements_on_the_margin():
    generator = np.random.default_rng(2)
    failed = [
        decide(gaussian(1.1 + 0.01 * generator.standard_normal(40), 0.01), Confidence()).verdict == "fail"
        for _ in range(1000)
    ]
    assert 0.01 < np.mean(failed) < 0.05  # half of 5 %: only one of the two sides can be crossed here


@pytest.mark.parametrize(("truth", "verdict"), [(1.0, "pass"), (1.25, "fail")])
@pytest.mark.parametrize("error", [0.045, 0.07, 0.12])
def test_shots_needed_decide_when_they_are_spent(truth, verdict, error):
    generator = np.random.default_rng(3)
    found = Counter()
    for _ in range(300):
        centres = np.full(20, 1.0)
        centres[7] = truth
        first = decide(gaussian(centres + error * generator.standard_normal(20), error), Confidence())
        if first.verdict != "not distinguishable":
            continue
        assert first.shots_needed > 1000
        less = error * np.sqrt(1000 / first.shots_needed)
        found[decide(gaussian(centres + less * generator.standard_normal(20), less), Confidence()).verdict] += 1
    assert found.total() > 30
    assert found[verdict] > 0.9 * found.total()


def test_the_noncentral_chi_square_is_inverted():
    x, degrees = np.array([3.0, 16.0, 80.0, 4000.0]), np.array([1.0, 16.0, 11.6, 16.0])
    for z in (-3.5, -1.645, 0.0, 1.645, 3.5):
        found = noncentrality(x, degrees, z)
        exact = ncx2.cdf(x, degrees, np.maximum(found, 1e-12))
        assert np.all(np.abs(exact - ndtr(z))[found > 1e-6] < 2e-3)
        assert np.all(exact[found <= 1e-6] <= ndtr(z) + 2e-3)


def test_a_check_goes_through_json_whatever_its_bounds():
    def open_ended(tail):
        return np.zeros(1), np.full(1, np.inf)

    given = Statements("a", "noise", ["x"], np.ones(1), np.ones(1), open_ended, 1.0, 0.9, np.full(1, 1.1), 3)
    check = decide(given, Confidence())
    assert check.verdict == "not distinguishable"
    assert Check(**json.loads(check.model_dump_json())) == check


def test_overall_needs_every_check():
    passed = decide(gaussian([1.0], 0.01), Confidence())
    failed, unknown = decide(gaussian([1.3], 0.01), Confidence()), decide(gaussian([1.0], 0.5), Confidence())
    assert overall([passed, passed]) == "pass"
    assert overall([passed, unknown]) == "not distinguishable"
    assert overall([passed, unknown, failed]) == "fail"


@pytest.mark.parametrize(("level", "checks"), [(0.4, 1), (1.0, 1), (0.95, 0)])
def test_levels_out_of_range_are_refused(level, checks):
    with pytest.raises(RangeError, match="level must be above"):
        Confidence(level, checks)
