"""Vendor dialects against dialogues written from public manuals, to the byte. Not yet run on hardware."""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from photonic.backends.visa.dialect import built_in, load_dialect
from photonic.backends.visa.limits import CodeLimits, PowerBudget, WeightLimits
from photonic.backends.visa.opening import (
    Access,
    open_digitizer,
    open_modulator,
    open_power,
    open_weights,
)
from photonic.backends.visa.roles import WeightBank
from photonic.errors import (
    IdentityError,
    InstrumentError,
    LimitError,
    OverloadError,
    ProtocolError,
    ReadbackError,
    SpecError,
)
from tests.backends.visa.peers import Peer, line_by_line

OK = b'0,"No error"'


def scpi(identity: bytes, *exchanges: tuple[str, str], end: bytes = b"\n") -> list[tuple[bytes, bytes]]:
    """A dialogue that begins with the identity and whose messages all ask for errors."""
    said = [(b"*CLS;*IDN?", identity + end)]
    for sent, answer in exchanges:
        said.append((f"{sent};:SYST:ERR?".encode(), (f"{answer};" if answer else "").encode() + OK + end))
    return said


# ---------------------------------------------------------------- dialects are data


def test_every_dialect_is_valid_and_says_what_was_not_run_on_hardware() -> None:
    assert built_in() == ["keysight-n77xx", "qdac2", "qontrol", "red-pitaya", "virtual"]
    for name in built_in():
        assert ("not yet run on hardware" in load_dialect(name).untested) == (name != "virtual")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("power = {power = ':P?', pwer = 1}", "pwer"),
        ("[laser]\npower = ':P {watts}'\noutput = ':O {state}'", "watts"),
        ("first_channel = -1", "first_channel"),
        ("[power]\nchannels = ':C?'", "power"),
    ],
)
def test_a_dialect_with_an_unknown_key_or_field_is_refused(table: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        load_dialect(tomllib.loads(table))


def test_a_dialect_comes_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[power]\npower = ':READ{ch}?'\nn_channels = 1\n")
    power = load_dialect(str(tmp_path / "mine.toml")).power
    assert power is not None
    assert power.power == ":READ{ch}?"
    for wrong in ("nobody", str(tmp_path / "none.toml")):
        with pytest.raises(SpecError):
            load_dialect(wrong)


# ---------------------------------------------------------------- QDAC-II


QDAC = b"QDevil, QDAC-II, A001234, 4-0.9.20"


def _read(volts: Sequence[str]) -> tuple[str, str]:
    return ":sour3:volt:last?;:sour5:volt:last?", ";".join(volts)


def test_qdac2_programs_channels_with_its_own_slew() -> None:
    limits = WeightLimits.uniform(2, volts_min=-1.0, volts_max=5.0, slew_v_per_s=100.0, resistance_ohm=1e3)
    program = (
        ":sour3:volt:slew 100.0;:sour3:volt:slew?;:sour5:volt:slew 100.0;:sour5:volt:slew?;"
        ":sour3:volt:mode fix;:sour3:volt:mode?;:sour5:volt:mode fix;:sour5:volt:mode?;"
        ":sour3:volt 0.5000000;:sour5:volt -0.2500000;:sour3:volt?;:sour5:volt?"
    )
    dialogue = scpi(
        QDAC,
        _read(["0", "0"]),
        _read(["0.1", "0"]),
        (program, "100;100;FIX;FIX;0.500003;-0.249999"),
        _read(["0.500003", "-0.249999"]),
    )
    with Peer(line_by_line(dialogue)) as peer:
        bank = open_weights(
            Access("qdac", peer.resource, "qdac2", "QDAC-II"), limits, channels=[2, 4], settle_time_s=0.0
        )
        bank.program(np.array([0.5, -0.25]))
        np.testing.assert_allclose(bank.levels_v(), [0.500003, -0.249999])
        assert (bank.n_channels, bank.enabled(), bank.writes()) == (2, True, 1)
        bank.close()


def test_qdac2_holds_a_list_for_each_channel() -> None:
    limits = WeightLimits.uniform(2, volts_min=-1.0, volts_max=5.0)

    def listed(channel: int, volts: str, found: str) -> tuple[str, str]:
        sour = f":sour{channel}"
        return (
            f"{sour}:volt:mode list;{sour}:volt:mode?;{sour}:list:volt {volts};{sour}:list:volt?;"
            f"{sour}:list:dwel 0.01;{sour}:list:dwel?;{sour}:list:tmod auto;{sour}:list:dir up;{sour}:list:coun 1;"
            f"{sour}:dc:trig:sour bus;{sour}:dc:init:cont off;{sour}:dc:init",
            f"LIST;{found};1.0E-2",
        )

    dialogue = scpi(
        QDAC,
        _read(["0", "0"]),
        _read(["0", "0"]),
        listed(3, "0.1000000,0.2000000", "0.1,0.2"),
        listed(5, "0.0000000,1.0000000", "0,1.00001"),
    )
    with Peer(line_by_line(dialogue)) as peer:
        access = Access("qdac", peer.resource, "qdac2", "QDAC-II")
        bank = open_weights(access, limits, channels=[2, 4], settle_time_s=0.0)
        bank.program_list(np.array([[0.1, 0.0], [0.2, 1.0]]), 0.01)
        bank.close()


def test_qdac2_that_does_not_reach_its_level_is_an_error() -> None:
    limits = WeightLimits.uniform(1, volts_min=-1.0, volts_max=5.0)
    read = (":sour1:volt:last?", "0")
    program = ":sour1:volt:mode fix;:sour1:volt:mode?;:sour1:volt 0.5000000;:sour1:volt?"
    with Peer(line_by_line(scpi(QDAC, read, read, (program, "FIX;0.49")))) as peer:
        bank = open_weights(Access("qdac", peer.resource, "qdac2"), limits, channels=[0], settle_time_s=0.0)
        with pytest.raises(ReadbackError, match=r"sent as 0\.5 V and reads 0\.49 V"):
            bank.program(np.array([0.5]))
        bank.close()


# ---------------------------------------------------------------- Keysight N77xx


def test_n77xx_reads_watts_and_refuses_its_over_range_sentinel() -> None:
    dialogue = scpi(
        b"Keysight Technologies,N7744A,MY12345678,V1.20",
        (":SENS1:POW:UNIT 1;:SENS1:POW:UNIT?", "+1"),
        (":SENS3:POW:UNIT 1;:SENS3:POW:UNIT?", "+1"),
        (":SENS1:POW:RANG:AUTO 1;:SENS1:POW:RANG:AUTO?", "+1"),
        (":SENS3:POW:RANG:AUTO 1;:SENS3:POW:RANG:AUTO?", "+1"),
        (":FETC3:POW?", "+1.23456700E-004"),
        (":FETC1:POW?", "+9.90000000E+037"),
        (":FETC1:POW?", "+9.91000000E+037"),
    )
    with Peer(line_by_line(dialogue)) as peer:
        meter = open_power(Access("meter", peer.resource, "keysight-n77xx", "N774[45]"), channels=[0, 2])
        assert meter.power_w(1) == 1.234567e-4
        for _ in range(2):
            with pytest.raises(OverloadError, match="over its range"):
                meter.power_w(0)
        meter.close()


# ---------------------------------------------------------------- Red Pitaya


PITAYA = b"REDPITAYA,INSTR2024,0,01-02"
CODES = CodeLimits(-8192, 8191)


def test_red_pitaya_plays_a_waveform_as_text() -> None:
    def load(channel: int, values: str) -> tuple[str, str]:
        sour = f":SOUR{channel}"
        return (
            f"{sour}:FUNC ARBITRARY;{sour}:FUNC?;{sour}:FREQ:FIX 31250.000000;{sour}:FREQ:FIX?;{sour}:VOLT 1;"
            f"{sour}:VOLT?;{sour}:BURS:STAT BURST;{sour}:BURS:STAT?;{sour}:BURS:NCYC 2;{sour}:BURS:NCYC?;"
            f"{sour}:BURS:NOR 1;{sour}:BURS:NOR?;{sour}:TRAC:DATA:DATA {values}",
            "ARBITRARY;31250;1;BURST;2;1",
        )

    off = (":OUTPUT1:STATE OFF;:OUTPUT1:STATE?;:OUTPUT2:STATE OFF;:OUTPUT2:STATE?", "0;0")
    idle = ";".join(
        f":SOUR{n}:{what} 0.000000;:SOUR{n}:{what}?" for n in (1, 2) for what in ("INITValue", "BURS:LASTValue")
    )
    on = ":OUTPUT1:STATE ON;:OUTPUT1:STATE?;:OUTPUT2:STATE ON;:OUTPUT2:STATE?"
    dialogue = scpi(
        PITAYA,
        load(1, "-1.000000,-0.500000,0.000000,0.500000"),
        load(2, "0.000000,0.000000,0.250000,0.999878"),
        (f"{idle};{on}", "0;0;0;0;1;1"),
        (":SOUR1:TRig:SOUR INT;:SOUR1:TRig:SOUR?;:SOUR2:TRig:SOUR INT;:SOUR2:TRig:SOUR?", "INT;INT"),
        (":SOUR:TRig:INT;*OPC?", "1"),
        off,
        end=b"\r\n",
    )
    with Peer(line_by_line(dialogue, b"\r\n")) as peer:
        source = open_modulator(Access("pitaya", peer.resource, "red-pitaya", "REDPITAYA"), CODES, rate_hz=125e3)
        waveforms = np.array([[-8192, -4096, 0, 4096], [0, 0, 2048, 8191]], dtype=np.int16)
        source.load(waveforms, segments=1, repeats=2, marker=(0, 4))
        source.enable()
        source.arm()
        source.trigger()
        source.make_safe()
        with pytest.raises(LimitError, match="nothing was sent"):
            source.load(np.zeros((2, 16385), dtype=np.int16), segments=1, repeats=1, marker=(0, 1))
        source.close()


def _pitaya_record(found: bytes) -> list[tuple[bytes, bytes]]:
    settings = [
        (":ACQ:DEC:Factor 8", "8"),
        (":ACQ:DATA:FORMAT BIN", "BIN"),
        (":ACQ:DATA:BYTE:ORDER BEND", "BEND"),
        (":ACQ:DATA:Units RAW", "RAW"),
        (":ACQ:TRig:DLY 0", "0"),
        (":ACQ:SOUR1:GAIN LV", "LV"),
        (":ACQ:SOUR2:GAIN LV", "LV"),
    ]
    configure = ";".join(f"{text};{text.split()[0]}?" for text, _ in settings)
    dialogue = scpi(
        PITAYA,
        (f":ACQ:RST;{configure}", ";".join(answer for _, answer in settings)),
        (":ACQ:START;:ACQ:TRig AWG_PE", ""),
        (":ACQ:TRig:STAT?", "WAIT"),
        (":ACQ:TRig:STAT?", "TD"),
        (":ACQ:TRig:FILL?", "1"),
        (":ACQ:TPOS?", "12000"),
        end=b"\r\n",
    )
    query = b":ACQ:SOUR2:DATA:Start:N? 12000,4;:SYST:ERR?"
    return [*dialogue, (query, found + b";" + OK + b"\r\n")]


def test_red_pitaya_records_from_its_trigger_big_endian() -> None:
    codes = np.array([-8192, 8191, 10, -1], dtype=">i2")
    with Peer(line_by_line(_pitaya_record(b"#18" + codes.tobytes()), b"\r\n")) as peer:
        recorder = open_digitizer(Access("pitaya", peer.resource, "red-pitaya", "REDPITAYA"), CODES)
        for wrong in ((8193, 1, 125e6, 1.0), (64, 2, 125e6, 1.0), (64, 1, 3e6, 1.0), (64, 1, 125e6, 2.0)):
            with pytest.raises(LimitError, match="nothing was sent"):
                recorder.configure(wrong[0], wrong[1], rate_hz=wrong[2], gain=wrong[3])
        recorder.configure(4, 1, rate_hz=125e6 / 8)
        recorder.arm()
        record = recorder.fetch([1])
        np.testing.assert_array_equal(record, [[-8192, 8191, 10, -1]])
        assert record.dtype == np.int16
        recorder.close()


def test_red_pitaya_in_another_byte_order_is_noticed_by_its_codes() -> None:
    codes = np.array([5, 300, 10, -1], dtype="<i2")
    with Peer(line_by_line(_pitaya_record(b"#18" + codes.tobytes()), b"\r\n")) as peer:
        recorder = open_digitizer(Access("pitaya", peer.resource, "red-pitaya", "REDPITAYA"), CODES)
        recorder.configure(4, 1, rate_hz=125e6 / 8)
        recorder.arm()
        with pytest.raises(ProtocolError, match="byte order"):
            recorder.fetch([1])
        recorder.close()


# ---------------------------------------------------------------- Qontrol, on a serial line


@contextmanager
def serial_line(dialogue: Sequence[tuple[bytes, bytes]]) -> Iterator[str]:
    """A pseudo terminal with a module that keeps to a dialogue behind it; gives its resource name."""
    import tty

    master, slave = os.openpty()
    tty.setraw(slave)
    failures: list[str] = []

    def serve() -> None:
        come = b""
        for expected, reply in dialogue:
            while b"\n" not in come:
                come += os.read(master, 1024)
            line, _, come = come.partition(b"\n")
            if line != expected:
                failures.append(f"expected {expected!r}, found {line!r}")
                return
            os.write(master, reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"ASRL{os.ttyname(slave)}::INSTR"
    thread.join(5.0)
    alive = thread.is_alive()
    os.close(slave)
    os.close(master)
    assert not failures
    assert not alive


BOX = [(b"ID?", b"Q8iv-00F2\n"), (b"ID?", b"Q8iv-00F2\n"), (b"NCHAN?", b"8\n")]


def _all(*volts: float) -> tuple[bytes, bytes]:
    return b"VALL?", b"".join(b"%.3f V\n" % value for value in (*volts, *[0.0] * (8 - len(volts))))


def _qontrol(resource: str, budget: PowerBudget | None = None) -> WeightBank:
    limits = WeightLimits.uniform(2, volts_min=0.0, volts_max=12.0, resistance_ohm=1e3)
    access = Access("heaters", resource, "qontrol", "Q8iv-00F2", timeout_s=2.0)
    return open_weights(access, limits, channels=[0, 3], settle_time_s=0.0, budget=budget)


def test_qontrol_programs_channels_on_a_serial_line() -> None:
    dialogue = [
        *BOX, _all(0.0), _all(0.0),
        (b"V0=1.5000", b"OK\n"), (b"V3=2.0000", b"OK\n"), _all(1.501, 0, 0, 1.998), _all(1.501, 0, 0, 1.998),
    ]  # fmt: skip
    with serial_line(dialogue) as resource:
        bank = _qontrol(resource)
        bank.program(np.array([1.5, 2.0]))
        np.testing.assert_allclose(bank.levels_v(), [1.501, 1.998])
        with pytest.raises(LimitError, match="no list"):
            bank.program_list(np.zeros((2, 2)), 1.0)
        with pytest.raises(LimitError, match="nothing was sent"):
            bank.program(np.array([12.1, 0.0]))
        assert (bank.list_length, bank.n_channels, bank.writes()) == (1, 2, 1)
        bank.close()


def test_qontrol_errors_carry_their_code_and_close_the_line() -> None:
    dialogue = [*BOX, _all(0.0), _all(0.0), (b"V0=1.0000", b"E01:00\n"), BOX[0], (b"V0=0.0000", b"OK\n")]
    dialogue += [(b"V3=0.0000", b"OK\n"), _all(0.0)]
    with serial_line(dialogue) as resource:
        bank = _qontrol(resource, PowerBudget(1.0))
        with pytest.raises(InstrumentError, match="over-voltage") as caught:
            bank.program(np.array([1.0, 0.0]))
        assert caught.value.code == 1
        bank.make_safe()
        bank.close()


def test_qontrol_of_another_name_is_refused() -> None:
    with serial_line([(b"ID?", b"Q8b-0001\n")]) as resource, pytest.raises(IdentityError, match="Q8b-0001"):
        _qontrol(resource)
