"""Which frame of a video to label next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.api.propagation import check_videos
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import confidence_field, field_name, labelled_frames, seed_fields
from fiftyone_colortrack.tracking.labels import LOST
from fiftyone_colortrack.tracking.suggest import suggest_frames


@dataclass(frozen=True)
class Suggestion:
    """A frame to label: its number, from 1, and how confident the tracker is in it, in [0, 1]."""

    frame_number: int
    confidence: float


def suggest(view: SampleCollection, tracks: str, count: int = 1) -> dict[str, list[Suggestion]]:
    """Choose the frames of each video whose labelling should help the tracks most, see `suggest_frames`.

        suggestions = suggest(dataset, "frames.tracks", count=3)

    Args:
        view: videos
        tracks: frame field that `propagate` wrote; its labels with `keyframe=True` are a person's, and the
            frame field `<tracks>_confidence` tells how confident the tracker is
        count: how many frames

    Returns:
        {sample id: suggestions, the most useful first}; nothing for videos without tracks

    Raises:
        ColorTrackError: if the field was not written by `propagate`
    """
    check_videos(view)
    name = field_name(tracks)
    if name not in seed_fields(view) or not view.has_frame_field(confidence_field(name)):
        raise ColorTrackError(
            f"frames.{name} has no tracks with confidences; propagate labels, and choose the tracks"
        )
    fields = ["id", "metadata.total_frame_count", "frames.frame_number", f"frames.{confidence_field(name)}"]
    keyframes = labelled_frames(view, name, "keyframes")
    return {
        id: _suggest(length or 0, dict(zip(numbers or [], values or [], strict=True)), keyframes[id], count)
        for id, length, numbers, values in zip(*view.values(fields), strict=True)
    }


def _suggest(
    length: int, confidences: Mapping[int, float | None], keyframes: Sequence[int], count: int
) -> list[Suggestion]:
    """Suggestions for one video, from the confidence in each of its frames, by number."""
    known = {number: value for number, value in confidences.items() if value is not None}
    if not known:
        return []
    confidence = np.full(max(length, *known), LOST)
    confidence[[number - 1 for number in known]] = list(known.values())
    chosen = suggest_frames(confidence, [number - 1 for number in keyframes], count)
    return [Suggestion(frame + 1, float(confidence[frame])) for frame in chosen]
