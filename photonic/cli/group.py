"""What all commands share: one line on stderr for a mistake, exit codes, warnings, signals."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from photonic.errors import PhotonicError, PhotonicWarning

EXIT_NO, EXIT_MISTAKE, EXIT_INTERRUPTED = 1, 2, 130


class Interrupted(click.ClickException):
    """Ctrl-C, with what to do next."""

    exit_code = EXIT_INTERRUPTED


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
        with _warnings_on_one_line(), _terminated_like_interrupted():
            sys.exit(self._run(args, prog_name, complete_var, **extra))

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
            return _fail(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            return _fail("interrupted", EXIT_INTERRUPTED)
        except PhotonicError as error:
            return _fail(str(error), EXIT_MISTAKE)
        return code if isinstance(code, int) else 0


def say(text: str) -> None:
    """One line on stderr."""
    click.echo(f"photonic: {_one_line(text)}", err=True)


def _fail(message: str, code: int) -> int:
    say(f"error: {message}" if code != EXIT_INTERRUPTED else message)
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def _warnings_on_one_line() -> Iterator[None]:
    """Shows each of photonic's warnings once, as a line and without a source line; all others as Python would."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        text = str(message)
        if not issubclass(category, PhotonicWarning):
            usual(message, category, *where, **more)
        elif text not in shown:
            shown.add(text)
            say(f"warning: {text}")

    with warnings.catch_warnings():
        usual = warnings.showwarning
        warnings.simplefilter("always", PhotonicWarning)
        warnings.showwarning = show
        yield


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
