"""Spec strings: from ``sim:typical?device=41`` to an opened chip or backend.

Resolved in this order: a registered scheme (entry-point group ``photonic.backends``), a ``.toml`` file, ``scheme://``,
``package.module:factory``. ``?key=value&...`` are options; unknown ones raise.
"""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from photonic.backends.base import Backend
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Chip
from photonic.backends.fromrecord import ALLOWANCES, SUFFIX, RecordSource, accepted, loaded
from photonic.errors import CalibrationError, NominalCalibrationWarning, PhotonicError, SpecError
from photonic.records import Calibration

GROUP = "photonic.backends"
TOML = ".toml"  # a chip that is described by a file
# options of CalibratedBackend; all others are the chip's
BACKEND_OPTIONS = ("sign", "shots", "weight_scale", "analog_gain")

Factory = Callable[..., Chip | Backend]


@dataclass(frozen=True)
class ParsedSpec:
    """A spec string taken apart: ``head?key=value`` with options typed (numbers, true, false, none)."""

    head: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, spec: str) -> ParsedSpec:
        """Splits the options off.

        Raises:
            SpecError: empty, an option without a value, or one given twice.
        """
        head, mark, query = spec.partition("?")
        if not head:
            raise SpecError(f"a backend is named by a spec string such as 'sim' or 'digital', found {spec!r}")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError as error:
            raise SpecError(f"options are key=value&key=value, found {query!r} in {spec!r}") from error
        if (mark and not pairs) or any(not value for _, value in pairs):
            raise SpecError(f"every option needs a value (key=value&key=value), found {query!r} in {spec!r}")
        if len({key for key, _ in pairs}) != len(pairs):
            raise SpecError(f"an option is given twice in {spec!r}")
        return cls(head, {key: _typed(value) for key, value in pairs})


