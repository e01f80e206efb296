"""Where tracks are good and where not: the scores of evaluations, by what may explain them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import fiftyone as fo
import numpy as np
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from scipy.signal import find_peaks
from scipy.stats import rankdata, spearmanr

from fiftyone_colortrack.api.evaluation import METRIC_URI
from fiftyone_colortrack.api.films import INFO as FILMS
from fiftyone_colortrack.datasets.davis import ATTRIBUTES
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    check_videos,
    confidence_field,
    field_name,
    find_skeleton,
    frame_path,
    run_field,
    seed_fields,
)
from fiftyone_colortrack.fields.shapes import LABEL_LISTS

VIDEO = "filepath"
"""Groups videos by the names of their files."""
TIME_BINS = 10
QUANTILES = 5
DIP = 0.05
"""By how much confidence must fall and rise again, or end, for a frame to be doubtful."""


@dataclass(frozen=True)
class Score:
    """The scores of some videos or frames that have something in common.

    Attributes:
        x: what they have in common: a name, or the mean of a quantity
        note: what `x` stands for, or the range of the quantity
        mean: of their scores, 0 to 1
        spread: standard deviation of their scores
        members: of what: sample ids, with the number of the frame (from 1), or None for whole videos
    """

    x: str | float
    note: str
    mean: float
    spread: float
    members: tuple[tuple[str, int | None], ...]

    @property
    def count(self) -> int:
        """How many scores these are."""
        return len(self.members)


@dataclass(frozen=True)
class Breakdown:
    """The scores of one or two evaluations, by one property of videos or frames.

    Attributes:
        name: `videos`, `time`, `color_error` or `confidence`
        title: heading of the chart
        axis: meaning of `Score.x`
        unit: what is averaged: `videos` or `frames`
        scores: scores by evaluation
        correlation: Spearman's correlation of the quantity and the score of each frame, by evaluation
    """

    name: str
    title: str
    axis: str
    unit: Literal["videos", "frames"]
    scores: dict[str, list[Score]]
    correlation: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found.

    Attributes:
        dataset: name of the dataset
        metric: name of the score
        fields: frame field with the tracks, by evaluation
        totals: score over all videos of the evaluation, by evaluation; None if nothing was scored
        breakdowns: the breakdowns for which there are data
        points: PCK of keypoints over all videos, by evaluation, name of the point, and threshold; strict or
            legacy like the metric
        missing: which data are missing, and how to get them
    """

    dataset: str
    metric: str
    fields: dict[str, str]
    totals: dict[str, float | None]
    breakdowns: list[Breakdown]
    points: dict[str, dict[str, dict[str, float | None]]]
    missing: list[str]


def analyze(
    samples: SampleCollection | str,
    eval_key: str,
    *,
    against: str | None = None,
    metric: str | None = None,
    group_by: str | None = None,
) -> Analysis:
    """Break down the scores of an evaluation by what may explain them, and compare with another evaluation.

        analysis = analyze(dataset, "fast_eval", against="flow_eval")
        analysis.breakdowns[0].scores["fast_eval"]

    Args:
        samples: dataset or view of videos, or a dataset's name. Videos that were not scored are skipped
        eval_key: an evaluation made by `evaluate_tracks`
        against: another evaluation to compare with, such as that of a baseline
        metric: key of a score of the evaluation. Default: J&F for masks, J for boxes, strict PCK@0.1 for keypoints
        group_by: sample field whose values group the videos, such as `tags`. Default: the first that fits

    Returns:
        scores by group of videos, by time in the video, by the error of predicted colors (after `colorize`), and
        by the tracker's confidence; for keypoints, PCK of each point

    Raises:
        ColorTrackError: if there is no such evaluation, metric, or field
    """
    view = check_videos(samples)
    runs = [_Run.load(view._root_dataset, key) for key in dict.fromkeys((eval_key, against)) if key]
    metric = metric or next(iter(metrics(view._root_dataset, eval_key)))
    for run in runs:
        if metric not in run.rows:
            known = ", ".join(run.rows)
            raise ColorTrackError(f"the evaluation {run.key!r} has no {metric}; it has: {known}")
    groups = group_fields(view)
    if group_by is not None and group_by not in groups:
        raise ColorTrackError(f"videos cannot be grouped by {group_by!r}; choose one of {', '.join(groups)}")
    missing: list[str] = []
    frames = {run.key: _Frames.read(view, f"{run.key}_{metric}") for run in runs}
    if not any(view.has_frame_field(f"{run.key}_{metric}") for run in runs):
        missing.append(f"{metric} is a score of whole videos, so there are no charts by frame.")
    found = [
        _by_group(view, runs, metric, group_by or groups[0]),
        _by_time(frames),
        _by_color_error(view, frames, missing),
        _by_confidence(view, runs, frames, missing),
    ]
    return Analysis(
        dataset=view._root_dataset.name,
        metric=runs[0].rows[metric]["label"],
        fields={run.key: f"frames.{run.pred}" for run in runs},
        totals={run.key: run.rows[metric]["value"] for run in runs},
        breakdowns=[breakdown for breakdown in found if any(breakdown.scores.values())],
        points={run.key: points for run in runs if (points := run.per_point(metric))},
        missing=missing,
    )


