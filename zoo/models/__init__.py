"""The tracker as a remotely-sourced model of FiftyOne's zoo, used like its SAM 2 video models.

foz.register_zoo_model_source(url)
model = foz.load_zoo_model("colortrack-fast")
dataset.apply_model(model, label_field="tracks", prompt_field="frames.seed")
"""

import shutil

try:
    from fiftyone_colortrack.api.zoo_model import ColorTrackModel
    from fiftyone_colortrack.model.weights import find_model
except ImportError as error:
    raise ImportError("this zoo model needs its package; run: pip install fiftyone-colortrack") from error


def download_model(model_name, model_path):
    """Copy the weights, which come with the package."""
    shutil.copyfile(find_model(model_name.removeprefix("colortrack-")).path, model_path)


def load_model(model_name, model_path, **kwargs):
    """Load the tracker; for the arguments see `ColorTrackModel`."""
    return ColorTrackModel(model_path, **kwargs)
