"""Another handwriting: long forms, signs, exponents, spaces, #9 headers, CR LF, answers in many packets."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from photonic.backends.visa.limits import CodeLimits, LaserLimits, TemperatureLimits, WeightLimits
from photonic.backends.visa.opening import (
    Access,
    open_digitizer,
    open_laser,
    open_modulator,
    open_power,
    open_temperature,
    open_weights,
)
from photonic.testing.bench import VirtualBench
from tests.backends.visa.proxy import Proxy

CODES = CodeLimits(-128, 127)
LONG = {b"SWAP": b"SWAPPED", b"NORM": b"NORMAL", b"INT,16": b"INTEGER, 16", b"REAL,64": b"REAL, +64", b"FIX": b"FIXED"}


class Handwriting:
    """Writes the answers of a bench anew; keeps what is not yet a whole line."""

    def __init__(self) -> None:
        self._come = b""

    def __call__(self, sink: socket.socket, data: bytes) -> bool:
        self._come += data
        fields, at = [], 0
        while True:
            head = re.compile(rb"#(\d)").match(self._come, at)
            if head:
                digits = int(head[1])
                start = at + 2 + digits
                count = int(self._come[at + 2 : start] or b"0")
                end = start + count
                if len(self._come) <= end:
                    return True
                fields.append(b"#9%09d" % count + self._come[start:end])
            else:
                found = re.compile(rb'(?:"[^"]*"|[^";\n])*').match(self._come, at)
                assert found is not None
                end = found.end()
                if len(self._come) <= end:
                    return True
                fields.append(self._written(found[0]))
            if self._come[end : end + 1] == b"\n":
                break
            at = end + 1
        line, self._come = b" ; ".join(fields) + b" \r\n", self._come[end + 1 :]
        for part in (line[:3], line[3:7], line[7:]):
            if part:
                sink.sendall(part)
        return True

    @staticmethod
    def _written(field: bytes) -> bytes:
        if field in LONG:
            return b" " + LONG[field]
        if field == b"1":
            return b"+1"
        if re.fullmatch(rb"-?\d+\.\d*([eE][+-]?\d+)?", field):
            return b"%+.7E" % float(field)
        if re.fullmatch(rb"\d+", field):
            return b"%+.6E" % int(field) if int(field) % 1000 == 0 and int(field) else b"+" + field
        return field


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench("sim:typical?n_inputs=2&n_outputs=2", physics="ideal") as opened:
        yield opened


@pytest.fixture
def access(bench: VirtualBench, request: pytest.FixtureRequest) -> Iterator[Access]:
    with Proxy(bench.ports[request.param], Handwriting) as proxy:
        yield Access(request.param, f"TCPIP0::127.0.0.1::{proxy.port}::SOCKET", identity="PHOTONIC", timeout_s=5.0)


@pytest.mark.parametrize("access", ["laser"], indirect=True)
def test_a_laser(access: Access) -> None:
    laser = open_laser(access, LaserLimits(1e-2, consent=True))
    laser.set_power(1.2345678e-3)
    laser.enable()
    assert laser.power_w() == pytest.approx(1.2345678e-3)
    assert laser.enabled()
    laser.make_safe()
    laser.close()


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("access", ["dac-1"], indirect=True)
def test_a_weight_bank(access: Access, order: str) -> None:
    limits = WeightLimits.uniform(4, volts_min=0, volts_max=4, slew_v_per_s=1e3)
    bank = open_weights(
        Access(**{**access.__dict__, "byte_order": order}), limits, channels=range(4), settle_time_s=0.0
    )
    levels = np.array([0.1, 1 / 3, 2.0, 4.0])
    bank.program(levels)
    np.testing.assert_array_equal(bank.levels_v(), levels)
    bank.program_list(np.stack([levels, levels[::-1]]), 0.01)
    bank.program(np.zeros(4))
    bank.enable()
    bank.disable()
    bank.close()


@pytest.mark.parametrize("access", ["awg"], indirect=True)
def test_a_modulator(access: Access) -> None:
    source = open_modulator(access, CODES, rate_hz=4e6)
    source.load(np.full((2, 256), 7, dtype=np.int16), segments=2, repeats=1000, marker=(16, 64))
    source.enable()
    source.arm()
    source.make_safe()
    source.close()


@pytest.mark.parametrize("access", ["digitizer"], indirect=True)
def test_a_digitizer(access: Access, bench: VirtualBench) -> None:
    recorder = open_digitizer(access, CODES)
    recorder.configure(1000, 1, rate_hz=4e6)
    recorder.arm()
    record = np.arange(2000).reshape(2, 1, 1000) % 100 - 20
    bench.model.digitizer.recorded(record)
    np.testing.assert_array_equal(recorder.fetch([0, 1]), record[:, 0])
    recorder.close()


@pytest.mark.parametrize("access", ["tec"], indirect=True)
def test_a_temperature_controller(access: Access) -> None:
    tec = open_temperature(access, TemperatureLimits(290, 310))
    tec.set_temperature(298.4)
    assert tec.setpoint_k() == pytest.approx(298.4)
    tec.close()


@pytest.mark.parametrize("access", ["power_meter"], indirect=True)
def test_a_power_meter(access: Access) -> None:
    meter = open_power(access)
    assert meter.power_w(0) >= 0
    meter.close()
