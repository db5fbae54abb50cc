"""Every fault of the virtual bench, at every message of a measurement: right counts, or an error and safe outputs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import photonic
from photonic.backends.visa.benchfile import BenchFile, load_bench, save_bench
from photonic.backends.visa.chip import VisaChip
from photonic.errors import LabError, ProtocolError
from photonic.testing.bench import VirtualBench
from photonic.testing.bench.faults import Fault, Kind
from photonic.testing.chip_case import random_codes

# without noise, so that counts do not depend on how often something was measured
CHIP = "sim:ideal?n_inputs=8&n_outputs=6&adc_bits=8&input_bits=8&weight_bits=8"
# no shorter: a busy host itself may stand still for half a second
TIMEOUT_S = 1.0
KINDS: tuple[Kind, ...] = get_args(Kind)
NEVER_S = 30.0  # a hang, on however slow a machine
# what changes light, gain or a record without a word: weights that stay show it
QUIET = ("drift", "saturation", "dead_channel", "interlock")

# seconds for which a stalled instrument does not read
STALL_S = 2.5


@dataclass
class Stand:
    """A bench, its chip, and what it must give."""

    served: VirtualBench
    path: str
    codes: list[tuple[torch.Tensor, torch.Tensor]]
    expected: list[torch.Tensor]
    chip: VisaChip | None = None
    turn: int = 0
    wrong: list[str] = field(default_factory=list)

    def opened(self) -> VisaChip:
        if self.chip is None:
            chip = photonic.open_chip(self.path)
            assert isinstance(chip, VisaChip)
            self.chip = chip
        return self.chip

    def measure(self, turn: int) -> bool:
        return torch.equal(self.opened().measure(*self.codes[turn]).counts, self.expected[turn])

    def messages(self, instrument: str, turn: int, *, after_stall: bool = False) -> int:
        """Messages that an instrument gets in a measurement, which may be refused once where one was stalled before."""
        before = self.served._plan.messages[instrument]
        try:
            assert self.measure(turn)
        except ProtocolError:
            if not after_stall:
                raise
            # a message that stalled was carried out after a measurement that was right, and is refused by its mark
            self.come_to_rest()
            before = self.served._plan.messages[instrument]
            assert self.measure(turn)
        return self.served._plan.messages[instrument] - before

    def try_fault(self, fault: Fault) -> str:
        """How a measurement under a fault ends."""
        # new weights, so that the weight bank has something to do; those that stay for what only they can show
        turn = self.turn if fault.kind in QUIET else 1 - self.turn
        chip = self.opened()
        self.served.set_fault(fault)
        began = time.monotonic()
        try:
            right = self.measure(turn)
            ended = "counts" if right else "WRONG"
        except LabError as error:
            ended = type(error).__name__
            notes = " ".join(getattr(error, "__notes__", ()))
            lit, warm = (
                self.served.model.laser.relative() > 0,
                any(box.levels_v.any() for box in self.served.model.boxes),
            )
            if (lit and "laser" not in notes) or (warm and "dac" not in notes):
                ended += f" UNSAFE lit={lit} warm={warm}"
        if time.monotonic() - began > NEVER_S:
            ended += " LATE"
        self.served.clear_faults()
        # a stall may come after the last message of a measurement, and meet the next one
        if ended == "counts" and fault.kind not in (*QUIET, "stall"):
            self.turn = turn
        else:
            self._begin_anew(chip)
        return ended

    def come_to_rest(self) -> None:
        """After stalls: messages that none of the measurements since has met are executed, or refused, by now."""
        time.sleep(STALL_S)
        self._begin_anew(self.opened())

    def _begin_anew(self, chip: VisaChip) -> None:
        """With a bench that has come to rest: what was sent to a stalled instrument is still executed."""
        self.chip = None
        with suppress(LabError):
            chip.close()
        end = time.monotonic() + NEVER_S
        while True:
            try:
                assert self.measure(self.turn)
                return
            except LabError:
                if time.monotonic() > end:
                    raise
                if self.chip is not None:
                    with suppress(LabError):
                        self.chip.close()
                    self.chip = None
                time.sleep(0.2)


@contextmanager
def stand(folder: Path) -> Iterator[Stand]:
    with VirtualBench(CHIP, physics="ideal") as served:
        told = load_bench(served.write(folder / "bench.toml"))
        content: dict[str, Any] = {name: getattr(told, name) for name in BenchFile.model_fields}
        for role in ("weights", "inputs", "digitizer", "laser", "temperature", "power_monitor"):
            section = content[role]
            boxes = [box.model_copy(update={"timeout_s": TIMEOUT_S}) for box in section.instruments]
            content[role] = section.model_copy(update={"instruments": tuple(boxes)})
        save_bench(BenchFile(**{**content, "telemetry_interval_s": 0.0}), folder / "quick.toml")
        with photonic.open_chip(CHIP) as direct:
            codes = [random_codes(direct, 1, 1, 5, 6, 8, seed=seed) for seed in (0, 1)]
            expected = [direct.measure(*pair).counts for pair in codes]
        found = Stand(served, str(folder / "quick.toml"), codes, expected)
        try:
            yield found
        except BaseException:
            # the test has failed; what its chip holds must not make others fail
            with suppress(LabError):
                if found.chip is not None:
                    found.chip.close()
            raise
        if found.chip is not None:
            found.chip.close()


@pytest.mark.filterwarnings("ignore::photonic.errors.OutputsOnWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_ends_in_the_right_counts_or_in_an_error(tmp_path: Path, kind: Kind) -> None:
    """At the first message that a measurement sends to each instrument."""
    with stand(tmp_path) as bench:
        assert bench.measure(0)
        ends = {
            name: bench.try_fault(Fault(instrument=name, kind=kind, seconds=0.05 if kind == "delay" else STALL_S))
            for name in ("awg", "dac-1", "digitizer")
        }
        assert not [name for name, end in ends.items() if "WRONG" in end or "UNSAFE" in end or "LATE" in end], ends
        if kind == "stall":
            bench.come_to_rest()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::photonic.errors.OutputsOnWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_at_every_message_ends_in_the_right_counts_or_in_an_error(tmp_path: Path, kind: Kind) -> None:
    with stand(tmp_path) as bench:
        assert bench.measure(0)
        ends: dict[str, str] = {}
        for name in bench.served.model.instruments:
            for at in range(1, 1 + bench.messages(name, 1 - bench.turn, after_stall=kind == "stall")):
                bench.turn = 1 - bench.turn if at == 1 else bench.turn
                fault = Fault(instrument=name, kind=kind, at=at, seconds=0.05 if kind == "delay" else STALL_S)
                ends[f"{name}@{at}"] = bench.try_fault(fault)
        assert ends
        assert not [name for name, end in ends.items() if "WRONG" in end or "UNSAFE" in end or "LATE" in end], ends
        if kind == "stall":
            bench.come_to_rest()
