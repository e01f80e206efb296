"""Which frame to label next: the one whose labels should help most."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from fiftyone_colortrack.errors import ColorTrackError

CANDIDATES = 500  # of a longer video, so many evenly spaced frames are considered
ROUNDS = 4  # of choosing each of several frames anew; few change after two
LEAST_DOUBT = 1e-3  # of a sure tracker: where all frames are sure, suggestions spread over the video


def suggest_frames(confidence: np.ndarray, labelled: Collection[int], count: int = 1) -> list[int]:
    """Choose the frames whose labels are together expected to remove most of the tracker's errors.

    A tracker errs more with every frame that it is away from a labelled one, and the faster the more it
    doubts: its expected error in frame s is (1 - confidence) D(s), D the distance to the nearest labelled
    frame. Labels in frame t bring D(s) down to |s - t| where that is less, so that the choice spreads over
    the video. But they help only as far as the tracker can follow them from there, and what it is sure of it
    follows: what they remove counts with the confidence in t. So the frames beside one that hides the
    objects are preferred to that frame itself, whose labels show little of them.

    Args:
        confidence: of the tracks in each frame, [T] in [0, 1]
        labelled: indices of the frames that are labelled, from 0
        count: how many frames to choose, to label all of them before tracking again

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
    candidates = candidates[distance[candidates] > 0]
    removed = np.clip(distance - abs(candidates[:, None] - frames), 0, None) * doubt  # candidate x frame
    removed *= confidence[candidates][:, None]
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        chosen.append(_best(removed, chosen))
    for _ in range(ROUNDS):  # each was chosen without those after it
        for i in range(len(chosen)):
            chosen[i] = _best(removed, chosen[:i] + chosen[i + 1 :])
    chosen.sort(key=lambda candidate: -removed[candidate].sum())
    return candidates[chosen].tolist()


def _best(removed: np.ndarray, others: Sequence[int]) -> int:
    """The candidate that removes most beside some others, where each frame gains from the best of them."""
    gain = np.maximum(removed, removed[others].max(0, initial=0)).sum(1)
    gain[others] = -1
    return int(gain.argmax())
