"""Writes TOML 1.0: what a bench file needs of it, every float so that it reads back as the same number."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from photonic.errors import RecordError

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(content: Mapping[str, Any]) -> str:
    """The text of a table: values first, then tables, then arrays of tables, as TOML wants it.

    Args:
        content: strings, numbers, truth values, lists of them, mappings, and lists of mappings.

    Raises:
        RecordError: a value that TOML has no form for, such as None.
    """
    lines: list[str] = []
    _table(content, (), lines)
    return "\n".join(lines).strip() + "\n"


def _table(content: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    later: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, Mapping) or _tables(value):
            later.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value, (*path, key))}")
    for key, value in later:
        name = ".".join(map(_key, (*path, key)))
        for part in [value] if isinstance(value, Mapping) else value:
            lines += ["", f"[{name}]" if isinstance(value, Mapping) else f"[[{name}]]"]
            _table(part, (*path, key), lines)


def _tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _value(value: Any, path: Sequence[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)  # the shortest text that reads back as this number
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item, path) for item in value) + "]"
    raise RecordError(f"{'.'.join(path)}: TOML has no form for {value!r}; leave the key out")


def _string(text: str) -> str:
    # a JSON string is a TOML basic string, but for DEL, which TOML wants escaped as well
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
