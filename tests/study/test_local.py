"""Processes for cells."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from photonic.study.local import KEPT_MEMORY, LocalEngine, _environment
from photonic.study.running import Setting


def test_workers_keep_their_memory_and_this_process_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("the environment of another process is read from /proc")
    for name in KEPT_MEMORY:
        monkeypatch.delenv(name, raising=False)
    wanted = {f"{name}={value}" for name, value in KEPT_MEMORY.items()}
    engine = LocalEngine(Setting(tmp_path, None, 1), jobs=1)
    worker = engine._workers[engine._start()]
    try:
        worker.connection.close()  # nothing to do: it ends when it has begun
        given = set[str]()
        while worker.process.is_alive() and not given >= wanted:  # until then it is a copy of this process
            with suppress(OSError):
                given = set(Path(f"/proc/{worker.process.pid}/environ").read_text().split("\0"))
        assert given >= wanted
        assert not KEPT_MEMORY.keys() & os.environ.keys()
    finally:
        engine._end()


def test_what_the_user_set_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    with _environment(KEPT_MEMORY):
        assert os.environ["MALLOC_TOP_PAD_"] == "1"
        assert os.environ["MALLOC_MMAP_MAX_"] == "0"
    assert os.environ["MALLOC_TOP_PAD_"] == "1"
    assert "MALLOC_MMAP_MAX_" not in os.environ
