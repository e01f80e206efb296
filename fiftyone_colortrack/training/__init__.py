"""Training without labels: clips, augmentation, losses, the Lightning module, `fit`."""

from fiftyone_colortrack.training.data import TrainingData
from fiftyone_colortrack.training.fit import TrainResult, fit
from fiftyone_colortrack.training.recipe import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "TrainResult", "TrainingData", "fit"]
