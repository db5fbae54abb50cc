"""Warnings that belong into a run's record and still reach whoever called."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noting(texts: list[str]) -> Iterator[None]:
    """Adds the text of each warning inside the block to a list, once, and gives the warning on when the block ends.

    As ``warnings.catch_warnings`` it is not for several threads at once.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        text = str(warning.message)
        if text not in texts:
            texts.append(text)
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
