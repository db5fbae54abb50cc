"""A grid: the cells of a study, as a TOML file.

    name = "mine"
    title = "What the page is called"

    [base]                          # shared by all blocks
    data = "digits"
    epochs = 12
    seed = [0, 1, 2]                # a list is an axis

    [[grid]]
    activation = ["relu", "gelu"]
    bits_study = [2, 6]             # p = 2^b; or bits_library (2^b - 1), bits_signed (2^(b-1) - 1), or precision
    ep = [0.0, 0.5]
    exclude = [{ activation = "relu", ep = 0.5 }]

A block is the product of its lists; the file's cells are those of all its blocks, each once.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from photonic.errors import RecordError, SpecError
from photonic.physics.codes import CONVENTIONS, precision_of
from photonic.records import Record
from photonic.study.cell import FIELDS, Cell

GRIDS = "photonic.study.grids"
# how a file may give the precision by bits: each convention by its name
BITS = {f"bits_{convention}": convention for convention in CONVENTIONS}
SPELT = ("precision", *BITS)
LIST_FIELDS = ("classes", "pretrain_classes")


class Grid(Record):
    """A file's content, checked."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    title: str = Field(min_length=1)
    about: str = Field(default="", description="what the grid is for, in words")
    reference: str = Field(default="relu", description="activation that the others are compared to, seed by seed")
    base: dict[str, Any] = Field(default_factory=dict)
    grid: tuple[dict[str, Any], ...] = Field(min_length=1)

    def cells(self) -> tuple[Cell, ...]:
        """All cells, each once, in the order of the file; later axes turn faster.

        Raises:
            SpecError: an unknown key, an axis without values, or a cell that cannot be; it says which.
        """
        cells: dict[str, Cell] = {}
        for number, block in enumerate(self.grid, 1):
            where = f"grid {self.name}, [[grid]] number {number}"
            for cell in _block(where, _merged(where, self.base, block)):
                cells.setdefault(cell.hash, cell)
        return tuple(cells.values())


def load_grid(source: str) -> Grid:
    """Loads a grid by the name of a shipped one, or from a file.

    Raises:
        SpecError: no such grid or file, no TOML, unknown keys.
    """
    if source.endswith(".toml"):
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{source} cannot be read: {error}") from error
    elif source in shipped():
        text = resources.files(GRIDS).joinpath(f"{source}.toml").read_text(encoding="utf-8")
    else:
        raise SpecError(f"no grid {source!r}: shipped are {', '.join(shipped())}; or give a file NAME.toml")
    return parse_grid(text, source)


def parse_grid(text: str, source: str) -> Grid:
    """Reads a grid from TOML; ``source`` is for messages.

    Raises:
        SpecError: no TOML, or unknown keys.
    """
    try:
        return Grid(**tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecordError) as error:
        raise SpecError(f"{source}: {error}") from error


def shipped() -> tuple[str, ...]:
    """Names of the grids that come with the package."""
    files = (file.name for file in resources.files(GRIDS).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def _merged(where: str, base: Mapping[str, Any], block: Mapping[str, Any]) -> dict[str, Any]:
    """A block over the file's base; its precision, in whatever convention, replaces that of the base."""
    _check_keys(f"{where}, over [base]", base, set())
    _check_keys(where, block, {"exclude"})
    kept = {key: value for key, value in base.items() if not (key in SPELT and set(SPELT) & set(block))}
    return kept | dict(block)


def _check_keys(where: str, given: Mapping[str, Any], more: set[str]) -> None:
    known = {*FIELDS, *BITS, *more}
    unknown = sorted(set(given) - known)
    if unknown:
        raise SpecError(f"{where}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if len(set(SPELT) & set(given)) > 1:
        raise SpecError(f"{where}: give one of {', '.join(SPELT)}")


def _block(where: str, block: dict[str, Any]) -> Iterator[Cell]:
    """The product of a block's axes, without what it excludes."""
    excludes = block.pop("exclude", [])
    if not isinstance(excludes, list) or not all(isinstance(each, dict) for each in excludes):
        raise SpecError(f"{where}: exclude is a list of tables such as {{ activation = 'relu' }}, found {excludes!r}")
    axes = {key: _values(where, key, value) for key, value in block.items()}
    if not axes:
        raise SpecError(f"{where} has no axes: give at least one key")
    for each in excludes:
        stray = sorted(set(each) - set(axes))
        if stray:
            raise SpecError(f"{where}: exclude names {', '.join(stray)}, which this block does not set")
    used = [False] * len(excludes)
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        hits = [_matches(each, chosen) for each in excludes]
        used = [a or b for a, b in zip(used, hits, strict=True)]
        if not any(hits):
            yield _cell(where, chosen)
    if not all(used):
        raise SpecError(f"{where}: exclude {excludes[used.index(False)]} matches no cell")


def _values(where: str, key: str, value: Any) -> list[Any]:
    """The values of an axis; a list is an axis, but of a field that is itself a list, a list of lists is."""
    axis = isinstance(value, list) and (key not in LIST_FIELDS or all(isinstance(each, list) for each in value))
    values = value if axis else [value]
    if not values:
        raise SpecError(f"{where}: the axis {key} has no values")
    return values


def _matches(exclude: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    return all(chosen[key] in (value if isinstance(value, list) else [value]) for key, value in exclude.items())


def _cell(where: str, chosen: Mapping[str, Any]) -> Cell:
    fields = dict(chosen)
    for key, convention in BITS.items():
        if key in fields:
            fields["precision"] = _precision(f"{where}, {key}", fields.pop(key), convention)
    try:
        return Cell(**fields)
    except RecordError as error:
        cause = error.__cause__
        said = cause.errors() if isinstance(cause, ValidationError) else []
        text = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'cell'}: {item['msg']}" for item in said) or str(error)
        raise SpecError(f"{where}: {dict(chosen)} is no cell: {text}") from error


def _precision(where: str, bits: Any, convention: str) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int):
        raise SpecError(f"{where}: expected whole bits, found {bits!r}")
    try:
        return precision_of(bits, convention)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error
