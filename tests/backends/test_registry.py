"""Spec strings: what opens what, with which seeds, and what is refused."""

from __future__ import annotations

import warnings

import pytest
import torch

from photonic.backends.digital import DigitalBackend
from photonic.backends.registry import Opener, ParsedSpec, open_backend, open_chip
from photonic.backends.simulated import SimulatedChip
from photonic.errors import ClosedError, NominalCalibrationWarning, SpecError
from photonic.records import Calibration


def _factory(size: int = 4, device: int = 0) -> SimulatedChip:
    from photonic.backends.simulated import open_simulated

    return open_simulated("ideal", device=device, n_outputs=size, n_inputs=size)


OPENED: list[SimulatedChip] = []


def _remembered() -> SimulatedChip:
    OPENED.append(_factory())
    return OPENED[-1]


def _broken() -> SimulatedChip:
    raise OSError("no such instrument")


def _number() -> int:
    return 7


NOT_CALLABLE = 3


def test_digital_and_sim_open() -> None:
    """The two schemes of this version; sim is sim:typical."""
    assert isinstance(open_backend("digital"), DigitalBackend)
    assert open_chip("sim").spec.chip_id == "sim:typical?device=0"
    assert open_chip("sim:pessimistic?device=41&adc_bits=7").spec.chip_id == "sim:pessimistic?device=41&adc_bits=7"


def test_a_chip_id_opens_the_same_chip_again() -> None:
    """What records carry as the id is a spec string."""
    chip = open_chip("sim:typical?device=3&adc_bits=none&rin_db_per_hz=-130.5&shot_noise=false")
    again = open_chip(chip.spec.chip_id)
    assert again.spec == chip.spec


def test_seed_sets_the_device_unless_that_is_given() -> None:
    """In Python seed= sets both."""
    assert open_chip("sim", seed=5).spec.chip_id == "sim:typical?device=5"
    assert open_chip("sim", seed=5, device=2).spec.chip_id == "sim:typical?device=2"
    assert open_chip("sim?device=9", seed=5).spec.chip_id == "sim:typical?device=9"


def test_contradicting_seeds_raise() -> None:
    """Both given and different is an error, both given and equal is not."""
    with pytest.raises(SpecError, match="contradicts"):
        open_chip("sim?device=9", device=8)
    assert open_chip("sim?device=9", device=9).spec.chip_id == "sim:typical?device=9"


def test_a_nominal_calibration_warns_and_a_given_one_does_not() -> None:
    """The warning names the chip."""
    with pytest.warns(NominalCalibrationWarning, match=r"sim:typical\?device=0"):
        backend = open_backend("sim")
    assert backend.spec.nominal
    record = Calibration.from_spec(open_chip("sim").spec).model_copy(update={"nominal": False})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not open_backend("sim", calibration=record).spec.nominal


@pytest.mark.filterwarnings("ignore::photonic.errors.NominalCalibrationWarning")
def test_equal_specs_open_one_chip_and_backend_options_share_it() -> None:
    """A lab has one chip, however many layers name it."""
    with Opener(seed=1) as opener:
        a, b, c = opener.backend("sim"), opener.backend("sim"), opener.backend("sim?shots=4")
        assert a is b
        assert a is not c
        assert a.chip is c.chip  # type: ignore[attr-defined]
        assert c.spec.name == "sim:typical?device=1&shots=4"
        assert opener.backend("sim:typical?device=1").chip is a.chip  # type: ignore[attr-defined]
        assert opener.backend("sim?device=2").chip is not a.chip  # type: ignore[attr-defined]
    for backend in (a, c):
        with pytest.raises(ClosedError, match="closed"):
            backend.matmul(torch.ones(1, 1, 1), torch.ones(1, 1, 1))


