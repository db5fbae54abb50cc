"""A chip from a record: whether the record may be used, and the device that it describes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime

from photonic.errors import ArraysError, ExpiredCalibrationError, FailedCalibrationError, SpecError
from photonic.physics.device import Device
from photonic.physics.fitted import FittedParameters, device_of
from photonic.records import Calibration

# a record, or its file
RecordSource = Calibration | str | os.PathLike[str]
SUFFIX = ".json"
# what a caller accepts by name
ALLOWANCES = ("allow_failed", "allow_expired")


@dataclass(frozen=True)
class FromRecord:
    """What a twin is made of.

    Attributes:
        calibration: with what was accepted by name in its ``overrides``.
        parameters: the chip's data sheet with the fitted response.
        device: what the arrays say of it.
    """

    calibration: Calibration
    parameters: FittedParameters
    device: Device

    @classmethod
    def of(cls, calibration: Calibration) -> FromRecord:
        """Builds the device; its drift is taken for noise, and simulated in ``drifting`` alone.

        Raises:
            ArraysError: nothing was measured, or arrays are missing or do not fit the chip.
            CalibrationError: a chip that has no twin, such as a mesh.
        """
        spec = calibration.spec
        if spec is None:
            raise ArraysError(
                f"the record of {calibration.chip_id} is nominal and lacks the chip's spec and all arrays: nothing was "
                "measured; calibrate the chip, or open its preset (sim:PRESET)"
            )
        parameters = FittedParameters.of(spec, calibration.response, calibration.drift.within)
        return cls(calibration, parameters, device_of(parameters, spec.response.inputs, calibration.arrays))

    @property
    def drifting(self) -> FittedParameters:
        """The parameters with the drift that the record holds, for a chip with a clock.

        Raises:
            CalibrationError: a drift that cannot be simulated.
        """
        return self.parameters.drifting(self.calibration.drift)


def loaded(source: RecordSource) -> Calibration:
    """The record, from its file where it is one.

    Raises:
        CalibrationError: see ``Calibration.load``.
    """
    return source if isinstance(source, Calibration) else Calibration.load(source)


def accepted(
    calibration: Calibration, *, allow_failed: bool = False, allow_expired: bool = False, now: datetime | None = None
) -> Calibration:
    """The record, if it may be used; what had to be allowed is added to its ``overrides``.

    A record that was never verified passes: what is refused is a verdict.

    Args:
        calibration: any.
        allow_failed: also one whose verification failed or could not decide.
        allow_expired: also one whose time has passed.
        now: UTC; None: the clock's.

    Raises:
        FailedCalibrationError: it failed or is undecided.
        ExpiredCalibrationError: its time has passed.
    """
    overrides, name = list(calibration.overrides), calibration.chip_id
    verification, until = calibration.verification, calibration.valid_until
    if verification is not None and verification.verdict != "pass":
        if not allow_failed:
            causes = f" ({', '.join(verification.causes)})" if verification.causes else ""
            raise FailedCalibrationError(
                f"the calibration of {name}: expected the verdict 'pass', found {verification.verdict!r}{causes}; "
                "calibrate again, with more shots where it could not decide, or open it with allow_failed=True"
            )
        overrides.append("failed" if verification.verdict == "fail" else "undecided")
    now = now or datetime.now(UTC)
    if until is not None and now > until:
        if not allow_expired:
            raise ExpiredCalibrationError(
                f"the calibration of {name} was valid until {until.isoformat(timespec='seconds')}, it is "
                f"{now.isoformat(timespec='seconds')}; calibrate again, or open it with allow_expired=True"
            )
        overrides.append("expired")
    new = tuple(dict.fromkeys(overrides))
    return calibration if new == calibration.overrides else calibration.replaced(overrides=new)


def open_record(scheme: str, path: str, options: dict[str, object]) -> tuple[FromRecord, str]:
    """The record of ``SCHEME:FILE.json`` and the spec string that opens it again.

    Args:
        scheme: that is opened.
        path: of the file.
        options: of the spec string; only allowances are known.

    Raises:
        SpecError: an option that a record does not take.
        CalibrationError: the record cannot be read, or may not be used.
    """
    wrong = [f"{key}={value}" for key, value in options.items() if key not in ALLOWANCES or not isinstance(value, bool)]
    if wrong:
        raise SpecError(
            f"{scheme}:{path} takes the options seed, {' and '.join(ALLOWANCES)} (true or false), found "
            f"{', '.join(wrong)}: the chip is what was measured"
        )
    allowed = {key: bool(value) for key, value in options.items()}
    text = "&".join(f"{key}=true" for key, value in allowed.items() if value)
    record = FromRecord.of(accepted(loaded(path), **allowed))  # type: ignore[arg-type]  # keys were checked
    return record, f"{scheme}:{path}" + (f"?{text}" if text else "")
