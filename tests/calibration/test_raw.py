"""Raw data on disk: what is read back, what a killed process leaves, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from photonic.calibration import journal, packing
from photonic.calibration.raw import Note, RawStore
from photonic.calibration.rawheader import default_folder, plan_sha256
from photonic.calibration.reading import Reading, Taken
from photonic.errors import CalibrationError, ClosedError, EditedRecordError, RecordVersionError, ShapeError
from photonic.records import ChipSpec, Response

M, N = 3, 4
SPEC = ChipSpec(
    chip_id="small", n_outputs=M, n_inputs=N, response=Response(counts_per_d=(512.0,)), conditions={"gain": (0.1, 2.0)}
)
FLOATS = SPEC.model_copy(update={"weight_bits": None, "input_bits": None, "adc_bits": None})


@pytest.fixture(autouse=True)
def _all_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores stay open in these tests as they would in a process that is killed; here they are let go of afterwards."""
    stores, begin = list[RawStore](), RawStore.__init__

    def noting(self: RawStore, *arguments: Any) -> None:
        begin(self, *arguments)
        stores.append(self)

    with monkeypatch.context() as patched:
        patched.setattr(RawStore, "__init__", noting)
        yield
    for store in stores:
        store.close()


def plan_for(spec: ChipSpec = SPEC, readings: int = 7, shots: int = 5) -> list[Reading]:
    generator = torch.Generator().manual_seed(3)

    def codes(*shape: int) -> torch.Tensor:
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64) * 127
        return drawn if spec.weight_bits is None else drawn.round().to(spec.code_dtype)

    return [
        Reading(("matrix", "noise")[k % 2], -codes(spec.drives), codes(shots, spec.n_inputs), {"gain": 0.1}, k // 4)
        for k in range(readings)
    ]


def answer(reading: Reading, index: int, spec: ChipSpec = SPEC) -> Taken:
    noise = torch.Generator().manual_seed(index)
    counts = 40 * torch.randn(len(reading.inputs), spec.n_outputs, generator=noise, dtype=torch.float64)
    counts = counts.round().clamp(-128, 127).to(spec.count_dtype) if spec.adc_bits else counts
    return Taken(reading, counts, index / 3, {"kelvin": 0.1 * index}, 1.7e9 + index, 0.01)


def filled(folder: Path, readings: int = 7, planned: int = 7, spec: ChipSpec = SPEC) -> RawStore:
    plan = plan_for(spec, planned)
    store = RawStore.create(folder, spec, plan, seed=1, budget=100)
    for index, reading in enumerate(plan[:readings]):
        store.append(answer(reading, index, spec), Note("", {"calls": index}))
    return store


def same(a: Taken, b: Taken) -> bool:
    pairs = [(a.counts, b.counts), (a.reading.weights, b.reading.weights), (a.reading.inputs, b.reading.inputs)]
    equal = all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)
    asked = [(t.reading.purpose, dict(t.reading.conditions), t.reading.block) for t in (a, b)]
    told = [(t.clock_s, dict(t.telemetry), t.utc, t.seconds) for t in (a, b)]
    return equal and asked[0] == asked[1] and told[0] == told[1]


def check(folder: Path, readings: int, spec: ChipSpec = SPEC) -> None:
    store = RawStore.open(folder)
    assert store.done == readings
    found, plan = store.taken(), plan_for(spec)
    assert all(same(found[k], answer(plan[k], k, spec)) for k in range(readings))


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


def test_killed_at_any_byte_of_a_write(tmp_path: Path) -> None:
    """SIGKILL leaves a prefix of the bytes, the blob before its line: whole readings are kept, the rest is redone."""
    live = filled(tmp_path / "live")  # not closed: nothing is synced
    sizes = [0]
    text = (tmp_path / "live" / journal.JOURNAL).read_bytes()
    for line in text.splitlines(keepends=True):
        sizes.append(sizes[-1] + len(line))
    before = sum(json.loads(line)["bytes"] for line in text.splitlines()[:4])
    data = (tmp_path / "live" / journal.DATA).read_bytes()
    # within the fifth reading: the blob in parts, then the line in parts
    cuts = [(sizes[4], at) for at in range(before, before + 300, 37)]
    cuts += [(at, len(data)) for at in range(sizes[4], sizes[5] + 1, 7)] + [(sizes[5], len(data))]
    for number, (line_cut, data_cut) in enumerate(cuts):
        folder = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "live", folder)
        os.truncate(folder / journal.JOURNAL, line_cut)
        os.truncate(folder / journal.DATA, data_cut)
        kept = 5 if line_cut == sizes[5] else 4
        check(folder, kept)
        with RawStore.open(folder) as store:
            for index in range(kept, 7):
                store.append(answer(plan_for()[index], index), Note("", {"calls": index}))
            assert store.sha256 == live.sha256
        assert (folder / journal.DATA).read_bytes() == data
        check(folder, 7)