def scored_view(dataset: fo.Dataset, score: Score) -> fo.DatasetView:
    """The videos of a score; for a score of frames, a clip for each run of successive frames."""
    runs: dict[str, list[list[int]]] = {}
    for video, number in sorted(score.members, key=lambda member: (member[0], member[1] or 0)):
        of_video = runs.setdefault(video, [])
        if number is not None and of_video and of_video[-1][1] == number - 1:
            of_video[-1][1] = number
        elif number is not None:
            of_video.append([number, number])
    view = dataset.select(list(runs), ordered=True)
    return view.to_clips(list(runs.values())) if any(runs.values()) else view


def object_confidence(video: SampleCollection, label_field: str) -> dict[str, dict[int, float]]:
    """The tracker's confidence in each object of a video: {name of the object: {frame number (from 1): 0 to 1}}.

    Frames where an object is absent are missing. A segmentation has one confidence per frame, that of the least
    certain object.

    Args:
        video: a view of one video, or an empty one
        label_field: frame field that `propagate` wrote
    """
    if not len(video):
        return {}
    name = field_name(label_field)
    label_list = LABEL_LISTS.get(seed_fields(video)[name])
    if label_list is None:
        return {
            "least certain object": next(iter(_by_frame(video, frame_path(confidence_field(name))).values()))
        }
    paths = [f"frames.{name}.{label_list}.{attribute}" for attribute in ("label", "index", "confidence")]
    numbers, *columns = (found[0] or [] for found in video.values(["frames.frame_number", *paths]))
    confidence: dict[str, dict[int, float]] = defaultdict(dict)
    for number, *labels in zip(numbers, *columns, strict=True):
        for label, index, value in zip(*(column or [] for column in labels), strict=True):
            if value not in (None, []):
                confidence[f"{label} {index}"][number] = float(np.mean(value))
    return dict(confidence)


def doubtful_frames(confidence: Mapping[str, Mapping[int, float]]) -> list[int]:
    """The frames at which the confidence in the least certain object dips, in order.

    Args:
        confidence: see `object_confidence`
    """
    numbers = sorted({number for values in confidence.values() for number in values})
    lowest = [min(v[number] for v in confidence.values() if number in v) for number in numbers]
    dips, _ = find_peaks(-np.pad(lowest, 1, constant_values=1), prominence=DIP)
    return [numbers[dip - 1] for dip in dips]


def track_evaluations(dataset: fo.Dataset) -> list[str]:
    """The evaluations that can be analyzed: those of `evaluate_tracks`, the latest first."""
    infos = {key: dataset.get_evaluation_info(key) for key in dataset.list_evaluations()}
    ours = [key for key, info in infos.items() if METRIC_URI in (info.config.custom_metrics or [])]
    return sorted(ours, key=lambda key: infos[key].timestamp, reverse=True)


def metrics(dataset: fo.Dataset, eval_key: str) -> dict[str, str]:
    """The metrics of an evaluation: keys, and names for people; the main one first."""
    return {key: row["label"] for key, row in _Run.load(dataset, eval_key).rows.items()}


def group_fields(view: SampleCollection) -> list[str]:
    """Sample fields whose values can group videos: DAVIS's attributes first, the videos themselves last."""
    marks = {run_field(name) for name in view.get_frame_field_schema() or {}}
    paths = []
    for name, schema in view.get_field_schema().items():
        inner = schema.field if isinstance(schema, fo.ListField) else schema
        if isinstance(inner, fo.StringField):
            paths.append(name)
        elif isinstance(inner, fo.EmbeddedDocumentField) and inner.document_type is fo.Classification:
            paths.append(f"{name}.label")
    used = [path for path in paths if path not in marks and path != VIDEO and view.count(path)]
    order = {"attributes": 0, "tags": 2}
    return [*sorted(used, key=lambda path: order.get(path, 1)), VIDEO]


