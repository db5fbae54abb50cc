"""Faults between a driver and a bench, at every answer of its work: the right error or the right result, in time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from photonic.backends.visa.limits import CodeLimits, LaserLimits, WeightLimits
from photonic.backends.visa.opening import Access, open_digitizer, open_laser, open_modulator, open_weights
from photonic.backends.visa.roles import Digitizer, InputModulator, LaserSource, WeightBank
from photonic.errors import DisconnectedError, IdentityError, InstrumentTimeoutError, LabError, ProtocolError
from photonic.testing.bench import VirtualBench
from tests.backends.visa.peers import within
from tests.backends.visa.proxy import Proxy

TIMEOUT_S = 1.0  # no shorter: a busy host itself may stand still for half a second
CODES = CodeLimits(-128, 127)


def _goes_on(action: Callable[[socket.socket, bytes], object]) -> Callable[[socket.socket, bytes], bool]:
    def fault(sink: socket.socket, data: bytes) -> bool:
        action(sink, data)
        return True

    return fault


def _ends(action: Callable[[socket.socket, bytes], object]) -> Callable[[socket.socket, bytes], bool]:
    def fault(sink: socket.socket, data: bytes) -> bool:
        action(sink, data)
        return False

    return fault


LOST = (InstrumentTimeoutError, DisconnectedError, ProtocolError, IdentityError)
FAULTS: dict[str, tuple[Callable[[socket.socket, bytes], bool], tuple[type[LabError], ...]]] = {
    "silence": (_goes_on(lambda sink, data: None), (InstrumentTimeoutError,)),
    "closed": (_ends(lambda sink, data: None), (DisconnectedError,)),
    "cut": (_ends(lambda sink, data: sink.sendall(data[: len(data) // 2])), (DisconnectedError,)),
    "truncated": (_goes_on(lambda sink, data: sink.sendall(data[:-1])), (InstrumentTimeoutError,)),
    "garbage": (_goes_on(lambda sink, data: sink.sendall(b"\xfe\xff\x80;\n")), LOST),
    "twice": (_goes_on(lambda sink, data: sink.sendall(data + data)), LOST),
    "wrong length": (_goes_on(lambda sink, data: sink.sendall(data.replace(b"#", b"#1", 1))), LOST),
}


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench("sim:typical?n_inputs=2&n_outputs=2", physics="ideal") as opened:
        yield opened


def _access(proxy: Proxy) -> Access:
    return Access("box", f"TCPIP0::127.0.0.1::{proxy.port}::SOCKET", identity="PHOTONIC", timeout_s=TIMEOUT_S)


def _light(laser: LaserSource) -> object:
    laser.set_power(2e-3)
    laser.enable()
    found = laser.power_w(), laser.enabled(), laser.interlock_closed(), laser.lock()
    laser.disable()
    return found


def _program(bank: WeightBank) -> object:
    bank.enable()
    bank.program(np.arange(4) / 4)
    bank.program_list(np.arange(8).reshape(2, 4) / 8, 1e-3)
    return bank.levels_v().tolist(), bank.enabled()


def _upload(source: InputModulator) -> object:
    source.load(np.full((2, 64), 7, dtype=np.int16), segments=1, repeats=1, marker=(0, 64))
    source.enable()
    source.park()
    return source.enabled()


def _configure(recorder: Digitizer) -> object:
    recorder.configure(64, 2, rate_hz=4e6)
    recorder.arm()
    return sorted(recorder.snapshot().items())


CASES: dict[str, tuple[str, Callable[[Proxy], object], Callable[[object], object]]] = {
    "laser": ("laser", lambda p: open_laser(_access(p), LaserLimits(1e-2, consent=True)), _light),
    "weights": (
        "dac-1",
        lambda p: open_weights(
            _access(p), WeightLimits.uniform(4, volts_min=0, volts_max=4), channels=range(4), settle_time_s=0.0
        ),
        _program,
    ),
    "modulator": ("awg", lambda p: open_modulator(_access(p), CODES, rate_hz=4e6), _upload),
    "digitizer": ("digitizer", lambda p: open_digitizer(_access(p), CODES), _configure),
}  # type: ignore[assignment]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("case", CASES)
def test_a_fault_at_any_answer_ends_right_and_in_time(bench: VirtualBench, case: str, fault: str) -> None:
    name, opener, work = CASES[case]
    commit, errors = FAULTS[fault]
    with Proxy(bench.ports[name]) as proxy:
        driver = opener(proxy)
        proxy.arm(-1, None)
        expected = work(driver)
        exchanges = proxy.answers
        assert exchanges >= 3
        failed = 0
        for at in range(exchanges):
            proxy.arm(at, commit)
            with within(TIMEOUT_S):
                try:
                    assert work(driver) == expected
                except errors:
                    failed += 1
            proxy.arm(-1, None)
            assert work(driver) == expected  # over a new connection, where there had to be one
        assert failed or fault in ("twice", "wrong length")
        driver.close()  # type: ignore[attr-defined]
