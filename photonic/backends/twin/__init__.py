"""The fast statistical equivalent of a simulated chip."""

from photonic.backends.twin.backend import TwinBackend
from photonic.backends.twin.opening import open_twin

__all__ = ["TwinBackend", "open_twin"]
