"""A simulated chip whose effects can be switched, one by one or all but one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from photonic.backends.base import Backend
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.registry import ParsedSpec, open_backend
from photonic.backends.simulated import SimulatedChip
from photonic.errors import NominalCalibrationWarning, RecordError, SpecError
from photonic.physics.effects import effects, without
from photonic.physics.fitted import FittedParameters
from photonic.physics.parameters import ChipParameters


@dataclass(frozen=True)
class Variant:
    """A chip with some of its effects off.

    Attributes:
        parameters: of that chip.
        beside: effects that had to be switched together with the one that was asked for, since no chip has the one
            and not the other.
    """

    parameters: ChipParameters
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class SwitchedChip:
    """A simulated chip, opened as often as needed, each time with other effects on; use one of the ``from_`` methods.

    Attributes:
        name: for people.
        parameters: with all its effects on.
        opener: gives the same device, with its nominal calibration, with other parameters.
    """

    name: str
    parameters: ChipParameters
    opener: Callable[[ChipParameters], Backend]

    @classmethod
    def from_spec(cls, spec: str, *, seed: int = 0) -> Self:
        """The chip of a spec string; its device is ``?device=N``, or 0.

        Args:
            spec: such as ``sim:typical?device=41&adc_bits=6&shots=4``.
            seed: of the run's noise.

        Raises:
            SpecError: it cannot be opened, or has no switches: only a simulated chip has.
        """
        parsed = ParsedSpec.parse(spec)
        given, name = _open(spec, seed)
        whole = given.model_dump()

        def reopen(parameters: ChipParameters) -> Backend:
            changed = {key: value for key, value in parameters.model_dump().items() if value != whole[key]}
            text = f"{parsed.head}?{urlencode({**parsed.options, **changed})}" if changed else spec
            backend = open_silently(text, seed=seed)
            if parameters_of(backend) != parameters:
                backend.close()
                raise SpecError(f"{text!r} did not open the chip that it names; explain needs one that does")
            return backend

        return cls(name, given, reopen)

    @classmethod
    def from_parameters(cls, parameters: ChipParameters, *, device: int = 0, seed: int = 0, **options: Any) -> Self:
        """A chip of these parameters.

        Args:
            parameters: of any architecture.
            device: seed of the hidden spread.
            seed: of the run's noise.
            options: of ``CalibratedBackend``.
        """

        def reopen(changed: ChipParameters) -> Backend:
            return CalibratedBackend(SimulatedChip(changed, device=device, seed=seed), **options)

        return cls(f"{parameters.architecture} chip, device {device}", parameters, reopen)

    @property
    def effects(self) -> tuple[str, ...]:
        """The effects that are on."""
        return tuple(effects(self.parameters))

    def ideal(self) -> Variant:
        """All effects off."""
        return Variant(_without(self.parameters, *self.effects))

    def alone(self, effect: str) -> Variant:
        """This effect on and all others off; where no such chip exists, all but one that it cannot be on without."""
        others = [name for name in self.effects if name != effect]
        keep: list[tuple[str, ...]] = [(), *((name,) for name in others)]
        return self._first(([name for name in others if name not in kept], kept) for kept in keep)

    def off(self, effect: str) -> Variant:
        """This effect off and all others on; where no such chip exists, all but one that cannot be on without it."""
        others: list[tuple[str, ...]] = [(), *((name,) for name in self.effects if name != effect)]
        return self._first(([effect, *more], more) for more in others)

    def _first(self, attempts: Iterable[tuple[Sequence[str], tuple[str, ...]]]) -> Variant:
        """The first chip that exists, of (effects that are off, effects that come along)."""
        refused: RecordError | None = None
        for off, beside in attempts:
            try:
                return Variant(_without(self.parameters, *off), beside)
            except RecordError as error:
                refused = refused or error
        raise SpecError(f"{self.name}: an effect has no switch of its own: {refused}") from refused


def _without(parameters: ChipParameters, *names: str) -> ChipParameters:
    """The chip with these effects off, and every other effect as large as it was."""
    changed = without(parameters, *names)
    if changed.offset_spread_lsb == 0 or changed.lsb == parameters.lsb:
        return changed
    # offsets are stated in counts, and a chip without an ADC has others: the offset in D stays
    return changed.model_copy(update={"offset_spread_lsb": parameters.offset_spread_lsb * parameters.lsb / changed.lsb})


def _open(spec: str, seed: int) -> tuple[ChipParameters, str]:
    """The parameters of the chip that a spec string names, and its name."""
    with open_silently(spec, seed=seed) as backend:
        parameters = parameters_of(backend)
        if parameters is None:
            kind = "exact arithmetic or a model of its own" if backend.spec.chip is None else "not simulated"
            raise SpecError(
                f"{spec!r} has no effects to switch off ({kind}): only a simulated chip has switches; "
                "explain one such as 'sim', or the simulated twin of a calibrated chip"
            )
        if parameters.architecture == FittedParameters.architecture:
            raise SpecError(
                f"{spec!r} is a measured chip: its record holds what its effects do together, so that none can be "
                "switched off; photonic report FILE.json shows each fitted part with its size, and photonic explain "
                f"a simulated chip of that size, such as 'sim:typical?n_outputs={parameters.n_outputs}&n_inputs="
                f"{parameters.n_inputs}', the error of each effect"
            )
        return parameters, backend.spec.name


def open_silently(spec: str, *, seed: int = 0) -> Backend:
    """Opens a spec string without the warning that the calibration is nominal: here it is what is asked about.

    Args:
        spec: without ``?device=N`` it is device 0.
        seed: of the run's noise, unless the spec string has one.

    Raises:
        SpecError: it cannot be opened.
    """
    options = ParsedSpec.parse(spec).options
    seed, device = options.get("seed", seed), None if "device" in options else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NominalCalibrationWarning)
        return open_backend(spec, seed=seed, device=device)


def parameters_of(backend: Backend) -> ChipParameters | None:
    """What any chip that is simulated from parameters shows, whoever wrote it."""
    found = getattr(getattr(backend, "chip", None), "parameters", None)
    return found if isinstance(found, ChipParameters) else None
