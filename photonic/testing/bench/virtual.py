"""The virtual bench: instruments that speak SCPI on TCP ports, with a chip behind them."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from photonic.backends.chip import Chip
from photonic.backends.registry import open_chip
from photonic.backends.visa.benchfile import BenchFile
from photonic.errors import SpecError
from photonic.records import ChipSpec
from photonic.testing.bench.clock import BenchTime, Clock, RealClock
from photonic.testing.bench.connection import InstrumentService
from photonic.testing.bench.description import describe, write_description
from photonic.testing.bench.laboratory import Laboratory
from photonic.testing.bench.labphysics import LabPhysics
from photonic.testing.bench.model import Bench
from photonic.testing.bench.physics import IdealPhysics, Physics
from photonic.testing.bench.serving import HOST, Listener
from photonic.testing.bench.setup import Setup

DEFAULT_CHIP = "sim:typical?n_inputs=16&n_outputs=16"
MOST_BOXES = 64
IDEAL_SETTLE_S = 1e-4


class VirtualBench:
    """A laboratory in this process, on ports of the loopback interface; a context manager.

    Args:
        chip: behind the instruments, or its spec string; one that the bench opened is closed with it.
        seed: of the device and of the run's noise, where ``chip`` is a spec string; of all that the bench draws itself.
        physics: ``ideal``: counts are the chip's, bit for bit; ``lab``: as a laboratory spoils them, or as
            a ``Laboratory`` says.
        clock: of the bench; real by default.
        weight_boxes: among which the drives are divided.
        setup: rates, powers and memories.
        name: in the bench file; ``virtual-SEED`` by default.

    Attributes:
        model: the instruments and the chip.
        ports: of the instruments, by name.
    """

    def __init__(
        self,
        chip: Chip | str = DEFAULT_CHIP,
        *,
        seed: int = 0,
        physics: Literal["ideal", "lab"] | Laboratory = "lab",
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
        services = {
            name: InstrumentService(instrument, self.model.lock) for name, instrument in self.model.instruments.items()
        }
        self._listener = Listener(services)
        self.ports = {name: self._listener.ports[name] for name in services}
        self._name = name or f"virtual-{seed}"

    @property
    def file(self) -> BenchFile:
        """Its bench file."""
        return describe(self.model, self.ports, self._name)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes its bench file; returns the path.

        Raises:
            SpecError: a file is there that no virtual bench wrote, or it cannot be written.
        """
        write_description(self.file, Path(path), f"{HOST}:0")
        return Path(path)

    def stop(self) -> None:
        """Closes all ports, and the chip if the bench opened it; a second call does nothing."""
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
