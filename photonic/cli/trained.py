"""The model of a finished run, for commands that ask about one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from photonic.data import Dataset, load_dataset
from photonic.errors import RunError
from photonic.models.convert import DIGITAL
from photonic.models.networks import build_model
from photonic.train.config import TrainConfig
from photonic.train.runs import RunFolder


class Trained:
    """The photonically trained model of a finished run, with its test set.

    Args:
        path: the run's folder.

    Attributes:
        config: of the run.
        result: what the run found.
        data: what it was trained and tested on.
        model: in exact arithmetic.
        on_chip: which layers the run had on a chip, by glob; the last match wins.

    Raises:
        RunError: not a finished run, or its model and data are no longer what they were.
    """

    def __init__(self, path: Path) -> None:
        folder = RunFolder.open(path)
        result, checkpoint = folder.result(), folder.load_checkpoint()
        if result is None or checkpoint is None:
            raise RunError(f"{path} is not finished; finish it with: photonic train --resume {path}")
        self.config, self.result = folder.config(), result
        self.data = load_dataset(self.config.data, limit=self.config.limit)
        self.model = _rebuilt(path, self.config, self.data, checkpoint["learners"]["photonic"]["model"])
        self.on_chip = {"*": self.config.backend != DIGITAL}
        self.on_chip |= {glob: spec != DIGITAL for glob, spec in self.config.routes}
        if not any(self.on_chip.values()):
            # the run had no chip at all; the question is what this one would do
            self.on_chip = {"*": True}


def _rebuilt(path: Path, config: TrainConfig, data: Dataset, state: dict[str, Any]) -> nn.Module:
    c, h, w = data.test_x.shape[1:]
    model = build_model(config.model, (c, h, w), data.n_classes, config.activation)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(f"{path}: the checkpoint does not fit this version's {config.model}: {error}") from error
    return model
