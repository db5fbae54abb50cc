"""Faults between a driver and a bench, at every answer of its work: the right error or the right result, in time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from photonic.backends.visa.limits import CodeLimits, LaserLimits, WeightLimits
from photonic.backends.visa.opening import Access, open_digitizer, open_laser, open_modulator, open_weights
from photonic.backends.visa.roles import Digitizer, InputModulator, LaserSource, WeightBank
from photonic.errors import DisconnectedError, IdentityError, InstrumentTimeoutError, LabError, ProtocolError
from photonic.testing.bench import VirtualBench
from tests.backends.visa.peers import within

TIMEOUT_S = 0.25
CODES = CodeLimits(-128, 127)


class Proxy:
    """Passes everything on to an instrument of the bench; does something to the answer of a given number."""

    def __init__(self, port: int) -> None:
        self._port, self._stopped = port, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.port: int = self._listener.getsockname()[1]
        self.answers = 0
        self.fault: Callable[[socket.socket, bytes], bool] | None = None
        self.at = -1
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def arm(self, at: int, fault: Callable[[socket.socket, bytes], bool] | None) -> None:
        self.answers, self.at, self.fault = 0, at, fault

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            server = socket.create_connection(("127.0.0.1", self._port))
            for each in (client, server):
                each.settimeout(0.02)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ended = threading.Event()
            pair = [
                threading.Thread(target=self._pump, args=(client, server, False, ended), daemon=True),
                threading.Thread(target=self._pump, args=(server, client, True, ended), daemon=True),
            ]
            self._threads += pair
            for thread in pair:
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool, ended: threading.Event) -> None:
        try:
            while not self._stopped.is_set() and not ended.is_set():
                try:
                    data = source.recv(2**20)
                except TimeoutError:
                    continue
                if not data:
                    return
                if answers:
                    self.answers += 1
                    if self.answers - 1 == self.at and self.fault is not None and not self.fault(sink, data):
                        return
                    if self.answers - 1 == self.at:
                        continue
                sink.sendall(data)
        except OSError:
            return
        finally:
            ended.set()
            source.close()
            sink.close()


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
