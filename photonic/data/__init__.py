"""Real data sets, in memory as tensors: by name, or from a folder or file of the user's."""

from photonic.data.dataset import Dataset
from photonic.data.load import load_dataset

__all__ = ["Dataset", "load_dataset"]
