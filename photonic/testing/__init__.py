"""Conformance suites for chips and backends, for whoever writes one."""

from photonic.testing.backends import BACKEND_CHECKS, check_backend
from photonic.testing.chips import CHIP_CHECKS, check_chip
from photonic.testing.report import Report, Skipped

__all__ = ["BACKEND_CHECKS", "CHIP_CHECKS", "Report", "Skipped", "check_backend", "check_chip"]
