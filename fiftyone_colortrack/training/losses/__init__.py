"""The losses, one module each."""

from fiftyone_colortrack.training.losses.correspondence import CorrespondenceLoss
from fiftyone_colortrack.training.losses.pointer import PointerLoss
from fiftyone_colortrack.training.losses.reconstruction import ReconstructionLoss

__all__ = ["CorrespondenceLoss", "PointerLoss", "ReconstructionLoss"]
