"""Score a frame field of tracks against one of ground truth."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import fiftyone as fo
import numpy as np

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import ObjectTable, TrackedObject, open_video
from fiftyone_colortrack.fields.shapes import Size, attribute, box_in_pixels, paint, points_in_pixels, split
from fiftyone_colortrack.metrics import PCKScore, mot, point_errors, score_sequence
from fiftyone_colortrack.metrics.pck import ALPHAS, Mode

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoScores:
    """Scores of a video, by metric, and of its frames, by metric and frame number (from 1).

    `length` is the number of frames that the video really has.
    """

    video: dict[str, float]
    frames: dict[str, dict[int, float]]
    warnings: list[str]
    length: int


class LabelPair(NamedTuple):
    """Labels of one frame: true and predicted ones by the true object's id, and all predicted ones by their own."""

    gt: dict[int, list[fo.Label]]
    pred: dict[int, list[fo.Label]]
    all_pred: dict[int, list[fo.Label]]


class Scorer(ABC):
    """Scores videos one by one, then all together.

    A predicted object belongs to the true one with the same instance, else with the same index; where it lies
    does not matter. Frames that have no ground truth are not scored, nor are those in which a person labeled
    the prediction (`keyframe=True`), nor the first one.

    Args:
        gt: frame field of the ground truth, without `frames.`
        pred: frame field of the prediction
    """

    metrics: ClassVar[dict[str, str]]
    """Names of the metrics, as parts of fields' names -> as people read them; the main one first."""
    measured: ClassVar[str] = "object"
    """What the ground truth must contain."""

    def __init__(self, gt: str, pred: str) -> None:
        self._gt, self._pred = gt, pred

    def add(self, sample: fo.Sample) -> VideoScores:
        """Score a video.

        Raises:
            ColorTrackError: if it cannot be read, or there is no frame or no object to score
        """
        video, canvas = open_video(sample)
        true, predicted = _Identified(sample, self._gt), _Identified(sample, self._pred)
        scored = {n for n in true.ids if self.is_scored(n, len(video))} - predicted.keyframes
        if not scored:
            reason = (
                f"labels only in frames that are not scored, such as {max(true.ids, default=1)} of {len(video)}: "
                "the tracker started there, or the video ends; label other frames"
            )
            reason = reason if true.ids else "no labels in this video; label some of its frames"
            raise ColorTrackError(f"{sample.filepath} has no frame to score: frames.{self._gt} has {reason}")
        partners = pair_objects(predicted.objects, true.objects)
        frames = (
            (
                number,
                LabelPair(true.labels(frame), predicted.labels(frame, partners), predicted.labels(frame)),
            )
            for number, frame in sample.frames.items()
            if number in scored
        )
        scores, frame_scores = self._score(frames, true.objects, canvas)
        if not scores:
            raise ColorTrackError(
                f"{sample.filepath} has nothing to score: frames.{self._gt} has no {self.measured}"
            )
        warnings = []
        if lost := len(predicted.objects) - len(partners):
            warnings.append(
                f"{lost} of {len(predicted.objects)} predicted objects are not in the ground truth"
            )
        if beyond := sorted(number for number in true.ids if number > len(video)):
            warnings.append(
                f"frame {beyond[0]} has ground truth, but the video ends with frame {len(video)}; this is not scored"
            )
        return VideoScores(scores, frame_scores, warnings, len(video))

    @abstractmethod
    def totals(self) -> dict[str, float]:
        """Scores of all videos, by metric, where at least one was scored."""

    def per_point(self) -> dict[str, list[float]]:
        """Scores of each keypoint over all videos, by metric; NaN for points that were never scored."""
        return {}

    def is_scored(self, number: int, length: float) -> bool:
        """Whether a frame (number from 1) of a video is scored if it has ground truth."""
        return 1 < number <= length

    @abstractmethod
    def _score(
        self, frames: Iterable[tuple[int, LabelPair]], objects: Mapping[int, TrackedObject], canvas: Size
    ) -> tuple[dict[str, float], dict[str, dict[int, float]]]:
        """Scores of a video and of its frames, see `VideoScores`; none where no object can be `measured`."""


