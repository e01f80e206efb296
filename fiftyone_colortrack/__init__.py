"""Label one frame of a video and get every frame labeled.

Each name is imported when you first use it, so importing this package is fast, as it must be to register the plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.version import __version__

if TYPE_CHECKING:
    from fiftyone_colortrack.api.analysis import analyze
    from fiftyone_colortrack.api.edits import (
        delete_tracks,
        end_track,
        merge_tracks,
        rename_track,
        split_track,
    )
    from fiftyone_colortrack.api.evaluation import evaluate_tracks
    from fiftyone_colortrack.api.films import colorize, embed, film
    from fiftyone_colortrack.api.propagation import propagate
    from fiftyone_colortrack.api.report import PropagationReport
    from fiftyone_colortrack.api.suggestion import suggest
    from fiftyone_colortrack.api.training import train
    from fiftyone_colortrack.datasets.davis import load_davis
    from fiftyone_colortrack.datasets.jhmdb import load_jhmdb
    from fiftyone_colortrack.datasets.kinetics import load_kinetics
    from fiftyone_colortrack.model import list_models, load_model
    from fiftyone_colortrack.tracking import Seed, StreamTracker, TrackedFrame, Tracker, TrackerConfig

_MODULES = {
    "api.analysis": ("analyze",),
    "api.edits": ("delete_tracks", "end_track", "merge_tracks", "rename_track", "split_track"),
    "api.evaluation": ("evaluate_tracks",),
    "api.films": ("colorize", "embed", "film"),
    "api.propagation": ("propagate",),
    "api.report": ("PropagationReport",),
    "api.suggestion": ("suggest",),
    "api.training": ("train",),
    "datasets.davis": ("load_davis",),
    "datasets.jhmdb": ("load_jhmdb",),
    "datasets.kinetics": ("load_kinetics",),
    "model": ("list_models", "load_model"),
    "tracking": ("Seed", "StreamTracker", "TrackedFrame", "Tracker", "TrackerConfig"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ColorTrackError",
    "PropagationReport",
    "Seed",
    "StreamTracker",
    "TrackedFrame",
    "Tracker",
    "TrackerConfig",
    "__version__",
    "analyze",
    "colorize",
    "delete_tracks",
    "embed",
    "end_track",
    "evaluate_tracks",
    "film",
    "list_models",
    "load_davis",
    "load_jhmdb",
    "load_kinetics",
    "load_model",
    "merge_tracks",
    "propagate",
    "rename_track",
    "split_track",
    "suggest",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
