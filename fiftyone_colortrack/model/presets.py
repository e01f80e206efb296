"""Named configurations: what `fast`, `paper` and `lab` mean."""

from __future__ import annotations

from typing import Any

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.colorizer import Embedder, FastEmbedder, LabEmbedder, PaperEmbedder

PRESETS: dict[str, type[Embedder]] = {"lab": LabEmbedder, "fast": FastEmbedder, "paper": PaperEmbedder}


def build(preset: str, **options: Any) -> Embedder:
    """Makes a preset's network with untrained weights.

    Args:
        preset: `lab`, `fast` or `paper`.
        options: arguments of the preset's class: `dim`, `stride` (fast), `samples` (lab).

    Raises:
        ColorTrackError: if there is no such preset or the preset has no such option.
    """
    if preset not in PRESETS:
        raise ColorTrackError(f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}")
    try:
        return PRESETS[preset](**options)
    except (TypeError, ValueError) as error:
        raise ColorTrackError(f"preset {preset!r} cannot be built with {options}: {error}") from error
