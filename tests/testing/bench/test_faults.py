"""Faults happen to the message that they name, and to no other; the control port sets them from outside."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photonic.errors import DisconnectedError, LabError, SpecError
from photonic.testing import BenchControl, Fault, ManualClock, VirtualBench
from photonic.testing.bench.control import ControlService
from photonic.testing.bench.effects import Effects
from photonic.testing.bench.faults import FaultPlan, Kind
from photonic.testing.bench.transcript import Transcript

from .benches import a_bench
from .rawdriver import Link, block

SPEC = "sim:typical?n_inputs=3&n_outputs=2"
IDENTITY = b"PHOTONIC,VLASER,V1001,1.0"


@pytest.fixture
def bench() -> Iterator[VirtualBench]:
    with VirtualBench(SPEC, physics="ideal") as bench:
        yield bench


@pytest.fixture
def link(bench: VirtualBench) -> Iterator[Link]:
    link = Link(bench.ports["laser"], timeout_s=0.3)
    yield link
    link.close()


def everything(link: Link) -> bytes:
    """All that comes until nothing more does, or the end."""
    found = b""
    try:
        while part := link.socket.recv(4096):
            found += part
    except TimeoutError:
        return found + b"(open)"
    return found + b"(closed)"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("laser:silence", b"(open)"),
        ("laser:drop,bytes=4", b"PHOT(closed)"),
        ("laser:drop", IDENTITY[:13] + b"(closed)"),
        ("laser:drop,bytes=0", b"(closed)"),
        ("laser:truncate,bytes=7", b"PHOTONI(open)"),
        ("laser:duplicate", IDENTITY + b"\n" + IDENTITY + b"\n(open)"),
        ("laser:wrong_length", IDENTITY + b"\n(open)"),  # there is no block in it
        ("laser:reset", b"(closed)"),
        ("laser:identity", b"PHOTONIC,STRANGER,X9999,9.9\n(open)"),
    ],
)
def test_a_reply_is_spoiled_as_the_fault_says(bench: VirtualBench, link: Link, fault: str, expected: bytes) -> None:
    bench.set_fault(fault)
    link.write(b"*IDN?")
    assert everything(link) == expected


def test_a_fault_counts_messages_and_happens_once(bench: VirtualBench, link: Link) -> None:
    bench.set_fault("laser:identity@2,match=*IDN*")
    found = [link.ask(line) for line in (b"*IDN?", b"*OPC?", b"*IDN?")]
    assert found == [IDENTITY.decode(), "1", "PHOTONIC,STRANGER,X9999,9.9"]
    assert bench.clear_faults() == 1
    assert link.ask(b"*IDN?") == IDENTITY.decode()
    bench.set_fault("laser:garbage@2,times=2")
    found = [link.line() for line in (b"*IDN?",) * 4 if link.write(line) is None]
    assert [reply == IDENTITY for reply in found] == [True, False, False, True]
    assert bench.faults()[0]["fired"] == 2


def test_a_late_reply_comes_before_the_next_one(bench: VirtualBench, link: Link) -> None:
    bench.set_fault("laser:late")
    link.write(b"*IDN?")
    assert everything(link) == b"(open)"
    link.write(b"*OPC?")
    assert everything(link) == IDENTITY + b"\n1\n(open)"


def test_a_delay_passes_on_the_bench_s_clock() -> None:
    """A clock that is turned by hand makes an hour nothing."""
    with VirtualBench(SPEC, physics="ideal", clock=ManualClock(), faults=["laser:delay,seconds=3600"]) as bench:
        link = Link(bench.ports["laser"])
        assert link.ask(b"*IDN?") == IDENTITY.decode()
        assert bench.state()["time_s"] >= 3600
        link.close()


def test_a_stalled_reader_lets_the_client_s_writes_fill_up(bench: VirtualBench) -> None:
    link = Link(bench.ports["dac-1"], timeout_s=0.3)
    assert link.ask(b"*OPC?") == "1"
    bench.set_fault("dac-1:stall,seconds=30")  # while the client is silent: it is the next message all the same
    with pytest.raises(TimeoutError):
        link.write(b"SOUR:LEV:DATA ", block(np.zeros(2**22)))
    link.close()


@pytest.mark.parametrize(("kind", "header"), [("wrong_length", b"#246"), ("byte_order", b"#248")])
def test_blocks_lie_about_their_length_or_order(bench: VirtualBench, kind: str, header: bytes) -> None:
    link, volts = Link(bench.ports["dac-1"]), np.linspace(0.0, 5.0, 6)
    link.send(b"SOUR:LEV:DATA " + block(volts.astype(">f8")))
    bench.set_fault(f"dac-1:{kind}")
    link.write(b"SOUR:LEV:DATA?")
    reply = link.socket.recv(4096)
    payload = volts.astype("<f8" if kind == "byte_order" else ">f8").tobytes()
    assert reply == header + payload + b"\n"
    link.close()


def test_power_loss_resets_settings_and_drops_connections(bench: VirtualBench, link: Link) -> None:
    link.send(b"SOUR:POW 5mW;:OUTP ON")
    bench.set_fault("laser:reset")
    link.write(b"*IDN?")
    assert everything(link) == b"(closed)"
    again = Link(bench.ports["laser"])
    assert again.ask(b"SOUR:POW?;:OUTP?;*ESR?") == "0.0;0;128"
    again.close()


def test_connections_are_refused_until_the_fault_is_cleared(bench: VirtualBench, link: Link) -> None:
    bench.set_fault("laser:refuse,seconds=0")
    link.write(b"*IDN?")
    assert everything(link) == b"(closed)"
    with pytest.raises(ConnectionRefusedError):
        Link(bench.ports["laser"])
    bench.clear_faults()
    again = Link(bench.ports["laser"])
    assert again.ask(b"*IDN?") == IDENTITY.decode()
    again.close()


def test_errors_overflow_the_queue(bench: VirtualBench, link: Link) -> None:
    bench.set_fault("laser:errors")
    assert link.ask(b"SYST:ERR:COUN?") == "20"
    assert link.ask(b"SYST:ERR:ALL?").endswith('-350,"Queue overflow"')


@pytest.mark.parametrize(
    "text",
    ["", "laser", "laser:nonsense", "laser:drop@0", "laser:drop,bytes", "laser:drop,bytes=1,bytes=2", "laser:drop,x=1",
     "nobody:drop", "laser:delay,seconds=-1"],
)  # fmt: skip
def test_what_is_no_fault_is_refused(bench: VirtualBench, text: str) -> None:
    with pytest.raises(SpecError, match=r"fault|bench has"):
        bench.set_fault(text)


def test_the_control_port_does_all_of_it_from_outside(bench: VirtualBench, link: Link) -> None:
    with BenchControl(bench.control_address) as control:
        number = control.set_fault(Fault(instrument="laser", kind="identity"))
        assert link.ask(b"*IDN?").startswith("PHOTONIC,STRANGER")
        assert [fault["fired"] for fault in control.faults()] == [1]
        assert control.clear_faults(number) == 1
        control.set_interlock(False)
        assert link.ask(b"OUTP ON;:OUTP?;:SYST:ERR?").startswith("0;-221")
        before = control.state()
        assert control.advance(100.0) >= before["time_s"] + 100.0
        entries = control.transcript(instrument="laser")
        assert [entry["message"] for entry in entries] == ["*IDN?", "OUTP ON;:OUTP?;:SYST:ERR?"]
        assert entries[0]["faults"] == ["identity"]
        assert entries[1]["errors"] == [-221]
        with pytest.raises(LabError, match="nobody"):
            control.set_fault("nobody:drop")
        control.stop()
        bench.wait()


def test_nobody_at_the_control_port_is_said(bench: VirtualBench) -> None:
    bench.stop()
    with pytest.raises(DisconnectedError, match="control port"):
        BenchControl(bench.control_address)


@given(line=st.one_of(st.binary(max_size=60), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["op", "fault", "seconds", "closed", "since", "id"]), inner | st.sampled_from(
            ["set_fault", "clear_faults", "transcript", "advance", "interlock"]), max_size=3),
    max_leaves=5,
).map(repr).map(str.encode)))  # fmt: skip
def test_nothing_that_is_sent_to_the_control_port_ends_it(line: bytes) -> None:
    control = a_control()
    assert control.answer(line)["ok"] in (True, False)


def a_control() -> ControlService:
    bench = a_bench()
    return ControlService(bench, FaultPlan(bench.instruments), Effects(bench), Transcript(), lambda: None)


def test_the_transcript_tells_levels_without_keeping_them(bench: VirtualBench) -> None:
    """Lowest and highest level, the largest step and the sum of squares, of what was refused too."""
    link = Link(bench.ports["dac-1"])
    link.send(b"FORM:BORD SWAP;:SOUR:LEV:DATA ", block(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])))
    link.ask(b"SOUR:LEV:DATA ", block(np.full(6, 9.0)), b";:SYST:ERR?")
    first, second = bench.transcript.entries()
    assert first["message"] == "FORM:BORD SWAP;:SOUR:LEV:DATA #<48>;:SYST:ERR?"
    assert first["noted"][-1] == {"what": "levels", "low": 0.0, "high": 5.0, "step": 5.0, "square": 55.0}
    assert second["noted"] == [{"what": "volts", "low": 9.0, "high": 9.0}]
    assert second["errors"] == [-222]
    assert second["reply"].startswith("-222")
    link.close()


def test_many_clients_at_once_do_not_mix_their_replies(bench: VirtualBench) -> None:
    wrong: list[str] = []

    def client(number: int) -> None:
        link = Link(bench.ports["power_meter"])
        for _ in range(50):
            reply = link.ask(f"*ESE {number};*ESE?;:SENS:CHAN:COUN?".encode())
            if reply != f"{number};2":
                wrong.append(reply)
        link.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_client_that_leaves_in_the_middle_harms_nobody(bench: VirtualBench, link: Link) -> None:
    for data in (b"*IDN", b"SOUR:POW #41000abc", b"*IDN?\n" * 1000):
        with socket.create_connection(("127.0.0.1", bench.ports["laser"])) as other:
            other.sendall(data)
    assert link.ask(b"*IDN?") == IDENTITY.decode()


def test_every_kind_leaves_the_bench_in_service() -> None:
    """After a fault is cleared a new client is answered, whatever it was and whoever it happened to."""
    with VirtualBench(SPEC, physics="ideal", clock=ManualClock()) as bench:
        for kind in get_args(Kind):
            for name, port in bench.ports.items():
                bench.set_fault(f"{name}:{kind},times=2")
                first = Link(port, timeout_s=0.02)
                with contextlib.suppress(OSError):
                    first.write(b"*IDN?;:SYST:ERR?;*OPC?")
                    first.line()
                first.close()
                bench.clear_faults()
                second = Link(port)
                assert second.ask(b"*CLS;*OPC?") == "1"
                second.close()
