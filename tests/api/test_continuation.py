"""A run that continues an earlier one: what it redoes, and what it leaves alone."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F

import fiftyone_colortrack as ct
from fiftyone_colortrack.api import propagate_iter
from fiftyone_colortrack.fields import TrackWriter
from fiftyone_colortrack.fields.shapes import regions, relative_box
from fiftyone_colortrack.model.colorizer import LabEmbedder
from fiftyone_colortrack.tracking import TrackerConfig

SMALL = TrackerConfig(input_size=64, memory=2)
FRAMES = range(1, 9)


def detections(id_map: np.ndarray, **attributes) -> fo.Detections:
    return fo.Detections(
        detections=[
            fo.Detection(
                label="square",
                index=id,
                bounding_box=relative_box(region, id_map.shape),
                mask=region.mask,
                **attributes,
            )
            for id, region in regions(id_map)
        ]
    )


def propagate(view, seed="seed", out="tracks", **options) -> ct.PropagationReport:
    options = {"model": "lab", "config": SMALL, "seeds": "all", "on_error": "raise", **options}
    return ct.propagate(view, seed, out, **options)


def go_on(view, **options) -> ct.PropagationReport:
    return propagate(view, skip_existing=True, **options)


def go_on_in_place(view, **options) -> ct.PropagationReport:
    return propagate(view, "tracks", "tracks", seeds="keyframes", skip_existing=True, **options)


def to_end(steps) -> ct.PropagationReport:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def draw(sample: fo.Sample, number: int, labels: fo.Detections | None, field: str = "seed") -> None:
    sample.reload()
    sample.frames[number][field] = labels
    sample.save()


def correct(sample: fo.Sample, number: int, id_map: np.ndarray) -> None:
    """Redraw the tracks of a frame, as a person does: the labels stay, their shapes change."""
    sample.reload()
    for label, (_, region) in zip(sample.frames[number].tracks.detections, regions(id_map), strict=True):
        label.mask, label.bounding_box = region.mask, relative_box(region, id_map.shape)
        label["keyframe"] = True
    sample.save()


def ids(sample: fo.Sample, field: str = "tracks") -> dict[int, list[str]]:
    sample.reload()
    labels = {number: frame[field] for number, frame in sample.frames.items()}
    return {
        number: [one.id for one in of_frame.detections] for number, of_frame in labels.items() if of_frame
    }


def contents(sample: fo.Sample, field: str = "tracks") -> dict[int, list]:
    """All that matters of the labels, but for what names them."""
    sample.reload()
    return {
        number: [
            (label.index, label.bounding_box, label.mask.tolist(), label.confidence, label.keyframe)
            for label in frame[field].detections
        ]
        + [frame[f"{field}_confidence"]]
        for number, frame in sample.frames.items()
        if frame[field] is not None
    }


def changed(before: dict[int, list[str]], after: dict[int, list[str]]) -> list[int]:
    return [number for number in FRAMES if before.get(number) != after.get(number)]


@pytest.fixture
def videos(dataset, squares, squares_file, tmp_path):
    """Two videos, of which frame 1 is labelled."""
    for i in range(2):
        path = tmp_path / f"video{i}.mp4"
        path.symlink_to(squares_file)
        sample = fo.Sample(filepath=str(path), metadata=fo.VideoMetadata(total_frame_count=8))
        sample.frames[1] = fo.Frame(seed=detections(squares[1][0]))
        dataset.add_sample(sample)
    return dataset


@pytest.fixture
def embedded(monkeypatch) -> list[int]:
    """Grows by one for each frame that a network looks at."""
    calls: list[int] = []
    embed = LabEmbedder.embed
    monkeypatch.setattr(LabEmbedder, "embed", lambda self, frames: calls.append(1) or embed(self, frames))
    return calls


def test_only_what_follows_from_a_new_seed_is_redone(videos, squares, embedded):
    propagate(videos)
    first, second = videos
    before, other = ids(first), ids(second)
    draw(first, 5, detections(squares[1][4]))
    report = go_on(videos)
    assert [video.status for video in report.videos] == ["skipped", "done"]
    assert report.frames == 7
    assert changed(before, ids(first)) == [2, 3, 4, 5, 6, 7, 8]
    assert ids(second) == other

    between = ids(first)
    draw(first, 7, detections(squares[1][6]))
    embedded.clear()
    report = go_on(videos)
    assert len(embedded) == len([5, 6, 7, 8])
    assert report.frames == 3
    assert changed(between, ids(first)) == [6, 7, 8]

    propagate(videos.limit(1), out="anew")
    assert contents(first) == contents(first, "anew")
    assert {label.instance.id for f in first.frames.values() for label in f.tracks.detections} == {
        label.instance.id for label in first.frames[1].tracks.detections
    }


def test_tracks_are_corrected_in_place(videos, squares, embedded):
    propagate(videos, seeds="first")
    sample = videos.first()
    before = ids(sample)
    shifted = np.roll(squares[1][4], 2, 1)
    correct(sample, 5, shifted)
    propagate(videos.limit(1), "tracks", "anew", seeds="keyframes")
    embedded.clear()
    report = go_on_in_place(videos)
    assert [video.status for video in report.videos] == ["skipped", "done"]
    assert len(embedded) == 8
    after = ids(sample)
    assert changed(before, after) == [2, 3, 4, 6, 7, 8]  # what was drawn in 5 is the same label
    assert contents(sample) == contents(sample, "anew")
    for label, (_, region) in zip(sample.frames[5].tracks.detections, regions(shifted), strict=True):
        assert label.bounding_box == relative_box(region, shifted.shape)
        np.testing.assert_array_equal(label.mask, region.mask)
        assert (label.keyframe, label.confidence) == (True, 1)

    correct(sample, 8, squares[1][7])
    embedded.clear()
    assert go_on_in_place(videos).frames == 3
    assert len(embedded) == len([5, 6, 7, 8])
    assert changed(after, ids(sample)) == [6, 7]


def test_one_corrected_object_is_enough(videos, squares):
    propagate(videos)
    sample = videos.first()
    correct(sample, 5, squares[1][4])
    sample.frames[5].tracks.detections[1]["keyframe"] = False
    sample.save()
    propagate(videos.limit(1), "tracks", "anew", seeds="keyframes")
    go_on_in_place(videos)
    assert contents(sample) == contents(sample, "anew")
    assert [label.keyframe for label in sample.frames[5].tracks.detections] == [True, False]


def test_a_new_label_joins_its_object(videos, squares):
    propagate(videos)
    sample = videos.first()
    _, second = list(regions(squares[1][4]))
    drawn = fo.Detection(
        label="square",
        index=2,
        bounding_box=relative_box(second[1], squares[1][4].shape),
        mask=second[1].mask,
        keyframe=True,
    )
    draw(sample, 5, fo.Detections(detections=[drawn]), "tracks")
    go_on_in_place(videos)
    sample.reload()
    labels = {label.index: label for label in sample.frames[5].tracks.detections}
    assert set(labels) == {1, 2}
    assert labels[2].id == drawn.id
    assert labels[2].instance.id == sample.frames[1].tracks.detections[1].instance.id


def test_keyframes_that_the_view_hides_are_kept(videos, squares):
    propagate(videos)
    sample = videos.first()
    correct(sample, 5, squares[1][4])
    correct(sample, 8, squares[1][7])
    hidden = [label.id for label in sample.frames[5].tracks.detections]
    view = videos.limit(1).filter_labels("frames.tracks", ~F("id").is_in(hidden))
    go_on_in_place(view)
    assert ids(sample)[5] == hidden


def test_what_was_edited_meanwhile_is_not_written_over(videos, squares):
    propagate(videos)
    sample = videos.first()
    correct(sample, 5, squares[1][4])
    steps = propagate_iter(
        videos, "tracks", "tracks", model="lab", config=SMALL, seeds="keyframes", skip_existing=True
    )
    next(steps)
    correct(sample, 8, squares[1][7])
    edited = contents(sample)
    (failed,) = to_end(steps).with_status("failed")
    assert "were edited while it was tracked" in failed.reason
    assert contents(sample) == edited
    assert len(go_on_in_place(videos).with_status("done")) == 1


@pytest.mark.parametrize(
    ("field", "options", "message"),
    [
        ("seed", {"seeds": "keyframes", "skip_existing": True}, "write the tracks to another field$"),
        ("tracks", {"seeds": "keyframes", "overwrite": True}, r"or continue these tracks \(skip_existing\)"),
        ("tracks", {"seeds": "all", "skip_existing": True}, "from their keyframes"),
        ("tracks", {"seeds": "keyframes", "skip_existing": True, "output": "boxes"}, "stays of the kind"),
    ],
)
def test_nothing_else_is_written_over_its_seeds(videos, field, options, message):
    propagate(videos)
    before = ids(videos.first(), field)
    with pytest.raises(ct.ColorTrackError, match=message):
        propagate(videos, field, field, **options)
    assert ids(videos.first(), field) == before


def test_other_settings_redo_a_video_only_if_its_seeds_changed(videos, squares, caplog):
    propagate(videos)
    first, second = videos
    before, other = ids(first), ids(second)
    draw(first, 8, detections(squares[1][7]))
    report = go_on(videos, config=TrackerConfig(input_size=64, memory=3), model="identity")
    (note,) = report.warnings
    assert note in caplog.text
    assert note.startswith("all frames of 1 video are tracked anew")
    assert "; 1 finished video left alone" in note
    assert note.endswith("made the earlier tracks (model lab, now identity; memory 2, now 3)")
    assert changed(before, ids(first)) == list(FRAMES)
    assert ids(second) == other
    assert report.frames == 8
    assert [run == report.run_key for run in videos.values("tracks_run")] == [True, False]


def test_a_loaded_model_is_that_of_its_name_until_it_is_changed(videos, squares, caplog):
    propagate(videos.limit(1))
    sample = videos.first()
    draw(sample, 5, detections(squares[1][4]))
    model = ct.load_model("lab")
    assert go_on(videos.limit(1), model=model).frames == 7
    model.temperature = 0.5
    draw(sample, 7, detections(squares[1][6]))
    assert go_on(videos.limit(1), model=model).frames == 8
    assert "all frames of 1 video are tracked anew" in caplog.text


def test_a_video_that_was_written_halfway_is_done_again(videos, squares, monkeypatch):
    propagate(videos)
    sample = videos.first()
    correct(sample, 5, squares[1][4])
    write = TrackWriter._set

    def interrupted(self, path, value):
        if path == "frames.tracks_confidence":
            raise KeyboardInterrupt
        write(self, path, value)

    with monkeypatch.context() as patch:
        patch.setattr(TrackWriter, "_set", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go_on_in_place(videos)
    assert [run is None for run in videos.values("tracks_run")] == [True, False]
    assert go_on_in_place(videos).frames == 8
    propagate(videos.limit(1), "tracks", "anew", seeds="keyframes")
    assert contents(sample) == contents(sample, "anew")


def test_a_seed_that_is_gone(videos, squares):
    sample = videos.first()
    draw(sample, 4, detections(squares[1][3]))
    propagate(videos, direction="forward")
    before = ids(sample)
    draw(sample, 1, None)
    report = go_on(videos, direction="forward")
    assert sorted(ids(sample)) == [4, 5, 6, 7, 8]
    assert report.frames == len([5, 6, 7, 8])
    assert ids(sample)[4] == before[4]


def test_what_is_no_change(videos):
    for sample in videos:
        sample.frames[2]["gt"] = sample.frames[1].seed.copy()
        sample.save()
    propagate(videos, seeds="first")
    ct.evaluate_tracks(videos, "tracks", "gt", "eval")
    runs = videos.values("tracks_run")
    for view in (videos, videos.clone()):
        for report in (go_on(view), go_on_in_place(view)):
            assert [video.reason for video in report.videos] == [f"finished by run {run}" for run in runs]
            assert report.run_key is None
            assert not report.warnings


def test_the_confidence_of_frames_and_videos(videos):
    propagate(videos)
    sample = videos.first()
    labels = sample.frames[6].tracks.detections
    assert sample.frames[1].tracks_confidence == 1
    assert sample.frames[6].tracks_confidence == min(label.confidence for label in labels)
    frames = [frame.tracks_confidence for frame in sample.frames.values()]
    assert sample.tracks_confidence == pytest.approx(np.mean(frames))
    assert videos.sort_by("tracks_confidence").count() == 2
    assert videos.match_frames(F("tracks_confidence") < 1).count("frames") < 16