def schemes() -> dict[str, EntryPoint]:
    """Registered schemes by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def open_chip(spec: str, *, seed: int | None = None, device: int | None = None) -> Chip:
    """Opens a chip by its spec string.

    Args:
        spec: such as ``sim``, ``sim:pessimistic?device=41``, ``package.module:factory``.
        seed: of the run's noise, and of the device unless that is given. Default 0.
        device: of the hidden spread.

    Raises:
        SpecError: unknown, not honourable, or the name of a backend.
    """
    parsed = ParsedSpec.parse(spec)
    misplaced = sorted(set(parsed.options) & set(BACKEND_OPTIONS))
    if misplaced:
        raise SpecError(
            f"{', '.join(misplaced)} belong to a backend, not to a chip; use photonic.open_backend({spec!r})"
        )
    opened = _create(parsed, seed, device)
    if isinstance(opened, Backend):
        opened.close()
        raise SpecError(f"{spec!r} is a backend, not a chip; use photonic.open_backend({spec!r})")
    return opened


def open_backend(
    spec: str | Chip,
    *,
    calibration: RecordSource | None = None,
    seed: int | None = None,
    device: int | None = None,
    allow_failed: bool = False,
    allow_expired: bool = False,
) -> Backend:
    """Opens a backend by its spec string; a chip is paired with its calibration.

    Args:
        spec: such as ``digital``, ``sim``, ``sim:pessimistic?shots=4``, or an opened chip.
        calibration: the chip's record, or its file. Without it the record that the chip itself was made from is used,
            else the nominal one, with a warning.
        seed: of the run's noise, and of the device unless that is given. Default 0.
        device: of the hidden spread; nothing to a chip that is made from a record.
        allow_failed: also a record whose verification failed or could not decide; its ``overrides`` then say so.
        allow_expired: also one whose time has passed; likewise.

    Raises:
        SpecError: unknown or not honourable.
        CalibrationError: the record does not belong to the chip, cannot be read, or may not be used.

    Warns:
        NominalCalibrationWarning: a chip was opened without a measured calibration.
    """
    if isinstance(spec, Chip):
        if seed is not None or device is not None:
            raise SpecError("an opened chip has its seeds already; give seed and device where it is opened")
        record = _paired(spec, _given(calibration, allow_failed, allow_expired))
        _warn_nominal(spec, record)
        return CalibratedBackend(spec, record)
    opener = Opener(seed=seed, device=device)
    try:
        return opener.backend(spec, calibration, allow_failed=allow_failed, allow_expired=allow_expired)
    except BaseException:
        opener.close()
        raise


class Opener:
    """Opens spec strings for one run: equal specs open one chip, and all are closed together.

    Args:
        seed: as in ``open_backend``.
        device: as in ``open_backend``.
    """

    def __init__(self, *, seed: int | None = None, device: int | None = None) -> None:
        self._seed, self._device = seed, device
        self._opened: dict[tuple[str, str], Chip | Backend] = {}
        self._backends: dict[tuple[str, bool, bool], Backend] = {}

    def backend(
        self,
        spec: str,
        calibration: RecordSource | None = None,
        *,
        allow_failed: bool = False,
        allow_expired: bool = False,
    ) -> Backend:
        """The backend of this spec string; the same object for the same string.

        Raises:
            SpecError: as ``open_backend``.
            CalibrationError: as ``open_backend``.
        """
        given, key = _given(calibration, allow_failed, allow_expired), (spec, allow_failed, allow_expired)
        if key not in self._backends:
            parsed = ParsedSpec.parse(spec)
            if parsed.head.endswith((SUFFIX, TOML)):
                allowed = dict(zip(ALLOWANCES, key[1:], strict=True))
                parsed.options.update({name: True for name, value in allowed.items() if value})
            self._backends[key] = self._backend(spec, parsed, given)
        backend = self._backends[key]
        if given is not None and isinstance(backend, CalibratedBackend) and _differs(backend, given):
            raise SpecError(f"{spec!r} is open with another calibration; one chip has one")
        return backend

    def _backend(self, spec: str, parsed: ParsedSpec, calibration: Calibration | None) -> Backend:
        # a factory of backends that takes these options itself gets them
        for_backend = [key for key in BACKEND_OPTIONS if key not in _named_options(parsed.head)]
        mine = {key: value for key, value in parsed.options.items() if key in for_backend}
        rest = {key: value for key, value in parsed.options.items() if key not in for_backend}
        key = parsed.head, repr(sorted(rest.items(), key=lambda item: item[0]))
        if key not in self._opened:
            self._opened[key] = self._known(_create(ParsedSpec(parsed.head, rest), self._seed, self._device))
        opened = self._opened[key]
        if isinstance(opened, Backend):
            if mine or calibration:
                raise SpecError(f"{spec!r} is not a chip: it takes no calibration and no option {sorted(mine)}")
            return opened
        record = _paired(opened, calibration)
        _warn_nominal(opened, record)
        return CalibratedBackend(opened, record, name=_name(parsed, opened), **mine)

    def _known(self, created: Chip | Backend) -> Chip | Backend:
        """The chip that is already open under another spelling of its spec (sim, sim:typical), or the new one."""
        for opened in self._opened.values():
            if not isinstance(created, Chip) or not isinstance(opened, Chip) or type(created) is not type(opened):
                continue
            if created.spec == opened.spec and created.spec.seeded:
                created.close()
                return opened
        return created

    def close(self) -> None:
        """Closes every chip and backend that was opened here, also when closing one of them fails."""
        with ExitStack() as stack:
            for opened in (*self._opened.values(), *self._backends.values()):
                stack.callback(opened.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _named_options(head: str) -> list[str]:
    """Options that a registered scheme's factory names as its own."""
    point = schemes().get(head.partition(":")[0])
    return [] if point is None else list(inspect.signature(point.load()).parameters)


def _create(parsed: ParsedSpec, seed: int | None, device: int | None) -> Chip | Backend:
    """Finds the factory of a spec string and calls it."""
    options = dict(parsed.options)
    named = sorted({"seed", "device"} & set(options))
    seed = _merged("seed", seed, options)
    device = _merged("device", device, options)
    seeds = {"seed": 0 if seed is None else seed, "device": (seed or 0) if device is None else device}
    scheme, _, argument = parsed.head.partition(":")
    registered = schemes()
    if scheme in registered:
        if argument.endswith(SUFFIX) and "device" in named:
            raise SpecError(f"{parsed.head} takes no option device: a record is of one device")
        return _checked(registered[scheme].load()(argument, **seeds, **options), parsed.head)
    if parsed.head.endswith(TOML):
        return _from_file(parsed.head, named, options)
    if "://" not in parsed.head and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", parsed.head):
        return _third_party(parsed.head, seeds, named, options)
    raise SpecError(f"unknown backend {parsed.head!r}; known are {_known(registered)}, or package.module:factory")


def _from_file(path: str, named: list[str], options: dict[str, Any]) -> Chip:
    """The chip that a file describes."""
    if named:
        raise SpecError(f"{path} takes no option {', '.join(named)}: a bench has no seed; photonic bench has")
    # imported here, because most programs never see a laboratory
    from photonic.backends.visa.benchfile import read_toml
    from photonic.backends.visa.chip import open_bench

    if "remote" in read_toml(path):
        raise SpecError(f"{path} describes a remote chip; this version opens benches alone")
    return open_bench(path, **options)


