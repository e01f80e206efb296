"""The workflows behind the SDK, the command line and the App: FiftyOne in, FiftyOne out.

Importing this package does not import torch.
"""

from fiftyone_colortrack.api.evaluation import evaluate_iter, evaluate_tracks
from fiftyone_colortrack.api.propagation import check_propagation, check_videos, propagate, propagate_iter
from fiftyone_colortrack.api.report import Progress, PropagationReport, VideoResult

__all__ = [
    "Progress",
    "PropagationReport",
    "VideoResult",
    "check_propagation",
    "check_videos",
    "evaluate_iter",
    "evaluate_tracks",
    "propagate",
    "propagate_iter",
]
