"""Records as files, and who may use them."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photonic
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.fromrecord import accepted
from photonic.backends.registry import Opener
from photonic.errors import (
    ArraysError,
    CalibrationError,
    EditedRecordError,
    ExpiredCalibrationError,
    FailedCalibrationError,
    NominalCalibrationWarning,
    RecordError,
    RecordVersionError,
    SpecError,
    WrongChipError,
)
from photonic.records import Calibration, Check, DriftModel, Parameter, Provenance, Verdict, Verification
from tests.calibration.synthetic import LONG_AGO, calibration_of, spec_of

NOW = datetime.now(UTC)


def _verified(verdict: Verdict) -> Verification:
    check = Check(
        name="mean", cause="gain", verdict=verdict, value=0.1, low=0.05, high=0.15, margin_low=-0.25, margin_high=0.25
    )
    return Verification(verdict=verdict, checks=(check,), causes=("gain",) if verdict == "fail" else (), shots=1000)


def _full() -> Calibration:
    """A record with every part in use."""
    return calibration_of(
        inl=True,
        parameters=(Parameter(name="gain", unit="counts", value=512.0, standard_error=0.1 + 0.2, low=510, high=514),),
        goodness={"response": "chi-square 1.02"},
        drift=DriftModel(kind="ar1", sigma=1e-3, time_s=60.0),
        verification=_verified("pass"),
        provenance=Provenance(
            started=NOW, ended=NOW, code_version="0.0.0", raw_sha256="0" * 64, budget=1000, shots=900, seconds=1e-3
        ),
        valid_until=NOW + timedelta(days=1),
        model={"neighbours": "four", "share": 1 / 3},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A saved record."""
    path = tmp_path / "chip7.json"
    _full().save(path)
    return path


# ---------------------------------------------------------------- the file


def test_a_record_comes_back_as_it_was_saved(file: Path) -> None:
    """Every field and every array, bit by bit; the text is for people too."""
    found = Calibration.load(file)
    assert found == _full()
    assert found.arrays["element"].dtype == np.float64
    assert not found.arrays["element"].flags.writeable
    assert found.arrays_sha256 == hashlib.sha256(file.with_suffix(".npz").read_bytes()).hexdigest()
    assert len(file.read_text().splitlines()) > 100
    again = file.with_name("again.json")
    found.save(again)
    assert again.read_bytes() == file.read_bytes()
    assert sorted(path.name for path in file.parent.iterdir()) == ["again.json", "again.npz", "chip7.json", "chip7.npz"]


def test_errors_that_are_not_known_come_back(tmp_path: Path) -> None:
    """Standard errors of what was not identified are NaN; a nominal record has no arrays at all."""
    record = calibration_of()
    record = record.replaced(arrays={**record.arrays, "power_se": np.full(16, np.nan)})
    record.save(tmp_path / "a.json")
    assert Calibration.load(tmp_path / "a.json") == record
    nominal = Calibration.from_spec(spec_of())
    nominal.save(tmp_path / "b.json")
    assert Calibration.load(tmp_path / "b.json") == nominal
    assert not (tmp_path / "b.npz").exists()


