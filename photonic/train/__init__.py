"""The main job: trains a network through a photonic chip, beside a digital control, and saves the run."""

from photonic.train.config import TrainConfig
from photonic.train.job import resume, train
from photonic.train.progress import Progress
from photonic.train.result import Result

__all__ = ["Progress", "Result", "TrainConfig", "resume", "train"]
