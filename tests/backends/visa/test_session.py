"""The session: what it takes for an answer and what it refuses, blocks, transcripts, and visa's own calls."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from photonic.backends.visa.blocks import raw_bytes
from photonic.backends.visa.messages import Command, Protocol, ask
from photonic.backends.visa.owner import Owner
from photonic.backends.visa.session import ScpiSession
from photonic.backends.visa.streams import SocketStream, VisaStream
from photonic.backends.visa.transcript import Transcript
from photonic.errors import InstrumentError, InstrumentTimeoutError, LabError, ProtocolError, ReadbackError
from tests.backends.visa.peers import Box, Peer, within
from tests.backends.visa.sessions import TIMEOUT_S, garbage, opened, silent


def test_a_message_ends_with_the_error_query_and_the_answer_is_one_line() -> None:
    box = Box({":A?": b"1.5", ":B?": b"two"})
    with Peer(box.serve) as peer:
        session = opened(peer)
        assert session.run([Command(":SET 3"), ask(":A?"), ask(":B?")]) == ["1.5", "two"]
        session.close()
    assert box.messages == [b"*CLS;*IDN?", b":SET 3;:A?;:B?;:SYST:ERR?"]


@pytest.mark.parametrize(
    "line", [b'+0,"No error"', b'0,"No error; really"', b' 0 , "No error"\r', b"0", b'0,"a ""b"""']
)
def test_legal_forms_of_no_error_are_taken(line: bytes) -> None:
    box = Box({":A?": b" 7 \t"}, errors=[line])
    with Peer(box.serve) as peer:
        session = opened(peer)
        assert session.query(":A?") == "7"
        session.close()


def test_an_error_carries_code_and_text_and_the_queue_is_drained() -> None:
    box = Box(errors=[b'-222,"Data out of range"', b'-350,"Queue overflow"', b'+310,"hot; very"'])
    with Peer(box.serve) as peer:
        session = opened(peer)
        with pytest.raises(InstrumentError, match="could not hold") as caught:
            session.run([Command(":POW 9")])
        assert (caught.value.code, caught.value.text) == (-222, "Data out of range")
        session.run([Command(":POW 1")])
        assert peer.connections == 1
        session.close()


def test_a_query_that_is_not_answered_because_of_an_error_leaves_the_session_in_step() -> None:
    box = Box({":A?": b"1"})
    with Peer(box.serve) as peer:
        session = opened(peer, marks=True)
        with pytest.raises(InstrumentError, match="Undefined header"):
            session.run([ask(":NO?"), ask(":A?")])
        with pytest.raises(InstrumentError, match="Undefined header"):
            session.run([Command(":NO?", into=raw_bytes(np.empty(4)))])
        assert session.query(":A?") == "1"
        assert peer.connections == 1
        session.close()


def test_a_setting_that_reads_back_otherwise_is_an_error() -> None:
    with Peer(Box({":POW?": b"2.0E-3", ":BORD?": b"SWAP", ":OUTP?": b"1"}).serve) as peer:
        session = opened(peer)
        session.run([ask(":POW?", "0.002"), ask(":BORD?", "SWAPped"), ask(":OUTP?", "ON")])
        with pytest.raises(ReadbackError, match="expected NORMal"):
            session.run([ask(":BORD?", "NORMal")])
        session.close()


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize("header", [b"#216", b" #216", b"#9000000016", b"\t#3016"])
def test_blocks_are_read_into_their_array_whatever_their_header_looks_like(header: bytes) -> None:
    values = np.array([10, 2570, 1e-300, -3.5])  # line feeds among their bytes
    box = Box({":D?": header + values.tobytes(), ":A?": b"x"})
    with Peer(box.serve) as peer:
        session = opened(peer)
        box.answers[":D?"] = header.replace(b"16", b"32") + values.tobytes()
        found, again = np.empty(4), np.empty(4)
        assert session.run(
            [ask(":A?"), Command(":D?", into=raw_bytes(found)), Command(":D?", into=raw_bytes(again)), ask(":A?")]
        ) == [
            "x",
            "x",
        ]
        np.testing.assert_array_equal([found, again], [values, values])
        session.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"#0" + bytes(32), "indefinite length"),
        (b"#216" + bytes(16), "expected a block of 32 bytes"),
        (b"#240" + bytes(40), "expected a block of 32 bytes"),
        (b"#2x2" + bytes(32), "in digits"),
        (b"#A32" + bytes(32), "expected a block"),
        (b'ERR "at # 3"', "expected a block"),
        (b"#232" + bytes(32) + b"7", "after a block"),
        (b"#232" + bytes(33), "printable"),
    ],
)
def test_a_block_that_is_not_the_one_asked_for_ends_the_connection(answer: bytes, words: str) -> None:
    box = Box({":D?": answer, ":A?": b"fresh"})
    with Peer(box.serve) as peer:
        session = opened(peer)
        with within(TIMEOUT_S), pytest.raises(ProtocolError, match=words):
            session.run([Command(":D?", into=raw_bytes(np.empty(4)))])
        assert session.query(":A?") == "fresh"
        assert peer.connections == 2
        session.close()


