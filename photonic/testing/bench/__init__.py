"""A virtual laboratory: instruments that speak SCPI on TCP ports, with any chip behind them."""

from photonic.testing.bench.client import BenchControl
from photonic.testing.bench.clock import Clock, ManualClock, RealClock
from photonic.testing.bench.faults import Fault
from photonic.testing.bench.laboratory import Laboratory
from photonic.testing.bench.virtual import VirtualBench

__all__ = ["BenchControl", "Clock", "Fault", "Laboratory", "ManualClock", "RealClock", "VirtualBench"]