def _third_party(head: str, seeds: dict[str, int], named: list[str], options: dict[str, Any]) -> Chip | Backend:
    """Calls ``package.module:factory`` with the options, and with the seeds that it takes."""
    module_name, _, name = head.partition(":")
    try:
        factory: Factory = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        # whatever a third party's module raises when it is imported, opening it is what failed
        raise SpecError(
            f"{head!r} cannot be opened: {type(error).__name__}: {error}; known schemes are {_known(schemes())}"
        ) from error
    if not callable(factory):
        raise SpecError(f"{head!r} cannot be opened: {name} is a {type(factory).__name__}, not a factory")
    try:
        takes = inspect.signature(factory).parameters
    except ValueError as error:
        raise SpecError(f"{head!r} cannot be opened: {name} does not say which options it takes") from error
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values()):
        given = {**seeds, **options}
    else:
        unknown = sorted({*options, *named} - set(takes))
        if unknown:
            raise SpecError(f"{head} takes no option {', '.join(unknown)}; it takes {', '.join(takes) or 'none'}")
        given = {**{key: value for key, value in seeds.items() if key in takes}, **options}
    try:
        opened = factory(**given)
    except PhotonicError:
        raise
    except Exception as error:
        # whatever a third party's code raises, opening it is what failed
        raise SpecError(f"{head} failed to open: {type(error).__name__}: {error}") from error
    return _checked(opened, head)


def _checked(opened: object, head: str) -> Chip | Backend:
    if not isinstance(opened, Chip | Backend):
        raise SpecError(f"{head} must give a photonic Chip or Backend, found {type(opened).__name__}")
    return opened


def _merged(name: str, argument: int | None, options: dict[str, Any]) -> int | None:
    """A seed from the argument or from the spec string; both and different is an error."""
    if name not in options:
        found = argument
    else:
        found = options.pop(name)
        if argument is not None and argument != found:
            raise SpecError(f"{name}={found} in the spec string contradicts the argument {name}={argument}")
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 0):
        raise SpecError(f"{name} must be a whole number of at least 0, found {found!r}")
    return found


def _name(parsed: ParsedSpec, chip: Chip) -> str:
    """The spec string that opens this backend again: the chip's id where that is one, and every option beyond it."""
    scheme = parsed.head.partition(":")[0]
    base = chip.spec.chip_id if chip.spec.chip_id.partition(":")[0] == scheme and scheme in schemes() else parsed.head
    known = ParsedSpec.parse(base).options
    # the seed is the run's, not the backend's
    more = {key: value for key, value in parsed.options.items() if key not in known and key != "seed"}
    text = "&".join(f"{key}={value}" for key, value in more.items())
    return base + (("&" if known else "?") + text if text else "")


def _given(source: RecordSource | None, allow_failed: bool, allow_expired: bool) -> Calibration | None:
    """The record that a caller gives, from its file where it is one, if it may be used."""
    if source is None:
        return None
    return accepted(loaded(source), allow_failed=allow_failed, allow_expired=allow_expired)


def _paired(chip: Chip, given: Calibration | None) -> Calibration | None:
    """The record that goes with a chip: the caller's, or the one that the chip was made from; None: the nominal one.

    Raises:
        CalibrationError: both, and they differ.
    """
    own = getattr(chip, "calibration", None)
    if not isinstance(own, Calibration):
        return given
    if given is None:
        return own
    if given.replaced(chip_id=own.chip_id) != own:
        raise CalibrationError(
            f"{chip.spec.chip_id} is made from a record of its own, found another one of {given.chip_id}; leave it out"
        )
    return own


def _differs(backend: CalibratedBackend, given: Calibration) -> bool:
    return _paired(backend.chip, given) != backend.calibration


def _warn_nominal(chip: Chip, calibration: Calibration | None) -> None:
    if calibration is None:
        warnings.warn(
            f"chip {chip.spec.chip_id} is used with its nominal calibration, computed from its data sheet: "
            "nothing was measured",
            NominalCalibrationWarning,
            stacklevel=4,
        )


def _known(registered: dict[str, EntryPoint]) -> str:
    return ", ".join(sorted(registered)) or "none (is the package installed?)"


def _typed(text: str) -> Any:
    """Numbers, true, false and none as such; anything else stays text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