def test_many_blocks_go_in_one_message_and_messages_stay_below_their_limit() -> None:
    box = Box()
    rows = np.arange(40, dtype="<i2").reshape(4, 10) + 3000  # neither ; nor # among their bytes
    with Peer(box.serve) as peer:
        session = opened(peer)
        commands = [Command(f":D{index}", block=raw_bytes(row)) for index, row in enumerate(rows)]
        session.run(commands, preamble=[Command(":F")])
        session.close()
        small = ScpiSession("box", peer.connect, Protocol(message_bytes=60), timeout_s=TIMEOUT_S)
        small.run(commands, preamble=[Command(":F")])
        small.close()
    blocks = [b":D%d #220%s" % (index, row.tobytes()) for index, row in enumerate(rows)]
    assert box.messages[1] == b":F;" + b";".join(blocks) + b";:SYST:ERR?"
    assert box.messages[3:] == [b":F;" + b";".join(two) + b";:SYST:ERR?" for two in (blocks[:2], blocks[2:])]


# ---------------------------------------------------------------- other ways


def test_what_goes_through_visa_s_own_calls_is_the_same() -> None:
    values = np.array([10.0, 2570.0, -1.0, 3.0])
    box = Box({":D?": b"#232" + values.tobytes(), ":A?": b"x"})
    with Peer(box.serve) as peer:

        def connect() -> VisaStream:
            stream = peer.connect()
            assert isinstance(stream, SocketStream)
            return VisaStream("box", stream._opened)

        session = ScpiSession("box", connect, Protocol(mark="*ESE"), timeout_s=TIMEOUT_S)
        found = np.empty(4)
        assert session.run(
            [Command(":E", block=raw_bytes(values + 0.5)), ask(":A?"), Command(":D?", into=raw_bytes(found))]
        ) == ["x"]
        np.testing.assert_array_equal(found, values)
        box.faults = {len(box.messages): silent}
        with within(TIMEOUT_S), pytest.raises(InstrumentTimeoutError):
            session.query(":A?")
        assert session.query(":A?") == "x"
        session.close()


def test_a_transcript_holds_every_exchange_and_how_it_failed(tmp_path: Path) -> None:
    values = np.array([1.0, 2.0])
    box = Box({":D?": b"#216" + values.tobytes(), ":A?": b"x"}, faults={2: garbage})
    transcript = Transcript(tmp_path / "lab.jsonl")
    with Peer(box.serve) as peer:
        session = opened(peer, transcript=transcript)
        session.run([Command(":E", block=raw_bytes(values)), Command(":D?", into=raw_bytes(np.empty(2)))])
        with pytest.raises(ProtocolError):
            session.query(":A?")
        session.close()
    first, second, third = [json.loads(line) for line in (tmp_path / "lab.jsonl").read_text().splitlines()]
    assert (first["sent"], first["received"]) == (["*CLS;*IDN?"], ["TEST,MODEL,42,1.0"])
    assert second["sent"][1] == second["received"][0]
    assert second["sent"][1]["bytes"] == 16
    assert second["error"] is None
    assert third["error"].startswith("ProtocolError: box: expected printable text")


def test_an_exchange_gives_way_to_making_the_bench_safe() -> None:
    box = Box({":A?": b"7"}, faults={1: silent})
    owner = Owner("box")
    with Peer(box.serve) as peer:
        session = ScpiSession("box", peer.connect, Protocol(), timeout_s=60.0, owner=owner)
        session.identify()
        timer = threading.Timer(0.2, owner.interrupted.set)
        timer.start()
        with within(0.5), pytest.raises(LabError, match="being made safe"):
            session.query(":A?")
        timer.join()
        session.close()
    owner.close(session.close)
