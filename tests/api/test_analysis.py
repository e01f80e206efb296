"""Analyses against numbers worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_colortrack as ct
from fiftyone_colortrack.api.analysis import (
    VIDEO,
    Breakdown,
    analyze,
    group_fields,
    metrics,
    scored_view,
    track_evaluations,
)
from fiftyone_colortrack.api.evaluation import METRIC_URI
from fiftyone_colortrack.charts import write_report
from fiftyone_colortrack.errors import ColorTrackError

FRAMES = 11  # of which the first is not scored
MEANS = {"a": 0.9, "b": 0.5, "c": 0.1}
ATTRIBUTES = {"a": ["OCC"], "b": ["OCC", "MB"], "c": None}


def score(video: str, number: int) -> float:
    """Falls by 0.01 in every frame."""
    return MEANS[video] - 0.01 * (number - 7)


def evaluation(dataset: fo.Dataset, key: str, pred: str, rows: list[dict]) -> None:
    """An evaluation as `evaluate_tracks` leaves it."""
    results = dataset.evaluate_detections(f"frames.{pred}", gt_field="frames.gt", eval_key=key)
    results.custom_metrics = {str(i): {"per_point": [], **row} for i, row in enumerate(rows)}
    results.config.custom_metrics = [METRIC_URI]
    results.save_config()
    results.save()


@pytest.fixture
def scored(dataset: fo.Dataset) -> fo.Dataset:
    """Three videos with two evaluations: `good`, and `bad` with half its scores and without confidences."""
    for name, mean in MEANS.items():
        sample = fo.Sample(
            filepath=f"/nowhere/{name}.mp4",
            metadata=fo.VideoMetadata(total_frame_count=FRAMES),
            attributes=ATTRIBUTES[name],
            tags=["val"],
            good_J=mean,
            bad_J=mean / 2,
        )
        for number in range(1, FRAMES + 1):
            of_frame = score(name, number) if number > 1 else None
            sample.frames[number] = fo.Frame(
                **{field: fo.Detections() for field in ("gt", "sure", "unsure")},
                sure_confidence=score(name, number) / 2,
                good_J=of_frame,
                bad_J=of_frame and of_frame / 2,
            )
        dataset.add_sample(sample)
    evaluation(dataset, "good", "sure", [{"key": "J", "label": "J", "value": 0.5}])
    evaluation(dataset, "bad", "unsure", [{"key": "J", "label": "J", "value": 0.25}])
    return dataset


@pytest.fixture
def films(scored: fo.Dataset) -> fo.Dataset:
    """Films of predicted colors of the first video, in which each frame is worse than the last."""
    films = fo.Dataset()
    film = fo.Sample(filepath="/nowhere/film.mp4", source_id=scored.first().id, film="colors")
    for number in range(2, FRAMES + 1):
        film.frames[number] = fo.Frame(color_distance=10.0 * number)
    films.add_sample(film)
    films.add_sample(fo.Sample(filepath="/nowhere/other.mp4", source_id=scored.last().id, film="embedding"))
    scored.info["films"] = films.name
    scored.save()
    yield films
    films.delete()


def breakdown(analysis: ct.Analysis, name: str) -> Breakdown:
    return next(breakdown for breakdown in analysis.breakdowns if breakdown.name == name)


def test_by_attribute(scored):
    analysis = analyze(scored, "good", against="bad")
    videos = breakdown(analysis, "videos")
    assert analysis.metric == "J"
    assert analysis.totals == {"good": 0.5, "bad": 0.25}
    assert analysis.fields == {"good": "frames.sure", "bad": "frames.unsure"}
    assert (videos.title, videos.unit) == ("Score by attribute", "videos")
    mb, occ = videos.scores["good"]  # the worst first
    assert (mb.x, mb.note, mb.mean, mb.spread, mb.count) == ("MB", "motion blur", 0.5, 0, 1)
    assert (occ.x, occ.note) == ("OCC", "occlusion")
    assert occ.mean == pytest.approx((0.9 + 0.5) / 2)
    assert occ.spread == pytest.approx(0.2)
    assert scored_view(scored, occ).values("id") == sorted(scored.values("id")[:2])
    assert [(s.x, s.mean) for s in videos.scores["bad"]] == [("MB", 0.25), ("OCC", pytest.approx(0.35))]


def test_videos_are_grouped_by_any_strings(scored):
    assert group_fields(scored) == ["attributes", "tags", VIDEO]
    scored.set_values("action", [fo.Classification(label=label) for label in ("run", "run", "sit")])
    assert group_fields(scored) == ["attributes", "action.label", "tags", VIDEO]
    by_action = breakdown(analyze(scored, "good", group_by="action.label"), "videos").scores["good"]
    assert [(s.x, s.mean) for s in by_action] == [("sit", 0.1), ("run", pytest.approx(0.7))]
    by_file = breakdown(analyze(scored[:2], "good", group_by=VIDEO), "videos").scores["good"]
    assert [(s.x, s.mean) for s in by_file] == [("b.mp4", 0.5), ("a.mp4", 0.9)]


def test_over_time(scored):
    time = breakdown(analyze(scored, "good"), "time").scores["good"]
    assert [s.x for s in time] == pytest.approx(np.arange(0.15, 1, 0.1))  # the first frame is not scored
    third = time[2]  # a frame of each video, the fourth: 3 tenths after the start
    assert third.note == "30% to 40%"
    values = [score(video, 4) for video in MEANS]
    assert third.mean == pytest.approx(np.mean(values))
    assert third.spread == pytest.approx(np.std(values))
    assert scored_view(scored, third).values("support") == [[4, 4]] * 3
    assert time[-1].count == 2 * 3  # the last frame has no tenth of its own
    assert scored_view(scored, time[-1]).values("support") == [[10, 11]] * 3


def test_without_metadata_the_last_frame_with_labels_ends_the_video(scored):
    video = scored.first()
    video.metadata = None
    for number in range(5, FRAMES + 1):
        video.frames[number].good_J = None
    video.save()
    found = breakdown(analyze(scored.limit(1), "good"), "time").scores["good"]
    assert [score.members for score in found] == [((video.id, number),) for number in (2, 3, 4)]
    assert [score.x for score in found] == [0.15, 0.25, 0.35]


def test_by_confidence(scored):
    analysis = analyze(scored, "good", against="bad")
    confidence = breakdown(analysis, "confidence")
    assert list(confidence.scores) == ["good"]
    assert confidence.correlation == {"good": pytest.approx(1)}
    ranked = np.sort([score(video, number) for video in MEANS for number in range(2, FRAMES + 1)])
    fifths = confidence.scores["good"]
    assert [s.count for s in fifths] == [6] * 5
    assert [s.mean for s in fifths] == pytest.approx(ranked.reshape(5, 6).mean(1))
    assert [s.x for s in fifths] == pytest.approx(ranked.reshape(5, 6).mean(1) / 2)
    assert fifths[0].note == f"{ranked[0] / 2:.3g} to {ranked[5] / 2:.3g}"
    assert analysis.missing[-1].startswith("frames.unsure_confidence")


def test_frames_of_one_confidence_stay_together(scored):
    scored.set_values("frames.sure_confidence", [[1.0] * FRAMES] * len(MEANS))
    (score,) = breakdown(analyze(scored, "good"), "confidence").scores["good"]
    assert (score.x, score.count) == (1, 3 * (FRAMES - 1))


def test_by_color_error(scored, films):
    analysis = analyze(scored, "good")
    error = breakdown(analysis, "color_error")
    assert error.correlation == {"good": pytest.approx(-1)}
    assert [s.x for s in error.scores["good"]] == [25, 45, 65, 85, 105]
    assert error.scores["good"][0].mean == pytest.approx((score("a", 2) + score("a", 3)) / 2)
    assert analysis.missing == []


def test_without_films_and_confidences_it_says_what_to_do(scored):
    analysis = analyze(scored, "bad")
    assert [b.name for b in analysis.breakdowns] == ["videos", "time"]
    assert "run Colorize videos" in analysis.missing[0]
    assert "Propagate labels writes it" in analysis.missing[1]


def test_key_points(dataset, squares_file):
    """One point is right, one is 15 % of the reference length off, and one is never scored."""
    gt = np.tile([[10.0, 10], [58, 46], [np.nan, np.nan]], (4, 1, 1))  # a diagonal of 60: 36 are the length
    pred = gt + np.array([[0, 0], [0.15 * 36, 0], [0, 0]])
    sample = fo.Sample(filepath=str(squares_file))
    for number, points in enumerate(zip(gt, pred, strict=True), 1):
        labels = [fo.Keypoint(index=1, points=(p / [96, 64]).tolist()) for p in points]
        sample.frames[number] = fo.Frame(
            **{name: fo.Keypoints(keypoints=[k]) for name, k in zip(("gt", "pred"), labels, strict=True)}
        )
    dataset.add_sample(sample)
    dataset.skeletons = {"frames.gt": fo.KeypointSkeleton(labels=["nose", "tail", "ear"], edges=[])}
    ct.evaluate_tracks(dataset, "pred", "gt", "eval")
    assert next(iter(metrics(dataset, "eval").items())) == ("PCK10", "PCK@0.1 (strict)")
    points = analyze(dataset, "eval").points["eval"]
    assert points["nose"] == {f"PCK@{alpha} (strict)": 1 for alpha in (0.1, 0.2, 0.3, 0.4, 0.5)}
    assert points["tail"] == {**points["nose"], "PCK@0.1 (strict)": 0}
    assert set(points["ear"].values()) == {None}
    legacy = analyze(dataset, "eval", metric="PCK20_legacy")
    assert legacy.metric == "PCK@0.2 (legacy)"
    assert list(legacy.points["eval"]["tail"]) == [f"PCK@{a} (legacy)" for a in (0.1, 0.2, 0.3, 0.4, 0.5)]


def test_only_evaluations_of_tracks_count_the_latest_first(scored):
    scored.evaluate_detections("frames.sure", gt_field="frames.gt", eval_key="other")
    assert track_evaluations(scored) == ["bad", "good"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_key": "none"}, "no evaluation of tracks 'none'; choose one of: bad, good"),
        ({"against": "none"}, "no evaluation of tracks 'none'"),
        ({"metric": "F"}, "'good' has no F; it has: J"),
        ({"group_by": "good_J"}, "grouped by 'good_J'; choose one of attributes, tags, filepath"),
    ],
)
def test_what_is_not_there_is_named(scored, options, message):
    with pytest.raises(ColorTrackError, match=message):
        analyze(scored, **{"eval_key": "good", **options})


def test_report(scored, films, tmp_path: Path):
    path = write_report(analyze(scored, "good", against="bad"), tmp_path / "out" / "report.html")
    page = path.read_text()
    assert page.count("Plotly.newPlot(") >= 4
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)  # needs no network
    assert "OCC: occlusion" in page
    assert "50.0%" in page
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_names_that_people_chose_are_escaped(scored, tmp_path: Path):
    analysis = analyze(scored, "good")
    evil = "<script>alert(1)</script>"
    score = replace(analysis.breakdowns[0].scores["good"][0], x=evil, note=evil)
    breakdown = replace(analysis.breakdowns[0], scores={"good": [score]})
    hostile = replace(analysis, breakdowns=[breakdown], missing=[evil], points={evil: {evil: {evil: 0.5}}})
    page = write_report(hostile, tmp_path / "report.html").read_text()
    assert evil not in page
    assert "alert(1)" in page
