"""The input and output of the tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

LabelKind = Literal["masks", "boxes", "points"]
LABEL_KINDS: tuple[LabelKind, ...] = get_args(LabelKind)

Labels = np.ndarray | dict[int, np.ndarray]
"""The labels of one frame, by kind:

- masks: integer map [H, W] of object IDs, 0 is background
- boxes: {id: [4]}, (x0, y0, x1, y1) in pixels
- points: {id: [P, 2]}, (x, y) in pixels, NaN for points that are not visible
"""

LOST = 0.5
"""Confidence in an object that is tracked but not seen: it left, is occluded, or is lost."""


@dataclass(frozen=True)
class Seed:
    """The labels of one frame to start from.

    Attributes:
        frame: index of the frame, from 0
        labels: labels of the frame. Objects that they omit are tracked through it, unless they are `gone`
        gone: IDs of objects whose tracks end before this frame; a later seed can start them again
    """

    frame: int
    labels: Labels
    gone: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TrackedFrame:
    """The labels of one frame after tracking.

    Attributes:
        frame: index of the frame, from 0
        labels: labels of the same kind as the seeds; objects that the tracker does not see are absent (points: NaN)
        confidence: confidence in each object, 0 to 1; for points, an array [P] per object
        drawn: IDs of objects whose labels are copied unchanged from a seed
        objects: IDs of all objects that are tracked in this frame, seen or not
    """

    frame: int
    labels: Labels
    confidence: Mapping[int, float | np.ndarray]
    drawn: frozenset[int] = frozenset()
    objects: frozenset[int] = frozenset()

    @property
    def lowest_confidence(self) -> float | None:
        """The lowest confidence of all objects, 0 to 1; None if there are no objects.

        An object with several points counts with their mean. Objects and points that are not seen count as `LOST`.
        """
        return min((self._confidence_in(object_id) for object_id in self.objects), default=None)

    def _confidence_in(self, object_id: int) -> float:
        confidence = self.confidence.get(object_id, LOST)
        if isinstance(self.labels, dict) and np.ndim(confidence):
            lost = np.isnan(self.labels[object_id]).any(1)
            confidence = np.where(lost, LOST, confidence)
        return float(np.mean(confidence))