class MaskScorer(Scorer):
    """J and F of DAVIS: means over frames, then over the objects of all videos.

    Like the first frame, the last one of a video is not scored.
    """

    metrics: ClassVar = {"JF": "J&F", "J": "J", "F": "F"}

    def __init__(self, gt: str, pred: str) -> None:
        super().__init__(gt, pred)
        self._objects: list[np.ndarray] = []  # (J, F) of each

    def totals(self) -> dict[str, float]:
        return self._named(np.mean(self._objects, 0))

    def is_scored(self, number: int, length: float) -> bool:
        return 1 < number < length

    def _score(
        self, frames: Iterable[tuple[int, LabelPair]], objects: Mapping[int, TrackedObject], canvas: Size
    ) -> tuple[dict[str, float], dict[str, dict[int, float]]]:
        if not objects:
            return {}, {}
        per_object = {n: self._frame_scores(labels, list(objects), canvas) for n, labels in frames}
        scores = np.array(list(per_object.values()))  # frame x object x (J, F)
        self._objects += list(scores.mean(0))
        per_frame = {number: self._named(values.mean(0)) for number, values in per_object.items()}
        named = self._named(scores.mean((0, 1)))
        by_metric = {name: {n: values[name] for n, values in per_frame.items()} for name in named}
        return named, by_metric

    def _frame_scores(self, labels: LabelPair, ids: Sequence[int], canvas: Size) -> np.ndarray:
        """(J, F) of each object in one frame."""
        gt, pred = (self._paint(by_id, canvas) for by_id in (labels.gt, labels.pred))
        found = score_sequence([pred], [gt], scored=[0])
        rows = []
        for id in ids:
            if id in found:
                rows.append((found[id].J.mean, found[id].F.mean))
            else:  # absent from the truth
                rows.append((float(not (pred == id).any()),) * 2)
        return np.array(rows)

    def _paint(self, by_id: dict[int, list[fo.Label]], canvas: Size) -> np.ndarray:
        pairs = [(label, id) for id, labels in by_id.items() for label in labels]
        return paint([label for label, _ in pairs], [id for _, id in pairs], canvas)

    def _named(self, scores: np.ndarray) -> dict[str, float]:
        j, f = scores.tolist()
        return {"JF": (j + f) / 2, "J": j, "F": f}


class BoxScorer(MaskScorer):
    """J of filled boxes; HOTA, MOTA, and IDF1 where TrackEval is installed.

    Masks are ignored, and boxes have no contours that F could measure. HOTA, MOTA, and IDF1 pair objects by
    themselves, wherever their boxes overlap, and belong to whole videos.
    """

    metrics: ClassVar = {"J": "J of boxes", **{name: name for name in mot.METRICS}}

    def __init__(self, gt: str, pred: str) -> None:
        super().__init__(gt, pred)
        self._mot = mot.MOTScorer() if mot.is_available() else None
        if self._mot is None:
            logger.info("HOTA, MOTA, and IDF1 need TrackEval: pip install 'fiftyone-colortrack[mot]'")

    def totals(self) -> dict[str, float]:
        return super().totals() | (self._mot.totals() if self._mot else {})

    def _score(
        self, frames: Iterable[tuple[int, LabelPair]], objects: Mapping[int, TrackedObject], canvas: Size
    ) -> tuple[dict[str, float], dict[str, dict[int, float]]]:
        pairs = list(frames)
        video, per_frame = super()._score(pairs, objects, canvas)
        if video and self._mot:
            sides = ([labels.gt for _, labels in pairs], [labels.all_pred for _, labels in pairs])
            video |= self._mot.add(*([_boxes(by_id, canvas) for by_id in side] for side in sides))
        return video, per_frame

    def _paint(self, by_id: dict[int, list[fo.Label]], canvas: Size) -> np.ndarray:
        boxes = {
            id: [fo.Detection(bounding_box=label.bounding_box) for label in labels]
            for id, labels in by_id.items()
        }
        return super()._paint(boxes, canvas)

    def _named(self, scores: np.ndarray) -> dict[str, float]:
        return {"J": float(scores[0])}


def _boxes(by_id: Mapping[int, list[fo.Label]], canvas: Size) -> dict[int, np.ndarray]:
    """The box around all parts of each object."""
    boxes = {}
    for id, labels in by_id.items():
        parts = [box for label in labels if (box := box_in_pixels(label, canvas)) is not None]
        if parts:
            low, high = np.min(parts, 0)[:2], np.max(parts, 0)[2:]
            boxes[id] = np.concatenate([low, high])
    return boxes


