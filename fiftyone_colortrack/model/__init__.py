"""The networks: frames to embeddings. Torch only, imported when a model is first loaded."""

from fiftyone_colortrack.model.weights import ModelInfo, list_models, load_model, save_model
