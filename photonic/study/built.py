"""The network of a cell, with its noise: the one place that knows how both are made."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import nn

from photonic.backends.base import Backend
from photonic.backends.registry import Opener, ParsedSpec
from photonic.errors import SpecError
from photonic.models.convert import convert_
from photonic.models.networks import STUDY_NETWORKS, build_model, build_study_network, mlp
from photonic.models.studynoise import STUDY_POINTS, InsertionPoints, NoiseModel, StudyNoise
from photonic.physics.draws import NormalDraws
from photonic.study.cell import DIGITAL, PAPER, PARAMETERS, STUDY, Cell, activation_module, code_noise, codes_of
from photonic.train.loop import seeded_globally

# of a network that the study does not have
EVERYWHERE = InsertionPoints(before=True, after=True, weights=True)


class Built:
    """A network that is ready to learn; a context manager that closes what its products run on.

    Weights are keyed by the seed alone, so that all activations and noises of a seed begin with the same ones.

    Args:
        cell: what to build.
        shape: (C, H, W) of the images.
        n_classes: number of outputs.
        start: state of a clean network to begin from; its last layer is drawn anew. None: all of it is.

    Attributes:
        network: images (B, C, H, W) to logits.

    Raises:
        SpecError: a network, noise or backend that does not exist, or cannot be with such images.
    """

    def __init__(self, cell: Cell, shape: tuple[int, int, int], n_classes: int, start: dict[str, Any] | None) -> None:
        with seeded_globally("study weights", cell.seed):
            self.network = network_of(cell, shape, n_classes)
        if start is not None:
            with seeded_globally("study head", cell.seed):
                _begin_from(self.network, start)
        self._backend: Backend | None = None
        self._noise: NoiseModel | None = None
        with ExitStack() as stack:
            self._place(cell, stack)
            self._stack = stack.pop_all()

    def state(self) -> dict[str, Any]:
        """Where the noise has got to, for a checkpoint."""
        return {} if self._backend is None else self._backend.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what ``state()`` gave."""
        if self._backend is not None:
            self._backend.restore(state)

    def begin_epoch(self, epoch: int) -> None:
        """Keys the noise of the study by seed and epoch; backends key theirs by call."""
        if self._noise is not None:
            self._noise.begin(epoch)

    def _place(self, cell: Cell, stack: ExitStack) -> None:
        if cell.backend == STUDY:
            self._noise = NoiseModel(codes_of(cell), code_noise(cell), NormalDraws(), cell.seed)
            StudyNoise(self.network, STUDY_POINTS.get(cell.network, EVERYWHERE), self._noise)
        elif cell.backend != DIGITAL:
            spec = spec_of(cell)
            # seeds compare trainings, not chips: device 0 unless the spec string names another
            device = (
                None if "device" in ParsedSpec.parse(spec).options or spec.partition("?")[0].endswith(".json") else 0
            )
            opener = stack.enter_context(Opener(seed=cell.seed, device=device))
            self._backend = opener.backend(spec)
            convert_(self.network, self._backend)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def network_of(cell: Cell, shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """The plain network, without noise; weights come from torch's global generator.

    Raises:
        SpecError: no such network, a depth that it does not have, or images or an activation that do not fit.
    """
    depths = {name: getattr(cell, name) for name in ("n_conv", "n_linear", "depth")}

    def activation() -> nn.Module:
        return activation_module(cell)

    if cell.network in STUDY_NETWORKS:
        return build_study_network(cell.network, shape, n_classes, activation, **depths)
    given = [name for name, value in depths.items() if value is not None]
    if given:
        raise SpecError(f"{cell.network} takes no {', '.join(given)}; the study's networks do")
    if cell.network == "mlp":
        return mlp(shape, n_classes, activation)
    if any(getattr(cell, name) != Cell.model_fields[name].default for name in PARAMETERS):
        raise SpecError(f"{cell.network} takes activations by name alone; those with parameters go into the study's")
    return build_model(cell.network, shape, n_classes, cell.activation)


def spec_of(cell: Cell) -> str:
    """The spec string of the backend that a cell runs on."""
    if cell.backend != PAPER:
        return cell.backend
    codes = "quantiser=sign" if cell.quantiser == "sign" else f"precision={cell.precision}"
    return f"{PAPER}?{codes}&ep={cell.ep!r}&noise={cell.noise}&match={cell.match}"


def record_files(cell: Cell) -> dict[str, str]:
    """Hashes of the record that a spec string names: a twin of another calibration is another twin.

    Raises:
        SpecError: it is not there.
    """
    head = cell.backend.partition("?")[0]
    _, mark, name = head.partition(":")
    if not (mark and name.endswith(".json")):
        return {}
    try:
        return {f"record {name}": hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]}
    except OSError as error:
        raise SpecError(f"the record {name} cannot be read: {error.strerror or error}") from error


def _begin_from(network: nn.Module, start: dict[str, Any]) -> None:
    """Takes the weights of a clean network, and draws the last linear layer anew: the classes are others."""
    last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    kept = {name: value for name, value in start.items() if not name.startswith(f"{last}.")}
    network.load_state_dict(kept, strict=False)
    head = network.get_submodule(last)
    if isinstance(head, nn.Linear):
        head.reset_parameters()
