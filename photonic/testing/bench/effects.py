"""What faults do beyond a reply: to instruments, to signals, to ports, to time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from photonic.testing.bench.faults import Fault
from photonic.testing.bench.instrument import MANUFACTURER
from photonic.testing.bench.model import Bench
from photonic.testing.bench.scpierror import ScpiError

_SLICE_S = 0.05  # after which a wait looks whether the bench stops
_ERRORS = 25
STRANGER = f"{MANUFACTURER},STRANGER,X9999,9.9"


class Ports(Protocol):
    """What effects need of the listener."""

    def refuse(self, name: str) -> None:
        """Stops listening."""

    def admit(self, name: str) -> None:
        """Listens again."""

    def drop(self, name: str) -> None:
        """Closes all connections to one service."""


class Effects:
    """Carries faults out, and takes back those that last.

    Args:
        bench: instruments and signals.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._ports: Ports | None = None
        self._stopping = threading.Event()
        self._identities = {name: instrument.identity for name, instrument in bench.instruments.items()}
        self._acts: Mapping[str, Callable[[Fault], None]] = {
            "errors": self._errors,
            "identity": self._identity,
            "reset": self._reset,
            "interlock": lambda fault: self._bench.laser.set_interlock(False),
            "saturation": lambda fault: self._bench.disturbance.saturated.add(fault.channel - 1),
            "drift": self._drift,
            "dead_channel": lambda fault: self._bench.disturbance.dead.add(fault.channel - 1),
            "refuse": self._refuse,
        }

    def connect(self, ports: Ports) -> None:
        """Tells it the ports, once they are open."""
        self._ports = ports

    def happen(self, fault: Fault) -> None:
        """Before the message is executed; the bench's lock is held."""
        act = self._acts.get(fault.kind)
        if act is not None:
            act(fault)

    def end(self, faults: Iterable[Fault]) -> None:
        """These faults were cleared: what lasts of them ends."""
        signals = self._bench.disturbance
        for fault in faults:
            if fault.kind == "identity":
                self._bench.instruments[fault.instrument].identity = self._identities[fault.instrument]
            elif fault.kind == "drift":
                signals.gain = 1.0
            elif fault.kind == "dead_channel":
                signals.dead.discard(fault.channel - 1)
            elif fault.kind == "saturation":
                signals.saturated.discard(fault.channel - 1)
            elif fault.kind == "interlock":
                self._bench.laser.set_interlock(True)
            elif fault.kind == "refuse" and self._ports is not None:
                self._ports.admit(fault.instrument)

    def wait(self, seconds: float) -> None:
        """Waits by the bench's clock; ends early when the bench stops."""
        clock = self._bench.time.clock
        end_s = clock.now_s() + seconds
        while (left_s := end_s - clock.now_s()) > 0 and not self._stopping.is_set():
            clock.sleep(min(_SLICE_S, left_s))

    def stop(self) -> None:
        """Ends all waits."""
        self._stopping.set()

    def _errors(self, fault: Fault) -> None:
        status = self._bench.instruments[fault.instrument].status
        for _ in range(_ERRORS if fault.amount is None else int(fault.amount)):
            status.report(ScpiError(-300, "a fault was set"))

    def _identity(self, fault: Fault) -> None:
        self._bench.instruments[fault.instrument].identity = STRANGER

    def _reset(self, fault: Fault) -> None:
        self._bench.instruments[fault.instrument].power_cycle()
        if self._ports is not None:
            self._ports.drop(fault.instrument)

    def _drift(self, fault: Fault) -> None:
        self._bench.disturbance.gain *= 1.0 + (0.2 if fault.amount is None else fault.amount)

    def _refuse(self, fault: Fault) -> None:
        ports = self._ports
        if ports is None:
            return
        ports.refuse(fault.instrument)
        ports.drop(fault.instrument)
        if fault.seconds > 0:
            threading.Thread(target=self._readmit, args=(ports, fault), daemon=True).start()

    def _readmit(self, ports: Ports, fault: Fault) -> None:
        self.wait(fault.seconds)
        if not self._stopping.is_set():
            ports.admit(fault.instrument)
