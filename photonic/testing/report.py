"""What a conformance suite found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def raise_for_failures(self) -> None:
        """Raises one error that names every check that failed.

        Raises:
            ConformanceError: if any did.
        """
        if self.failed:
            raise ConformanceError("; ".join(f"{name}: {found}" for name, found in self.failed.items()))

    def __str__(self) -> str:
        lines = [f"passed   {name}" for name in self.passed]
        lines += [f"FAILED   {name}: {found}" for name, found in self.failed.items()]
        lines += [f"skipped  {name}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines)


def run_checks(checks: Mapping[str, Callable[[Subject], None]], subject: Subject) -> Report:
    """Runs every check; one that fails does not stop the others."""
    report = Report()
    for name, check in checks.items():
        try:
            check(subject)
        except Skipped as reason:
            report.skipped[name] = str(reason)
        except (ConformanceError, PhotonicError) as error:
            report.failed[name] = f"{type(error).__name__}: {error}"
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
