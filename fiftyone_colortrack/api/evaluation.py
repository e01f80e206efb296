"""Tracks against ground truth, where FiftyOne shows evaluations."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

import fiftyone as fo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.utils.eval.detection import DetectionResults

from fiftyone_colortrack import fields
from fiftyone_colortrack.api.report import plural
from fiftyone_colortrack.api.scores import BoxScorer, MaskScorer, PointScorer, Scorer, VideoScores
from fiftyone_colortrack.errors import ColorTrackError, check_choice
from fiftyone_colortrack.fields.shapes import LABEL_LISTS
from fiftyone_colortrack.progress import ProgressCallback, progress_bar

logger = logging.getLogger(__name__)

Untracked = Literal["skip", "zero"]
METRIC_URI = "@colortrack/fiftyone-colortrack/track_scores"
"""Of the plugin's metric, which names and removes the fields of an evaluation."""
MAIN = ("JF", "J", "F", "HOTA", "MOTA", "IDF1", "PCK10", "PCK20")
"""The main scores, see `Scorer.metrics`."""


def evaluate_tracks(
    samples: SampleCollection | str,
    pred_field: str,
    gt_field: str,
    eval_key: str,
    *,
    untracked: Untracked = "skip",
    overwrite: bool = False,
    progress: bool | ProgressCallback | None = None,
) -> DetectionResults:
    """Score tracks against ground truth. The App shows the scores in its Model Evaluation panel.

        results = evaluate_tracks(dataset, "frames.tracks", "frames.ground_truth", "eval")
        results.custom_metrics

    Masks get J, F, and J&F as in DAVIS. Boxes get J, and also HOTA, MOTA, and IDF1 if TrackEval is installed:
    `pip install 'fiftyone-colortrack[mot]'`. Keypoints get PCK. Objects are paired by instance or index, no matter
    where they are in the frame. Each video and frame gets its scores in fields such as `{eval_key}_J`. The results
    also contain the figures and matches of `evaluate_detections`.

    Not scored: the first frame of a video, frames in which a person labeled the prediction, frames without ground
    truth, and frames beyond the end of the video.

    Args:
        samples: dataset or view of videos or groups of images, or a dataset's name. Videos without a frame to score
            are skipped
        pred_field: frame field of the tracks: detections or keypoints
        gt_field: frame field of the ground truth, of the same type
        eval_key: name of the evaluation
        untracked: what to do with videos without labels in `pred_field`: `skip` them, or score them as `zero`
        overwrite: replace an evaluation with this name
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        FiftyOne's results; the scores are in `custom_metrics`

    Raises:
        ColorTrackError: if the fields cannot be compared, or nothing can be scored
    """
    check_choice("untracked", untracked, get_args(Untracked))
    with fields.as_videos(samples, fields.viewed_frames) as videos:
        check_compared(videos, pred_field, gt_field)
        check_eval_key(videos._root_dataset, eval_key, pred_field, gt_field, overwrite)
        pred, gt = fields.field_name(pred_field), fields.field_name(gt_field)
        left_out = untracked_videos(videos, pred) if untracked == "skip" else []
        if left_out:
            logger.warning("Skipped %s without labels in frames.%s", plural(len(left_out), "video"), pred)
            videos = videos.exclude(left_out)
        scorer = _make_scorer(videos, pred, gt)
        with progress_bar(progress, "Scoring") as update:
            scores = _score_videos(videos, scorer, pred, gt, update)
        if isinstance(samples, SampleCollection) and fields.is_image_groups(samples):
            images = samples._root_dataset.select(videos.values("frames.id", unwind=True))
            labeled, prefix = fields.show_labels_of(samples, images).exists(gt), ""
        else:
            labeled, prefix = videos.match_frames(F(gt).exists(), omit_empty=False), "frames."
            if beyond := _frames_beyond(videos, scores):
                labeled = labeled.exclude_frames(beyond, omit_empty=False)
        return _save(labeled, prefix, eval_key, pred, gt, scorer, scores, videos._root_dataset)


def _save(
    labeled: SampleCollection,
    prefix: str,
    eval_key: str,
    pred: str,
    gt: str,
    scorer: Scorer,
    scores: dict[str, VideoScores],
    videos: fo.Dataset,
) -> DetectionResults:
    """Compare the labels as FiftyOne does, and save the scores with the results."""
    dataset, rows = labeled._root_dataset, _rows(scorer)
    if eval_key in dataset.list_evaluations():
        dataset.delete_evaluation(eval_key)
    try:
        results = labeled.evaluate_detections(
            f"{prefix}{pred}",
            gt_field=f"{prefix}{gt}",
            eval_key=eval_key,
            classwise=False,
            **({"use_masks": True} if type(scorer) is MaskScorer else {}),
        )
        results.config.custom_metrics = [METRIC_URI]  # first, because it finds the fields to delete
        results.save_config()
        _attach(videos, results, rows, scores)
        results.save()
    except BaseException:  # half an evaluation would keep its name from the next try
        if eval_key in dataset.list_evaluations():
            dataset.delete_evaluation(eval_key)
        raise
    return results


