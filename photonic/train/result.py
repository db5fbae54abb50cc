"""What a run found: a frozen record, saved as ``result.json`` and printed by ``photonic train --json``."""

from __future__ import annotations

from pydantic import Field

from photonic.records import Record


class Accuracy(Record):
    """Fractions of the test images that were classified rightly."""

    digital: float = Field(description="the control: same initial weights, data order and epochs, never on a chip")
    photonic: float = Field(description="mean over noisy passes of the whole test set on the backend")
    photonic_std: float = Field(description="standard deviation over these passes: the noise of one pass")
    photonic_ci95: float = Field(description="half of the 95 % interval of the mean, of the noise alone (Student's t)")
    photonic_passes: tuple[float, ...]
    digital_same_weights: float = Field(description="the weights that were trained photonically, run digitally")


class ChipUse(Record):
    """What the run cost the chips, training and evaluation together."""

    calls: int
    tiles_programmed: int
    shots: int


class LayerUse(Record):
    """How well one layer on a chip fitted its converters, training and evaluation together."""

    layer: str
    counts: int = Field(description="ADC readings")
    saturated_fraction: float = Field(description="of these, at a rail")
    clipped_fraction: float = Field(description="of its inputs, beyond its input range; 0 without one")


class Seconds(Record):
    """Wall time; of a resumed run, the sum over its parts that were kept."""

    chip: float
    outside: float
    total: float


class Opened(Record):
    """One backend of the run."""

    spec: str
    chip_id: str | None
    enob: float | None
    nominal: bool = Field(description="its calibration was computed from the chip's data sheet, not measured")


class Result(Record):
    """The numbers of a finished run."""

    accuracy: Accuracy
    backend: str
    calibration: str | None = None
    allow_failed: bool = False
    routes: tuple[tuple[str, str], ...]
    backends: tuple[Opened, ...]
    enob: float | None = Field(description="effective bits; of several chips the fewest; None without a chip")
    saturated_fraction: float = Field(description="fraction of all ADC counts at a rail")
    layers: tuple[LayerUse, ...] = Field(default=(), description="those on a chip")
    chip: ChipUse
    seconds: Seconds
    nominal: bool
    warnings: tuple[str, ...]
    out: str
    data: str
    model: str
    activation: str | None
    epochs: int
    batch_size: int
    lr: float
    seed: int
    train_images: int
    test_images: int
    threads: int = Field(description="of torch; part of what bit-identical means")
    versions: dict[str, str]
