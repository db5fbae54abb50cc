"""One user at a time: of a bench file, and of its instruments."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import photonic
from photonic.backends.visa.examine import examine_bench
from photonic.backends.visa.inuse import InUse
from photonic.errors import LabError
from photonic.testing.bench import VirtualBench


def test_the_instruments_of_an_open_bench_are_refused_through_another_file(tmp_path: Path) -> None:
    """A copy, and a file that an editor has written anew: either may have other limits."""
    with VirtualBench("sim:typical?n_inputs=4&n_outputs=4", physics="ideal") as served:
        path = served.write(tmp_path / "bench.toml")
        copy = Path(shutil.copy(path, tmp_path / "copy.toml"))
        with photonic.open_chip(str(path)):
            for again in (copy, served.write(path)):
                with pytest.raises(LabError, match=r"the instrument TCPIP0.*is in use"):
                    photonic.open_chip(str(again))
                with pytest.raises(LabError, match="is in use"):
                    examine_bench(again)
        photonic.open_chip(str(copy)).close()


def test_locks_are_given_back_and_a_resource_may_play_two_roles(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.touch()
    resource = f"TCPIP0::{tmp_path.name}::{tmp_path.parent.name}::SOCKET"
    first = InUse.of(path, [resource, f" {resource.lower()}"])
    with pytest.raises(LabError, match="the bench of"):
        InUse.of(path)
    first.release()
    first.release()
    InUse.of(path, [resource]).release()
