"""The base of all records: frozen, without unknown keys, with errors of the project's tree."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from photonic.errors import RecordError


class Record(BaseModel):
    """A frozen pydantic record that refuses unknown keys with an error of the project's tree."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RecordError(_explain(type(self).__name__, error)) from error


def _explain(name: str, error: ValidationError) -> str:
    """Puts a pydantic error on one line: each field, what is wrong with it, and what was found.

    A whole table that was found is not shown: what is wrong in it would not be seen for it.
    """
    parts = []
    for item in error.errors():
        where = ".".join(str(step) for step in item["loc"])
        cause = item.get("ctx", {}).get("error")  # of a validator, or of a record in this one
        what = item["msg"] if cause is None else str(cause)
        found = "" if not where or isinstance(item["input"], dict) else f" (found {item['input']!r})"
        parts.append(f"{where}: {what}{found}" if where else f"{what}")
    return f"{name} is not valid: " + "; ".join(parts)