def test_power_failure_loses_only_what_was_not_synced(tmp_path: Path) -> None:
    """Behind the last sync any part of the data may be missing or zero; the readings before it are kept."""
    store = filled(tmp_path / "x", readings=3)
    store.flush()
    for index in (3, 4, 5):
        store.append(answer(plan_for()[index], index))
    data = tmp_path / "x" / journal.DATA
    size = data.stat().st_size
    start = sum(json.loads(t)["bytes"] for t in (tmp_path / "x" / journal.JOURNAL).read_text().splitlines()[:3])
    with data.open("r+b") as file:
        file.seek(start + 20)
        file.write(bytes(size - start - 20))
    check(tmp_path / "x", 3)
    store.close()
    text = (tmp_path / "x" / journal.JOURNAL).read_bytes()
    (tmp_path / "x" / journal.JOURNAL).write_bytes(text[: text.rindex(b'{"synced"')])  # it never came to that
    with RawStore.open(tmp_path / "x") as again:
        again.append(answer(plan_for()[3], 3))
    assert data.stat().st_size < size  # nothing of the lost ones stays behind the new one
    assert (tmp_path / "x" / journal.JOURNAL).read_bytes().endswith(b'\n{"synced":4}\n')
    check(tmp_path / "x", 4)
    os.truncate(data, start - 1)  # a byte of what was synced
    with pytest.raises(EditedRecordError, match="reading 2"):
        RawStore.open(tmp_path / "x")


@pytest.mark.parametrize("synced", [(), (2,), (5,), (2, 5), (3, 7)])
@pytest.mark.parametrize("count", [1, 3, 5, 6])
def test_readings_at_the_end_can_be_dropped(tmp_path: Path, count: int, synced: tuple[int, ...]) -> None:
    """Wherever the marks stand: at once, opened again, and gone on with, the first ones are what they were."""
    plan = plan_for()
    with RawStore.create(tmp_path / "x", SPEC, plan, seed=3, budget=100) as store:
        for index, reading in enumerate(plan):
            store.append(answer(reading, index))
            if index + 1 in synced:
                store.flush()
        store.drop_after(count)
        store.drop_after(count + 1)  # nothing more
        check(tmp_path / "x", count)
    check(tmp_path / "x", count)
    with RawStore.open(tmp_path / "x") as store:
        for index, reading in enumerate(plan[count:], count):
            assert same(store.reading(index - 1), answer(plan[index - 1], index - 1))
            store.append(answer(reading, index))
    check(tmp_path / "x", 7)
    with pytest.raises(ClosedError):
        store.drop_after(1)


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


def test_one_process_writes_and_others_may_read(tmp_path: Path) -> None:
    """A reader changes nothing under the writer's hands, sees whole readings, and may not write."""
    writer = filled(tmp_path / "x", readings=4)
    path = tmp_path / "x" / journal.JOURNAL
    with path.open("ab") as file:
        file.write(b'{"half a li')
    text = path.read_bytes()
    check(tmp_path / "x", 4)
    with RawStore.open(tmp_path / "x") as reader:
        reader.flush()
        assert path.read_bytes() == text
        with pytest.raises(CalibrationError, match="another process"):
            reader.append(answer(plan_for()[4], 4))
    assert path.read_bytes() == text
    late = RawStore.open(tmp_path / "x")
    writer.append(answer(plan_for()[4], 4))
    writer.close()
    with pytest.raises(CalibrationError, match="another process"):
        late.append(answer(plan_for()[4], 4))
    check(tmp_path / "x", 5)


@pytest.mark.parametrize("failing", [0, 1], ids=["data", "journal"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_write_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    """A full disk or Ctrl-C in the middle of a reading; then the same reading again."""
    store = filled(tmp_path / "x", readings=3)
    put, calls = journal._put, [0]

    def half(file: io.FileIO, at: int, data: bytes) -> None:
        calls[0] += 1
        assert Path(file.name).name == (journal.DATA, journal.JOURNAL)[calls[0] - 1]  # never a line without its data
        if calls[0] == failing + 1:
            put(file, at, data[: len(data) // 2])
            raise error
        put(file, at, data)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_put", half)
        with pytest.raises((CalibrationError, KeyboardInterrupt)) as caught:
            store.append(answer(plan_for()[3], 3))
    if isinstance(error, OSError):
        assert caught.match("No space left.*first 3 readings")
    check(tmp_path / "x", 3)
    assert store.done == 3
    for index in range(3, 7):
        store.append(answer(plan_for()[index], index))
    store.close()
    check(tmp_path / "x", 7)


def test_first_error_comes_out_of_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is not replaced by the full disk that follows; the note says so."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    store = filled(tmp_path / "x", readings=2)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyboardInterrupt) as caught, store:
        raise KeyboardInterrupt
    assert "No space left" in caught.value.__notes__[0]
    with pytest.raises(CalibrationError, match="No space left"), filled_again(tmp_path / "x"):
        pass


def filled_again(folder: Path) -> RawStore:
    store = RawStore.open(folder)
    store.append(answer(plan_for()[2], 2))
    return store


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


def test_disk_is_waited_for_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing is fast because 200 readings take a handful of waits, not 400."""
    waits, wait = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (waits.append(handle), wait(handle))[1])
    monkeypatch.setattr("photonic.calibration.raw._SYNC_S", 1e9)
    filled(tmp_path / "x", readings=200, planned=200).close()
    assert 2 + 2 * 3 <= len(waits) <= 2 + 2 * 4 + 1
    assert RawStore.open(tmp_path / "x").done == 200


def test_raw_data_lies_beside_the_record() -> None:
    assert default_folder("lab/chip7.json") == Path("lab/chip7.raw")
