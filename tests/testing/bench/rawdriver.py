"""A driver on bare sockets: what the contract says, and nothing of the library's own lab code."""

from __future__ import annotations

import socket
import time
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from photonic.backends.chip import Chip, Conditions
from photonic.backends.visa.benchfile import BenchFile


class Link:
    """A socket to one instrument."""

    def __init__(self, port: int, timeout_s: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.socket.makefile("rb")

    def write(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join((*parts, b"\n")))

    def line(self) -> bytes:
        return self._stream.readline().rstrip(b"\n")

    def ask(self, *parts: bytes) -> str:
        self.write(*parts)
        return self.line().decode()

    def send(self, *parts: bytes) -> None:
        """Sends commands, and fails if the instrument found an error."""
        answer = self.ask(*parts, b";:SYST:ERR?")
        assert answer.startswith("0,"), answer

    def block(self, dtype: str) -> np.ndarray:
        """Reads one block; what follows it is left."""
        sign, digits = self._stream.read(2)
        assert sign == ord("#")
        return np.frombuffer(self._stream.read(int(self._stream.read(digits - 48))), dtype)

    def after(self) -> bytes:
        return self._stream.read(1)

    def close(self) -> None:
        self._stream.close()
        self.socket.close()


def block(samples: np.ndarray) -> bytes:
    size = str(samples.nbytes)
    return f"#{len(size)}{size}".encode() + samples.tobytes()


class RawChip(Chip):
    """A chip behind the bench of a file, over bare sockets.

    Args:
        file: of the bench.
        late_symbols: samples later than the file says.
        settle: whether it waits after a programming.
        by_list: whether the weight bank steps through a list; else tile by tile.
    """

    def __init__(
        self, file: BenchFile, *, late_symbols: float = 0.0, settle: bool = True, by_list: bool = True
    ) -> None:
        super().__init__(file.spec)
        self.file, self._late, self._settle, self._by_list = file, late_symbols, settle, by_list
        roles = (file.weights, file.inputs, file.digitizer, file.laser, file.temperature)
        boxes = {box.name: box for role in roles for box in role.instruments}
        self.links = {name: Link(int(box.resource.split("::")[2])) for name, box in boxes.items()}
        self.dacs = [(self.links[box.name], *box.channels[0]) for box in file.weights.instruments]
        self.awg, self.digitizer = self.links["awg"], self.links["digitizer"]
        self._code = "<i2" if self.spec.code_dtype == torch.int16 else "<f8"
        self._count = "<i2" if self.spec.count_dtype == torch.int16 else "<f8"
        self._prepare()

    def _prepare(self) -> None:
        kinds = {"<i2": b"FORM INT,16;:FORM:BORD SWAP", "<f8": b"FORM REAL,64;:FORM:BORD SWAP"}
        self.links["tec"].send(b"OUTP ON")
        self.links["laser"].send(b"SOUR:POW %r;:OUTP ON" % self.file.laser.power_full_w)
        self.awg.send(kinds[self._code], b";:OUTP ON")
        self.digitizer.send(kinds[self._count])
        for dac, _, _ in self.dacs:
            dac.send(b"FORM REAL,64;:FORM:BORD SWAP;:OUTP ON")

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
        power = float(conditions.get("laser_power", 1.0)) * (self.file.laser.power_full_w or 0.0)
        self.links["laser"].send(f"SOUR:POW {power!r}".encode())
        self._gain = float(conditions.get("analog_gain", 1.0))
        if self._by_list:
            return self._play(weights, inputs)
        rows = [
            [self._play(weights[r : r + 1, c : c + 1], inputs[c : c + 1]) for c in range(len(inputs))]
            for r in range(len(weights))
        ]
        return torch.cat([torch.cat(row, dim=1) for row in rows])

    def _play(self, weights: Tensor, inputs: Tensor) -> Tensor:
        timing = self.file.timing
        self._program(weights.flatten(0, 1).to(torch.float64).numpy(), timing.settle_time_s)
        (rows, columns), (_, shots, n) = weights.shape[:2], inputs.shape
        per, lead = timing.samples_per_symbol, timing.sync_symbols + timing.guard_symbols
        low, high = self.spec.dark_code, self.spec.input_code_range[1]
        sync = torch.tensor([high, low] * timing.sync_symbols)[: timing.sync_symbols]
        segment = torch.full((n, columns, lead + shots + lead + 16), low, dtype=torch.float64)
        segment[..., : len(sync)] = segment[..., lead + shots + timing.guard_symbols :][..., : len(sync)] = sync
        segment[..., lead : lead + shots] = inputs.permute(2, 0, 1)
        waves = segment.repeat_interleave(per, dim=-1).numpy().astype(self._code)
        waves = waves[..., : waves.shape[-1] // 16 * 16]
        points = waves.shape[-1]
        self.digitizer.send(f"ACQ:POIN {points};SEGM:COUN {rows * columns};:ACQ:RATE 4 MHZ;GAIN {self._gain}".encode())
        parts = [b";:SOUR%d:TRAC:DATA " % (i + 1) + block(wave) for i, wave in enumerate(waves)]
        setting = f"SOUR:SEGM:COUN {columns};:SOUR:SEQ:REP {rows};:SOUR:MARK {lead * per},{shots * per}"
        self.awg.send(setting.encode(), *parts)
        self.digitizer.send(b"INIT")
        self.awg.send(b"INIT:IMM;*TRG")
        assert self.digitizer.ask(b"ACQ:STAT?") == "DONE"
        return self._fetch(rows, columns, points, lead, shots)

    def _program(self, codes: np.ndarray, settle_s: float) -> None:
        volts = self.file.weights.volts_at_zero_code + self.file.weights.volts_per_code * codes
        settle_s = settle_s if self._settle else 0.0
        for dac, first, last in self.dacs:
            part = block(np.ascontiguousarray(volts[:, first : last + 1]))
            if len(volts) == 1:
                dac.send(b"SOUR:MODE FIX;:SOUR:LEV:DATA ", part)
            else:
                dac.send(f"SOUR:LIST:DWEL {settle_s};:SOUR:MODE LIST;:SOUR:LIST:DATA ".encode(), part)
        if len(volts) == 1:
            time.sleep(settle_s)

    def _fetch(self, rows: int, columns: int, points: int, lead: int, shots: int) -> Tensor:
        self.digitizer.write(b";".join(b":TRAC%d:DATA?" % (m + 1) for m in range(self.spec.n_outputs)))
        found = []
        for _ in range(self.spec.n_outputs):
            found.append(self.digitizer.block(self._count))
            assert self.digitizer.after() in b";\n"
        timing = self.file.timing
        per = timing.samples_per_symbol
        first = int((lead + timing.sample_phase + self._late) * per)
        record = torch.from_numpy(np.stack(found)).view(-1, rows, columns, points)
        return record[..., first : first + shots * per : per].permute(1, 2, 3, 0).contiguous()

    def _close(self) -> None:
        for link in self.links.values():
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
