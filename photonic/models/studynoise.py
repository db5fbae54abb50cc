"""The noise model of arXiv 2402.02593, operation for operation, as modules and parametrizations of any network.

    before a layer  (doa, digital to analog)   Clamp -> RP -> noise      not quantised again after the noise
    after a layer   (aod, analog to digital)   noise -> Clamp -> RP      bias included; the activation comes after it
    weights, biases                            Clamp -> RP -> noise      drawn anew at every access

Backward: the clamp of inputs and outputs lets gradients pass in [-1, 1] and stops them elsewhere; everything else is
straight through, and a weight's gradient goes to its latent value unmasked. Products see the noisy operands of the same
forward pass. Noise is there in training and in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from photonic.errors import ConversionError
from photonic.models.sites import is_photonic
from photonic.physics import seeds
from photonic.physics.codenoise import CodeNoise
from photonic.physics.codes import LIMIT, Codes
from photonic.physics.draws import NormalDraws
from photonic.physics.errorprobability import noise_of_error_probability
from photonic.physics.straightthrough import straight_through, within_limits

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class NoiseModel:
    """Digital values, noise on them, and the random numbers that the parts of one network share.

    Attributes:
        codes: of the quantiser.
        noise: on its values.
        draws: owned by the network.
        seed: of the draws.
    """

    codes: Codes
    noise: CodeNoise
    draws: NormalDraws
    seed: int

    @classmethod
    def of(cls, codes: Codes, noise: CodeNoise | None = None, *, ep: float | None = None, seed: int = 0) -> Self:
        """By its noise, or by the error probability of Gaussian noise.

        Args:
            codes: of the quantiser.
            noise: on its values; None: Gaussian of this ep.
            ep: error probability.
            seed: of the draws.
        """
        model = cls(codes, noise or noise_of_error_probability("gaussian", ep or 0.0, codes), NormalDraws(), seed)
        model.begin()
        return model

    def begin(self, *key: int | str) -> None:
        """Starts the draws of the seed and a key, e.g. of an epoch, anew: what a resumed training needs."""
        self.draws.seed(seeds.derive("study noise", self.seed, *key))


class ReducePrecision(nn.Module):
    """The digital value of every number, straight through."""

    def __init__(self, codes: Codes) -> None:
        super().__init__()
        self.codes = codes

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, the same shape; beyond [-1, 1] nothing saturates."""
        return straight_through(x, self.codes.quantise(x.detach()))


