"""What a run tells while it goes on; the command line draws bars from it."""

from __future__ import annotations

from pathlib import Path


class Progress:
    """Silent; override what you want to hear of."""

    def folder(self, path: Path) -> None:
        """The run's folder exists; from here on the run can be resumed."""

    def stage(self, name: str, steps: int) -> None:
        """A stage of so many steps begins."""

    def step(self, text: str = "") -> None:
        """One step is done; the text is the state of things, for people."""

    def note(self, text: str) -> None:
        """Something that whoever started the run should know."""
