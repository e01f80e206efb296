import fiftyone as fo
import numpy as np
import pytest

import fiftyone_colortrack as ct
from fiftyone_colortrack.api import propagate_iter
from fiftyone_colortrack.fields.shapes import paint, regions, relative_box
from fiftyone_colortrack.tracking import TrackerConfig

SMALL = TrackerConfig(input_size=64, memory=2)


def detections(id_map):
    return fo.Detections(
        detections=[
            fo.Detection(
                label="square",
                index=id,
                bounding_box=relative_box(region, id_map.shape),
                mask=region.mask,
            )
            for id, region in regions(id_map)
        ]
    )


@pytest.fixture
def videos(dataset, squares, squares_file, tmp_path):
    """Three copies of `squares`; the first two have labels in frame 1, the last one has none."""
    for i in range(3):
        path = tmp_path / f"video{i}.mp4"
        path.symlink_to(squares_file)
        sample = fo.Sample(filepath=str(path))
        sample.frames[1] = fo.Frame(seed=detections(squares[1][0]) if i < 2 else None)
        dataset.add_sample(sample)
    return dataset


def propagate(view, out="tracks", **options):
    return ct.propagate(view, "frames.seed", f"frames.{out}", **{"model": "lab", "config": SMALL, **options})


def test_every_frame_is_labelled(videos, squares):
    report = propagate(videos)
    assert [video.status for video in report.videos] == ["skipped", "done", "done"]
    assert report.frames == 16
    sample = videos.first()
    for number in range(1, 9):
        labels = sample.frames[number].tracks.detections
        found = paint(labels, [label.index for label in labels], (64, 96))
        overlap = ((found == squares[1][number - 1]) & (found > 0)).sum()
        assert overlap > 0.7 * (squares[1][number - 1] > 0).sum()


def test_the_run_is_recorded(videos):
    report = propagate(videos, direction="forward", seeds="all")
    config = videos.get_run_info(report.run_key).config
    assert (config.method, config.version) == ("colortrack", ct.__version__)
    assert (config.seed_field, config.out_field) == ("frames.seed", "frames.tracks")
    assert (config.model, config.seeds, config.direction) == ("lab", "all", "forward")
    assert config.tracker["memory"] == 2
    assert videos.load_run_results(report.run_key).report["videos"][1]["status"] == "done"
    assert videos.values("tracks_run") == [report.run_key, report.run_key, None]


def test_a_bad_video_does_not_stop_the_others(videos, tmp_path):
    bad = videos.first()
    (tmp_path / "video0.mp4").unlink()
    (tmp_path / "video0.mp4").write_bytes(b"no video")
    report = propagate(videos)
    (failed,) = report.with_status("failed")
    assert failed.sample_id == bad.id
    assert "video0.mp4" in failed.reason
    assert len(report.with_status("done")) == 1
    assert "1 failed" in str(report)
    with pytest.raises(ct.ColorTrackError, match=r"video0\.mp4"):
        propagate(videos, out="others", on_error="raise")


def test_a_stopped_run_keeps_finished_videos_and_is_continued(videos):
    steps = 0

    def stop():
        nonlocal steps
        steps += 1
        return steps > 12  # in the second video

    report = propagate(videos, stop=stop)
    assert report.stopped
    assert [video.status for video in report.videos] == ["skipped", "done"]
    first, second, _ = videos.values("frames.tracks.detections.id")
    assert (sum(map(len, first)), second) == (16, [None])

    again = propagate(videos, skip_existing=True)
    assert [video.status for video in again.videos] == ["skipped", "skipped", "done"]
    assert again.videos[0].reason == f"finished by run {report.run_key}"
    kept, written, _ = videos.values("frames.tracks.detections.id")
    assert kept == first
    assert sum(map(len, written)) == 16


def test_closing_the_generator_leaves_nothing_half_written(videos):
    steps = propagate_iter(videos, "seed", "tracks", model="lab", config=SMALL)
    for _ in range(3):
        next(steps)
    steps.close()
    assert videos.count("frames.tracks.detections") == 0
    assert videos.values("tracks_run") == [None] * 3