def _leaves(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every value of JSON."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*way, key))]
    if isinstance(value, list):
        return [leaf for key, item in enumerate(value) for leaf in _leaves(item, (*way, key))]
    return [way]


def test_every_edit_by_hand_is_refused(file: Path) -> None:
    """Any value of the file, changed a little, taken out, or added."""
    text = file.read_text()
    leaves = _leaves(json.loads(text))
    assert len(leaves) > 100
    for *way, last in leaves:
        content = json.loads(text)
        place = content
        for key in way:
            place = place[key]
        old = place[last]
        place[last] = old + 1 if isinstance(old, int | float) and not isinstance(old, bool) else f"{old}x"
        file.write_text(json.dumps(content))
        with pytest.raises((EditedRecordError, RecordVersionError)):
            Calibration.load(file)
    for change in ({"sha256": None}, {"note": "mine"}):
        file.write_text(json.dumps({**json.loads(text), **change}))
        with pytest.raises(EditedRecordError, match="was changed after it was saved"):
            Calibration.load(file)
    # layout and order of keys are nobody's edit
    file.write_text(json.dumps(dict(reversed(json.loads(text).items()))))
    assert Calibration.load(file) == _full()


def _forge(file: Path, **changes: Any) -> None:
    """What somebody writes who knows the hash."""
    content = {**json.loads(file.read_text()), **changes}
    content.pop("sha256")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    file.write_text(json.dumps({**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}))


def test_another_schema_version_says_so(file: Path) -> None:
    """Whatever its hash; and not as an unknown key."""
    for version in (2, 0, "1"):
        _forge(file, schema_version=version)
        with pytest.raises(RecordVersionError, match=rf"schema version {version!r}, this photonic reads version 1"):
            Calibration.load(file)


def test_unknown_keys_are_refused(file: Path) -> None:
    """Also with a hash that fits."""
    _forge(file, colour="blue")
    with pytest.raises(RecordError, match="colour"):
        Calibration.load(file)


def test_arrays_are_the_ones_that_were_saved(file: Path) -> None:
    """Missing, cut, of another record, or pickled."""
    beside = file.with_suffix(".npz")
    whole = beside.read_bytes()
    beside.unlink()
    with pytest.raises(ArraysError, match=r"needs its arrays in .*chip7.npz"):
        Calibration.load(file)
    changed = dict(np.load(_written(beside, whole)))
    changed["power"] = changed["power"] * 1.001
    np.savez(beside, **changed)
    with pytest.raises(ArraysError, match="does not belong to"):
        Calibration.load(file)
    for data in (whole[:-100], b""):
        _forge(file, arrays_sha256=hashlib.sha256(_written(beside, data).read_bytes()).hexdigest())
        with pytest.raises(ArraysError, match="holds no plain arrays"):
            Calibration.load(file)
    np.savez(beside, power=np.ones(16, dtype=np.float32))
    _forge(file, arrays_sha256=hashlib.sha256(beside.read_bytes()).hexdigest())
    with pytest.raises(ArraysError, match="found others: power"):
        Calibration.load(file)
    np.savez(beside, power=np.array([{}], dtype=object))
    _forge(file, arrays_sha256=hashlib.sha256(beside.read_bytes()).hexdigest())
    with pytest.raises(ArraysError, match="holds no plain arrays"):
        Calibration.load(file)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"schema_version": NaN}', "\x00"])
