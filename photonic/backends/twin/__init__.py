"""The fast statistical equivalent of a simulated chip."""

from photonic.backends.twin.backend import TwinBackend, open_twin

__all__ = ["TwinBackend", "open_twin"]
