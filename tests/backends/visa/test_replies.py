"""Answers: every legal form is read, everything else is refused, and nothing that comes can crash what reads it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from photonic.backends.visa.blocks import Answer, header, raw_bytes
from photonic.backends.visa.deadline import Deadline
from photonic.backends.visa.replies import (
    parse_bool,
    parse_count,
    parse_error,
    parse_identity,
    parse_number,
    parse_numbers,
    same_setting,
)
from photonic.errors import DisconnectedError, LabError, OverloadError, ProtocolError


class Pieces:
    """A stream that gives bytes in pieces of given sizes, then closes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes = data, sizes or [1000]
        self._turn = 0

    def receive_some(self, view: memoryview, deadline: Deadline) -> int:
        if not self._data:
            raise DisconnectedError("closed")
        size = min(len(view), self._sizes[self._turn % len(self._sizes)], len(self._data))
        self._turn += 1
        view[:size], self._data = self._data[:size], self._data[size:]
        return size

    def receive_exactly(self, view: memoryview, deadline: Deadline) -> None:
        while view:
            view = view[self.receive_some(view, deadline) :]


def answer(data: bytes, sizes: list[int], buffer: int = 4096) -> Answer:
    return Answer("box", Pieces(data, sizes), Deadline("box", 60.0), bytearray(buffer))  # type: ignore[arg-type]


SIZES = st.lists(st.integers(1, 40), max_size=5)


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), SIZES, st.integers(1, 9))
def test_blocks_and_texts_come_back_whatever_the_packets(blocks: list[bytes], sizes: list[int], digits: int) -> None:
    parts = [f"#{digits}{len(block):0{digits}d}".encode() + block for block in blocks if len(str(len(block))) <= digits]
    kept = [block for block in blocks if len(str(len(block))) <= digits]
    reader = answer(b"; ".join([*parts, b'0,"No ""error"";"']) + b"\r\n", sizes, buffer=128)
    for block in kept:
        assert reader.starts_block()
        assert not reader.ended
        found = np.empty(len(block), dtype=np.uint8)
        reader.block(raw_bytes(found))
        assert found.tobytes() == block
    assert reader.text() == '0,"No ""error"";"'
    assert reader.ended
    reader.finish()


@given(st.binary(max_size=200), SIZES)
@example(b"#\n", [1])
@example(b'"\n', [1])
@example(b"#9\xff", [2])
def test_garbage_ends_in_an_error_of_the_lab_or_in_a_text(data: bytes, sizes: list[int]) -> None:
    reader = answer(data, sizes, buffer=64)
    try:
        while not reader.ended:
            if reader.starts_block():
                reader.block(raw_bytes(np.empty(4, dtype=np.uint8)))
            else:
                reader.text()
        reader.finish()
    except LabError:
        pass


def test_a_line_without_an_end_is_refused_at_last() -> None:
    with pytest.raises(ProtocolError, match="without an end"):
        answer(b"x" * 5000, [1000]).text()


def test_a_block_that_is_too_long_for_its_header_is_refused() -> None:
    assert header(0) == "#10"
    assert header(999999999) == "#9999999999"
    with pytest.raises(ProtocolError, match="in parts"):
        header(10**9)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e37, max_value=1e37))
def test_numbers_are_read_in_all_their_forms(value: float) -> None:
    for text in (repr(value), f"{value:+.17E}", f"  {value:.17e}\t"):
        assert parse_number("box", text) == value
    assert same_setting(f"{value:.6E}", repr(float(value)))


@pytest.mark.parametrize("text", ["+5", "5.", ".5", "5E0", "-0", "+1.0E-3"])
def test_nr1_nr2_nr3(text: str) -> None:
    assert parse_number("box", text) == float(text)


@pytest.mark.parametrize("text", ["9.9E37", "+9.91E+37", "-9.9e37", "1e999", "NAN", "inf", "-INF"])
def test_sentinels_are_overloads_and_never_numbers(text: str) -> None:
    with pytest.raises(OverloadError):
        parse_number("box", text)


@given(st.text(max_size=20))
@example("1_000")
@example("0x10")
@example("1 mW")
def test_what_is_not_a_number_is_refused(text: str) -> None:
    for parse in (parse_number, parse_count, parse_bool, parse_error, parse_identity, parse_numbers):
        try:
            parse("box", text)
        except (ProtocolError, OverloadError):
            continue
    for wrong in ("1_000", "0x10", "1 mW", "", "1e", "--1", "1,2"):
        with pytest.raises(ProtocolError):
            parse_number("box", wrong)


def test_whole_numbers_and_lists() -> None:
    assert parse_count("box", "+1.6384E+04") == 16384
    with pytest.raises(ProtocolError, match="whole"):
        parse_count("box", "1.5")
    assert parse_numbers("box", " {1, 2.5,-3} ") == [1.0, 2.5, -3.0]


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        ("SWAP", "SWAPped", True),
        ("swapped", "SWAPped", True),
        ("SWA", "SWAPped", False),
        ("INTEGER, 16", "INTeger,16", True),
        ("INT,+16", "INTeger,16", True),
        ("INT,32", "INTeger,16", False),
        ("INT", "INTeger,16", False),
        ("1", "ON", True),
        ("+0", "OFF", True),
        ("0", "ON", False),
        ("4.00000E+06", "4000000.0", True),
        ("4.0001E+06", "4000000.0", False),
        ("100001", "100000", False),
        ("1.0E5", "100000", True),
        ("BUS", "BUS", True),
    ],
)
def test_a_setting_is_recognised_in_its_short_and_long_forms(answer: str, expected: str, same: bool) -> None:
    assert same_setting(answer, expected) is same


def test_an_identity_has_four_fields_and_missing_ones_are_empty() -> None:
    assert parse_identity("box", ' "A , B,C" ').model == "B"
    assert parse_identity("box", "A,B,C,1.0,beta").firmware == "1.0,beta"
    with pytest.raises(ProtocolError):
        parse_identity("box", ",B")
