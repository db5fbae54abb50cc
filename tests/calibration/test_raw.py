"""Raw data on disk: what is read back, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from photonic.calibration import journal, packing
from photonic.calibration.raw import Note, RawStore
from photonic.calibration.rawheader import default_folder, plan_sha256
from photonic.errors import CalibrationError, ClosedError, EditedRecordError, RecordVersionError, ShapeError
from photonic.records import ChipSpec
from tests.calibration.rawstores import FLOATS, SPEC, answer, check, filled, plan_for

pytestmark = pytest.mark.usefixtures("all_closed")


@pytest.mark.parametrize("spec", [SPEC, FLOATS], ids=["bits", "floats"])
def test_everything_comes_back(tmp_path: Path, spec: ChipSpec) -> None:
    """Codes, counts, conditions, times, notes and the spec itself, bit for bit, without the plan."""
    with filled(tmp_path / "x.raw", spec=spec) as store:
        sha, done = store.sha256, store.done
    assert done == 7
    check(tmp_path / "x.raw", 7, spec)
    again = RawStore.open(tmp_path / "x.raw")
    assert again.spec == spec
    assert (again.header.seed, again.header.budget, again.header.readings, again.header.shots) == (1, 100, 7, 35)
    assert again.sha256 == sha
    assert again.started == store.started
    assert again.notes == [Note("", {"calls": k}) for k in range(7)]
    assert again.last_times == (2.0, 1.7e9 + 6)
    assert again.taken()[0].reading.inputs.is_contiguous()


def test_hash_says_what_was_measured(tmp_path: Path) -> None:
    """One count or one time more or less is another hash; so is one reading less."""
    plan = plan_for()
    hashes = set()
    for number, change in enumerate((None, "counts", "clock", "fewer")):
        store = RawStore.create(tmp_path / f"{number}", SPEC, plan, seed=1, budget=100)
        store.header = store.header.model_copy(update={"started": store.started})
        for index, reading in enumerate(plan[: 6 if change == "fewer" else 7]):
            taken = answer(reading, index)
            if index == 2 and change == "counts":
                taken.counts[1, 1] += 1
            if index == 2 and change == "clock":
                taken = replace(taken, clock_s=taken.clock_s + 1e-9)
            store.append(taken)
        hashes.add(store.sha256)
        store.close()
        assert RawStore.open(tmp_path / f"{number}").sha256 == store.sha256
    assert len(hashes) == 4


def test_equal_rows_are_stored_once_and_narrow(tmp_path: Path) -> None:
    """Repeated vectors cost nothing, 8-bit codes 8 bits, and a byte less where they compress."""
    inputs = torch.arange(64, dtype=torch.int16).expand(4096, 64).contiguous()
    assert len(packing.pack({"inputs": inputs})) < 400
    noisy = torch.randint(-128, 128, (512, 64), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    assert len(packing.pack({"counts": noisy})) < 1.02 * noisy.numel()
    for codes in (noisy, noisy - 60, noisy + 128, noisy * 100, inputs, noisy[:0]):
        form = tuple(codes.shape), codes.dtype
        assert torch.equal(packing.unpack(packing.pack({"a": codes}), {"a": form})["a"], codes)


def test_a_monitor_that_showed_nothing(tmp_path: Path) -> None:
    store = RawStore.create(tmp_path / "x", SPEC, plan_for(), seed=None, budget=9)
    store.append(replace(answer(plan_for()[0], 0), telemetry={"kelvin": math.nan, "tap": 0.5}))
    store.close()
    telemetry = RawStore.open(tmp_path / "x").taken()[0].telemetry
    assert math.isnan(telemetry["kelvin"])
    assert telemetry["tap"] == 0.5


def test_any_edit_of_a_closed_store_is_refused(tmp_path: Path) -> None:
    """One flipped bit anywhere in the data, or in the line of any reading."""
    filled(tmp_path / "x").close()
    for name in (journal.DATA, journal.JOURNAL):
        path = tmp_path / "x" / name
        whole = path.read_bytes()
        end = len(whole) if name == journal.DATA else whole.index(b'{"synced"')
        for at in range(0, end, 41):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            with pytest.raises(EditedRecordError):
                RawStore.open(tmp_path / "x")
        path.write_bytes(whole)
    check(tmp_path / "x", 7)


def _without_a_line(lines: list[str]) -> list[str]:
    return lines[:2] + lines[3:]


def _exchanged(lines: list[str]) -> list[str]:
    return [lines[1], lines[0], *lines[2:]]


def _another_time(lines: list[str]) -> list[str]:
    line = json.loads(lines[3])
    return [*lines[:3], json.dumps({**line, "clock_s": line["clock_s"] + 1e-3}), *lines[4:]]


def _no_json(lines: list[str]) -> list[str]:
    return [*lines[:3], '{"clock_s": NaN}', *lines[4:]]


@pytest.mark.parametrize("edit", [_without_a_line, _exchanged, _another_time, _no_json])
def test_an_edited_journal_is_refused(tmp_path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    filled(tmp_path / "x").close()
    path = tmp_path / "x" / journal.JOURNAL
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    with pytest.raises(EditedRecordError, match="sha256"):
        RawStore.open(tmp_path / "x")


def test_data_edited_after_it_was_opened(tmp_path: Path) -> None:
    filled(tmp_path / "x").close()
    store = RawStore.open(tmp_path / "x")
    os.truncate(tmp_path / "x" / journal.DATA, 1000)
    with pytest.raises(EditedRecordError):
        store.taken()


def test_headers_are_checked(tmp_path: Path) -> None:
    """Edited, damaged, of another version, of fields that are not known, or not there."""
    filled(tmp_path / "x").close()
    path = tmp_path / "x" / "plan.json"
    content = json.loads(path.read_text())
    for text, error, match in (
        (json.dumps({**content, "seed": 2}), EditedRecordError, r"plan\.json was changed"),
        (path.read_text()[:-20], EditedRecordError, "is damaged"),
        (json.dumps({**content, "schema_version": 2}), RecordVersionError, "version 2"),
        (json.dumps([1]), RecordVersionError, "version None"),
        (json.dumps({**content, "seed": math.nan}), EditedRecordError, "NaN"),
        (_signed({**content, "colour": "red"}), RecordVersionError, "does not fit this one.*colour"),
    ):
        path.write_text(text)
        with pytest.raises(error, match=match):
            RawStore.open(tmp_path / "x")
    path.unlink()
    with pytest.raises(CalibrationError, match=r"plan\.json"):
        RawStore.open(tmp_path / "x")
    with pytest.raises(CalibrationError, match="holds no raw data"):
        RawStore.open(tmp_path / "nowhere")


def _signed(content: dict[str, Any]) -> str:
    """As another version of photonic would have saved it."""
    del content["sha256"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def test_header_of_another_sweep_is_refused(tmp_path: Path) -> None:
    """The first line builds on the header, so a folder cannot be put together from two."""
    filled(tmp_path / "x").close()
    filled(tmp_path / "y").close()
    shutil.copy(tmp_path / "y" / "plan.json", tmp_path / "x" / "plan.json")
    with pytest.raises(EditedRecordError, match="reading 0"):
        RawStore.open(tmp_path / "x")


@pytest.mark.parametrize("name", [journal.JOURNAL, journal.DATA])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    filled(tmp_path / "x").close()
    (tmp_path / "x" / name).unlink()
    with pytest.raises(CalibrationError, match=name):
        RawStore.open(tmp_path / "x")


def test_full_folder_is_never_written_over(tmp_path: Path) -> None:
    """Nor one with a stranger's file; what a process leaves that was killed in ``create`` is no obstacle."""
    filled(tmp_path / "x").close()
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.tex").touch()
    for folder in ("x", "strange"):
        with pytest.raises(CalibrationError, match="not empty"):
            RawStore.create(tmp_path / folder, SPEC, plan_for(), seed=1, budget=100)
    (tmp_path / "killed").mkdir()
    for name in (journal.JOURNAL, journal.DATA, ".plan.json.tmp"):
        (tmp_path / "killed" / name).touch()
    filled(tmp_path / "killed").close()
    check(tmp_path / "killed", 7)