@pytest.mark.filterwarnings("ignore::photonic.errors.NominalCalibrationWarning")
def test_a_third_party_s_factory_opens_by_name() -> None:
    """Options become keywords, and the seeds that it takes are passed."""
    chip = open_chip(f"{__name__}:_factory?size=3", seed=6)
    assert chip.spec.chip_id == "sim:ideal?device=6&n_outputs=3&n_inputs=3"
    assert open_backend(f"{__name__}:_factory").spec.chip is not None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "spec string"),
        ("nope", "unknown backend 'nope'; known are digital, paper, sim"),
        ("sim:", None),
        ("sim:nope", "presets are ideal, typical, pessimistic"),
        ("sim?", "needs a value"),
        ("sim?seed", "key=value"),
        ("sim?seed=", "needs a value"),
        ("sim?seed=1&seed=1", "twice"),
        ("sim?device=-1", "whole number"),
        ("sim?device=1.5", "whole number"),
        ("sim?adc_bit=6", "adc_bits"),
        ("sim?shots=many", "whole number"),
        ("digital?shots=2", "not a chip"),
        ("digital:fast", "no argument"),
        ("chip.toml", "cannot be read"),
        ("tcp://127.0.0.1:5555", "unknown backend"),
        ("no_such_module:factory", "No module named"),
        (f"{__name__}:missing", "missing"),
        (f"{__name__}:_factory?sice=3", "takes no option sice"),
        (f"{__name__}:_broken", "failed to open: OSError: no such instrument"),
        (f"{__name__}:_number", "found int"),
        (f"{__name__}:NOT_CALLABLE", "not a factory"),
    ],
)
@pytest.mark.filterwarnings("ignore::photonic.errors.NominalCalibrationWarning")
def test_bad_spec_strings_say_what_was_expected(spec: str, message: str | None) -> None:
    """One error class, one line."""
    if message is None:
        assert open_backend(spec).spec.name == "sim:typical?device=0"
        return
    with pytest.raises(SpecError, match=message) as caught:
        open_backend(spec)
    assert "\n" not in str(caught.value)


def test_open_chip_refuses_backends_and_their_options_by_name() -> None:
    """A chip is not a backend."""
    with pytest.raises(SpecError, match="is a backend, not a chip"):
        open_chip("digital")
    with pytest.raises(SpecError, match="shots belong to a backend"):
        open_chip("sim?shots=3")


def test_options_are_typed() -> None:
    """Numbers, booleans and none as such; anything else stays text."""
    parsed = ParsedSpec.parse("a:b?i=3&f=-1.5e-3&t=true&n=none&s=text")
    assert parsed.options == {"i": 3, "f": -1.5e-3, "t": True, "n": None, "s": "text"}


@pytest.mark.filterwarnings("ignore::photonic.errors.NominalCalibrationWarning")
def test_settings_that_would_be_dropped_are_refused() -> None:
    """A second calibration, seeds for an open chip, seeds that a factory does not take."""
    with Opener(seed=0) as opener:
        opener.backend("sim")
        measured = Calibration.from_spec(open_chip("sim").spec).model_copy(update={"nominal": False})
        with pytest.raises(SpecError, match="open with another calibration"):
            opener.backend("sim", measured)
    with pytest.raises(SpecError, match="has its seeds already"):
        open_backend(open_chip("sim"), seed=3)
    with pytest.raises(SpecError, match="takes no option seed"):
        open_backend(f"{__name__}:_factory?seed=3")


def test_a_chip_is_closed_when_its_backend_cannot_be_made() -> None:
    """Hardware must not stay connected behind an error."""
    OPENED.clear()
    with pytest.warns(NominalCalibrationWarning), pytest.raises(SpecError, match="shots must be"):
        open_backend(f"{__name__}:_remembered?shots=0")
    with pytest.raises(ClosedError):
        OPENED[0].__enter__()


@pytest.mark.parametrize("spec", ["builtins:dict", f"{__name__}:_broken"])
def test_whatever_a_third_party_raises_is_one_error(spec: str) -> None:
    """Never another class of exception from opening."""
    with pytest.raises(SpecError):
        open_backend(spec)


def test_numbers_are_not_switches() -> None:
    """true is not 1."""
    with pytest.raises(SpecError, match="dark_current_a of sim:typical is a number"):
        open_chip("sim?dark_current_a=true")
    assert not open_chip("sim?shot_noise=false").parameters.shot_noise  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::photonic.errors.NominalCalibrationWarning")
@pytest.mark.parametrize(
    "spec",
    [
        "sim",
        "sim?shots=4",
        "sim:pessimistic?device=3&resident_tiles=9&adc_bits=7",
        f"{__name__}:_factory?size=3&shots=2",
    ],
)
def test_a_backend_s_name_opens_it_again(spec: str) -> None:
    """Limits, device and options of the backend included."""
    first = open_backend(spec)
    again = open_backend(first.spec.name)
    assert again.spec == first.spec
    assert again._options == first._options  # type: ignore[attr-defined]
