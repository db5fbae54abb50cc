"""Errors as an instrument reports them: the codes of SCPI-99, volume 2, chapter 21."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TEXTS: Mapping[int, str] = MappingProxyType(
    {
        0: "No error",
        -100: "Command error",
        -101: "Invalid character",
        -102: "Syntax error",
        -104: "Data type error",
        -108: "Parameter not allowed",
        -109: "Missing parameter",
        -113: "Undefined header",
        -114: "Header suffix out of range",
        -121: "Invalid character in number",
        -131: "Invalid suffix",
        -138: "Suffix not allowed",
        -151: "Invalid string data",
        -161: "Invalid block data",
        -168: "Block data not allowed",
        -200: "Execution error",
        -211: "Trigger ignored",
        -213: "Init ignored",
        -221: "Settings conflict",
        -222: "Data out of range",
        -223: "Too much data",
        -224: "Illegal parameter value",
        -230: "Data corrupt or stale",
        -240: "Hardware error",
        -300: "Device-specific error",
        -350: "Queue overflow",
        -363: "Input buffer overrun",
        -410: "Query INTERRUPTED",
        -420: "Query UNTERMINATED",
    }
)


class ScpiError(Exception):
    """What goes into an instrument's error queue; never seen by a caller of photonic.

    Args:
        code: of ``TEXTS``.
        detail: appended to the standard's text after a semicolon.
    """

    def __init__(self, code: int, detail: str = "") -> None:
        self.code = code
        self.text = TEXTS[code] + (f"; {detail}" if detail else "")
        super().__init__(f"{code}, {self.text}")

    def response(self) -> str:
        """As ``SYST:ERR?`` gives it; a quote inside is doubled, other bytes than printable ASCII are not sent."""
        text = "".join(c if " " <= c <= "~" else "?" for c in self.text)[:255].replace('"', '""')
        return f'{self.code},"{text}"'
