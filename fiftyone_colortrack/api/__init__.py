"""The workflows behind the SDK, the command line and the App: FiftyOne in, FiftyOne out.

Importing this package does not import torch.
"""

from fiftyone_colortrack.api.evaluation import evaluate_tracks
from fiftyone_colortrack.api.propagation import Propagation, delete_tracks, propagate
from fiftyone_colortrack.api.report import PropagationReport, VideoResult
from fiftyone_colortrack.fields import check_videos

__all__ = [
    "Propagation",
    "PropagationReport",
    "VideoResult",
    "check_videos",
    "delete_tracks",
    "evaluate_tracks",
    "propagate",
]