@dataclass(frozen=True)
class _Run:
    """An evaluation: its frame field of tracks, its metrics by key, the names of its key points."""

    key: str
    pred: str
    rows: dict[str, dict[str, Any]]
    joints: list[str]

    @classmethod
    def load(cls, dataset: fo.Dataset, key: str) -> _Run:
        if key not in track_evaluations(dataset):
            known = ", ".join(track_evaluations(dataset)) or "none yet"
            raise ColorTrackError(f"there is no evaluation of tracks {key!r}; choose one of: {known}")
        config = dataset.get_evaluation_info(key).config
        rows = _rows(dataset.name, key, dataset._doc.evaluations[key].results.grid_id)
        skeleton = find_skeleton(dataset, config.gt_field)
        return cls(key, field_name(config.pred_field), rows, list((skeleton and skeleton.labels) or []))

    def per_point(self, metric: str) -> dict[str, dict[str, float | None]]:
        """PCK by point and threshold, counted as the metric does."""
        columns = {
            row["label"]: row["per_point"]
            for key, row in self.rows.items()
            if row.get("per_point") and key.endswith("_legacy") == metric.endswith("_legacy")
        }
        count = max(map(len, columns.values()), default=0)
        names = self.joints if len(self.joints) == count else [f"point {i + 1}" for i in range(count)]
        return {name: {label: values[i] for label, values in columns.items()} for i, name in enumerate(names)}


@lru_cache
def _rows(dataset: str, key: str, saved: ObjectId) -> dict[str, dict[str, Any]]:
    """The metrics of an evaluation, by their keys.

    Results that are saved anew, in whatever process, have a new id: what is kept here does not go stale, as
    what FiftyOne keeps may.
    """
    results = fo.load_dataset(dataset).load_evaluation_results(key, cache=False)
    return {row["key"]: row for row in results.custom_metrics.values()}


@dataclass(frozen=True)
class _Frames:
    """The scored frames of an evaluation, one array per property."""

    videos: np.ndarray
    numbers: np.ndarray
    times: np.ndarray  # 0: the video's first frame, 1: its last
    scores: np.ndarray

    @classmethod
    def read(cls, view: SampleCollection, score_field: str) -> _Frames:
        if not view.has_frame_field(score_field):
            return cls(*(np.array([]) for _ in range(4)))
        paths = ["id", "metadata.total_frame_count", "frames.frame_number", f"frames.{score_field}"]
        rows = [
            (video, number, (number - 1) / max((length or max(numbers)) - 1, 1), score)
            for video, length, numbers, scores in zip(*view.values(paths), strict=True)
            for number, score in zip(numbers or [], scores or [], strict=True)
            if score is not None
        ]
        columns = zip(*rows, strict=True) if rows else [()] * 4
        return cls(*(np.array(column) for column in columns))

    def members(self, chosen: np.ndarray) -> list[tuple[str, int]]:
        """Sample id and number of some of the frames."""
        return list(zip(self.videos[chosen].tolist(), self.numbers[chosen].tolist(), strict=True))

    def look_up(self, values: Mapping[str, Mapping[int, float]]) -> np.ndarray:
        """A quantity of each frame, from {sample id: {frame number: value}}; NaN where it is not known."""
        everything = self.members(np.arange(len(self.scores)))
        return np.array([values.get(video, {}).get(number, np.nan) for video, number in everything], float)


def _by_group(view: SampleCollection, runs: Sequence[_Run], metric: str, path: str) -> Breakdown:
    groups: dict[str, list[str]] = defaultdict(list)
    for id, value in zip(*view.values(["id", path]), strict=True):
        for name in value if isinstance(value, list) else [value]:
            if name is not None:
                groups[os.path.basename(name) if path == VIDEO else name].append(id)
    notes = ATTRIBUTES if path == "attributes" else {}
    scores: dict[str, list[Score]] = {}
    for run in runs:
        known = dict(zip(*view.values(["id", f"{run.key}_{metric}"]), strict=True))
        scored = {name: [id for id in ids if known[id] is not None] for name, ids in groups.items()}
        scores[run.key] = [
            _score(name, notes.get(name, ""), [known[id] for id in ids], [(id, None) for id in ids])
            for name, ids in scored.items()
            if ids
        ]
    first = {score.x: score.mean for score in scores[runs[0].key]}
    for of_run in scores.values():  # the worst first
        of_run.sort(key=lambda score: (first.get(score.x, np.inf), score.x))
    by = "video" if path == VIDEO else path.removesuffix(".label").removesuffix("s")
    return Breakdown("videos", f"Score by {by}", by, "videos", scores)


