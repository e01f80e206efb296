from .data import TrainingData as TrainingData
from .recipe import RECIPES as RECIPES
from .recipe import Recipe as Recipe
from .trainer import TrainResult as TrainResult
from .trainer import fit as fit
