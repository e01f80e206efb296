"""HOTA, MOTA, and IDF1 of box tracks, computed by TrackEval."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

Boxes = Mapping[int, np.ndarray]
"""The boxes of one frame by the number of their track: (x0, y0, x1, y1) in pixels."""
METRICS = ("HOTA", "MOTA", "IDF1")


def is_available() -> bool:
    """Whether TrackEval is installed. It is an extra: it brings another build of OpenCV than FiftyOne's."""
    return find_spec("trackeval") is not None


class MOTScorer:
    """Scores the tracks of videos one by one, then all together.

    HOTA is the mean over the thresholds 0.05 to 0.95; MOTA and IDF1 match boxes from an IoU of 0.5.

    Raises:
        ImportError: if TrackEval is not installed
    """

    def __init__(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what else could be installed
            from trackeval.metrics import CLEAR, HOTA, Identity

            quiet = {"PRINT_CONFIG": False}
            metrics = HOTA(), CLEAR(quiet), Identity(quiet)
        self._metrics = dict(zip(METRICS, metrics, strict=True))
        self._videos: dict[str, dict[str, Any]] = {name: {} for name in METRICS}
        self._boxes = 0

    def add(self, gt: Sequence[Boxes], pred: Sequence[Boxes]) -> dict[str, float]:
        """Score a video.

        Args:
            gt: the true boxes of each frame
            pred: the predicted boxes of each frame, alike

        Returns:
            the value of each of `METRICS`; NaN where there is no true box
        """
        data = _sequence(gt, pred)
        self._boxes += data["num_gt_dets"]
        scores = {}
        for name, metric in self._metrics.items():
            videos = self._videos[name]
            result = videos[str(len(videos))] = metric.eval_sequence(data)
            scores[name] = float(np.mean(result[name])) if data["num_gt_dets"] else math.nan
        return scores

    def totals(self) -> dict[str, float]:
        """The value of each of `METRICS` over all boxes of all videos; NaN where there is no true box."""
        if not self._boxes:
            return dict.fromkeys(METRICS, math.nan)
        return {
            name: float(np.mean(metric.combine_sequences(self._videos[name])[name]))
            for name, metric in self._metrics.items()
        }


def _sequence(gt: Sequence[Boxes], pred: Sequence[Boxes]) -> dict[str, Any]:
    """A video as TrackEval's metrics take it, with tracks numbered from 0."""
    data: dict[str, Any] = {"num_timesteps": len(gt)}
    for side, frames in (("gt", gt), ("tracker", pred)):
        numbers = {id: i for i, id in enumerate(sorted({id for boxes in frames for id in boxes}))}
        data[f"{side}_ids"] = [np.array([numbers[id] for id in boxes], int) for boxes in frames]
        data[f"num_{side}_ids"] = len(numbers)
        data[f"num_{side}_dets"] = sum(map(len, frames))
    data["similarity_scores"] = [_iou(*pair) for pair in zip(gt, pred, strict=True)]
    return data


def _iou(gt: Boxes, pred: Boxes) -> np.ndarray:
    """[true boxes, predicted boxes]"""
    a = np.array(list(gt.values()), float).reshape(-1, 1, 4)
    b = np.array(list(pred.values()), float).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(0).prod(2)
    areas = (a[..., 2:] - a[..., :2]).prod(2) + (b[..., 2:] - b[..., :2]).prod(2)
    return shared / np.maximum(areas - shared, np.finfo(float).tiny)