def test_progress_tells_where_the_run_is(videos):
    steps = []
    propagate(videos, progress=steps.append)
    assert len(steps) == 16
    assert [(step.video, step.frame) for step in steps[7:9]] == [(1, 8), (2, 1)]
    assert [step.fraction for step in (steps[7], steps[-1])] == [0.5, 1]
    assert str(steps[0]).startswith("video 1 of 2, video0.mp4: frame 1 of 8")


def test_progress_moves_before_the_first_labelled_frame_too(videos, squares):
    sample = videos.first()
    sample.frames[1]["seed"] = None
    sample.frames[7]["seed"] = detections(squares[1][6])
    sample.save()
    steps = []
    propagate(videos.limit(1), progress=steps.append)
    assert len(steps) == 8 + 6
    assert [step.frame for step in steps] == sorted(step.frame for step in steps)
    assert steps[-1].fraction == 1


def test_existing_tracks_are_not_replaced_unasked(videos):
    propagate(videos.limit(1))
    with pytest.raises(ct.ColorTrackError, match=r"continue the earlier run \(skip_existing\)"):
        propagate(videos)
    before = videos.values("frames.tracks.detections.id")
    propagate(videos.limit(1), overwrite=True, direction="forward")
    assert videos.values("frames.tracks.detections.id") != before


@pytest.mark.parametrize(
    ("seed", "out", "options", "message"),
    [
        ("seed", "seed", {}, "write the tracks to another field"),
        ("nothing", "tracks", {}, "fields that have: frames.seed"),
        ("seed", "my-tracks", {}, "letters, digits and underscores"),
        ("seed", "taken", {}, r"exists; replace its labels \(overwrite\)"),
        ("seed", "taken", {"skip_existing": True}, "exists"),
        ("seed", "weather", {"overwrite": True}, "exists as Classification, but"),
        ("seed", "tracks", {"seeds": "some"}, "choose one of first, all, keyframes"),
        ("seed", "tracks", {"output": "segmentation"}, "cannot be written as segmentation"),
        ("seed", "tracks", {"model": "nothing"}, "there is no model 'nothing'"),
        ("empty", "tracks", {}, "none of the 3 videos has labels"),
    ],
)
def test_what_cannot_be_done_is_refused(videos, seed, out, options, message):
    others = {"taken": fo.Detections, "weather": fo.Classification, "empty": fo.Keypoints}
    for name, label_type in others.items():
        videos.add_frame_field(name, fo.EmbeddedDocumentField, embedded_doc_type=label_type)
    with pytest.raises(ct.ColorTrackError, match=message):
        ct.propagate(videos, seed, out, **options)
    assert not videos.has_frame_field("tracks")


def test_clips_are_refused(videos):
    with pytest.raises(ct.ColorTrackError, match="whole videos"):
        propagate(videos.to_clips("frames.seed"))


def test_only_the_selected_labels_are_tracked(videos):
    view = videos.filter_labels("frames.seed", fo.ViewField("index") == 2)
    propagate(view.limit(1))
    labels = videos.first().frames[8].tracks.detections
    assert [label.index for label in labels] == [2]


def test_points_and_boxes(videos):
    point = fo.Keypoint(label="middle", points=[(16 / 96, 16 / 64)])
    box = fo.Detection(label="box", bounding_box=[8 / 96, 8 / 64, 16 / 96, 16 / 64])
    labels = {"points": fo.Keypoints(keypoints=[point]), "boxes": fo.Detections(detections=[box])}
    for name, label in labels.items():
        sample = videos.first()
        sample.frames[1][name] = label
        sample.save()
        ct.propagate(videos, name, f"tracked_{name}", model="lab", config=SMALL)
    frame = videos.first().frames[8]
    x, y = frame.tracked_points.keypoints[0].points[0]
    np.testing.assert_allclose((x * 96, y * 64), (16 + 28, 16), atol=6)
    box = np.array(frame.tracked_boxes.detections[0].bounding_box) * [96, 64, 96, 64]
    np.testing.assert_allclose(box, [8 + 28, 8, 16, 16], atol=8)  # a cell of the grid
