"""From labels on some frames to labels on all of them. Torch is imported with the tracker, not before."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.tracking.config import BASELINES, DIRECTIONS, Direction, TrackerConfig
from fiftyone_colortrack.tracking.labels import LABEL_KINDS, LabelKind, Labels, Seed, TrackedFrame

if TYPE_CHECKING:
    from fiftyone_colortrack.tracking.tracker import StreamTracker, Tracker

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.tracker"), name)
