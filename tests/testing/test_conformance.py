"""The conformance suites pass on every chip and backend here, and each check fails on what breaks its rule."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from photonic.backends.base import Backend
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Chip
from photonic.backends.digital import DigitalBackend
from photonic.backends.registry import open_chip
from photonic.backends.simulated import open_simulated
from photonic.errors import ConformanceError
from photonic.testing import BACKEND_CHECKS, CHIP_CHECKS, check_backend, check_chip
from photonic.testing.backends import BackendUnderTest
from photonic.testing.chip_case import ChipUnderTest
from tests.testing import broken_backends, broken_chips, variants

EXAMPLES = Path(__file__).parents[2] / "examples"


def _simulated(preset: str, **options: object) -> Callable[..., Chip]:
    return lambda seed, device: open_simulated(preset, seed=seed, device=device, **options)


def _tiny(seed: int, device: int) -> Chip:
    return open_chip("examples.tiny_chip:open_chip", seed=seed, device=device)


# every chip of the project: name, factory, stated error of D, stated relative error of a product with 32 shots
CHIPS: dict[str, tuple[Callable[..., Chip], float, float]] = {
    "ideal": (_simulated("ideal"), 1e-9, 1e-5),
    "typical": (_simulated("typical"), 0.15, 0.2),
    "pessimistic": (_simulated("pessimistic"), 0.3, 0.8),
    "small": (_simulated("typical", n_outputs=5, n_inputs=9, adc_full_scale=1.0), 0.15, 0.2),
    "crossbar ideal": (_simulated("crossbar-ideal"), 1e-9, 1e-5),
    "crossbar": (_simulated("crossbar-typical"), 0.15, 0.2),
    "crossbar pessimistic": (_simulated("crossbar-pessimistic"), 0.3, 0.8),
    "mesh ideal": (_simulated("mesh-ideal", n_outputs=5, n_inputs=6), 1e-9, 1e-5),
    "mesh": (_simulated("mesh-typical"), 0.15, 0.2),
    "small mesh": (_simulated("mesh-typical", n_outputs=4, n_inputs=8), 0.15, 0.2),
    "mesh pessimistic": (_simulated("mesh-pessimistic"), 0.3, 0.8),
    "analog": (_simulated("typical", adc_bits=None, input_bits=None, weight_bits=None), 0.15, 0.2),
    "tiny example": (_tiny, 0.05, 0.15),
    "good test chip": (broken_chips.GoodChip, 0.05, 0.15),
    **{name: (variants.variant(name), 0.05, 0.06) for name in variants.FIELDS},
}

# what does not apply to a chip or to a backend, and is said in the report
CHIP_SKIPS = {
    "ideal": {"independence", "seeding"},
    "crossbar ideal": {"independence", "seeding"},
    "mesh ideal": {"sign", "linearity", "channels", "independence", "seeding"},
    **{name: {"sign", "linearity", "channels"} for name in ("mesh", "small mesh", "mesh pessimistic")},
    "one channel": {"channels"},
    "program": {"sign", "linearity", "channels"},
    "not seeded": {"seeding"},
}
BACKEND_SKIPS = {name: {"seeding"} for name in ("ideal", "crossbar ideal", "mesh ideal", "digital", "not seeded")}
SLOW = {"mesh", "mesh pessimistic"}  # 16 x 16 decompositions by the hundred


def _calibrated(name: str) -> Callable[..., Backend]:
    return lambda seed, device: CalibratedBackend(CHIPS[name][0](seed=seed, device=device), shots=32)


def _backend_cases() -> dict[str, BackendUnderTest]:
    cases = {
        name: BackendUnderTest(_calibrated(name), tolerance, seeded=name != "not seeded")
        for name, (_, _, tolerance) in CHIPS.items()
        if name not in ("program", "one channel")  # needs a decomposition; a tile for each number is slow
    }
    cases["digital"] = BackendUnderTest(lambda seed, device: DigitalBackend())
    cases["good test backend"] = BackendUnderTest(broken_backends.GoodBackend, 1e-3)
    return cases


@pytest.mark.parametrize("name", CHIPS)
def test_every_chip_conforms(name: str) -> None:
    """No check fails; what is skipped says why."""
    factory, tolerance, _ = CHIPS[name]
    report = check_chip(factory, tolerance=tolerance)
    report.raise_for_failures()
    assert len(report.passed) + len(report.skipped) == len(CHIP_CHECKS)
    assert set(report.skipped) == CHIP_SKIPS.get(name, set()), report


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in _backend_cases()]
)
def test_every_backend_conforms(name: str) -> None:
    """No check fails; what is skipped says why."""
    case = _backend_cases()[name]
    report = check_backend(case.factory, tolerance=case.tolerance, seeded=case.seeded)
    report.raise_for_failures()
    assert len(report.passed) + len(report.skipped) == len(BACKEND_CHECKS)
    assert set(report.skipped) == BACKEND_SKIPS.get(name, set()), report


@pytest.mark.parametrize(
    ("factory", "broken"), broken_chips.BROKEN, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_broken_chip_fails_exactly_its_check(factory: Callable[..., Chip], broken: str) -> None:
    """Checks see one rule each."""
    with torch.random.fork_rng():  # one of them draws from the global generator
        assert set(check_chip(factory, tolerance=0.05).failed) == {broken}


@pytest.mark.parametrize(
    ("factory", "broken"), broken_backends.BROKEN, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_broken_backend_fails_exactly_its_check(factory: Callable[..., Backend], broken: str) -> None:
    """Checks see one rule each."""
    with torch.random.fork_rng():
        assert set(check_backend(factory, tolerance=1e-3).failed) == {broken}


def test_every_check_has_something_that_breaks_it() -> None:
    """A check without a broken subject may be a check that cannot fail."""
    assert {name for _, name in broken_chips.BROKEN} == set(CHIP_CHECKS)
    assert {name for _, name in broken_backends.BROKEN} == set(BACKEND_CHECKS)


def test_a_report_names_every_failure_at_once() -> None:
    """One error for whoever runs the suite in a test of their own."""
    report = check_chip(broken_chips.Unsigned, tolerance=0.05)
    with pytest.raises(ConformanceError, match="sign: ConformanceError: "):
        report.raise_for_failures()
    assert "FAILED   sign" in str(report)


def test_an_error_of_the_chip_s_own_is_reported_with_its_traceback() -> None:
    """Whatever a wrong chip raises, the other checks run and the error is kept."""
    report = check_chip(broken_chips.CrashesOnEmpty, tolerance=0.05)
    assert "IndexError: empty" in report.failed["shapes"]
    with pytest.raises(ConformanceError) as caught:
        report.raise_for_failures()
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert isinstance(caught.value.__cause__.exceptions[0], IndexError)


def test_a_user_s_own_ctrl_c_ends_the_suite() -> None:
    """It is not one more failed check."""

    def interrupted(seed: int, device: int) -> Chip:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_chip(interrupted)


def test_single_checks_can_be_run() -> None:
    """pytest users parametrise over CHIP_CHECKS."""
    CHIP_CHECKS["close"](ChipUnderTest(broken_chips.GoodChip))
    with pytest.raises(ConformanceError):
        CHIP_CHECKS["close"](ChipUnderTest(broken_chips.Undead))


def test_the_example_prints_a_report_without_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """What the example promises."""
    runpy.run_path(str(EXAMPLES / "tiny_chip.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("passed") == len(CHIP_CHECKS)