def test_other_files_are_no_records(text: str, tmp_path: Path) -> None:
    """With the file's name."""
    (tmp_path / "chip7.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"chip7\.json is not a calibration"):
        Calibration.load(tmp_path / "chip7.json")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Neither the record nor its folder; nor a name that is none."""
    with pytest.raises(CalibrationError, match="cannot be read"):
        Calibration.load(tmp_path / "chip7.json")
    with pytest.raises(CalibrationError, match="cannot be written"):
        _full().save(tmp_path / "nowhere" / "chip7.json")
    for call in (Calibration.load, _full().save):
        with pytest.raises(CalibrationError, match=r"a file NAME\.json"):
            call(tmp_path / "chip7.npz")


def test_only_float64_is_saved(tmp_path: Path) -> None:
    """Objects would be pickled."""
    record = calibration_of()
    for array in (np.ones(3, dtype=np.float32), np.array([{}], dtype=object)):
        with pytest.raises(ArraysError, match="array x must be float64"):
            record.replaced(arrays={**record.arrays, "x": array}).save(tmp_path / "chip7.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_failed_write_leaves_the_old_record(file: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, at either of the two files: nothing has changed, and nothing is left behind."""
    synced, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > fails_at:
            raise OSError(28, "No space left on device")
        synced(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CalibrationError, match="No space left"):
        calibration_of().save(file)
    monkeypatch.undo()
    assert Calibration.load(file) == _full()
    assert sorted(path.name for path in file.parent.iterdir()) == ["chip7.json", "chip7.npz"]


# ---------------------------------------------------------------- who may use it


def _saved(tmp_path: Path, **fields: Any) -> Path:
    path = tmp_path / "chip7.json"
    calibration_of(**fields).save(path)
    return path


@pytest.mark.parametrize(("verdict", "override"), [("fail", "failed"), ("not distinguishable", "undecided")])
def test_a_record_that_did_not_pass_is_refused_unless_by_name(verdict: Verdict, override: str, tmp_path: Path) -> None:
    """Everywhere, with the verdict; and the record says that it was allowed."""
    path = _saved(tmp_path, verification=_verified(verdict))
    for spec in (f"sim:{path}", f"twin:{path}"):
        with pytest.raises(FailedCalibrationError, match=f"expected the verdict 'pass', found '{verdict}'"):
            photonic.open_backend(spec)
        with pytest.raises(FailedCalibrationError):
            photonic.open_backend(spec, allow_expired=True)
        photonic.open_backend(spec, allow_failed=True).close()
    with pytest.raises(FailedCalibrationError):
        photonic.twin(Calibration.load(path))
    backend = photonic.open_backend(f"sim:{path}", allow_failed=True)
    assert isinstance(backend, CalibratedBackend)
    assert backend.calibration.overrides == (override,)
    # its name opens it again, and says so
    assert backend.spec.name == f"sim:{path}?allow_failed=true"
    photonic.open_backend(backend.spec.name).close()


def test_a_record_that_has_expired_is_refused_unless_by_name(tmp_path: Path) -> None:
    """With both times."""
    path = _saved(tmp_path, valid_until=LONG_AGO, verification=_verified("fail"))
    with pytest.raises(ExpiredCalibrationError, match=r"valid until 2020-01-01T00:00:00\+00:00, it is 20"):
        photonic.open_backend(f"sim:{path}", allow_failed=True)
    backend = photonic.open_backend(f"sim:{path}", allow_failed=True, allow_expired=True)
    assert isinstance(backend, CalibratedBackend)
    assert backend.calibration.overrides == ("failed", "expired")
    until = datetime(2030, 1, 1, tzinfo=UTC)
    record = calibration_of(valid_until=until, verification=_verified("pass"))
    assert accepted(record, now=until) is record
    with pytest.raises(ExpiredCalibrationError):
        accepted(record, now=until + timedelta(microseconds=1))


def test_a_given_record_must_be_of_the_chip_and_may_be_a_file(tmp_path: Path) -> None:
    """The same refusals for a record that is given beside the chip."""
    chip = photonic.open_chip("sim:typical?n_outputs=16&n_inputs=16")
    path = tmp_path / "chip7.json"
    calibration_of().save(path)
    with pytest.raises(WrongChipError, match=r"belongs to lab:chip7, the chip is sim:typical"):
        photonic.open_backend(chip, calibration=path)
    calibration_of().replaced(chip_id=chip.spec.chip_id, verification=_verified("fail")).save(path)
    with pytest.raises(FailedCalibrationError):
        photonic.open_backend(chip, calibration=str(path))
    with Opener() as opener:
        backend = opener.backend(chip.spec.chip_id, path, allow_failed=True)
        assert isinstance(backend, CalibratedBackend)
        assert backend.calibration.overrides == ("failed",)
        assert not backend.spec.nominal


def test_a_chip_from_a_record_brings_it_along(tmp_path: Path) -> None:
    """No warning, no other record, and one chip however it is asked for."""
    path = _saved(tmp_path)
    spec = f"sim:{path}"
    with warnings.catch_warnings():
        warnings.simplefilter("error", NominalCalibrationWarning)
        with Opener(seed=3, device=9) as opener:
            first, second = opener.backend(spec), opener.backend(f"{spec}?shots=4")
            assert isinstance(first, CalibratedBackend)
            assert isinstance(second, CalibratedBackend)
            assert first.chip is second.chip
            assert not first.spec.nominal
            assert first.calibration == Calibration.load(path).replaced(chip_id=spec)
            assert second.spec.name == f"{spec}?shots=4"
            assert opener.backend(spec, path) is first
            other = calibration_of(valid_until=NOW + timedelta(days=1))
            with pytest.raises(CalibrationError, match="made from a record of its own"):
                opener.backend(spec, other)
        photonic.open_backend(photonic.twin(path)).close()
    chip = photonic.open_chip(spec, seed=3)
    assert chip.spec.chip_id == spec
    assert photonic.open_chip(chip.spec.chip_id).spec == chip.spec
    assert photonic.twin(path).spec.chip_id == "twin of lab:chip7"


@pytest.mark.parametrize("query", ["device=1", "adc_bits=6", "allow_failed=1", "resident_tiles=2", "allow=true"])
@pytest.mark.parametrize("scheme", ["sim", "twin"])
def test_a_record_takes_no_other_options(scheme: str, query: str, tmp_path: Path) -> None:
    """The chip is what was measured; only the noise has a seed."""
    path = _saved(tmp_path)
    photonic.open_backend(f"{scheme}:{path}?seed=4&shots=2").close()
    with pytest.raises(SpecError, match=query.partition("=")[0]):
        photonic.open_backend(f"{scheme}:{path}?{query}")


def test_the_name_of_a_fast_twin_opens_it_again(tmp_path: Path) -> None:
    """With the options of the backend."""
    path = _saved(tmp_path, verification=_verified("fail"))
    backend = photonic.open_backend(f"twin:{path}?shots=4&sign=offset", allow_failed=True)
    assert backend.spec.name == f"twin:{path}?allow_failed=true&sign=offset&shots=4"
    assert photonic.open_backend(backend.spec.name).spec == backend.spec
