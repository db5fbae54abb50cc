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
    """Puts a pydantic error on one line: each field, what is wrong with it, and what was found."""
    parts = []
    for item in error.errors():
        where = ".".join(str(step) for step in item["loc"]) or "record"
        found = f" (found {item['input']!r})" if item["loc"] else ""
        parts.append(f"{where}: {item['msg']}{found}")
    return f"{name} is not valid: " + "; ".join(parts)