def test_what_does_not_fit_is_not_kept(tmp_path: Path) -> None:
    store = filled(tmp_path / "x", readings=2)
    good = answer(plan_for()[2], 2)
    for wrong in (
        replace(good, counts=good.counts[:, :2]),
        replace(good, counts=good.counts[:3]),
        replace(good, counts=good.counts.double()),
        replace(good, reading=replace(good.reading, weights=good.reading.weights[:-1])),
        replace(good, reading=replace(good.reading, inputs=good.reading.inputs.float())),
    ):
        with pytest.raises(ShapeError, match="reading 2"):
            store.append(wrong)
    with pytest.raises(CalibrationError, match="backwards"):
        store.append(replace(good, clock_s=0.1))
    with pytest.raises(CalibrationError, match="times in seconds"):
        store.append(replace(good, clock_s=math.nan))
    check(tmp_path / "x", 2)
    for index in range(2, 7):
        store.append(answer(plan_for()[index], index))
    with pytest.raises(CalibrationError, match="all 7 readings"):
        store.append(answer(plan_for()[6], 7))
    store.close()
    store.close()
    with pytest.raises(ClosedError):
        store.append(good)


SPRUNG: list[bool] = []


class Trap:
    """Says so where it is unpickled."""

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> None:
    SPRUNG.append(True)