def _by_time(frames: Mapping[str, _Frames]) -> Breakdown:
    scores: dict[str, list[Score]] = {}
    for key, of_run in frames.items():
        bins = np.minimum((of_run.times * TIME_BINS).astype(int), TIME_BINS - 1)
        scores[key] = [
            _score(
                (i + 0.5) / TIME_BINS,
                f"{i / TIME_BINS:.0%} to {(i + 1) / TIME_BINS:.0%}",
                of_run.scores[bins == i],
                of_run.members(bins == i),
            )
            for i in np.unique(bins).tolist()
        ]
    return Breakdown("time", "Score over time", "time in the video (0: start, 1: end)", "frames", scores)


def _by_color_error(view: SampleCollection, frames: Mapping[str, _Frames], missing: list[str]) -> Breakdown:
    errors = _color_errors(view._root_dataset)
    if not errors:
        missing.append("No color errors yet: run Colorize videos.")
    values = {key: of_run.look_up(errors) for key, of_run in frames.items()}
    axis = "error of predicted colors (mean distance in the ab plane)"
    return _by_quantity("color_error", "Score by color error", axis, frames, values)


def _by_confidence(
    view: SampleCollection, runs: Sequence[_Run], frames: Mapping[str, _Frames], missing: list[str]
) -> Breakdown:
    values = {}
    for run in runs:
        field = f"frames.{confidence_field(run.pred)}"
        if view.has_frame_field(confidence_field(run.pred)):
            values[run.key] = frames[run.key].look_up(_by_frame(view, field))
        else:
            missing.append(f"{field} is missing. Propagate labels writes it.")
    return _by_quantity("confidence", "Score by confidence", "confidence of the tracker", frames, values)


def _color_errors(dataset: fo.Dataset) -> dict[str, dict[int, float]]:
    """`ColorError.distance` by sample id and frame number, from the films of `colorize`."""
    films = dataset.info.get(FILMS)
    if films is None or not fo.dataset_exists(films):
        return {}
    colors = fo.load_dataset(films).match(F("film") == "colors")
    return _by_frame(colors, "frames.color_distance", "source_id") if len(colors) else {}


def _by_frame(view: SampleCollection, path: str, id_field: str = "id") -> dict[str, dict[int, float]]:
    """The values of a frame field that are there, by sample id and frame number."""
    found = zip(*view.values([id_field, "frames.frame_number", path]), strict=True)
    return {
        id: {n: v for n, v in zip(numbers or [], values or [], strict=True) if v is not None}
        for id, numbers, values in found
    }


def _by_quantity(
    name: str, title: str, axis: str, frames: Mapping[str, _Frames], values: Mapping[str, np.ndarray]
) -> Breakdown:
    """Scores of the frames in fifths, by rank of a quantity; frames of one value stay together."""
    scores, correlation = {}, {}
    for key, quantity in values.items():
        known = np.flatnonzero(~np.isnan(quantity))
        share = (rankdata(quantity[known], "min") - 1) / max(len(known), 1)
        parts = [known[(share * QUANTILES).astype(int) == i] for i in range(QUANTILES)]
        scores[key] = [_quantile(quantity[part], frames[key], part) for part in parts if part.size]
        of_frames = frames[key].scores[known]
        if len(np.unique(quantity[known])) > 1 and len(np.unique(of_frames)) > 1:
            correlation[key] = float(spearmanr(quantity[known], of_frames).statistic)
    return Breakdown(name, title, axis, "frames", scores, correlation)


def _quantile(quantity: np.ndarray, frames: _Frames, part: np.ndarray) -> Score:
    note = f"{quantity.min():.3g} to {quantity.max():.3g}"
    return _score(float(quantity.mean()), note, frames.scores[part], frames.members(part))


def _score(
    x: str | float,
    note: str,
    scores: Sequence[float] | np.ndarray,
    members: Iterable[tuple[str, int | None]],
) -> Score:
    return Score(x, note, float(np.mean(scores)), float(np.std(scores)), tuple(members))
