"""Options of a bench's spec string, ``bench.toml?key=value``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from photonic.backends.fromrecord import ALLOWANCES
from photonic.backends.visa.benchfile import BenchFile
from photonic.errors import RecordError, SpecError

_OWN = ("on_close", "transcript", "warm_up")


def configured(bench: BenchFile, path: str, options: Mapping[str, Any]) -> tuple[BenchFile, dict[str, bool]]:
    """The bench with what a spec string changes of it, and what it allows of the bench's record.

    Limits, wiring and consent are the file's alone.

    Raises:
        SpecError: an option that a bench does not take, or a value that it cannot have.
    """
    unknown = sorted(set(options) - {*_OWN, *ALLOWANCES})
    if unknown:
        raise SpecError(f"{path} takes no option {', '.join(unknown)}; it takes {', '.join((*_OWN, *ALLOWANCES))}")
    wrong = [name for name in ("warm_up", *ALLOWANCES) if not isinstance(options.get(name, True), bool)]
    if wrong:
        raise SpecError(f"{path}: {wrong[0]} is true or false, found {options[wrong[0]]!r}")
    fields: dict[str, Any] = {name: options[name] for name in ("on_close", "transcript") if name in options}
    if options.get("warm_up") is True and bench.warm_up is None:
        raise SpecError(f"{path}: warm_up=true needs a [warm_up] table in the file, which says when it is steady")
    if options.get("warm_up") is False:
        fields["warm_up"] = None
    values = {name: getattr(bench, name) for name in type(bench).model_fields}
    try:
        bench = type(bench)(**{**values, **fields})
    except RecordError as error:
        raise SpecError(f"{path}: {error}") from error
    return bench, {name: options[name] for name in ALLOWANCES if name in options}
