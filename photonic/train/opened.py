"""The backends of one run: opened together, counted together, closed together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from torch import nn

from photonic.backends.base import Backend
from photonic.backends.registry import Opener, ParsedSpec
from photonic.errors import ConversionError, RunError
from photonic.models.convert import convert_
from photonic.train.config import TrainConfig
from photonic.train.result import Opened
from photonic.train.warned import noting


class RunBackends:
    """Opens the spec strings of a config; a context manager.

    ``--seed`` is the run's, not the device's: without ``?device=N`` every run meets device 0, so that seeds compare
    training and not chips.

    Args:
        config: of the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self.warnings: list[str] = []
        self._opened: dict[str, Backend] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        config = self._config
        with ExitStack() as stack, noting(self.warnings):
            named = stack.enter_context(Opener(seed=config.seed))
            unnamed = stack.enter_context(Opener(seed=config.seed, device=0))
            for spec in (config.backend, *(spec for _, spec in config.routes)):
                opener = named if "device" in ParsedSpec.parse(spec).options else unnamed
                record = config.calibration if spec == config.backend else None
                self._opened[spec] = opener.backend(spec, record, allow_failed=config.allow_failed)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def convert_(self, model: nn.Module) -> None:
        """Routes a model as the config says: the routes over the default backend; the last match wins.

        Raises:
            ConversionError: a glob that matches no layer, or that others override wholly.
        """
        targets = {"*": self._opened[self._config.backend]}
        for glob, spec in self._config.routes:
            if glob in targets:
                # a mapping has one place for a glob, so the earlier one would vanish in silence
                earlier = "--backend, which is for all layers" if glob == "*" else "the same glob before it"
                raise ConversionError(f"the route {glob}={spec} overrides {earlier}; give one of them")
            targets[glob] = self._opened[spec]
        convert_(model, targets)

    def described(self) -> tuple[Opened, ...]:
        """What was opened, for the run's record."""
        found = []
        for text, backend in self._opened.items():
            chip = backend.spec.chip
            found.append(
                Opened(
                    spec=text,
                    chip_id=None if chip is None else chip.chip_id,
                    enob=None if chip is None else chip.enob,
                    nominal=backend.spec.nominal,
                )
            )
        return tuple(found)

    def state(self) -> dict[str, dict[str, Any]]:
        """What the noise of a resumed run needs, by spec string."""
        return {text: backend.state() for text, backend in self._opened.items()}

    def restore(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes back what ``state()`` gave.

        Raises:
            RunError: it is of other backends.
        """
        if set(state) != set(self._opened):
            raise RunError(
                f"the checkpoint is of the backends {sorted(state)}, the config names {sorted(self._opened)}"
            )
        for text, backend in self._opened.items():
            backend.restore(state[text])
