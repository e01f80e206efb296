"""From embeddings and first labels to labels everywhere."""

from fiftyone_colortrack.tracking.config import DIRECTIONS, Direction, TrackerConfig
from fiftyone_colortrack.tracking.labels import LABEL_KINDS, LabelKind, Labels, Seed, TrackedFrame
from fiftyone_colortrack.tracking.tracker import BASELINES, StreamTracker, Tracker

__all__ = [
    "BASELINES",
    "DIRECTIONS",
    "LABEL_KINDS",
    "Direction",
    "LabelKind",
    "Labels",
    "Seed",
    "StreamTracker",
    "TrackedFrame",
    "Tracker",
    "TrackerConfig",
]
