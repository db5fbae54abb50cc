"""What all networks are built from: the shape of the images, and what makes an activation."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from photonic.models.activations import activation_factory

Shape = tuple[int, int, int]  # C, H, W
# a name, or what gives a new module at each call
MakeActivation = str | Callable[[], nn.Module]

# what the project's own networks use unless told otherwise: smooth activations survive analog noise better
# (arXiv 2402.02593)
DEFAULT_ACTIVATION = "gelu"


def factory_of(activation: MakeActivation) -> Callable[[], nn.Module]:
    """What gives a new module at each call.

    Raises:
        SpecError: no activation has this name.
    """
    return activation_factory(activation) if isinstance(activation, str) else activation
