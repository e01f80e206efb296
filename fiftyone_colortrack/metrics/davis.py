"""Region similarity J and contour accuracy F of the DAVIS benchmark, semi-supervised.

The results equal those of the official evaluation of DAVIS 2017 (Perazzi et al., CVPR 2016; Pont-Tuset et al., 2017) to
the last digit, but each object is scored only in the box around it, which is faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from fiftyone_colortrack.errors import ColorTrackError

BOUNDARY_TOLERANCE = 0.008
"""How far boundaries may be apart, as a share of the frame's diagonal."""


@dataclass(frozen=True)
class Measure:
    """A score over the frames of a video.

    Args:
        mean: the mean over the scored frames
        recall: the share of scored frames above 0.5
        decay: mean of the first quarter of the scored frames minus mean of the last
        values: the score of every scored frame
    """

    mean: float
    recall: float
    decay: float
    values: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Measure:
        """Summarize one score per frame; all summaries are NaN where there is none."""
        if len(values) == 0:
            return cls(math.nan, math.nan, math.nan, values)
        edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1  # quarters share their edges
        decay = values[: edges[1] + 1].mean() - values[edges[3] :].mean()
        return cls(float(values.mean()), float((values > 0.5).mean()), float(decay), values)


@dataclass(frozen=True)
class ObjectScore:
    """The scores of one object."""

    J: Measure
    F: Measure


def score_sequence(
    pred: np.ndarray | Sequence[np.ndarray],
    gt: np.ndarray | Sequence[np.ndarray],
    void: np.ndarray | Sequence[np.ndarray] | None = None,
    scored: Sequence[int] | None = None,
    tolerance: float = BOUNDARY_TOLERANCE,
) -> dict[int, ObjectScore]:
    """Score every object of the ground truth of one video.

    Args:
        pred: predicted object IDs, integers ``[T, H, W]`` (or ``T`` maps); 0 is background
        gt: true object IDs, in the same format
        void: bool ``[T, H, W]``, pixels to ignore
        scored: the frames to score. Default: all except the first and the last, as in DAVIS
        tolerance: tolerance of contours, as in `boundary_f`

    Returns:
        object ID -> its scores. An object that is absent from a frame in both scores 1 there

    Raises:
        ColorTrackError: if lengths or sizes differ
    """
    if len(pred) != len(gt) or (void is not None and len(void) != len(gt)):
        raise ColorTrackError(f"the prediction has {len(pred)} frames, the ground truth {len(gt)}")
    frames = range(1, len(gt) - 1) if scored is None else scored

    def known(ids: np.ndarray, t: int) -> np.ndarray:
        return ids if void is None else np.where(void[t], 0, ids)

    true = [known(ids, t) for t, ids in enumerate(gt)]
    ids = sorted({int(i) for ids in true for i in np.unique(ids[ids > 0])})
    values = np.empty((len(ids), 2, len(frames)))  # object x (J, F) x frame
    for column, t in enumerate(frames):
        if pred[t].shape != true[t].shape:
            raise ColorTrackError(
                f"frame {t}: the prediction is {pred[t].shape}, the ground truth {true[t].shape}"
            )
        predicted = known(pred[t], t)
        for row, i in enumerate(ids):
            values[row, :, column] = _score(predicted == i, true[t] == i, tolerance)
    return {i: ObjectScore(Measure.of(j), Measure.of(f)) for i, (j, f) in zip(ids, values, strict=True)}


def jaccard(pred: np.ndarray, gt: np.ndarray) -> float:
    """Intersection over union of two masks, bool ``[H, W]``; 1 where both are empty."""
    _check_pair(pred, gt)
    union = np.count_nonzero(pred | gt)
    return np.count_nonzero(pred & gt) / union if union else 1.0


def boundary_f(pred: np.ndarray, gt: np.ndarray, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """F-measure of the boundaries of two masks, bool ``[H, W]``.

    A boundary pixel is right if the other boundary comes as near as ``ceil(tolerance * diagonal)`` pixels.

    Args:
        pred: predicted mask
        gt: true mask
        tolerance: share of the frame's diagonal if less than 1, otherwise a distance in pixels
    """
    _check_pair(pred, gt)
    return _score(pred, gt, tolerance)[1]


def _score(pred: np.ndarray, gt: np.ndarray, tolerance: float) -> tuple[float, float]:
    """J and F, both from the part of the frame in which they are decided."""
    radius = math.ceil(tolerance if tolerance >= 1 else tolerance * math.hypot(*pred.shape))
    box = _box(pred, gt, radius)
    return jaccard(pred[box], gt[box]), _boundary_f(pred[box], gt[box], radius)


def _boundary_f(pred: np.ndarray, gt: np.ndarray, radius: int) -> float:
    pred_edge, gt_edge = _boundary(pred), _boundary(gt)
    n_pred, n_gt = np.count_nonzero(pred_edge), np.count_nonzero(gt_edge)
    if n_pred == 0 or n_gt == 0:
        return float(n_pred == n_gt)
    disk = _disk(radius)
    precision = np.count_nonzero(pred_edge & cv2.dilate(gt_edge, disk)) / n_pred
    recall = np.count_nonzero(gt_edge & cv2.dilate(pred_edge, disk)) / n_gt
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def _boundary(mask: np.ndarray) -> np.ndarray:
    """One pixel wide boundary: where a pixel differs from its neighbor to the east, south or south-east."""
    m = mask.view(np.uint8)
    edge = np.zeros_like(m)
    edge[:, :-1] = m[:, :-1] ^ m[:, 1:]
    edge[:-1] |= m[:-1] ^ m[1:]
    edge[:-1, :-1] |= m[:-1, :-1] ^ m[1:, 1:]
    return edge


def _box(pred: np.ndarray, gt: np.ndarray, radius: int) -> tuple[slice, slice]:
    """The part of the frame in which either mask's boundary, grown by the radius, can lie."""
    rects = [cv2.boundingRect(mask.view(np.uint8)) for mask in (pred, gt)]
    boxes = [(x, y, x + width, y + height) for x, y, width, height in rects if width]
    if not boxes:
        return slice(0), slice(0)
    x0, y0 = (max(min(box[k] for box in boxes) - radius - 1, 0) for k in (0, 1))
    x1, y1 = (max(box[k] for box in boxes) + radius + 1 for k in (2, 3))
    return slice(y0, y1), slice(x0, x1)


@cache
def _disk(radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def _check_pair(pred: np.ndarray, gt: np.ndarray) -> None:
    if pred.shape != gt.shape or pred.dtype != bool or gt.dtype != bool:
        raise ColorTrackError(
            "masks must be bool and have the same size, "
            f"not {pred.dtype} {list(pred.shape)} and {gt.dtype} {list(gt.shape)}"
        )
