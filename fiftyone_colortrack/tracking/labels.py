"""What goes into the tracker and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

LabelKind = Literal["masks", "boxes", "points"]
LABEL_KINDS: tuple[LabelKind, ...] = get_args(LabelKind)

Labels = np.ndarray | dict[int, np.ndarray]
"""The labels of one frame, by kind:

- masks: integer map [H, W] of object ids, 0 is background
- boxes: {id: [4]}, (x0, y0, x1, y1) in pixels
- points: {id: [P, 2]}, (x, y) in pixels, NaN for points that are not visible
"""

LOST = 0.5
"""Confidence in an object that is tracked but not seen: it left, is hidden, or is lost."""


@dataclass(frozen=True)
class Seed:
    """The labels that a person gave to one frame.

    Attributes:
        frame: index of the frame, from 0
        labels: of the frame; the tracks of objects that they leave out go on through it
        gone: ids of objects whose tracks end before this frame; a later seed can start them again
    """

    frame: int
    labels: Labels
    gone: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TrackedFrame:
    """The labels of one frame after tracking.

    Attributes:
        frame: index of the frame, from 0
        labels: of the seeds' kind; objects that the tracker does not see are absent (points are NaN)
        confidence: per object in `labels`, in [0, 1]; for points an array [P] per object
        drawn: ids whose labels in this frame are a person's, copied unchanged
        objects: ids of all objects that are tracked in this frame, seen or not
    """

    frame: int
    labels: Labels
    confidence: Mapping[int, float | np.ndarray]
    drawn: frozenset[int] = frozenset()
    objects: frozenset[int] = frozenset()

    @property
    def lowest_confidence(self) -> float | None:
        """The lowest confidence of all objects, in [0, 1]; None if there are no objects.

        An object with several points counts with their mean. Objects and points that are not seen count as
        `LOST`.
        """
        return min((self._confidence_in(object_id) for object_id in self.objects), default=None)

    def _confidence_in(self, object_id: int) -> float:
        confidence = self.confidence.get(object_id, LOST)
        if isinstance(self.labels, dict) and np.ndim(confidence):
            lost = np.isnan(self.labels[object_id]).any(1)
            confidence = np.where(lost, LOST, confidence)
        return float(np.mean(confidence))
