"""One cell of a study: everything that decides one training's numbers, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from photonic.errors import SpecError
from photonic.models.activations import activation_factory, study_activation
from photonic.physics.codenoise import CodeNoise
from photonic.physics.codes import Codes, MidTread, SignCodes
from photonic.physics.errorprobability import mean_variance, noise_of_error_probability, noise_of_variance
from photonic.records import Record

# how a cell's products are computed where this is not a spec string
STUDY, PAPER, DIGITAL = "study", "paper", "digital"
QUANTISED = (STUDY, PAPER)
OF_STUDY = ("precision", "quantiser", "ep", "noise", "match")
HASH_DIGITS = 16


class Activation(Record):
    """``R + i (A - R)``, R the rectifier, and whose derivative its gradient takes."""

    activation: str = Field(default="relu", min_length=1, description="A: relu, gelu, silu, geglu, siglu, or by name")
    interpolation: float = Field(default=1.0, ge=0, le=1, description="i of gelu and silu; 0 is ReLU, 1 is A")
    scale: float = Field(default=1.0, gt=0, description="s of gelu and silu: nearer to ReLU above 1")
    leak: float = Field(default=0.0, ge=0, le=1, description="slope below 0 of the rectifier: leaky ReLU")
    derivative_at_zero: float | None = Field(
        default=None, ge=0, le=1, description="of the rectifier; None: the slope of its negative side, as in PyTorch"
    )
    backward: str | None = Field(
        default=None, min_length=1, description="whose derivative backward takes; None: its own"
    )

    @model_validator(mode="after")
    def _exists(self) -> Self:
        activation_module(self)  # a SpecError is a ValueError, so pydantic reports it as its own
        return self


GATED = {"geglu": "gelu", "siglu": "silu"}


def activation_module(given: Activation) -> nn.Module:
    """A new module with this activation.

    Raises:
        SpecError: unknown, or with a parameter that it does not have.
    """
    name = given.activation
    curves = ("relu", "gelu", "silu", *GATED)
    if name in curves:
        return study_activation(
            GATED.get(name, name),
            backward=given.backward,
            gated=name in GATED,
            interpolation=given.interpolation,
            scale=given.scale,
            leak=given.leak,
            derivative_at_zero=given.derivative_at_zero,
        )
    plain = Activation.model_construct(activation=name)
    odd = [each for each in PARAMETERS if getattr(given, each) != getattr(plain, each)]
    if odd:
        raise SpecError(f"{', '.join(odd)} belong to {', '.join(curves)}; {name} takes none")
    return activation_factory(name)()


PARAMETERS = ("interpolation", "scale", "leak", "derivative_at_zero", "backward")


class Noise(Record):
    """What the products run on, and the noise of the study where that is what they run on."""

    backend: str = Field(
        default=STUDY, min_length=1, description="study (op for op), paper (as a backend), digital, or a spec string"
    )
    precision: int | None = Field(default=None, ge=1, le=65536, description="p, steps per unit; None: no quantiser")
    quantiser: Literal["mid-tread", "sign"] = "mid-tread"
    ep: float | None = Field(default=None, ge=0, lt=1, description="error probability; 0: quantised alone")
    noise: str = Field(default="gaussian", min_length=1, description="its kind")
    match: Literal["ep", "variance"] = Field(
        default="ep", description="a kind has this EP, or the variance that Gaussian noise of this EP has"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.backend in QUANTISED:
            if self.ep is None:
                raise ValueError(f"backend {self.backend!r} needs ep")
            if (self.precision is None) is not (self.quantiser == "sign"):
                raise ValueError("the mid-tread quantiser needs precision (or bits), the sign quantiser has none")
            code_noise(self)
        elif any(getattr(self, name) != Noise.model_fields[name].default for name in OF_STUDY):
            raise ValueError(
                f"backend {self.backend!r} takes no {', '.join(OF_STUDY)}: they belong to 'study' and 'paper'; "
                "give it a [[grid]] of its own"
            )
        return self


def says(given: Noise, name: str) -> bool:
    """Whether a field has a value, and one that means something: a spec string says by itself what noise it has."""
    return getattr(given, name) is not None and (given.backend in QUANTISED or name not in OF_STUDY)


def codes_of(given: Noise) -> Codes:
    """The digital values of a cell."""
    return SignCodes() if given.quantiser == "sign" else MidTread(given.precision or 0)


def code_noise(given: Noise) -> CodeNoise:
    """The noise on them.

    Raises:
        SpecError: a kind that does not exist, or an error probability that it cannot have.
    """
    codes, ep = codes_of(given), given.ep or 0.0
    if given.match == "ep" or ep == 0:
        return noise_of_error_probability(given.noise, ep, codes)
    gaussian = noise_of_error_probability("gaussian", ep, codes)
    return noise_of_variance(given.noise, mean_variance(gaussian, codes), codes)


class Images(Record):
    """A data set and the part of it that is used."""

    data: str = Field(default="digits", min_length=1, description="what photonic.data.load_dataset takes")
    classes: tuple[int, ...] | None = Field(default=None, description="only these, renumbered from 0; None: all")
    train_images: int | None = Field(default=None, ge=1, description="evenly spaced; None: all")
    test_images: int | None = Field(default=None, ge=1, description="evenly spaced; None: all")
    colour: bool = Field(default=True, description="False: the mean over the channels")


class Cell(Activation, Noise, Images):
    """One training of one network with one seed.

    Equal cells have equal hashes, whatever grid they come from. Fields at their defaults are left out of the hash, so
    that a field which a later version adds leaves old cells as they are.
    """

    schema_version: Literal[1] = 1
    network: str = Field(default="convnet", min_length=1, description="convnet, linear, vgg_a, resnet18, vit, mlp")
    n_conv: int | None = Field(default=None, ge=0, le=6, description="convolutions of the convnet; None: its 6")
    n_linear: int | None = Field(default=None, ge=1, le=3, description="linear layers of the convnet; None: its 3")
    depth: int | None = Field(default=None, ge=1, description="blocks of the vit; None: its 4")
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=64, ge=1)
    lr: float = Field(default=1e-3, gt=0, description="of Adam")
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = Field(default=0.0, ge=0)
    early_stopping: Literal["off", "chance", "study"] = Field(
        default="off",
        description="chance: from epoch 10, training accuracy below 1.25 / classes; study: also when test accuracy "
        "falls 5 points below its best",
    )
    pretrain_classes: tuple[int, ...] | None = Field(default=None, description="of the same data, learnt clean first")
    pretrain_epochs: int = Field(default=0, ge=0, description="0: no transfer")
    seed: int = Field(default=0, ge=0, description="of weights, data order, dropout and noise")

    @model_validator(mode="after")
    def _transfer(self) -> Self:
        if (self.pretrain_classes is None) != (self.pretrain_epochs == 0):
            raise ValueError("transfer needs both pretrain_classes and pretrain_epochs")
        return self

    @property
    def hash(self) -> str:
        """Names the cell: 64 bits of the sha256 of its canonical JSON."""
        return digest(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def pretraining(self) -> Cell:
        """The clean training that this cell starts from: one for all noise levels of a seed."""
        clean = dict.fromkeys(("precision", "ep", "pretrain_classes")) | {"pretrain_epochs": 0}
        noise = {name: Noise.model_fields[name].default for name in ("quantiser", "noise", "match")}
        changed = clean | noise | {"backend": DIGITAL, "classes": self.pretrain_classes, "epochs": self.pretrain_epochs}
        return Cell(**self.model_dump() | changed)


FIELDS = tuple(name for name in Cell.model_fields if name != "schema_version")


def digest(content: Any) -> str:
    """A short hash of JSON values, whatever the order of their keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


NAMES = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "geglu": "GeGLU", "siglu": "SiGLU"}


def label(cell: Activation) -> str:
    """The activation of a cell, for people."""
    rectified = cell.activation == "relu" or cell.interpolation == 0
    if rectified and cell.activation not in GATED:
        text = f"leaky ReLU {cell.leak:g}" if cell.leak else "ReLU"
    else:
        text = NAMES.get(cell.activation, cell.activation)
        text += f" s={cell.scale:g}" if cell.scale != 1 else ""
        text += f" i={cell.interpolation:g}" if cell.interpolation != 1 else ""
        text += f" leak {cell.leak:g}" if cell.leak else ""
    if cell.derivative_at_zero is not None:
        text += f", slope {cell.derivative_at_zero:g} at 0"
    return text if cell.backward is None else f"{text}, backward {NAMES.get(cell.backward, cell.backward)}'"
