"""PCK, the percentage of correct keypoints: the legacy score of JHMDB since UVC and CRW, and a strict score.

Tracks are float ``[T, P, 2]``: frames, points, (x, y) in pixels, NaN where there is no point. Prediction and
truth must count pixels from the same origin (JHMDB's files count from 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fiftyone_colortrack.errors import ColorTrackError

ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5)
BOX_SHARE = 0.6
"""The length that alpha multiplies, as a share of the diagonal of the box around the true points."""

Mode = Literal["legacy", "strict"]


@dataclass(frozen=True)
class PCKScore:
    """Shares (0 to 1) of correct points, by threshold.

    Args:
        alphas: the thresholds
        mean: the mean over the points (joints), one value per threshold
        per_point: ``[A, P]``, NaN for a point that was never scored
    """

    alphas: tuple[float, ...]
    mean: tuple[float, ...]
    per_point: np.ndarray

    @classmethod
    def of(cls, errors: Sequence[np.ndarray], alphas: Sequence[float] = ALPHAS) -> PCKScore:
        """Pool `point_errors` ``[T, P]`` of videos that have the same points."""
        pooled = np.concatenate(list(errors))  # T x P
        counted = ~np.isnan(pooled)
        with np.errstate(invalid="ignore"):  # a point that was never scored has 0 of 0
            shares = np.array([(pooled <= alpha).sum(0) / counted.sum(0) for alpha in alphas])
        scored = shares[:, counted.any(0)]
        mean = scored.mean(1) if scored.size else np.full(len(alphas), np.nan)
        return cls(tuple(alphas), tuple(mean.tolist()), shares)


def pck(
    pred: Sequence[np.ndarray],
    gt: Sequence[np.ndarray],
    alphas: Sequence[float] = ALPHAS,
    mode: Mode = "strict",
) -> PCKScore:
    """Score predicted tracks of several videos, except in the first frame of each, from which the tracker started.

    Args:
        pred: predicted tracks, one ``[T, P, 2]`` per video
        gt: true tracks, in the same format
        alphas: thresholds
        mode: `strict` or `legacy`, see `point_errors`

    Raises:
        ColorTrackError: if the numbers of videos, frames or points differ
    """
    if len(pred) != len(gt) or not len(gt):
        raise ColorTrackError(
            f"there are {len(pred)} predicted and {len(gt)} true videos; the numbers must be equal"
        )
    return PCKScore.of([point_errors(p, g, mode)[1:] for p, g in zip(pred, gt, strict=True)], alphas)


def point_errors(
    pred: np.ndarray, gt: np.ndarray, mode: Mode = "strict", reference: np.ndarray | None = None
) -> np.ndarray:
    """Distance of every predicted point from the truth, relative to the frame's reference length.

    A point is correct at alpha if its error is at most alpha. In the ``legacy`` score, points that the tracker calls
    invisible do not count, and do not enter the box that sets the reference length, so losing points raises the
    score. In the ``strict`` score, lost points are wrong (infinite error), and the box contains all true points.

    Args:
        pred: ``[T, P, 2]``
        gt: ``[T, P, 2]``
        mode: ``legacy`` or ``strict``
        reference: ``[T]`` lengths in pixels; if not given, 0.6 times the diagonal of the box. A frame with a
            single true point has no box: there only an exact hit counts, unless a reference is given

    Returns:
        ``[T, P]``, NaN where the point is not scored

    Raises:
        ColorTrackError: if the shapes differ
    """
    if pred.shape != gt.shape or gt.ndim != 3 or gt.shape[2] != 2:
        raise ColorTrackError(
            f"tracks must both be [T, P, 2] with the same shape, not {list(pred.shape)} and {list(gt.shape)}"
        )
    lost = np.isnan(pred).any(2)
    counted = ~np.isnan(gt).any(2)  # T x P
    if mode == "legacy":
        counted &= ~lost
    distance = np.where(lost, np.inf, np.linalg.norm(pred - gt, axis=2))
    if reference is None:
        low = np.where(counted[..., None], gt, np.inf).min(1, initial=np.inf)  # T x 2
        high = np.where(counted[..., None], gt, -np.inf).max(1, initial=-np.inf)
        reference = BOX_SHARE * np.linalg.norm(high - low, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(distance == 0, 0, distance / reference[:, None])
    return np.where(counted, errors, np.nan)
