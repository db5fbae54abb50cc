"""Conformance suites for chips and backends, for whoever writes one, and a virtual laboratory."""

from photonic.testing.backends import BACKEND_CHECKS, BackendUnderTest, check_backend
from photonic.testing.bench import BenchControl, Fault, Laboratory, ManualClock, RealClock, VirtualBench
from photonic.testing.chip_case import ChipUnderTest
from photonic.testing.chips import CHIP_CHECKS, check_chip
from photonic.testing.hidden import OnlyMeasured
from photonic.testing.report import Report, Skipped

__all__ = [
    "BACKEND_CHECKS",
    "CHIP_CHECKS",
    "BackendUnderTest",
    "BenchControl",
    "ChipUnderTest",
    "Fault",
    "Laboratory",
    "ManualClock",
    "OnlyMeasured",
    "RealClock",
    "Report",
    "Skipped",
    "VirtualBench",
    "check_backend",
    "check_chip",
]
