"""Raw data on disk while it is written: what is left by a killed process, a power failure, a full disk, a reader."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest

from photonic.calibration import journal
from photonic.calibration.raw import Note, RawStore
from photonic.errors import CalibrationError, ClosedError, EditedRecordError
from tests.calibration.rawstores import SPEC, answer, check, filled, plan_for, same

pytestmark = pytest.mark.usefixtures("all_closed")


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


def test_disk_is_waited_for_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing is fast because 200 readings take a handful of waits, not 400."""
    waits, wait = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (waits.append(handle), wait(handle))[1])
    monkeypatch.setattr("photonic.calibration.raw._SYNC_S", 1e9)
    filled(tmp_path / "x", readings=200, planned=200).close()
    assert 2 + 2 * 3 <= len(waits) <= 2 + 2 * 4 + 1
    assert RawStore.open(tmp_path / "x").done == 200
