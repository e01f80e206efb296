"""Where tracks are good and where not: the scores of evaluations, by what may explain them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import fiftyone as fo
import numpy as np
import pandas as pd
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from scipy.signal import find_peaks

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
    record,
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
        members: sample IDs, each with the number of the frame (from 1), or None for whole videos
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
    frames = {run.key: _scored_frames(view, f"{run.key}_{metric}") for run in runs}
    if not any(view.has_frame_field(f"{run.key}_{metric}") for run in runs):
        missing.append(f"{metric} is a score of whole videos, so there are no charts by frame.")
    found = [
        _by_group(view, runs, metric, group_by or groups[0]),
        _by_time(frames),
        _by_color_error(view._root_dataset, frames, missing),
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
    frames: dict[str, list[int]] = {}
    for video, number in sorted(score.members, key=lambda member: member[0]):
        frames.setdefault(video, []).extend([] if number is None else [number])
    view = dataset.select(list(frames), ordered=True)
    return (
        view.to_clips([record.runs(numbers) for numbers in frames.values()]) if any(frames.values()) else view
    )


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

    Results that are saved again, in any process, have a new ID, so this cache cannot become outdated. FiftyOne's
    own cache can.
    """
    results = fo.load_dataset(dataset).load_evaluation_results(key, cache=False)
    return {row["key"]: row for row in results.custom_metrics.values()}


def _scored_frames(view: SampleCollection, score_field: str) -> pd.DataFrame:
    """The scored frames of an evaluation: video (sample ID), number, time (0 to 1 in the video), and score."""
    if not view.has_frame_field(score_field):
        return pd.DataFrame(columns=["video", "number", "time", "score"], dtype=float)
    paths = ["id", "metadata.total_frame_count", "frames.frame_number", f"frames.{score_field}"]
    columns = dict(zip(("video", "length", "number", "score"), view.values(paths), strict=True))
    frames = pd.DataFrame(columns).explode(["number", "score"]).astype({"length": float})
    length = frames["length"].fillna(frames.groupby("video")["number"].transform("max"))
    frames = frames.assign(length=length).dropna(subset="score").astype({"number": int, "score": float})
    return frames.assign(time=(frames["number"] - 1) / (frames["length"] - 1).clip(lower=1))


def _by_group(view: SampleCollection, runs: Sequence[_Run], metric: str, path: str) -> Breakdown:
    fields = {run.key: f"{run.key}_{metric}" for run in runs}
    columns = dict(zip(["video", "group", *fields], view.values(["id", path, *fields.values()]), strict=True))
    videos = pd.DataFrame(columns).explode("group").dropna(subset="group").assign(number=None)
    if path == VIDEO:
        videos["group"] = videos["group"].map(os.path.basename)
    notes = ATTRIBUTES if path == "attributes" else {}
    scores = {
        key: [
            _score(str(name), notes.get(str(name), ""), rows)
            for name, rows in videos.rename(columns={key: "score"}).dropna(subset="score").groupby("group")
        ]
        for key in fields
    }
    first = {score.x: score.mean for score in scores[runs[0].key]}
    for of_run in scores.values():  # the worst first
        of_run.sort(key=lambda score: (first.get(score.x, np.inf), score.x))
    by = "video" if path == VIDEO else path.removesuffix(".label").removesuffix("s")
    return Breakdown("videos", f"Score by {by}", by, "videos", scores)


def _by_time(frames: Mapping[str, pd.DataFrame]) -> Breakdown:
    scores = {}
    for key, of_run in frames.items():
        bins = (of_run["time"] * TIME_BINS).astype(int).clip(upper=TIME_BINS - 1)
        scores[key] = [
            _score((i + 0.5) / TIME_BINS, f"{i / TIME_BINS:.0%} to {(i + 1) / TIME_BINS:.0%}", rows)
            for i, rows in of_run.groupby(bins)
        ]
    return Breakdown("time", "Score over time", "time in the video (0: start, 1: end)", "frames", scores)


def _by_color_error(dataset: fo.Dataset, frames: Mapping[str, pd.DataFrame], missing: list[str]) -> Breakdown:
    """By `ColorError.distance`, from the films of `colorize`."""
    errors: dict[str, dict[int, float]] = {}
    films = dataset.info.get(FILMS)
    if films is not None and fo.dataset_exists(films):
        colors = fo.load_dataset(films).match(F("film") == "colors")
        errors = _by_frame(colors, "frames.color_distance", "source_id") if len(colors) else {}
    if not errors:
        missing.append("No color errors yet: run Colorize videos.")
    axis = "error of predicted colors (mean distance in the ab plane)"
    return _by_quantity("color_error", "Score by color error", axis, frames, dict.fromkeys(frames, errors))


def _by_confidence(
    view: SampleCollection, runs: Sequence[_Run], frames: Mapping[str, pd.DataFrame], missing: list[str]
) -> Breakdown:
    values = {}
    for run in runs:
        field = f"frames.{confidence_field(run.pred)}"
        if view.has_frame_field(confidence_field(run.pred)):
            values[run.key] = _by_frame(view, field)
        else:
            missing.append(f"{field} is missing. Propagate labels writes it.")
    return _by_quantity("confidence", "Score by confidence", "confidence of the tracker", frames, values)


def _by_frame(view: SampleCollection, path: str, id_field: str = "id") -> dict[str, dict[int, float]]:
    """The values of a frame field, by sample ID and frame number, without missing ones."""
    found = zip(*view.values([id_field, "frames.frame_number", path]), strict=True)
    return {
        id: {n: v for n, v in zip(numbers or [], values or [], strict=True) if v is not None}
        for id, numbers, values in found
    }


def _by_quantity(
    name: str,
    title: str,
    axis: str,
    frames: Mapping[str, pd.DataFrame],
    quantities: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> Breakdown:
    """Scores of the frames in fifths, by rank of a quantity; frames of one value stay together.

    The `quantities` are given by evaluation, sample ID, and frame number.
    """
    scores, correlation = {}, {}
    for key, by_video in quantities.items():
        members = zip(frames[key]["video"], frames[key]["number"], strict=True)
        x = [by_video.get(video, {}).get(number, np.nan) for video, number in members]
        known = frames[key].assign(x=np.array(x, float)).dropna(subset="x")
        fifths = ((known["x"].rank(method="min") - 1) / len(known) * QUANTILES).astype(int)
        scores[key] = [
            _score(float(rows["x"].mean()), f"{rows['x'].min():.3g} to {rows['x'].max():.3g}", rows)
            for _, rows in known.groupby(fifths)
        ]
        if (known[["x", "score"]].nunique() > 1).all():
            correlation[key] = float(known["x"].corr(known["score"], method="spearman"))
    return Breakdown(name, title, axis, "frames", scores, correlation)


def _score(x: str | float, note: str, rows: pd.DataFrame) -> Score:
    """The score of some rows with a video, a number (None for whole videos), and a score."""
    members = tuple(zip(rows["video"].tolist(), rows["number"].tolist(), strict=True))
    return Score(x, note, float(rows["score"].mean()), float(rows["score"].std(ddof=0)), members)
