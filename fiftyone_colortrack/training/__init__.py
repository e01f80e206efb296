"""Training without labels: clips, augmentation, losses, the Lightning module, `fit`.

What is trained on can be collected without torch, which is imported when it is first needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.training.data import TrainingData
from fiftyone_colortrack.training.recipe import RECIPES, Recipe

if TYPE_CHECKING:
    from fiftyone_colortrack.training.trainer import TrainResult, fit

__all__ = ["RECIPES", "Recipe", "TrainResult", "TrainingData", "fit"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.trainer"), name)
