"""Label one frame of a video, get every frame labelled.

Everything is imported when it is first used, so that importing this package (as FiftyOne does to register the
plugin) costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.version import __version__

if TYPE_CHECKING:
    from fiftyone_colortrack.api import PropagationReport, evaluate_tracks, propagate
    from fiftyone_colortrack.api.analysis import Analysis, analyze
    from fiftyone_colortrack.api.films import FilmReport, colorize, embed, film
    from fiftyone_colortrack.api.suggestion import Suggestion, suggest
    from fiftyone_colortrack.api.training import TrainProgress, train
    from fiftyone_colortrack.datasets.davis import load_davis
    from fiftyone_colortrack.datasets.jhmdb import load_jhmdb
    from fiftyone_colortrack.datasets.kinetics import load_kinetics
    from fiftyone_colortrack.model import list_models, load_model
    from fiftyone_colortrack.tracking import Seed, StreamTracker, TrackedFrame, Tracker, TrackerConfig

_MODULES = {
    "api": ("PropagationReport", "evaluate_tracks", "propagate"),
    "api.analysis": ("Analysis", "analyze"),
    "api.films": ("FilmReport", "colorize", "embed", "film"),
    "api.suggestion": ("Suggestion", "suggest"),
    "api.training": ("TrainProgress", "train"),
    "datasets.davis": ("load_davis",),
    "datasets.jhmdb": ("load_jhmdb",),
    "datasets.kinetics": ("load_kinetics",),
    "model": ("list_models", "load_model"),
    "tracking": ("Seed", "StreamTracker", "TrackedFrame", "Tracker", "TrackerConfig"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Analysis",
    "ColorTrackError",
    "FilmReport",
    "PropagationReport",
    "Seed",
    "StreamTracker",
    "Suggestion",
    "TrackedFrame",
    "Tracker",
    "TrackerConfig",
    "TrainProgress",
    "__version__",
    "analyze",
    "colorize",
    "embed",
    "evaluate_tracks",
    "film",
    "list_models",
    "load_davis",
    "load_jhmdb",
    "load_kinetics",
    "load_model",
    "propagate",
    "suggest",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
