"""Which frame to label: the first one of a video, or the next one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_colortrack.errors import ColorTrackError

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder
    from fiftyone_colortrack.video import Frames

CANDIDATES = 500  # of a longer video, so many evenly spaced frames are considered
ROUNDS = 4  # of choosing each of several frames again; few change after two
LEAST_DOUBT = 1e-3  # of a sure tracker: where all frames are sure, suggestions spread over the video
SAMPLES = 24  # frames that are compared with each other to rank an unlabeled video
SAMPLE_SIDE = 192  # their short side, in pixels
SAMPLED_CELLS = 4  # every fourth cell looks for its match


def rank_first_frames(
    frames: Frames, model: str | Embedder = "fast", device: str | torch.device | None = None, count: int = 1
) -> list[int]:
    """Choose the frames of an unlabeled video to label first: those from which the others are reached best.

    Copying labels from frame c to frame t is easy if the two look alike, or if little changes on the way. The
    cost of t is sqrt(D P): D is the mean distance of the cells of t to their best matches in c, P the sum of
    these distances from frame to frame between c and t. The best frame has the lowest mean cost of all
    frames, and further frames lower the cost of what those before them reach badly.

    Args:
        frames: the video; 24 evenly spaced frames are looked at, at low resolution
        model: name or file of a model, or a loaded one
        device: torch device; None for the best one
        count: how many frames to choose

    Returns:
        indices from 0, the most useful first; at most 24

    Raises:
        ColorTrackError: if the model does not exist
    """
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder
    from fiftyone_colortrack.model.weights import load_model
    from fiftyone_colortrack.tracking.propagator import resize

    embedder = model if isinstance(model, Embedder) else load_model(model, device)
    sampled = np.unique(np.linspace(0, len(frames) - 1, min(SAMPLES, len(frames))).round().astype(int))
    side = min(SAMPLE_SIDE, frames.height, frames.width)
    scale = side / min(frames.height, frames.width)
    size = round(frames.height * scale), round(frames.width * scale)
    features = []
    for index in sampled:
        (image,) = frames.read(range(index, index + 1), short_side=side)
        batch = torch.from_numpy(resize(image, size)).permute(2, 0, 1)[None]
        features.append(embedder.embed(batch)[0].flatten(1))  # C x cells
    distance = np.array([[_distance(frame, candidate) for frame in features] for candidate in features])
    along = np.concatenate([[0], np.cumsum(np.diagonal(distance, 1))])  # the way from the first frame
    cost = np.sqrt(distance * abs(along[:, None] - along))  # candidate x frame
    saved = cost.max() - cost
    chosen: list[int] = []
    for _ in range(min(count, len(sampled))):
        chosen.append(_best(saved, chosen))
    return sampled[chosen].tolist()


def suggest_frames(confidence: np.ndarray, labeled: Collection[int], count: int = 1) -> list[int]:
    """Choose the frames whose labels together should remove most of the tracker's errors.

    A tracker errs more with every frame that it is away from a labeled one, and the faster the more it
    doubts: its expected error in frame s is (1 - confidence) D(s), where D is the distance to the nearest
    labeled frame. Labels in frame t bring D(s) down to |s - t| where that is less, so the choice spreads over
    the video. But they help only as far as the tracker can follow them from there, and it follows what it is
    sure of: what they remove counts with the confidence in t. So the frames beside one that hides the objects
    are preferred to that frame itself, whose labels show little of them.

    Args:
        confidence: of the tracks in each frame, [T] in [0, 1]
        labeled: indices of the frames that are labeled, from 0
        count: how many frames to choose, to label all of them before tracking again

    Returns:
        indices, the most useful first; fewer than `count` if the video has no more frames to label

    Raises:
        ColorTrackError: if `confidence` is not [T] in [0, 1]
    """
    if confidence.ndim != 1 or not ((confidence >= 0) & (confidence <= 1)).all():
        raise ColorTrackError("confidence must be one number from 0 to 1 for every frame")
    frames = np.arange(len(confidence))
    doubt = np.maximum(1 - confidence, LEAST_DOUBT)
    distance = np.full(len(frames), float(len(frames)))
    for frame in labeled:
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


def _distance(frame: torch.Tensor, candidate: torch.Tensor) -> float:
    """Mean cosine distance of cells of a frame [C, N] to their best matches in a candidate [C, N]."""
    similarity = frame[:, ::SAMPLED_CELLS].T @ candidate
    return max(1 - float(similarity.amax(1).mean()), 0.0)
