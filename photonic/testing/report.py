"""What a conformance suite found, and the few tools that its checks share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from photonic.errors import ConformanceError, PhotonicError

Subject = TypeVar("Subject")


class Skipped(Exception):  # noqa: N818 - not an error: a check that does not apply, with the reason
    """A check does not apply to this chip or backend."""


@dataclass
class Report:
    """Every check of a suite, in one of three states.

    Attributes:
        passed: names of the checks.
        failed: name and what was found.
        skipped: name and why it does not apply.
        errors: what the failed checks raised, with tracebacks.
    """

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    def raise_for_failures(self) -> None:
        """Raises one error that names every check that failed, from the group of what they raised.

        Raises:
            ConformanceError: if any did.
        """
        if self.failed:
            message = "; ".join(f"{name}: {found}" for name, found in self.failed.items())
            raise ConformanceError(message) from ExceptionGroup("failed checks", list(self.errors.values()))

    def __str__(self) -> str:
        lines = [f"passed   {name}" for name in self.passed]
        lines += [f"FAILED   {name}: {found}" for name, found in self.failed.items()]
        lines += [f"skipped  {name}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines)


def run_checks(checks: Mapping[str, Callable[[Subject], None]], subject: Subject) -> Report:
    """Runs every check; one that fails does not stop the others, whatever it raises."""
    report = Report()
    for name, check in checks.items():
        try:
            check(subject)
        except Skipped as reason:
            report.skipped[name] = str(reason)
        except Exception as error:
            # a chip that is wrong may raise anything; what is not of the project's tree is named as such
            foreign = "" if isinstance(error, PhotonicError) else " (not an error that a caller is told to expect)"
            report.failed[name] = f"{type(error).__name__}: {error}{foreign}"
            report.errors[name] = error
        else:
            report.passed.append(name)
    return report


def require(condition: bool, message: str) -> None:
    """Raises unless the condition holds.

    Raises:
        ConformanceError: with the message.
    """
    if not condition:
        raise ConformanceError(message)


def outcome(call: Callable[[], object]) -> type[Exception] | None:
    """The class of what a call raises, or None."""
    try:
        call()
    except Exception as error:
        return type(error)
    return None


def called(found: type[BaseException] | None) -> str:
    """An outcome in words."""
    return "no error" if found is None else found.__name__


def in_threads(call: Callable[[int], object], count: int, *, workers: int, patience_s: float) -> list[object]:
    """Calls ``call(i)`` for i < count from several threads at once, and gives the results in order.

    Raises:
        ConformanceError: not all came back in time: a lock that nobody releases.
        Exception: the first that a call raised.
    """
    results: list[object] = [None] * count
    errors: list[Exception] = []

    def work(indices: Sequence[int]) -> None:
        try:
            for i in indices:
                results[i] = call(i)
        except Exception as error:
            errors.append(error)

    # daemons: a thread that waits for ever must not keep the interpreter from ending
    threads = [threading.Thread(target=work, args=(range(k, count, workers),), daemon=True) for k in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=patience_s)
    require(not any(t.is_alive() for t in threads), f"a call from another thread did not return in {patience_s:g} s")
    if errors:
        raise errors[0]
    return results
