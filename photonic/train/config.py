"""What a run is asked to do: a frozen record, saved as ``config.json`` in the run's folder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from photonic.records import Record


class TrainConfig(Record):
    """Everything that decides a run's numbers, on one machine with one number of threads.

    The defaults train on the 8 x 8 digits through a chip in seconds and reach what this network can reach there.
    """

    schema_version: Literal[1] = 1
    data: str = Field(default="digits", min_length=1, description="what photonic.data.load_dataset takes")
    model: str = Field(default="mlp", min_length=1, description="mlp, convnet or a torchvision model")
    activation: str | None = Field(default=None, description="None: the model's own")
    backend: str = Field(default="sim", min_length=1, description="spec string of the layers that no route names")
    calibration: str | None = Field(
        default=None, min_length=1, description="record of the chip that ``backend`` names; None: its own, or nominal"
    )
    allow_failed: bool = Field(default=False, description="also a record whose verification did not pass")
    routes: tuple[tuple[str, str], ...] = Field(default=(), description="(glob, spec string); the last match wins")
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=64, ge=1)
    lr: float = Field(default=5e-3, gt=0, description="Adam's first learning rate; it falls to 0 as a cosine")
    seed: int = Field(default=0, ge=0, description="of weights, data order, dropout and the chip's noise")
    limit: int | None = Field(default=None, ge=1, description="train on this many images, test on at most as many")
