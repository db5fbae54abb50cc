"""The networks of ``photonic train`` and of the study (arXiv 2402.02593), one readable file each."""

from photonic.models.networks.build import OWN, build_model
from photonic.models.networks.convnet import convnet
from photonic.models.networks.mlp import mlp
from photonic.models.networks.resnet18 import resnet18
from photonic.models.networks.shapes import DEFAULT_ACTIVATION, MakeActivation, Shape
from photonic.models.networks.study import STUDY_NETWORKS, add_study_noise, build_study_network
from photonic.models.networks.studyconvnet import linear_network, study_convnet
from photonic.models.networks.vgg import vgg_a
from photonic.models.networks.vit import vit

__all__ = [
    "DEFAULT_ACTIVATION",
    "OWN",
    "STUDY_NETWORKS",
    "MakeActivation",
    "Shape",
    "add_study_noise",
    "build_model",
    "build_study_network",
    "convnet",
    "linear_network",
    "mlp",
    "resnet18",
    "study_convnet",
    "vgg_a",
    "vit",
]
