"""The virtual bench: instruments that speak SCPI on TCP ports, with a chip behind them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from photonic.backends.chip import Chip
from photonic.backends.registry import open_chip
from photonic.backends.visa.benchfile import BenchFile
from photonic.errors import SpecError
from photonic.records import ChipSpec
from photonic.testing.bench.clock import BenchTime, Clock, RealClock
from photonic.testing.bench.connection import InstrumentService
from photonic.testing.bench.control import ControlService
from photonic.testing.bench.description import describe, write_description
from photonic.testing.bench.effects import Effects
from photonic.testing.bench.faults import Fault, FaultPlan
from photonic.testing.bench.laboratory import Laboratory
from photonic.testing.bench.labphysics import LabPhysics
from photonic.testing.bench.model import Bench
from photonic.testing.bench.physics import IdealPhysics, Physics
from photonic.testing.bench.serving import HOST, Listener, Service
from photonic.testing.bench.setup import Setup
from photonic.testing.bench.transcript import Transcript

DEFAULT_CHIP = "sim:typical?n_inputs=16&n_outputs=16"
MOST_BOXES = 64
CONTROL = "control"
IDEAL_SETTLE_S = 1e-4


class VirtualBench:
    """A laboratory in this process, on ports of the loopback interface; a context manager.

    Args:
        chip: behind the instruments, or its spec string; one that the bench opened is closed with it.
        seed: of the device and of the run's noise, where ``chip`` is a spec string; of all that the bench draws itself.
        physics: ``ideal``: counts are the chip's, bit for bit; ``lab``: as a laboratory spoils them, or as
            a ``Laboratory`` says.
        faults: set from the start.
        clock: of the bench; real by default.
        weight_boxes: among which the drives are divided.
        setup: rates, powers and memories.
        name: in the bench file; ``virtual-SEED`` by default.

    Attributes:
        model: the instruments and the chip.
        ports: of the instruments, by name.
        transcript: of every exchange.
    """

    def __init__(
        self,
        chip: Chip | str = DEFAULT_CHIP,
        *,
        seed: int = 0,
        physics: Literal["ideal", "lab"] | Laboratory = "lab",
        faults: Iterable[Fault | str] = (),
        clock: Clock | None = None,
        weight_boxes: int = 1,
        setup: Setup | None = None,
        name: str | None = None,
    ) -> None:
        self._own_chip = isinstance(chip, str)
        opened = open_chip(chip, seed=seed) if isinstance(chip, str) else chip
        if not 1 <= weight_boxes <= min(MOST_BOXES, opened.spec.drives):
            raise SpecError(
                f"weight_boxes must be 1 to {min(MOST_BOXES, opened.spec.drives)}, found {weight_boxes}; "
                "each box holds at least one drive"
            )
        time = BenchTime(clock or RealClock())
        numbers, laws = _laws(physics, opened.spec, seed, time, setup)
        self.model = Bench(opened, numbers, laws, time, weight_boxes)
        self._name = name or f"virtual-{seed}"
        self._stopped = threading.Event()
        self._serve(faults)

    def _serve(self, faults: Iterable[Fault | str]) -> None:
        instruments, transcript = self.model.instruments, Transcript()
        self._effects, plan = Effects(self.model), FaultPlan(instruments)
        for fault in faults:
            plan.set(fault)
        self._control = ControlService(self.model, plan, self._effects, transcript, self._stopped.set)
        services: dict[str, Service] = {
            name: InstrumentService(instrument, self.model, plan, self._effects, transcript)
            for name, instrument in instruments.items()
        }
        self._listener = Listener({**services, CONTROL: self._control})
        self._effects.connect(self._listener)
        self.ports = {name: self._listener.ports[name] for name in instruments}
        self._plan, self.transcript = plan, transcript

    @property
    def file(self) -> BenchFile:
        """Its bench file."""
        return describe(self.model, self.ports, self._name)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes its bench file; returns the path.

        Raises:
            SpecError: a file is there that no virtual bench wrote, or it cannot be written.
        """
        write_description(self.file, Path(path), self.control_address)
        return Path(path)

    @property
    def control_address(self) -> str:
        """``HOST:PORT`` of the control port, for ``BenchControl``."""
        return f"{HOST}:{self._listener.ports[CONTROL]}"

    def set_fault(self, fault: Fault | str) -> int:
        """Sets a fault; returns its number.

        Raises:
            SpecError: no such instrument, or a text that is no fault.
        """
        return self._plan.set(fault)

    def clear_faults(self, number: int | None = None) -> int:
        """Clears one fault, or all, and ends what lasts of them; returns how many."""
        return self._control.clear(number)

    def faults(self) -> list[dict[str, Any]]:
        """Those that are set: ``seen`` messages, ``fired`` times."""
        return self._plan.report()

    def state(self) -> dict[str, Any]:
        """Settings of all instruments, and what the chip has spent."""
        return self._control.state()

    def wait(self) -> None:
        """Waits until somebody stops it on the control port."""
        self._stopped.wait()

    def stop(self) -> None:
        """Closes all ports, and the chip if the bench opened it; a second call does nothing."""
        self._effects.stop()
        self._listener.stop()
        if self._own_chip:
            self.model.chip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _laws(
    physics: str | Laboratory, spec: ChipSpec, seed: int, time: BenchTime, setup: Setup | None
) -> tuple[Setup, Physics]:
    if physics == "ideal":
        setup = setup or Setup(settle_time_s=IDEAL_SETTLE_S)
        return setup, IdealPhysics(setup.ambient_c)
    if isinstance(physics, str) and physics != "lab":
        raise SpecError(f"physics is 'ideal', 'lab' or a Laboratory, found {physics!r}")
    setup, laboratory = setup or Setup(), Laboratory() if isinstance(physics, str) else physics
    return setup, LabPhysics(laboratory, setup, time, spec.n_outputs, spec.coupling, seed)
