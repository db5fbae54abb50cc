"""The SCPI front: messages out of bytes, headers, parameters, status; nothing that is sent makes it crash."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photonic.testing.bench.message import BLOCK, Bounds

from .benches import a_bench, ask, block, messages


@given(
    payloads=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    pieces=st.lists(st.integers(1, 97), max_size=60),
    quoted=st.sampled_from(["", "'#12'", '"a#9"']),
)
def test_blocks_come_out_as_they_went_in_however_they_arrive(
    payloads: list[bytes], pieces: list[int], quoted: str
) -> None:
    """Line feeds, quotes and number signs inside a block mean nothing, and a number sign in a string is no block."""
    data = quoted.encode() + b";".join(b"A " + block(payload) for payload in payloads) + b"\nB?\n"
    first, second = messages(data, pieces)
    assert [found.tobytes() for found in first.blocks] == payloads
    assert first.text == quoted + ";".join("A " + BLOCK for _ in payloads)
    assert (second.text, second.blocks) == ("B?", [])


def test_what_is_too_long_is_read_to_its_end_and_not_executed() -> None:
    bounds = Bounds(text=50, block_bytes=100, blocks=2)
    long_text, long_block, many = b"x" * 60, b"A " + block(b"\n" * 101), b"A " + b",".join([block(b"a")] * 3)
    found = messages(b"\n".join([long_text, b"B", long_block, b"C", many, b"D", b""]), bounds=bounds)
    assert [message.overrun for message in found] == [True, False, True, False, True, False]
    assert [message.text for message in found if not message.overrun] == ["B", "C", "D"]


@settings(max_examples=100)
@given(data=st.binary(max_size=200), name=st.sampled_from(["laser", "awg", "dac-1", "digitizer", "tec", "power_meter"]))
def test_bytes_never_crash_an_instrument(data: bytes, name: str) -> None:
    bench = a_bench()
    for message in messages(data + b"\n"):
        bench.instruments[name].execute(message)
    assert ask(bench, name, "*CLS", ":SYST:ERR?")[1] == '0,"No error"'


_HEADERS = (
    "SOUR:POW",
    "OUTP",
    "SOUR1:TRAC:DATA",
    "SOUR:LEV:DATA",
    "SOUR:LIST:DATA",
    "ACQ:POIN",
    "INIT",
    "*TRG",
    "FORM",
    "FORM:BORD",
    "SOUR:MARK",
    "TRAC1:DATA",
    "*ESE",
    "SOUR2:VOLT",
    "SYST:ERR",
    "ACQ:GAIN",
    "SOUR:SEGM:COUN",
    "SOUR:MODE",
    "SOUR2:IDLE",
    "MEAS1:POW",
    "SOUR:TEMP",
)
_PARAMETERS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(
        ["ON", "MAX", "DEF", "1 mW", "25.0C", "#H1F", "#0abc", "'a;b'", '"', "(@1,2)", "1e999", "", "INT,16"]
    ),
    st.binary(max_size=40).map(lambda data: block(data).decode("latin-1")),
)


@settings(max_examples=60)
@given(
    lines=st.lists(
        st.lists(
            st.tuples(st.sampled_from(_HEADERS), st.sampled_from(["", "?"]), st.lists(_PARAMETERS, max_size=3)),
            max_size=4,
        ),
        max_size=6,
    )
)
def test_nearly_right_commands_never_crash_an_instrument(lines: list[list[tuple[str, str, list[str]]]]) -> None:
    bench = a_bench()
    text = [";:".join(f"{head}{mark} {','.join(some)}" for head, mark, some in line) for line in lines]
    for name in bench.instruments:
        ask(bench, name, *[line.encode("latin-1") for line in text])
        assert len(bench.instruments[name].status.errors) <= 20


@pytest.mark.parametrize(
    "line",
    ["SOUR:POW 5 mW", ":source:power:level 5E-3", "sour:Pow .005W", "  SOUR:POW\t5.000MW ", "SOUR:POW 5000uW",
     "*CLS;SOUR:POW 5 mW", "SOUR:WAV?;POW 5mW", ":SOUR:POW 1;POW 5 mW;:OUTP 0", "SOUR:POW 6.98970004336DBM"],
)  # fmt: skip
def test_one_setting_has_many_spellings(line: str) -> None:
    """Long and short forms in any case, units, white space, chains that go on in the last header's path."""
    assert float(ask(a_bench(), "laser", line, "SOUR:POW?")[1]) == pytest.approx(5e-3, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "line", "code"),
    [
        ("laser", "SOUR:POWE 1", -113),
        ("laser", "SOUR:POW 1 mW;OUTP ON", -113),  # the path is SOUR:, and SOUR:OUTP there is not
        ("laser", "SOUR2:POW 1 mW", -114),
        ("dac-1", "SOUR7:VOLT 1", -114),
        ("laser", "SOUR:POW", -109),
        ("laser", "SOUR:POW 1,2", -108),
        ("laser", "SOUR:POW 1 V", -131),
        ("laser", "*ESE 1 V", -138),
        ("laser", "SOUR:POW ON", -104),
        ("laser", "SOUR:POW 1", -222),
        ("laser", "OUTP PERHAPS", -224),
        ("laser", "SOUR POW 1", -113),
        ("laser", "SOUR::POW 1", -102),
        ("laser", b"SOUR:POW #13abc", -168),
        ("laser", "*TRG", -211),
        ("dac-1", "SOUR:LEV:DATA 5", -104),
        ("dac-1", b"SOUR:LEV:DATA #15abcde", -161),
        ("dac-1", b"SOUR:LEV:DATA " + block(bytes(8)), -161),
        ("dac-1", b"SOUR:LEV:DATA " + block(np.full(6, 9.0, ">f8").tobytes()), -222),
        ("dac-1", b"SOUR:LEV:DATA " + block(np.full(6, np.nan, ">f8").tobytes()), -222),
        ("dac-1", "SOUR1:VOLT 5.1", -222),
        ("awg", b"SOUR1:TRAC:DATA " + block(bytes(34)), -222),
        ("awg", b"SOUR1:TRAC:DATA " + block(np.full(64, 256, ">i2").tobytes()), -222),
        ("awg", "INIT;INIT", -213),
        (
            "awg",
            b"SOUR1:TRAC:DATA " + block(bytes(128)) + b";:SOUR:SEQ:REP 65536;:SOUR:SEGM:COUN 2;:INIT;*TRG",
            -221,
        ),
        ("digitizer", "TRAC1:DATA?", -230),
        ("digitizer", "ACQ:GAIN 3", -224),
    ],
)
def test_mistakes_have_the_standard_s_codes(name: str, line: str | bytes, code: int) -> None:
    assert ask(a_bench(), name, line, "SYST:ERR?")[1].startswith(f"{code},")


