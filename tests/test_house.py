"""The house rules that no linter knows: public names, versions, sizes, and that the README's code runs."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import photonic

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "photonic").rglob("*.py"))


def test_public_names_are_listed_once_and_exist() -> None:
    """__all__ is sorted, complete, and every name has a docstring."""
    names = photonic.__all__
    assert names == sorted(set(names))
    public = {name for name, value in vars(photonic).items() if not name.startswith("_") and not _is_module(value)}
    assert public == set(names) - {"__version__"}
    assert [name for name in names if not getattr(photonic, name).__doc__] == []


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"


def test_the_changelog_starts_with_this_version() -> None:
    """And so does pyproject."""
    top = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert top is not None
    assert top[1] == photonic.__version__


def test_importing_photonic_loads_no_extra() -> None:
    """Optional and slow packages are loaded where they are used."""
    heavy = ("torchvision", "sklearn", "matplotlib", "PIL", "zmq", "pyvisa")
    code = f"import sys, photonic; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_files_and_functions_stay_small() -> None:
    """DESIGN 4: median file at most 150 lines, none over 400; 90th percentile of functions at most 35 lines."""
    sizes = [len(path.read_text().splitlines()) for path in SOURCES if path.stat().st_size]
    assert statistics.median(sizes) <= 150
    assert max(sizes) <= 400
    functions = [
        node.end_lineno - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    ]
    assert statistics.quantiles(functions, n=10)[-1] <= 35


@pytest.mark.filterwarnings("ignore::photonic.errors.NominalCalibrationWarning")
def test_the_readme_s_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The loop that a new user copies first: it runs as printed, and the chip learns the digits."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {}
    exec(compile(blocks[0], "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    accuracy = re.search(r"accuracy on the chip: (0\.\d+)", printed)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.85
    assert "sim:typical?device=0" in printed
