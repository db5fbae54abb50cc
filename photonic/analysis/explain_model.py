"""The error budget of a trained model on a simulated chip: layer by layer, and in accuracy."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from photonic.analysis.budget import AccuracyShare, LayerBudget, ModelBudget, Samples, interaction, interval
from photonic.analysis.plan import ALL, IDEAL, Key, Progress, contributions, each_once, plan_of
from photonic.analysis.probe import ProbeBackend
from photonic.analysis.switches import SwitchedChip, Variant
from photonic.backends.base import Backend
from photonic.errors import ShapeError
from photonic.models.convert import DIGITAL, convert_, unconvert_

LAYER_BLOCKS = 8
EVALUATION_BATCH = 256
EVERY_LAYER = {"*": True}


def explain_model(
    chip: SwitchedChip,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    on_chip: Mapping[str, bool] = EVERY_LAYER,
    passes: int = 10,
    layer_images: int = 512,
    layer_repeats: int = 4,
    progress: Progress | None = None,
) -> ModelBudget:
    """Measures the error of each layer on exact inputs, and the accuracy, with each effect alone and each off.

    Args:
        chip: whose effects are switched.
        model: trained; not changed.
        x: test images (B, ...).
        y: their labels (B,).
        on_chip: which layers run on the chip, by glob over their names; the last match wins.
        passes: noisy passes over all images, for each accuracy.
        layer_images: how many of the images, from the first, the errors of layers are measured on.
        layer_repeats: how often each product of a layer is measured.
        progress: is told how it goes.

    Raises:
        ShapeError: fewer than 2 images, passes or repeats.
        ConversionError: ``on_chip`` does not fit the model.
    """
    if min(len(x), passes, layer_images, layer_repeats) < 2:
        raise ShapeError("images, passes and repeats must be at least 2 each: intervals come from their spread")
    digital, images, plan = exact_copy(model), x[:layer_images], plan_of(chip)
    parts = {key: variant for key, variant in plan.items() if key[0] != "off"}

    def errors(variant: Variant) -> dict[str, Samples]:
        with chip.opener(variant.parameters) as backend:
            return _layer_errors(backend, digital, images, on_chip, layer_repeats)

    def accuracies(variant: Variant) -> Tensor:
        with chip.opener(variant.parameters) as backend:
            return _accuracies(backend, digital, x, y, on_chip, passes)

    layers = each_once(parts, errors, progress, "layers")
    found = each_once(plan, accuracies, progress, "accuracy")
    exact = _accuracy(digital, x, y)
    losses = contributions(plan, {key: exact - accuracy for key, accuracy in found.items()})
    return ModelBudget(
        images=len(x),
        passes=passes,
        layer_images=len(images),
        layer_repeats=layer_repeats,
        layers=tuple(_layer(name, parts, {key: by[name] for key, by in layers.items()}) for name in layers[ALL]),
        digital=exact,
        total=interval(found[ALL]),
        ideal=interval(found[IDEAL]),
        effects=_shares(losses, found),
        interaction=interval(exact - found[ALL] - sum(losses.values(), torch.zeros(()))),
    )


def exact_copy(model: nn.Module) -> nn.Module:
    """A copy in exact arithmetic, in evaluation mode."""
    digital = copy.deepcopy(model)
    unconvert_(digital)
    return digital.eval()


def _on_backend(model: nn.Module, backend: Backend, on_chip: Mapping[str, bool]) -> nn.Module:
    return convert_(copy.deepcopy(model), {glob: backend if chosen else DIGITAL for glob, chosen in on_chip.items()})


def _layer_errors(
    backend: Backend, digital: nn.Module, images: Tensor, on_chip: Mapping[str, bool], repeats: int
) -> dict[str, Samples]:
    """Of each layer, with the activations of the exact model as its inputs."""
    probe = ProbeBackend(backend, repeats)
    probed = _on_backend(digital, probe, on_chip)
    with torch.inference_mode():
        for block in images.chunk(LAYER_BLOCKS):
            probed(block)
    return probe.samples()


def _accuracies(
    backend: Backend, digital: nn.Module, x: Tensor, y: Tensor, on_chip: Mapping[str, bool], passes: int
) -> Tensor:
    """Accuracies (passes,)."""
    photonic = _on_backend(digital, backend, on_chip)
    return torch.tensor([_accuracy(photonic, x, y) for _ in range(passes)], dtype=torch.float64)


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.inference_mode():
        batches = zip(x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True)
        return sum(int((model(images).argmax(1) == labels).sum()) for images, labels in batches) / len(x)


def _layer(name: str, plan: Mapping[Key, Variant], found: Mapping[Key, Samples]) -> LayerBudget:
    alone = contributions(plan, found)
    errors = {effect: samples.error() for effect, samples in alone.items()}
    return LayerBudget(
        layer=name,
        total=found[ALL].error(),
        ideal=found[IDEAL].error(),
        alone=dict(sorted(errors.items(), key=lambda item: item[1].total.value, reverse=True)),
        interaction=interaction(found[ALL], alone.values()),
    )


def _shares(losses: Mapping[str, Tensor], found: Mapping[Key, Tensor]) -> tuple[AccuracyShare, ...]:
    """Largest loss alone first."""
    names = sorted(losses, key=lambda name: float(losses[name].mean()), reverse=True)
    return tuple(
        AccuracyShare(
            effect=name,
            alone=interval(found["alone", name]),
            loss=interval(losses[name]),
            off=interval(found["off", name]),
            change=interval(found["off", name] - found[ALL]),
        )
        for name in names
    )
