"""Which frame to label next: the one whose labels should help most."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from fiftyone_colortrack.errors import ColorTrackError

CANDIDATES = 500  # of a longer video, so many evenly spaced frames are considered
LEAST_DOUBT = 1e-3  # of a sure tracker: where all frames are sure, suggestions spread over the video


def suggest_frames(confidence: np.ndarray, labelled: Collection[int], count: int = 1) -> list[int]:
    """Choose frames one after the other, each for the doubt that its labels are expected to remove.

    A tracker errs more with every frame that it is away from a labelled one, and the faster the more it
    doubts: its expected error in frame s is (1 - confidence) D(s), D the distance to the nearest labelled
    frame. Labels in frame t bring D(s) down to |s - t| where that is less, and the choice spreads over the
    video. But they help only as far as the tracker can follow them from there, and what it is sure of it
    follows: the sum is weighted by the confidence in t. So the frames beside one that hides the objects are
    preferred to that frame itself, whose labels show little of them.

    Args:
        confidence: of the tracks in each frame, [T] in [0, 1]
        labelled: indices of the frames that are labelled, from 0
        count: how many frames to choose

    Returns:
        indices, the most useful first; fewer than `count` if the video has no more frames to label

    Raises:
        ColorTrackError: if `confidence` is not [T] in [0, 1]
    """
    if confidence.ndim != 1 or not ((confidence >= 0) & (confidence <= 1)).all():
        raise ColorTrackError("confidence must be one number in [0, 1] for every frame")
    frames = np.arange(len(confidence))
    doubt = np.maximum(1 - confidence, LEAST_DOUBT)
    distance = np.full(len(frames), float(len(frames)))
    for frame in labelled:
        distance = np.minimum(distance, abs(frames - frame))
    candidates = frames[:: -(-len(frames) // CANDIDATES) or 1]
    apart = abs(candidates[:, None] - frames)  # candidate x frame
    chosen: list[int] = []
    while len(chosen) < count and distance[candidates].any():
        removed = np.clip(distance - apart, 0, None) @ doubt  # of each candidate
        gain = removed * confidence[candidates]
        best = int(np.argmax(np.where(distance[candidates] > 0, gain, -1)))
        distance = np.minimum(distance, apart[best])
        chosen.append(int(candidates[best]))
    return chosen