def scored_frames(
    samples: SampleCollection, pred_field: str, gt_field: str, untracked: Untracked = "skip"
) -> dict[str, list[int]]:
    """The numbers of the frames that `evaluate_tracks` scores, by video, as far as the database shows."""
    pred, gt = fields.field_name(pred_field), fields.field_name(gt_field)
    scorer, drawn = _make_scorer(samples, pred, gt), fields.labeled_frames(samples, pred, "keyframes")
    left_out = set(untracked_videos(samples, pred) if untracked == "skip" else ())
    lengths = dict(zip(*samples.values(["id", "metadata.total_frame_count"]), strict=True))
    return {
        id: [n for n in numbers if scorer.is_scored(n, lengths[id] or math.inf) and n not in drawn[id]]
        for id, numbers in fields.labeled_frames(samples, gt).items()
        if id not in left_out
    }


def untracked_videos(samples: SampleCollection, pred_field: str) -> list[str]:
    """The IDs of the videos without any labels in a frame field."""
    return [id for id, numbers in fields.labeled_frames(samples, pred_field).items() if not numbers]


def _frames_beyond(samples: SampleCollection, scores: Mapping[str, VideoScores]) -> list[str]:
    """The IDs of frames beyond the end of their video."""
    columns = samples.values(["id", "frames.id", "frames.frame_number"])
    return [
        frame
        for id, frames, numbers in zip(*columns, strict=True)
        if id in scores
        for frame, number in zip(frames, numbers, strict=True)
        if number > scores[id].length
    ]


def main_scores(results: DetectionResults) -> dict[str, float | None]:
    """The main scores of an evaluation, by label; None if nothing was scored."""
    rows = results.custom_metrics.values()
    return {row["label"]: row["value"] for row in rows if row["key"] in MAIN}


def add_scores(view: SampleCollection, results: DetectionResults) -> None:
    """Score the fields that `evaluate_detections` compared, and add the scores to its results."""
    pred, gt = fields.field_name(results.config.pred_field), fields.field_name(results.config.gt_field)
    scorer = _make_scorer(view, pred, gt)
    scores = _score_videos(view, scorer, pred, gt, lambda *_: None)
    _attach(view._root_dataset, results, _rows(scorer), scores)


def score_fields(samples: SampleCollection, eval_key: str) -> list[str]:
    """The sample and frame fields with the scores of an evaluation."""
    scorers = (MaskScorer, BoxScorer, PointScorer)
    names = dict.fromkeys(f"{eval_key}_{metric}" for scorer in scorers for metric in scorer.metrics)
    found = [name for name in names if samples.has_sample_field(name)]
    return found + [f"frames.{name}" for name in names if samples.has_frame_field(name)]


def check_compared(samples: SampleCollection | str, pred_field: str, gt_field: str) -> SampleCollection:
    """The videos, or a ColorTrackError if their two frame fields cannot be compared."""
    view = fields.viewed_frames(samples)
    pred, gt = fields.field_name(pred_field), fields.field_name(gt_field)
    types = fields.seed_fields(view)
    for name in (pred, gt):
        if types.get(name) not in (fo.Detections, fo.Keypoints):
            known = ", ".join(f"frames.{n}" for n, t in types.items() if t in (fo.Detections, fo.Keypoints))
            raise ColorTrackError(
                f"frames.{name} has no detections or keypoints to compare; fields with some: "
                f"{known or 'none yet'}"
            )
    if types[pred] is not types[gt]:
        raise ColorTrackError(
            f"frames.{pred} and frames.{gt} are of different types; compare detections with detections, or "
            "keypoints with keypoints"
        )
    if pred == gt:
        raise ColorTrackError(
            "the tracks and the ground truth are the same field; choose two different fields"
        )
    if not any(fields.labeled_frames(view, pred).values()):
        raise ColorTrackError(
            f"frames.{pred} has no labels in these videos; propagate labels, or choose another field"
        )
    return view


