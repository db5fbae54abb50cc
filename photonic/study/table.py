"""All finished cells in one Parquet file."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from photonic.errors import MissingExtraError, RunError
from photonic.study.cell import FIELDS, label
from photonic.study.outcome import Outcome

# columns that the record of a cell has as lists
LISTS = ("train_loss", "train_accuracy", "test_accuracy")


def parquet() -> ModuleType:
    """pyarrow, with its Parquet.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "study") from error
    module: ModuleType = pyarrow
    return module


def row(outcome: Outcome) -> dict[str, Any]:
    """A cell as columns: its hash, its config, what it found, and what it was found with."""
    cell = outcome.cell
    content = outcome.model_dump(exclude={"cell", "schema_version"})
    return {
        "hash": cell.hash,
        "label": label(cell),
        # of the cell by name: an outcome's image counts are those that were there
        **{f"cell_{name}" if name in content else name: getattr(cell, name) for name in FIELDS},
        **content,
        "last_accuracy": outcome.last,
        "max_accuracy": outcome.maximum,
    }


def write_table(outcomes: Sequence[Outcome], path: Path) -> None:
    """Writes the table whole or not at all; one row for each cell.

    Raises:
        MissingExtraError: pyarrow is not installed.
        RunError: it cannot be written.
    """
    arrow = parquet()
    rows = [row(outcome) for outcome in outcomes]
    columns = {name: [each[name] for each in rows] for name in rows[0]} if rows else {}
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        arrow.parquet.write_table(arrow.table(columns, schema=_schema(arrow) if rows else None), temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _schema(arrow: Any) -> Any:
    """The types of the columns: what is None in all cells would have none otherwise."""
    text, number, whole = arrow.string(), arrow.float64(), arrow.int64()
    types: dict[str, Any] = dict.fromkeys(("hash", "label", "activation", "backward", "backend"), text)
    types |= dict.fromkeys(("quantiser", "noise", "match", "data", "network", "schedule", "early_stopping"), text)
    types |= dict.fromkeys(("interpolation", "scale", "leak", "derivative_at_zero", "ep", "lr", "weight_decay"), number)
    types |= dict.fromkeys(("precision", "n_conv", "n_linear", "depth", "epochs", "batch_size"), whole)
    types |= dict.fromkeys(("cell_train_images", "cell_test_images", "pretrain_epochs", "seed"), whole)
    types |= dict.fromkeys(("classes", "pretrain_classes"), arrow.list_(whole)) | {"colour": arrow.bool_()}
    types |= {"status": text} | dict.fromkeys(LISTS, arrow.list_(number)) | {"seconds": number}
    types |= dict.fromkeys(("threads", "train_images", "test_images", "n_classes", "parameters"), whole)
    types |= {"warnings": arrow.list_(text)} | dict.fromkeys(("code", "torch", "python", "machine"), text)
    types |= {"finished": arrow.timestamp("us", tz="UTC"), "last_accuracy": number, "max_accuracy": number}
    return arrow.schema(list(_ordered(types).items()))


def _ordered(types: dict[str, Any]) -> dict[str, Any]:
    names = ["hash", "label"]
    found = set(Outcome.model_fields)
    names += [f"cell_{name}" if name in found else name for name in FIELDS]
    names += [name for name in Outcome.model_fields if name not in ("cell", "schema_version")]
    return {name: types[name] for name in [*names, "last_accuracy", "max_accuracy"]}