class PointScorer(Scorer):
    """PCK of JHMDB (see `metrics.pck`), strict and legacy, pooled over the objects of all videos.

    Objects with a single point, in all frames or in one, have no extent there to measure errors by: that is
    left out.
    """

    metrics: ClassVar = {
        f"PCK{round(100 * alpha):02}{suffix}": f"PCK@{alpha} ({mode})"
        for suffix, mode in (("", "strict"), ("_legacy", "legacy"))
        for alpha in ALPHAS
    }
    measured = "object of several points, by whose extent PCK measures errors: add points, or compare boxes"

    def __init__(self, gt: str, pred: str) -> None:
        super().__init__(gt, pred)
        self._errors: dict[Mode, list[np.ndarray]] = {"strict": [], "legacy": []}  # [T, P] of each object

    def totals(self) -> dict[str, float]:
        return self._pck(self._errors)

    def per_point(self) -> dict[str, list[float]]:
        """Empty if objects have different numbers of points."""
        if len({errors.shape[1] for errors in self._errors["strict"]}) != 1:
            return {}
        shares = [PCKScore.of(errors, ALPHAS).per_point for errors in self._errors.values()]
        return dict(zip(self.metrics, np.concatenate(shares).tolist(), strict=True))

    def _score(
        self, frames: Iterable[tuple[int, LabelPair]], objects: Mapping[int, TrackedObject], canvas: Size
    ) -> tuple[dict[str, float], dict[str, dict[int, float]]]:
        labels = dict(frames)
        errors: dict[Mode, list[np.ndarray]] = {"strict": [], "legacy": []}
        for id in objects:
            gt, pred = (_tracks([pair[side].get(id) for pair in labels.values()], canvas) for side in (0, 1))
            points = (~np.isnan(gt).any(2)).sum(1, keepdims=True)
            if points.max(initial=0) < 2:
                continue
            if pred.shape[1] == 0:  # never predicted
                pred = np.full_like(gt, np.nan)
            for mode, values in errors.items():
                values.append(np.where(points > 1, point_errors(pred, gt, mode), np.nan))
        if not errors["strict"]:
            return {}, {}
        for mode, values in errors.items():
            self._errors[mode] += values
        frame_errors = {
            n: {mode: [v[t : t + 1] for v in values] for mode, values in errors.items()}
            for t, n in enumerate(labels)
        }
        per_frame = {number: self._pck(values) for number, values in frame_errors.items()}
        by_metric = {name: {n: values[name] for n, values in per_frame.items()} for name in self.metrics}
        return self._pck(errors), by_metric

    def _pck(self, errors: dict[Mode, list[np.ndarray]]) -> dict[str, float]:
        """The mean over the points of an object; where objects differ in their points, over all points."""
        scores: list[float] = []
        for values in errors.values():
            same = len({v.shape[1] for v in values}) == 1
            pooled = values if same else [v.reshape(-1, 1) for v in values]
            scores += PCKScore.of(pooled, ALPHAS).mean
        return dict(zip(self.metrics, scores, strict=True))


def _tracks(labels: Sequence[list[fo.Keypoint] | None], canvas: Size) -> np.ndarray:
    """[T, P, 2] of one object's labels, NaN in frames without."""
    points = [points_in_pixels(found[0], canvas) if found else None for found in labels]
    count = max((len(p) for p in points if p is not None), default=0)
    tracks = np.full((len(points), count, 2), np.nan)
    for t, p in enumerate(points):
        if p is not None:
            tracks[t, : len(p)] = p
    return tracks


class _Identified:
    """The objects in the labels of a frame field."""

    def __init__(self, sample: fo.Sample, name: str) -> None:
        self._name = name
        self.table: ObjectTable | None = None
        self.ids: dict[int, list[int]] = {}  # by frame number
        self.keyframes: set[int] = set()
        for number, frame in sample.frames.items():
            if frame[name] is None:
                continue
            labels = split(frame[name])
            self.table = self.table or ObjectTable(parts=isinstance(frame[name], fo.Detections))
            self.ids[number] = self.table.match(labels, number)
            if any(attribute(label, "keyframe") for label in labels):
                self.keyframes.add(number)

    @property
    def objects(self) -> dict[int, TrackedObject]:
        return self.table.objects if self.table else {}

    def labels(self, frame: fo.Frame, partners: Mapping[int, int] | None = None) -> dict[int, list[fo.Label]]:
        """A frame's labels by ID, or by the ID of the partner; labels without one are left out."""
        by_id: dict[int, list[fo.Label]] = {}
        for id, label in zip(self.ids.get(frame.frame_number, []), split(frame[self._name]), strict=True):
            key = id if partners is None else partners.get(id)
            if key is not None:
                by_id.setdefault(key, []).append(label)
        return by_id


def pair_objects(pred: Mapping[int, TrackedObject], gt: Mapping[int, TrackedObject]) -> dict[int, int]:
    """The true object of each predicted one: that with the same instance, else the same index.

    Where several true objects have an index, the one of the same class is meant.
    """
    keys: Sequence[Callable[[TrackedObject], object]] = (
        lambda obj: obj.instance and obj.instance.id,
        lambda obj: None if obj.index is None else (obj.index, obj.label),
        lambda obj: obj.index,
    )
    partners: dict[int, int] = {}
    for key in keys:
        free = {id: key(obj) for id, obj in gt.items() if id not in partners.values()}
        for id, obj in pred.items():
            matches = [other for other, value in free.items() if value is not None and value == key(obj)]
            if id not in partners and len(matches) == 1:
                partners[id] = matches[0]
                del free[matches[0]]
    return partners