def check_eval_key(
    dataset: fo.Dataset, eval_key: str, pred_field: str, gt_field: str, overwrite: bool = False
) -> None:
    """Raise a ColorTrackError if an evaluation cannot have this name, or would replace a user's fields."""
    fields.check_name(eval_key)
    exists = eval_key in (fields.images_of(dataset) or dataset).list_evaluations()
    if exists and not overwrite:
        raise ColorTrackError(
            f"the evaluation {eval_key!r} exists; replace it (overwrite), or choose another name"
        )
    if any(hasattr(kind, eval_key) for kind in (fo.Detection, fo.Keypoint, fo.Detections, fo.Keypoints)):
        raise ColorTrackError(f"FiftyOne itself uses the name {eval_key!r}; choose another name")
    if exists:
        return  # its fields are there, and their copies where labels were copied
    if paths := _fields_of(dataset, eval_key, pred_field, gt_field):
        raise ColorTrackError(
            f"the evaluation {eval_key!r} would replace {', '.join(sorted(paths))}, which you already use; "
            "choose another name"
        )


def _fields_of(dataset: fo.Dataset, eval_key: str, pred_field: str, gt_field: str) -> set[str]:
    """The fields of an evaluation that exist."""
    metrics = ("tp", "fp", "fn", *MaskScorer.metrics, *BoxScorer.metrics, *PointScorer.metrics)
    paths = {f"{prefix}{eval_key}_{metric}" for metric in metrics for prefix in ("", "frames.")}
    for field in map(fields.field_name, (pred_field, gt_field)):
        label_list = LABEL_LISTS.get(fields.seed_fields(fields.whole(dataset)).get(field))
        paths |= {f"frames.{field}.{label_list}.{eval_key}{part}" for part in ("", "_id", "_iou")}
    return {path for path in paths if dataset.get_field(path) is not None}


def _make_scorer(view: SampleCollection, pred: str, gt: str) -> Scorer:
    """The scorer for two frame fields of one type, by what they hold."""
    if fields.seed_fields(view)[gt] is fo.Keypoints:
        return PointScorer(gt, pred)
    has_masks = all(
        view.count(f"frames.{name}.detections.mask") + view.count(f"frames.{name}.detections.mask_path")
        for name in (pred, gt)
    )
    return MaskScorer(gt, pred) if has_masks else BoxScorer(gt, pred)


def _score_videos(
    view: SampleCollection, scorer: Scorer, pred: str, gt: str, update: ProgressCallback
) -> dict[str, VideoScores]:
    """Scores by sample id."""
    samples = view.select_fields([f"frames.{pred}", f"frames.{gt}"])
    scores, reason = {}, "there is none"
    for number, sample in enumerate(samples, 1):
        try:
            scores[sample.id] = scorer.add(sample)
        except ColorTrackError as error:
            reason = str(error)
            logger.warning("Not scored: %s", reason)
        else:
            for warning in scores[sample.id].warnings:
                logger.warning("%s: %s", sample.filepath, warning)
        update(number, len(samples), os.path.basename(sample.filepath))
    if not scores:
        raise ColorTrackError(f"no video can be scored: {reason}")
    return scores


def _rows(scorer: Scorer) -> dict[str, dict[str, Any]]:
    """The scores of all videos as rows of the Model Evaluation panel."""
    totals, per_point = scorer.totals(), scorer.per_point()
    return {
        METRIC_URI if i == 0 else f"{METRIC_URI}#{metric}": {
            "key": metric,
            "label": label,
            "value": _or_none(totals[metric]),
            "lower_is_better": False,
            "per_point": [_or_none(score) for score in per_point.get(metric, [])],
        }
        for i, (metric, label) in enumerate(scorer.metrics.items())
        if metric in totals
    }


def _attach(
    dataset: fo.Dataset,
    results: DetectionResults,
    rows: dict[str, dict[str, Any]],
    scores: dict[str, VideoScores],
) -> None:
    """Add the rows to FiftyOne's results, and write the scores to fields of videos and frames."""
    results.custom_metrics = rows
    if results.key is None:
        return
    images = fields.images_of(dataset)
    for metric in (row["key"] for row in rows.values()):
        name = f"{results.key}_{metric}"
        videos = {id: _or_none(video.video[metric]) for id, video in scores.items()}
        frames = {
            id: {number: _or_none(score) for number, score in video.frames.get(metric, {}).items()}
            for id, video in scores.items()
        }
        of_frames = any(frames.values())
        if images is not None:  # where a score of a group without scores of frames is one of its first image
            images.add_sample_field(name, fo.FloatField)
            for id, values in frames.items():
                fields.push(
                    dataset, id, f"frames.{name}" if of_frames else name, values if of_frames else videos[id]
                )
            continue
        dataset.add_sample_field(name, fo.FloatField)
        fields.whole(dataset).set_values(name, videos, key_field="id")
        if of_frames:
            dataset.add_frame_field(name, fo.FloatField)
            fields.whole(dataset).set_values(f"frames.{name}", frames, key_field="id")


def _or_none(score: float) -> float | None:
    return None if math.isnan(score) else score
