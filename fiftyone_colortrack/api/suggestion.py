"""Which frame of a video to label next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.api.propagation import check_videos
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import field_name, seed_fields
from fiftyone_colortrack.fields.shapes import LABEL_LISTS
from fiftyone_colortrack.tracking.suggest import LOST, suggest_frames


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
        tracks: frame field with detections or key points that `propagate` wrote: the labels with
            `keyframe=True` are a person's, the others have a confidence
        count: how many frames

    Returns:
        {sample id: suggestions, the most useful first}; nothing for videos without tracks

    Raises:
        ColorTrackError: if the field holds no tracks with confidences
    """
    check_videos(view)
    name = field_name(tracks)
    label_list = LABEL_LISTS.get(seed_fields(view).get(name, fo.Segmentation))
    if label_list is None or view.get_field(f"frames.{name}.{label_list}.keyframe") is None:
        raise ColorTrackError(
            f"frames.{name} has no tracks with confidences; propagate labels to a field of detections or key "
            "points, and choose that one"
        )
    path = f"frames.{name}.{label_list}"
    fields = ["id", "metadata.total_frame_count", "frames.frame_number"]
    fields += [f"{path}.{attribute}" for attribute in ("instance", "confidence", "keyframe")]
    return {
        id: _suggest(length or 0, numbers or [], labels, count)
        for id, length, numbers, *labels in zip(*view.values(fields), strict=True)
    }


def _suggest(
    length: int, numbers: Sequence[int], labels: Sequence[Sequence[Any] | None], count: int
) -> list[Suggestion]:
    """Suggestions for one video, from the instances, confidences and keyframes of each frame's labels."""
    frames = {
        number: [values or [] for values in of_frame]
        for number, *of_frame in zip(
            numbers, *(values or [None] * len(numbers) for values in labels), strict=True
        )
    }
    objects = {str(instance) for instances, _, _ in frames.values() for instance in instances}
    if not objects:
        return []
    confidence = np.full(max(length, *frames), LOST)
    for number, (_, confidences, _) in frames.items():
        known = [_mean(value) for value in confidences]
        confidence[number - 1] = np.mean(known + [LOST] * (len(objects) - len(known)))
    labelled = [number - 1 for number, (_, _, keyframes) in frames.items() if any(keyframes)]
    chosen = suggest_frames(confidence, labelled, count)
    return [Suggestion(frame + 1, float(confidence[frame])) for frame in chosen]


def _mean(confidence: float | Iterable[float] | None) -> float:
    """The confidence of a label, the mean over its points."""
    if confidence is None:
        return LOST
    values = np.atleast_1d(np.asarray(confidence, float))
    return float(np.clip(np.nan_to_num(values).mean(), 0, 1))
