"""Which frames of a video to label: the first one, and those that improve its tracks most."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack import fields
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.tracking.labels import LOST
from fiftyone_colortrack.tracking.suggest import rank_first_frames, suggest_frames

if TYPE_CHECKING:
    from fiftyone_colortrack.model.colorizer import Embedder


@dataclass(frozen=True)
class Suggestion:
    """A frame to label.

    Attributes:
        filepath: path of the video, or of the image to label
        frame_number: number of the frame, from 1
        confidence: the tracker's confidence in this frame, 0 to 1; None if nothing is tracked yet
    """

    filepath: str
    frame_number: int
    confidence: float | None = None

    @property
    def reason(self) -> str:
        """Why this frame was chosen."""
        if self.confidence is None:
            return "most of the other frames look like it"
        return f"the tracker's confidence here is {self.confidence:.0%}"


def suggest(
    samples: SampleCollection | str,
    label_field: str | None = None,
    *,
    count: int = 1,
    model: str | Embedder = "fast",
    progress: bool | ProgressCallback | None = None,
) -> dict[str, list[Suggestion]]:
    """Suggest the frames of each video whose labels should help the tracker most.

    In a video with tracks, these are near the frames with low confidence (see
    `tracking.suggest.suggest_frames`). In a video without tracks, these are the frames that the rest of the video
    resembles most (see `tracking.suggest.rank_first_frames`).

        suggestions = suggest(dataset)
        suggestions = suggest(dataset, "frames.tracks", count=3)

    Args:
        samples: dataset or view of videos or groups of images, or a dataset's name
        label_field: frame field that `propagate` wrote. Default: there are no tracks yet
        count: number of frames to suggest per video
        model: for videos without tracks: name of a model, a weights file, or a loaded model
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        {sample ID: suggestions}, the most useful frame first; fewer than `count` if all frames are labeled. The ID of
        a group of images is that of its first image

    Raises:
        ColorTrackError: if `propagate` did not write the field
    """
    with fields.as_videos(samples, partial(fields.check_videos, whole_videos=True)) as videos:
        found = {} if label_field is None else _by_confidence(videos, fields.field_name(label_field), count)
        todo = [id for id in videos.values("id") if id not in found]
        with progress_bar(progress, "Reading videos") as update:
            for done, id in enumerate(todo, 1):
                sample = videos[id]
                frames = rank_first_frames(fields.open_video(sample)[0], model, count=count)
                found[id] = [Suggestion(sample.filepath, frame + 1) for frame in frames]
                update(done, len(todo), os.path.basename(sample.filepath))
        if fields.is_image_groups(samples):
            paths = dict(zip(*videos.values(["id", "frames.filepath"]), strict=True))
            found = {
                id: [replace(one, filepath=paths[id][one.frame_number - 1]) for one in suggestions]
                for id, suggestions in found.items()
            }
        return {id: found[id] for id in videos.values("id")}


def _by_confidence(samples: SampleCollection, name: str, count: int) -> dict[str, list[Suggestion]]:
    """Suggestions for the videos that have tracks."""
    score = fields.confidence_field(name)
    if name not in fields.seed_fields(samples) or not samples.has_frame_field(score):
        raise ColorTrackError(
            f"frames.{name} has no tracks with confidence; choose a field that propagate wrote (label_field)"
        )
    paths = ["id", "filepath", "metadata.total_frame_count", "frames.frame_number", f"frames.{score}"]
    keyframes = fields.labeled_frames(samples, name, "keyframes")
    found = {}
    for id, path, length, numbers, values in zip(*samples.values(paths), strict=True):
        pairs = zip(numbers or [], values or [], strict=True)
        known = {number - 1: value for number, value in pairs if value is not None}
        if known:
            confidence = np.full(max(length or 0, max(known) + 1), LOST)
            confidence[list(known)] = list(known.values())
            chosen = suggest_frames(confidence, [number - 1 for number in keyframes[id]], count)
            found[id] = [Suggestion(path, frame + 1, float(confidence[frame])) for frame in chosen]
    return found