def test_pickles_are_never_opened() -> None:
    """An array of objects, and something that is no archive at all."""
    buffer = io.BytesIO()
    np.savez(buffer, counts=np.array([Trap()], dtype=object))
    form = {"counts": ((1,), torch.int16)}
    for data in (buffer.getvalue(), b"\x80\x04K\x01.", b"PK\x03\x04", b""):
        with pytest.raises(CalibrationError, match="expected the arrays"):
            packing.unpack(data, form)
    assert not SPRUNG
    packed = packing.pack({"counts": torch.zeros(2, 3, dtype=torch.int16)})
    for wanted in (((2, 4), torch.int16), ((2, 3), torch.float64)):
        with pytest.raises(CalibrationError, match="expected counts"):
            packing.unpack(packed, {"counts": wanted})
    with pytest.raises(CalibrationError, match=r"expected the arrays \['x'\]"):
        packing.unpack(packed, {"x": ((2, 3), torch.int16)})


def test_plans_are_told_apart(tmp_path: Path) -> None:
    """By one code, a condition, a purpose, a block or the order."""
    plan = plan_for()
    store = RawStore.create(tmp_path / "x", SPEC, plan, seed=1, budget=100)
    store.check_plan(plan_for())
    codes = plan[2].inputs.clone()
    codes[0, 0] += 1
    for other in (
        [*plan[:2], replace(plan[2], inputs=codes), *plan[3:]],
        [*plan[:2], replace(plan[2], conditions={"gain": 2.0}), *plan[3:]],
        [*plan[:2], replace(plan[2], purpose="dark"), *plan[3:]],
        [*plan[:2], replace(plan[2], block=5), *plan[3:]],
        [plan[1], plan[0], *plan[2:]],
        plan[:-1],
    ):
        assert plan_sha256(other) != plan_sha256(plan)
        with pytest.raises(CalibrationError, match=r"another plan.*seed 1 and budget 100"):
            store.check_plan(other)


def test_raw_data_lies_beside_the_record() -> None:
    assert default_folder("lab/chip7.json") == Path("lab/chip7.raw")
