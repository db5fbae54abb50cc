"""A virtual laboratory: instruments that speak SCPI on TCP ports, with any chip behind them."""

from photonic.testing.bench.clock import Clock, ManualClock, RealClock
from photonic.testing.bench.laboratory import Laboratory
from photonic.testing.bench.virtual import VirtualBench

__all__ = ["Clock", "Laboratory", "ManualClock", "RealClock", "VirtualBench"]
