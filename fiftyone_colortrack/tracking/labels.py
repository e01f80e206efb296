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
- points: {id: [P, 2]}, (x, y) in pixels, NaN for points that are not there
"""


@dataclass(frozen=True)
class Seed:
    """Labels that a person gave to one frame.

    Attributes:
        frame: index of the frame, from 0
        labels: the frame's labels; objects that they leave out are tracked on from the frames before
    """

    frame: int
    labels: Labels


LOST = 0.5
"""Confidence in what is tracked but not seen: gone, or lost; nobody knows."""


@dataclass(frozen=True)
class TrackedFrame:
    """The labels of one frame after tracking.

    Attributes:
        frame: index of the frame, from 0
        labels: of the seeds' kind; an object that the tracker does not see is absent (a point is NaN)
        confidence: per object in [0, 1], an array [P] per object for points
        drawn: ids whose labels in this frame are a person's, copied as drawn
        objects: ids of all objects that are tracked in this frame, seen or not
    """

    frame: int
    labels: Labels
    confidence: Mapping[int, float | np.ndarray]
    drawn: frozenset[int] = frozenset()
    objects: frozenset[int] = frozenset()

    @property
    def lowest_confidence(self) -> float | None:
        """That of the object in which it is lowest, in [0, 1]; of points, the mean; None without objects.

        Objects and points that are not seen count as `LOST`.
        """
        return min((self._confidence_in(object_id) for object_id in self.objects), default=None)

    def _confidence_in(self, object_id: int) -> float:
        confidence = self.confidence.get(object_id, LOST)
        if isinstance(self.labels, dict) and np.ndim(confidence):
            lost = np.isnan(self.labels[object_id]).any(1)
            confidence = np.where(lost, LOST, confidence)
        return float(np.mean(confidence))
