"""Layers, conversion, activations and networks; ``photonic`` itself exports what most users need."""

from photonic.models.replacing import replace_activations

__all__ = ["replace_activations"]
