"""Grids: products, excludes, precisions in every convention, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from photonic.errors import SpecError
from photonic.study.cell import Cell
from photonic.study.grid import Grid, load_grid, parse_grid, shipped

HEAD = 'name = "g"\ntitle = "G"\n'


def grid(text: str) -> Grid:
    return parse_grid(HEAD + text, "g.toml")


def test_a_block_is_the_product_of_its_lists_without_what_it_excludes() -> None:
    cells = grid(
        """
        [base]
        backend = "digital"
        seed = [0, 1]
        [[grid]]
        activation = ["relu", "gelu", "silu"]
        n_conv = [1, 2]
        exclude = [{ activation = "relu", n_conv = 2 }]
        """
    ).cells()
    assert len(cells) == 3 * 2 * 2 - 2
    assert not any(cell.activation == "relu" and cell.n_conv == 2 for cell in cells)


def test_a_cell_of_several_blocks_is_there_once() -> None:
    text = '[base]\nbackend = "digital"\n[[grid]]\nactivation = ["relu", "gelu"]\n[[grid]]\nactivation = "relu"\n'
    assert len(grid(text).cells()) == 2


@pytest.mark.parametrize(
    ("key", "bits", "precision"),
    [("bits_study", 6, 64), ("bits_library", 6, 63), ("bits_signed", 6, 31), ("precision", 64, 64)],
)
def test_a_precision_is_given_in_a_named_convention(key: str, bits: int, precision: int) -> None:
    assert grid(f"[[grid]]\n{key} = {bits}\nep = 0.5\n").cells()[0].precision == precision


def test_the_precision_of_a_block_replaces_that_of_the_base_in_any_convention() -> None:
    text = "[base]\nbits_study = 6\nep = 0.5\n[[grid]]\nprecision = 4\n"
    assert grid(text).cells()[0].precision == 4


def test_a_list_field_is_one_value_and_a_list_of_lists_is_an_axis() -> None:
    one = grid('[[grid]]\nbackend = "digital"\nclasses = [0, 1]\n').cells()
    two = grid('[[grid]]\nbackend = "digital"\nclasses = [[0, 1], [2, 3]]\n').cells()
    assert [cell.classes for cell in one] == [(0, 1)]
    assert [cell.classes for cell in two] == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[grid]]\nactivaton = 'relu'\n", "unknown keys activaton"),
        ("[base]\nepoch = 3\n[[grid]]\nseed = 0\n", "unknown keys epoch"),
        ("[[grid]]\nactivation = []\n", "axis activation has no values"),
        ("[[grid]]\nbits_study = 6\nprecision = 64\nep = 0.5\n", "give one of"),
        ("[[grid]]\nbits_study = 2.5\nep = 0.5\n", "whole bits"),
        ("[[grid]]\nprecision = 4\n", "needs ep"),
        ("[[grid]]\nep = 0.5\n", "needs precision"),
        ("[[grid]]\nprecision = 4\nep = 0.2\nquantiser = 'sign'\n", "sign quantiser has none"),
        ("[[grid]]\nbackend = 'digital'\nep = 0.5\n", "takes no precision, quantiser, ep"),
        ("[[grid]]\nprecision = 4\nep = 0.5\nnoise = 'pink'\n", "kind of noise"),
        ("[[grid]]\nprecision = 4\nep = 1.5\n", "ep"),
        ("[[grid]]\nbackend = 'digital'\ninterpolation = 0.5\n", "neither interpolation nor scale"),
        ("[[grid]]\nbackend = 'digital'\nactivation = 'gelo'\n", "gelo"),
        ("[[grid]]\nbackend = 'digital'\nexclude = [{ seed = 1 }]\n", "does not set"),
        ("[[grid]]\nbackend = 'digital'\nseed = 0\nexclude = [{ seed = 1 }]\n", "matches no cell"),
        ("[[grid]]\nbackend = 'digital'\npretrain_epochs = 1\n", "pretrain_classes"),
        ("[[grid]\n", "g.toml"),
    ],
)
def test_a_mistake_is_named(text: str, named: str) -> None:
    with pytest.raises(SpecError, match=named):
        grid(text).cells()


def test_unknown_grids_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="shipped are"):
        load_grid("nothing")
    with pytest.raises(SpecError, match="cannot be read"):
        load_grid(str(tmp_path / "none.toml"))


def test_the_hash_is_of_the_content_and_of_nothing_else() -> None:
    """It names files of earlier studies: it may change with the schema version only."""
    cell = Cell(backend="digital", activation="gelu", epochs=3, seed=1)
    assert cell.hash == Cell(seed=1, epochs=3, activation="gelu", backend="digital").hash == "ff26470df1487b86"
    assert cell.hash != cell.model_copy(update={"seed": 2}).hash


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_grid_has_cells_with_seeds(name: str) -> None:
    cells = load_grid(name).cells()
    assert load_grid(name).name == name
    assert len({cell.hash for cell in cells}) == len(cells)
    assert len({cell.seed for cell in cells}) >= 3 or name == "paper"
