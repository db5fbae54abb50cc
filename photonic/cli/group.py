"""What all commands share: one line on stderr for a mistake, exit codes, warnings, signals."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import click

from photonic.errors import PhotonicError, PhotonicWarning

EXIT_NO, EXIT_MISTAKE, EXIT_INTERRUPTED = 1, 2, 130


class Interrupted(click.ClickException):
    """Ctrl-C, with what to do next."""

    exit_code = EXIT_INTERRUPTED


class HeldWarnings:
    """Keeps photonic's warnings back, then shows each once, as a line; a context manager.

    A command that ends in an error prints that error alone: its warnings are of something that did not happen. All
    other warnings are shown as Python would.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._released = False
        self._stack = ExitStack()

    def release(self) -> None:
        """Shows what was held; from here on a warning is shown at once."""
        self._released = True
        for text in self._held:
            say(f"warning: {text}")

    def __enter__(self) -> Self:
        self._stack.enter_context(warnings.catch_warnings())
        self._usual = warnings.showwarning
        warnings.simplefilter("always", PhotonicWarning)
        warnings.showwarning = self._show
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _show(self, message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        text = str(message)
        if not issubclass(category, PhotonicWarning):
            self._usual(message, category, *where, **more)
        elif text not in self._held:
            self._held.append(text)
            if self._released:
                say(f"warning: {text}")


class Photonic(click.Group):
    """A click group that never shows a traceback for a user's mistake."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command and exits with 0, 1 (the answer is no), 2 (a mistake of the user) or 130 (Ctrl-C)."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        with HeldWarnings() as held, _terminated_like_interrupted():
            sys.exit(self._run(args, prog_name, complete_var, obj=held, **extra))

    def _run(self, args: Sequence[str] | None, prog: str | None, complete: str | None, **extra: Any) -> int:
        try:
            code = super().main(args, prog, complete, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return EXIT_MISTAKE
        except click.UsageError as error:
            where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            return _fail(error.format_message().rstrip(".") + where, EXIT_MISTAKE)
        except click.ClickException as error:
            return _fail(_with_notes(error.format_message(), error), error.exit_code)
        except (click.Abort, KeyboardInterrupt) as error:
            return _fail(_with_notes("interrupted", error), EXIT_INTERRUPTED)
        except PhotonicError as error:
            return _fail(_with_notes(str(error), error), EXIT_MISTAKE)
        except OSError as error:
            # a full disk, a file without permission: the machine's state, not a fault of the code
            return _fail(f"{error.filename or 'the system'}: {error.strerror or error}", EXIT_MISTAKE)
        return code if isinstance(code, int) else 0


def say(text: str) -> None:
    """One line on stderr."""
    click.echo(f"photonic: {_one_line(text)}", err=True)


def _fail(message: str, code: int) -> int:
    say(f"error: {message}" if code != EXIT_INTERRUPTED else message)
    return code


def _with_notes(message: str, error: BaseException) -> str:
    """With the notes of an error and of those that it came from, for one may be that outputs could not be made safe."""
    found: BaseException | None = error
    while found is not None:
        for note in getattr(found, "__notes__", ()):
            message += "" if note in message else f"; {note}"
        found = found.__cause__ or found.__context__
    return message


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Makes SIGTERM end a command as Ctrl-C does, so that a chip is left safe and the user is told how to resume."""
    if threading.current_thread() is not threading.main_thread():
        # only the main thread may set handlers
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