def test_answers_of_one_message_are_one_line() -> None:
    found = ask(a_bench(), "laser", "*IDN?;:SOUR:POW? MAX;POW? MIN;:OUTP?;*OPC?", "SYST:VERS?", "SOUR:POW 1mW")
    assert found == ["PHOTONIC,VLASER,V1001,1.0;0.012;0.0;0;1", "1999.0", ""]


def test_the_error_queue_is_bounded_and_says_so() -> None:
    """The twentieth entry becomes -350; what comes later is lost."""
    bench = a_bench()
    ask(bench, "laser", *["NONSENSE"] * 30)
    assert ask(bench, "laser", "SYST:ERR:COUN?") == ["20"]
    codes = [int(line.split(",")[0]) for line in ask(bench, "laser", *["SYST:ERR?"] * 21)]
    assert codes == [-113] * 19 + [-350, 0]


def test_status_registers_follow_the_standard() -> None:
    bench = a_bench()
    assert ask(bench, "laser", "*ESR?", "*ESR?") == ["128", "0"]  # power on
    ask(bench, "laser", "NONSENSE", "SOUR:POW 1", "*OPC", "*ESE 48", "*SRE 32")
    assert ask(bench, "laser", "*STB?", "*ESR?", "*STB?") == ["100", "49", "4"]
    assert ask(bench, "laser", "*CLS", "*STB?", "*ESE?") == ["", "0", "48"]
    bench.laser.set_interlock(False)
    assert ask(bench, "laser", "STAT:QUES:COND?", "STAT:QUES?", "STAT:QUES:EVEN?") == ["1", "1", "0"]
    ask(bench, "awg", "INIT")
    assert ask(bench, "awg", "STAT:OPER:COND?;:ABOR;:STAT:OPER:COND?") == ["32;0"]


def test_light_needs_a_closed_interlock() -> None:
    bench = a_bench()
    assert ask(bench, "laser", "OUTP ON;:OUTP?;:SYST:INT?") == ["1;1"]
    bench.laser.set_interlock(False)
    assert ask(bench, "laser", "OUTP?;:SYST:INT?", "OUTP ON", "OUTP?")[::2] == ["0;0", "0"]
    assert ask(bench, "laser", "SYST:ERR:ALL?") == ['-221,"Settings conflict; interlock open"']


def test_levels_are_read_back_in_both_byte_orders() -> None:
    bench, volts = a_bench(), np.linspace(0.0, 5.0, 6)
    (answer,) = ask(bench, "dac-1", b"SOUR:LEV:DATA " + block(volts.astype(">f8").tobytes()) + b";DATA?")
    assert answer.encode("latin-1") == block(volts.astype(">f8").tobytes())
    found = ask(bench, "dac-1", "FORM REAL,32;FORM:BORD SWAP", "SOUR:LEV:DATA?", "SOUR6:VOLT?;:SOUR:WRIT:COUN?")
    assert found[1].encode("latin-1") == block(volts.astype("<f4").tobytes())
    assert found[2] == "5.0;1"


def test_a_chip_that_fails_is_told_in_the_error_queue() -> None:
    """Whatever it raises; the instruments go on."""
    bench = a_bench()

    def broken(*codes: object) -> None:
        raise ZeroDivisionError("no light")

    bench.chip._measure = broken  # type: ignore[method-assign,assignment]
    ask(bench, "digitizer", "ACQ:POIN 64;:INIT")
    wave = block(bytes(128))
    found = ask(bench, "awg", b"SOUR1:TRAC:DATA " + wave + b";:SOUR:MARK 0,64;:INIT;*TRG", "SYST:ERR?", "*OPC?")
    assert found == ["", '-300,"Device-specific error; ZeroDivisionError: no light"', "1"]
    assert ask(bench, "digitizer", "ACQ:STAT?") == ["ARM"]
