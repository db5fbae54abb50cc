"""The exception tree of photonic.

Every message says what was expected, what was found and what to do::

    PhotonicError
    ├── SpecError            a spec string, option, preset or config key that cannot be honoured
    ├── RecordError          a record (spec, calibration, run) with an unknown key or a value out of bounds
    ├── ShapeError           tensors whose shapes or dtypes do not fit
    ├── RangeError           a code, setting or condition out of its limits, or a number that is not finite
    ├── ConversionError      a model that cannot be converted as asked
    ├── BackendError
    │   ├── ClosedError      use after close()
    │   ├── DetachedError    a layer whose backend was left behind by pickling
    │   ├── ChipError        a chip that broke its contract (shape, dtype or range of its counts)
    │   ├── SaturationError  more counts at the rails than the chip allows
    │   ├── GradientError    a gradient that this backend cannot give
    │   ├── RecomputeError   a forward repeated inside backward (activation checkpointing)
    │   └── LabError         an instrument of a bench, or the way to it
    │       ├── InstrumentTimeoutError  no answer, or no end, by the deadline
    │       ├── DisconnectedError       the connection was refused, or closed by the other side
    │       ├── ProtocolError           an answer that is not what was asked for (garbage, length, byte order)
    │       ├── InstrumentError         the instrument's own error queue; ``code`` and ``text``
    │       ├── IdentityError           another instrument answers than the bench file names
    │       ├── ReadbackError           a setting that reads back as another one
    │       ├── OverloadError           the instrument says that it was overloaded
    │       ├── LimitError              beyond an absolute limit; nothing was sent
    │       ├── InterlockError          the interlock is open, or nobody consented to light
    │       ├── TimingError             symbols that are not where they must be in a record
    │       ├── ResponseError           light, gain or an output that is not as it must be
    │       ├── UnstableError           no steady reading by the end of the warm-up
    │       └── UnsafeError             outputs that could not be made safe, named one by one
    ├── CalibrationError     a calibration that does not belong to the chip, or cannot be made or used
    │   ├── EditedRecordError         its file was changed after it was saved
    │   ├── RecordVersionError        its file has another schema version
    │   ├── ArraysError               its arrays are missing, or not the ones that it was saved with
    │   ├── WrongChipError            it belongs to another chip
    │   ├── FailedCalibrationError    its verification failed, or could not decide
    │   └── ExpiredCalibrationError   the time that it is valid for has passed
    ├── DataError            a data set that is missing, damaged or of the wrong form
    ├── RunError             a run folder that cannot be written, read or resumed
    ├── ConformanceError     a chip or a backend that does not keep its seam's contract
    └── MissingExtraError    an optional package that is not installed
"""

from __future__ import annotations

DISTRIBUTION = "photonic-torch"


class PhotonicError(Exception):
    """Base of every error that photonic raises on purpose."""


class SpecError(PhotonicError, ValueError):
    """A spec string, option, preset or config key that cannot be honoured."""


class RecordError(PhotonicError, ValueError):
    """A record with an unknown key or a value out of its bounds."""


class ShapeError(PhotonicError, ValueError):
    """Tensors whose shapes or dtypes do not fit together."""


class RangeError(PhotonicError, ValueError):
    """A code, setting or condition outside its limits, or a number that is not finite."""


class ConversionError(PhotonicError, ValueError):
    """A model that cannot be converted, attached or routed as asked."""


class BackendError(PhotonicError, RuntimeError):
    """Something went wrong while a backend or a chip was in use."""


class ClosedError(BackendError):
    """A chip or a backend was used after ``close()``."""


class DetachedError(BackendError):
    """A layer has no live backend: pickling keeps the spec string only."""


class ChipError(BackendError):
    """A chip broke its contract: wrong shape, dtype or range of its counts."""


class SaturationError(BackendError):
    """A larger fraction of the counts sits at the ADC's rails than the chip allows; ``usage`` is what it cost."""

    usage: object = None


class GradientError(BackendError):
    """A gradient was asked for that this backend cannot give."""


class RecomputeError(BackendError):
    """A forward pass was repeated inside backward; it would measure twice, with other noise."""


class LabError(BackendError):
    """An instrument of a bench, or the way to it, failed."""


class InstrumentTimeoutError(LabError, TimeoutError):
    """An instrument gave no answer, or did not end, by the deadline; its connection was closed."""


class DisconnectedError(LabError, ConnectionError):
    """The connection to an instrument was refused, or closed by the other side."""


class ProtocolError(LabError):
    """An instrument's answer is not what was asked for: garbage, a wrong length, a wrong byte order."""


class InstrumentError(LabError):
    """An instrument's own error queue.

    Args:
        message: for the user.
        code: of SCPI-99, volume 2, chapter 21; negative codes are the standard's, positive ones the maker's.
        text: the instrument's own words.
    """

    def __init__(self, message: str, code: int = 0, text: str = "") -> None:
        self.code, self.text = code, text
        super().__init__(message)


class IdentityError(LabError):
    """Another instrument answers than the one that the bench file names."""


class ReadbackError(LabError):
    """A setting that was sent reads back as another one."""


class OverloadError(LabError):
    """An instrument says that its input was overloaded."""


class LimitError(LabError, ValueError):
    """A value, a slew or a total power beyond an absolute limit; nothing was sent."""


class InterlockError(LabError):
    """Light was asked for while the interlock is open, or without consent in the bench file."""


class TimingError(LabError):
    """Symbols are not where they must be in a record: a wrong delay, phase or sample clock."""


class ResponseError(LabError):
    """Light is gone, the response has another size than it must have, or an output does not answer."""


class UnstableError(LabError):
    """The bench gives no steady reading by the end of its warm-up."""


class UnsafeError(LabError):
    """Outputs that could not be made safe, named one by one."""


class CalibrationError(PhotonicError):
    """A calibration does not belong to the chip, has failed, or is missing what is asked of it."""


class EditedRecordError(CalibrationError):
    """A calibration's file was changed after it was saved."""


class RecordVersionError(CalibrationError):
    """A calibration's file has another schema version than this photonic reads."""


class ArraysError(CalibrationError):
    """A calibration's arrays are missing, of another shape, or not those that it was saved with."""


class WrongChipError(CalibrationError):
    """A calibration belongs to another chip."""


class FailedCalibrationError(CalibrationError):
    """A calibration whose verification failed or could not decide, and which nobody accepted by name."""


class ExpiredCalibrationError(CalibrationError):
    """A calibration whose time has passed, and which nobody accepted by name."""


class DataError(PhotonicError, ValueError):
    """A data set is missing, damaged or not of the expected form."""


class RunError(PhotonicError):
    """A run folder cannot be written, read or resumed."""


class ConformanceError(PhotonicError, AssertionError):
    """A chip or a backend does not keep the contract of its seam."""


class MissingExtraError(PhotonicError, ImportError):
    """An optional package is not installed.

    Args:
        package: the package that failed to import.
        extra: the extra of this distribution that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"{package} is needed for this and is not installed; install it with: pip install '{DISTRIBUTION}[{extra}]'"
        )


class PhotonicWarning(UserWarning):
    """Base of every warning that photonic gives."""


class NominalCalibrationWarning(PhotonicWarning):
    """A chip is used with the calibration computed from its data sheet, not with a measured one."""


class OutputsOnWarning(PhotonicWarning):
    """A bench was found with outputs on: whoever used it last did not close it."""
