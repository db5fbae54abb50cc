"""Chips outside of what a record can hold: the fault is named, and an honest chip has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from photonic.calibration.equivalence import Confidence, decide
from photonic.calibration.faults import NAMES, Seen, changes, in_order
from photonic.calibration.model import ChipModel
from photonic.calibration.noise import Choice
from photonic.calibration.reading import Reading, Taken
from photonic.calibration.report import report_html
from photonic.calibration.suspects import find_suspects, separate_lines, stuck_weights
from photonic.cli.calibrated import print_verification, verification_content
from photonic.records import ChipSpec, NoiseModel, Response, Verification

from .synthetic import calibration_of

NOISE = NoiseModel(thermal=0.002**2)
SPEC = ChipSpec(
    chip_id="lab:small", n_outputs=4, n_inputs=4, response=Response(weight_code_one=127.0, counts_per_d=(512.0,))
)  # fmt: skip


def model_of() -> ChipModel:
    rng, nominal = np.random.default_rng(5), ChipModel.nominal(SPEC)
    element = nominal.element.copy()
    element[..., 1] += 0.05 * rng.standard_normal((4, 4))
    return replace(nominal, gain=nominal.gain * (1 + 0.05 * rng.standard_normal(4)), element=element)


def plan(seed: int, readings: int = 100, shots: int = 64) -> list[Reading]:
    """Random weights of half a range that wanders from setting to setting, random inputs of any total power."""
    rng = np.random.default_rng([seed, 0])
    (low, high), (dark, full) = SPEC.weight_code_range, SPEC.input_code_range
    found = []
    for _ in range(readings):
        centre = rng.uniform(low / 2, high / 2)
        codes = np.rint(rng.uniform(centre - high / 2, centre + high / 2, 16))
        inputs = np.rint(dark + (full - dark) * rng.uniform(0, 1, (shots, 1)) * rng.uniform(0, 0.5, (shots, 4)))
        found.append(Reading("matrix", torch.from_numpy(codes), torch.from_numpy(inputs), {}, 0))
    return found


def measured(model: ChipModel, fault: int | None, size: float, seed: int) -> list[Taken]:
    """Counts of a chip with one fault, from its change of D; drift of the gain in each reading."""
    rng = np.random.default_rng([seed, 1])
    empty = [Taken(each, torch.zeros(len(each.inputs), 4), 0.0, {}, 0.0, 0.0) for each in plan(seed)]
    found = []
    for seen in in_order(model, empty):
        d, _, moved = changes(model, seen)
        extra = 0.0 if fault is None else size * moved[fault]
        d = (d + extra) * (1 + 0.001 * rng.standard_normal()) + 0.002 * rng.standard_normal(d.shape)
        counts = np.clip(np.rint(d * model.gain + model.zero), *SPEC.count_range)
        found.append(replace(seen.taken, counts=torch.from_numpy(counts)))
    return found


# of each fault, about a count at the readings where it is largest
SIZES = dict.fromkeys(NAMES, 0.1) | {
    "results compressed": -3.0,
    "memory of earlier settings": 0.2,
    "memory of earlier shots": 0.5,
}


@pytest.mark.parametrize("fault", range(len(NAMES)))
def test_each_fault_is_named_first(fault: int) -> None:
    model = model_of()
    for seed in range(2):
        found = find_suspects(model, NOISE, measured(model, fault, SIZES[NAMES[fault]], seed))
        assert [each.name for each in found][:1] == [NAMES[fault]]
        assert found[0].z > found[0].threshold
        assert (found[0].size or 0.0) > 0.5


def test_a_chip_of_the_family_has_no_suspect_nor_one_whose_fault_is_small() -> None:
    model = model_of()
    for seed in range(8):
        assert find_suspects(model, NOISE, measured(model, None, 0.0, seed)) == ()
        assert find_suspects(model, NOISE, measured(model, 0, 0.003, seed)) == ()  # significant, and of no account


def test_one_reading_alone_is_no_fault() -> None:
    model = model_of()
    taken = measured(model, None, 0.0, 3)
    odd = measured(model, 0, 1.0, 3)[60]
    assert find_suspects(model, NOISE, [*taken[:60], odd, *taken[61:]]) == ()


def test_what_came_before_is_kept_in_order() -> None:
    model = model_of()
    seen: list[Seen] = list(in_order(model, measured(model, None, 0.0, 1)))
    np.testing.assert_array_equal(seen[5].before, seen[4].codes)
    loads = np.array([(each.codes.mean() - SPEC.weight_code_range[0]) for each in seen])
    warmth = np.array([each.warmth for each in seen])
    assert np.corrcoef(warmth[1:, 0], loads[:-1])[0, 1] > 0.7  # of the setting before, most of all
    np.testing.assert_allclose(warmth.mean(0), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("slope", "error", "verdict"), [(0.9, 0.05, "pass"), (0.0, 0.02, "fail"), (0.0, 0.3, "not distinguishable")]
)
def test_a_stuck_weight_never_passes(slope: float, error: float, verdict: str) -> None:
    slopes = np.ones((16, 16))
    slopes[3, 7] = slope
    check = decide(stuck_weights(slopes, np.full((16, 16), error), 1000), Confidence())
    assert (check.verdict, check.cause) == (verdict, "stuck weight")
    assert slope > 0.5 or check.worst == "output 3, input 7"


def test_a_laser_for_each_line_is_a_suspect_only_if_decided() -> None:
    apart, near = ({"per line": 0.0, "common": z} for z in (8.0, 2.5))
    likelihood = {"per line": 1.0, "common": 0.0}
    assert [each.name for each in separate_lines(Choice("per line", True, apart, likelihood))]
    assert separate_lines(Choice("per line", True, near, likelihood)) == ()
    assert separate_lines(Choice("common", True, {"per line": 8.0, "common": 0.0}, likelihood)) == ()


def test_suspects_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of()
    suspects = find_suspects(model, NOISE, measured(model, 0, 0.1, 0))
    found = Verification(verdict="fail", shots=10, causes=("response",), suspects=suspects)
    assert Verification(**found.model_dump()) == found
    assert verification_content(found)["suspects"][0]["name"] == "saturating detector"
    print_verification(found)
    assert "saturating detector" in capsys.readouterr().out
    checks = (decide(stuck_weights(np.ones((2, 2)), np.full((2, 2), 0.1), 5), Confidence()),)
    page = report_html(calibration_of(verification=found.model_copy(update={"checks": checks})))
    assert "gain falls as total power grows" in page