class AddNoise(nn.Module):
    """Noise of its own on every number, straight through, in training and in evaluation."""

    def __init__(self, model: NoiseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, the same shape."""
        return straight_through(x, self.model.noise.noisy(x.detach(), self.model.draws))


class Clamp(nn.Module):
    """To [-1, 1]; the gradient passes there, ends included, and is 0 elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, the same shape."""
        still = x.detach()
        return within_limits(x, still, still.clamp(-LIMIT, LIMIT))


class DigitalToAnalog(nn.Module):
    """Clamp, reduce the precision, add noise: what a layer is fed with."""

    def __init__(self, model: NoiseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, the same shape."""
        still = x.detach()
        quantised = self.model.codes.quantise(still.clamp(-LIMIT, LIMIT))
        return within_limits(x, still, self.model.noise.noisy(quantised, self.model.draws))


class AnalogToDigital(nn.Module):
    """Add noise, clamp, reduce the precision: what a layer's output is read as."""

    def __init__(self, model: NoiseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, the same shape."""
        noisy = self.model.noise.noisy(x.detach(), self.model.draws)
        return within_limits(x, noisy, self.model.codes.quantise(noisy.clamp(-LIMIT, LIMIT)))


class NoisyParameter(nn.Module):
    """A parametrization: clamp, reduce the precision, add noise, drawn anew at every access; no mask in backward."""

    def __init__(self, model: NoiseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> Tensor:
        """The latent parameter is what the optimiser works on; it is not clamped itself."""
        quantised = self.model.codes.quantise(latent.detach().clamp(-LIMIT, LIMIT))
        return straight_through(latent, self.model.noise.noisy(quantised, self.model.draws))


@dataclass(frozen=True)
class InsertionPoints:
    """Where a network has the noise.

    Attributes:
        before: every convolution and linear layer.
        after: every convolution and linear layer, the last one included.
        weights: of these layers, and their biases.
        shortcuts: before ``nn.Identity`` modules named ``shortcut`` (the residual network's).
        input: of the network.
        normalisation: weights and biases of batch normalisation; the study's residual networks had them by accident.
    """

    before: bool = False
    after: bool = False
    weights: bool = False
    shortcuts: bool = False
    input: bool = False
    normalisation: bool = False


# of the study's networks, by the names of photonic.models.networks.STUDY_NETWORKS
STUDY_POINTS: dict[str, InsertionPoints] = {
    "convnet": InsertionPoints(before=True, after=True, weights=True),
    "linear": InsertionPoints(before=True, after=True, weights=True),
    "vgg_a": InsertionPoints(before=True, weights=True),
    "resnet18": InsertionPoints(before=True, weights=True, shortcuts=True),
    "vit": InsertionPoints(input=True),
}


class StudyNoise:
    """The noise of a network, inserted by hooks and parametrizations; the network's own code does not know it.

    Args:
        network: gets the noise in place. Its layers keep their names; weights become ``parametrizations.*.original``.
        points: where.
        model: what.

    Raises:
        ConversionError: a layer runs on a backend already, or there is nothing at these points.
    """

    def __init__(self, network: nn.Module, points: InsertionPoints, model: NoiseModel) -> None:
        placed = [name for name, module in network.named_modules() if is_photonic(module)]
        if placed:
            raise ConversionError(
                f"layer {placed[0]!r} runs on a backend, and would have noise twice; take the backend paper alone, or "
                "photonic.unconvert_ first"
            )
        self.model = model
        self._handles: list[RemovableHandle] = []
        self._parameters: list[tuple[nn.Module, str]] = []
        for module in network.modules():
            if isinstance(module, LAYERS):
                self._place(module, points)
            elif isinstance(module, _BatchNorm) and points.normalisation:
                self._parametrize(module)
        if points.shortcuts:
            for name, module in network.named_modules():
                if name.rpartition(".")[2] == "shortcut" and isinstance(module, nn.Identity):
                    self._before(module)
        if points.input:
            self._before(network)
        if not (self._handles or self._parameters):
            raise ConversionError(f"this network has nothing at {points}")

    def remove(self) -> None:
        """Takes the noise out again; latent parameters stay as they were learnt."""
        for handle in self._handles:
            handle.remove()
        for module, name in self._parameters:
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        self._handles, self._parameters = [], []

    def _place(self, layer: nn.Module, points: InsertionPoints) -> None:
        if points.before:
            self._before(layer)
        if points.after:
            self._handles.append(layer.register_forward_hook(_After(AnalogToDigital(self.model))))
        if points.weights:
            self._parametrize(layer)

    def _before(self, module: nn.Module) -> None:
        self._handles.append(module.register_forward_pre_hook(_Before(DigitalToAnalog(self.model))))

    def _parametrize(self, module: nn.Module) -> None:
        for name in _own_parameters(module):
            parametrize.register_parametrization(module, name, NoisyParameter(self.model))
            self._parameters.append((module, name))


@dataclass(frozen=True)
class _Before:
    """A forward pre-hook."""

    convert: DigitalToAnalog

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.convert(args[0]), *args[1:]


@dataclass(frozen=True)
class _After:
    """A forward hook."""

    convert: AnalogToDigital

    def __call__(self, module: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor:
        read: Tensor = self.convert(y)
        return read


def _own_parameters(module: nn.Module) -> Iterator[str]:
    """Names of what the layer multiplies with and adds; a list, since parametrizing changes them."""
    yield from [name for name, parameter in module.named_parameters(recurse=False) if parameter.is_floating_point()]
