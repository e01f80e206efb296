import re
import subprocess
import sys
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_colortrack as ct
from fiftyone_colortrack.api.evaluation import METRIC_URI
from fiftyone_colortrack.fields import tracks
from fiftyone_colortrack.fields.shapes import paint, regions, relative_box
from fiftyone_colortrack.tracking import TrackerConfig
from fiftyone_colortrack.video import write_video

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


def test_every_frame_is_labeled(videos, squares):
    report = propagate(videos)
    assert [video.status for video in report.videos] == ["done", "done", "skipped"]
    assert report.frames == 16
    sample = videos.first()
    for number in range(1, 9):
        labels = sample.frames[number].tracks.detections
        found = paint(labels, [label.index for label in labels], (64, 96))
        overlap = ((found == squares[1][number - 1]) & (found > 0)).sum()
        assert overlap > 0.7 * (squares[1][number - 1] > 0).sum()


def test_frames_that_the_caller_holds_show_the_tracks(videos):
    held = videos.first().frames[1]
    propagate(videos, model="identity")
    assert len(held.tracks.detections) == 2


def test_the_run_is_recorded(videos):
    report = propagate(videos, direction="forward", seeds="all")
    config = videos.get_run_info(report.run_key).config
    assert (config.method, config.version) == ("colortrack", ct.__version__)
    assert (config.seed_field, config.label_field) == ("frames.seed", "frames.tracks")
    assert (config.model, config.seeds, config.direction) == ("lab", "all", "forward")
    assert config.tracker["memory"] == 2
    assert videos.load_run_results(report.run_key).report["videos"][0]["status"] == "done"
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
    assert all(video.reason in str(report) for video in report.with_status("failed"))
    with pytest.raises(ct.ColorTrackError, match=r"video0\.mp4"):
        propagate(videos, out="others", on_error="raise")


def stop_after(frames):
    """Stops a run after so many frames of it."""
    count = iter(range(frames))
    return lambda: next(count, None) is None


def test_a_stopped_run_keeps_what_is_tracked_and_is_continued(videos):
    report = propagate(videos, stop=stop_after(11))
    assert report.stopped
    assert [video.status for video in report.videos] == ["done", "stopped", "skipped"]
    assert [video.frames for video in report.videos] == [8, 4, 0]
    assert str(report).startswith("Stopped: 2 videos (12 frames) tracked")
    first, second, _ = videos.values("frames.tracks.detections.id")
    assert [len(labels) for labels in first] == [2] * 8
    assert sum(labels is not None for labels in second) == 4
    assert videos.values("tracks_run") == [report.run_key, None, None]

    again = propagate(videos, skip_existing=True)
    assert [video.status for video in again.videos] == ["skipped", "done", "skipped"]
    assert again.videos[0].reason == f"finished by run {report.run_key}"
    assert again.frames == 4
    kept, written, _ = videos.values("frames.tracks.detections.id")
    assert kept == first
    assert written[:4] == second[:4]
    assert [len(labels) for labels in written] == [2] * 8
    propagate(videos.limit(1), out="whole")
    assert close(videos, 1, "tracks", "whole")


def close(dataset, video, one, other):
    """Whether the labels of two fields lie in the same places, except for a pixel or two."""
    boxes = dataset.skip(video).limit(1).values(f"frames.{one}.detections.bounding_box", unwind=2)
    others = dataset.limit(1).values(f"frames.{other}.detections.bounding_box", unwind=2)
    return np.abs(np.array(boxes) - others).max() < 0.05


def test_labels_are_there_while_a_video_is_tracked(videos, monkeypatch):
    monkeypatch.setattr(tracks, "FRAMES_PER_WRITE", 2)
    seen = []
    propagate(videos, progress=lambda *_: seen.append(videos.count("frames.tracks")))
    assert seen[:9] == [0, 2, 2, 4, 4, 6, 6, 8, 8]


def test_ctrl_c_keeps_what_is_tracked(videos):
    def interrupt(done, total, message):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        propagate(videos, progress=interrupt)
    assert videos.count("frames.tracks") == 5
    assert propagate(videos, skip_existing=True).frames == 3 + 8


def test_progress_tells_where_the_run_is(videos):
    steps = []
    propagate(videos, progress=lambda *step: steps.append(step))
    assert [(done, total) for done, total, _ in steps] == [(n, 16) for n in range(1, 17)]
    assert steps[0][2].startswith("video 1 of 2, video0.mp4: frame 1 of 8")


def test_progress_moves_before_the_first_labeled_frame_too(videos, squares):
    sample = videos.first()
    sample.frames[1]["seed"] = None
    sample.frames[7]["seed"] = detections(squares[1][6])
    sample.save()
    steps = []
    propagate(videos.limit(1), progress=lambda done, *_: steps.append(done))
    assert len(steps) == 8 + 6
    assert steps == sorted(steps)
    assert steps[-1] == 8


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
        ("nothing", "tracks", {}, "can be propagated: frames.seed"),
        ("seed", "my-tracks", {}, "letters, digits, and underscores"),
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


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"overwrite": "yes"}, "overwrite"),
        ({"seeds": ["all"]}, "seeds"),
        ({"objects": "square"}, "objects"),
        ({"objects": []}, "objects"),
        ({"frames": 5}, "frames"),
        ({"frames": (3, 1)}, "frames"),
        ({"config": "fast"}, "config"),
        (
            {"overwrite": True, "skip_existing": True},
            "overwrite replaces tracks and skip_existing continues them",
        ),
        ({"shards": 2}, "shards"),
        ({"cuts_field": "filepath"}, "that FiftyOne itself uses"),
        ({"cuts_field": "events"}, "events exists"),
        ({"cuts_field": "tracks_run"}, "tracks_run exists"),
        ({"cuts_field": "a.b"}, "letters, digits, and underscores"),
        ({"cuts_field": ""}, "letters, digits, and underscores"),
        ({"cuts_field": "save"}, "that FiftyOne itself uses"),
        ({"cuts_field": 5}, "letters, digits, and underscores"),
    ],
)
def test_wrong_values_are_refused_before_a_field_is_made(videos, options, name):
    events = [fo.TemporalDetections(detections=[fo.TemporalDetection(label="goal", support=[1, 3])])] * 3
    videos.set_values("events", events)
    with pytest.raises(ct.ColorTrackError, match=name):
        propagate(videos, **options)
    assert "tracks" not in videos.get_frame_field_schema()
    assert not {"tracks_run", "tracks_record", "tracks_confidence"} & set(videos.get_field_schema())
    assert not videos.list_runs()
    assert videos.values("events.detections.label") == [["goal"]] * 3
    with pytest.raises(TypeError, match="overwrit"):
        propagate(videos, overwrit=True)


@pytest.mark.parametrize("samples", ["no-such-dataset", 3, ["a.mp4"]])
def test_what_is_no_collection_is_refused(database, samples):
    with pytest.raises(ct.ColorTrackError, match="dataset"):
        ct.propagate(samples, "seed", "tracks")


@pytest.mark.parametrize("take", [propagate, ct.colorize, lambda one: ct.train(one, name="none")])
def test_one_sample_is_refused_with_the_way_out(videos, take):
    with pytest.raises(ct.ColorTrackError, match=r"dataset\.select\(sample\.id\)"):
        take(videos.first())


def test_a_dataset_is_named(videos):
    assert propagate(videos.name).frames == 16


USED = [
    "filepath",
    "id",
    "tags",
    "metadata",
    "save",
    "get_field",
    "frame_number",
    "support",
    "sample_id",
    "frames",
]
USED += [
    "values",
    "copy",
    "items",
    "first",
    "select",
    "validate",
    "pk",
    "media_type",
]  # of whatever has fields


@pytest.mark.parametrize("name", [*USED, "", "_id", "a.b", "frames.frames.x", "x y", "1st", "a$", 5])
def test_names_that_are_not_possible_are_refused_before_anything_is_written(videos, name):
    videos.clone_frame_field("seed", "again")
    schema = set(videos.get_field_schema()), set(videos.get_frame_field_schema())
    for take in (
        lambda: propagate(videos, name),
        lambda: propagate(videos, cuts_field=name),
        lambda: ct.evaluate_tracks(videos, "seed", "again", name),
    ):
        with pytest.raises(ct.ColorTrackError, match=re.escape(str(name))):
            take()
    videos.reload()
    assert (set(videos.get_field_schema()), set(videos.get_frame_field_schema())) == schema
    assert not videos.list_runs()


def test_a_tag_of_others_stays(videos):
    videos.limit(1).tag_samples("tracks_failed")
    with pytest.raises(ct.ColorTrackError, match="the tag tracks_failed"):
        propagate(videos)
    assert videos.count_sample_tags() == {"tracks_failed": 1}


def test_labels_that_no_run_wrote_are_counted(videos):
    sample = videos.first()
    label = fo.Detection(label="mine", bounding_box=[0.1, 0.1, 0.2, 0.2])
    sample.frames[3]["tracks"] = fo.Detections(detections=[label])
    sample.save()
    assert propagate(videos.limit(1), overwrite=True).videos[0].replaced == 1
    sample = videos.skip(1).first()
    sample.frames[3]["tracks"] = fo.Detections(detections=[label.copy()])
    sample.save()
    assert propagate(videos.skip(1).limit(1), skip_existing=True).videos[0].kept == 1


@pytest.mark.parametrize("own", ["tracks_run", "tracks_record", "tracks_confidence"])
def test_fields_of_others_stay_as_they_are(videos, own):
    videos.set_values(own, ["mine"] * 3)
    schema = videos.get_field_schema().keys(), videos.get_frame_field_schema().keys()
    with pytest.raises(ct.ColorTrackError, match=own):
        propagate(videos, overwrite=True)
    assert videos.values(own) == ["mine"] * 3
    assert (videos.get_field_schema().keys(), videos.get_frame_field_schema().keys()) == schema
    assert not videos.list_runs()


def test_a_run_stops_while_it_looks_for_shot_changes(dataset, squares, tmp_path):
    write_video(tmp_path / "long.mp4", squares[0][:1].repeat(60, 0), 10)
    sample = fo.Sample(filepath=str(tmp_path / "long.mp4"))
    sample.frames[1] = fo.Frame(seed=detections(squares[1][0]))
    dataset.add_sample(sample)
    steps = []
    report = propagate(dataset, progress=lambda *step: steps.append(step), stop=lambda: True)
    assert [(done, total) for done, total, _ in steps] == [(0, 60)]
    assert (report.stopped, report.frames, dataset.values("tracks_run")) == (True, 0, [None])


def test_missing_metadata_is_computed(videos):
    report = propagate(videos)
    assert videos.values("metadata.total_frame_count") == [8, 8, None]
    assert "metadata of 2 videos" in report.warnings[0]
    ours = [metadata.to_dict() for metadata in videos.limit(2).values("metadata")]
    videos.compute_metadata(overwrite=True)
    assert ours == [metadata.to_dict() for metadata in videos.limit(2).values("metadata")]


def test_only_the_frames_of_clips_are_tracked(videos):
    videos.limit(1).set_values("events", [fo.TemporalDetections(detections=[event(2, 3), event(6, 7)])])
    report = propagate(videos.to_clips("events"))
    assert report.frames == 4
    numbers = videos.match_frames(fo.ViewField("tracks") != None).values("frames.frame_number")  # noqa: E711
    assert numbers == [[2, 3, 6, 7]]
    both = propagate(videos.limit(1).to_clips([[[1, 3], [3, 5], [7, 8]]]), "part", frames=(2, 7))
    assert both.frames == 5
    whole = propagate(videos.limit(1).to_clips([[[1, 8]]]), "whole")
    assert (whole.frames, propagate(videos.limit(1), "whole", skip_existing=True).frames) == (8, 0)
    events = videos.limit(1).to_trajectories("frames.seed")  # of the one frame that has seeds
    assert propagate(events, "of_events").frames == 1
    with pytest.raises(ct.ColorTrackError, match="reload"):  # FiftyOne cannot read it with new fields
        propagate(events, "more")
    events.reload()
    assert propagate(events, "more").frames == 1


@pytest.mark.parametrize("grouped", [False, True])
def test_only_the_frames_of_a_view_of_frames_are_tracked(videos, tmp_path, grouped, squares):
    sample = videos.first()
    for number in range(1, 9):
        sample.frames[number]["truth"] = detections(squares[1][number - 1])
    sample.frames[5]["seed"] = detections(squares[1][4])
    sample.save()
    frames = videos.limit(1).to_frames(sample_frames=True, output_dir=str(tmp_path / "frames"))
    view = frames.match(fo.ViewField("frame_number").is_in([3, 5, 7]))
    group = view.group_by("sample_id", order_by="frame_number") if grouped else view
    assert propagate(group).frames == 3
    found = {n: f.tracks for n, f in videos.first().frames.items() if f.tracks}
    assert list(found) == [3, 5, 7]
    assert all(label.keyframe for label in found[5].detections)  # the first labeled frame of the view
    propagate(videos, overwrite=True)
    ct.evaluate_tracks(frames.match(fo.ViewField("frame_number") > 5), "tracks", "truth", "late")
    assert [n for n, f in videos.first().frames.items() if f.late_J is not None] == [6, 7]
    for whole in (ct.suggest, ct.colorize):
        with pytest.raises(ct.ColorTrackError, match="sample_id"):
            whole(view)


@pytest.mark.parametrize("kind", ["clips", "clips of a filtered view", "frames"])
def test_labels_that_a_view_hides_are_not_tracked(videos, tmp_path, kind):
    one, folder, red = videos.limit(1), str(tmp_path / "frames"), fo.ViewField("index") == 1
    view = {
        "clips": lambda: one.to_clips([[[1, 8]]]).filter_labels("frames.seed", red),
        "clips of a filtered view": lambda: one.filter_labels("frames.seed", red).to_clips([[[1, 8]]]),
        "frames": lambda: (
            one.to_frames(sample_frames=True, output_dir=folder)
            .match(fo.ViewField("frame_number") < 4)
            .filter_labels("seed", red, only_matches=False)
        ),
    }[kind]()
    report = propagate(view)
    assert (report.frames, videos.distinct("frames.tracks.detections.index")) == (
        3 if kind == "frames" else 8,
        [1],
    )


def event(first, last):
    return fo.TemporalDetection(label="event", support=[first, last])


def test_a_range_of_frames(videos):
    propagate(videos.limit(1))
    before = videos.first()
    ids = {n: [one.id for one in frame.tracks.detections] for n, frame in before.frames.items()}
    report = propagate(videos.limit(1), frames=(4, 6), skip_existing=True, direction="forward")
    assert report.frames == 3
    sample = videos.first()
    after = {n: [one.id for one in frame.tracks.detections] for n, frame in sample.frames.items()}
    assert [n for n in ids if ids[n] != after[n]] == [4, 5, 6]
    propagate(videos.limit(1), "ranged", frames=(4, 90))
    assert sorted(n for n, f in videos.first().frames.items() if f.ranged) == [4, 5, 6, 7, 8]
    (failed,) = propagate(videos.limit(1), "beyond", frames=(20, 30)).videos
    assert (failed.status, "8 frames" in failed.reason) == ("failed", True)


@pytest.mark.parametrize("by", ["index", "label_id", "instance"])
def test_chosen_objects_alone_are_tracked(videos, by):
    sample = videos.first()
    second = sample.frames[1].seed.detections[1]
    second.instance = fo.Instance()
    sample.save()
    wanted = {"index": 2, "label_id": second.id, "instance": second.instance.id}[by]
    propagate(videos.limit(1), objects=[1])
    first = videos.values("frames.tracks.detections.id")[0]
    propagate(videos.limit(1), objects=[wanted], skip_existing=True)
    for number, frame in videos.first().frames.items():
        assert sorted(one.index for one in frame.tracks.detections) == [1, 2]
        assert first[number - 1][0] in [one.id for one in frame.tracks.detections]


def test_objects_that_no_video_has_are_refused_before_anything_is_written(videos):
    before = {*videos.get_field_schema(), *videos.get_frame_field_schema()}
    for objects, missing in ((["horse"], "horse"), ([2, 7], "7"), (["square", "f" * 24], "f" * 24)):
        for options in ({}, {"seeds": "all"}, {"frames": (3, 5)}):
            with pytest.raises(
                ct.ColorTrackError, match=rf"{missing}; frames.seed has square \(index 1\), square"
            ):
                propagate(videos, objects=objects, **options)
    assert {*videos.get_field_schema(), *videos.get_frame_field_schema()} == before
    assert not videos.list_runs()
    assert not videos.distinct("tags")


def test_a_video_without_the_chosen_object_is_skipped(videos, squares):
    second = videos.skip(1).first()
    second.frames[1].seed.detections[0].label = "7"
    second.save()
    for objects, done in ((["7"], [1]), ([7], [1]), (["square", 7], [0, 1]), ([1], [0, 1])):
        report = propagate(videos, f"of_{len(videos.list_runs())}", objects=objects, model="identity")
        assert [i for i, video in enumerate(report.videos) if video.status == "done"] == done
        assert all(video.status == "skipped" for i, video in enumerate(report.videos) if i not in done)
    assert not videos.distinct("tags")


def test_objects_that_a_complete_frame_leaves_out_end_there(videos, squares):
    sample = videos.first()
    sample.frames[4]["seed"] = detections(squares[1][3] * (squares[1][3] == 1))
    sample.frames[7]["seed"] = detections(squares[1][6])
    sample.save()
    propagate(videos.limit(1), seeds="all", complete=True)
    found = {n: [one.index for one in f.tracks.detections] for n, f in videos.first().frames.items()}
    assert all(2 in found[n] for n in (1, 2, 3, 7, 8))
    assert not any(2 in found[n] for n in (4, 5, 6))
    assert all(1 in of_frame for of_frame in found.values())


def test_a_track_ends_after_its_last_label(videos):
    sample = videos.first()
    sample.frames[1].seed.detections[1]["last"] = True
    sample.save()
    propagate(videos.limit(1))
    assert [[one.index for one in f.tracks.detections] for f in videos.first().frames.values()] == [
        [1, 2],
        *[[1]] * 7,
    ]


def test_shots_are_reported_and_kept(videos, tmp_path, squares):
    colors = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)
    other = colors.repeat(16, 0).repeat(16, 1)[None].repeat(8, 0)
    video = np.concatenate([squares[0], other])
    write_video(tmp_path / "cut.mp4", video, 10)
    sample = fo.Sample(filepath=str(tmp_path / "cut.mp4"))
    sample.frames[1] = fo.Frame(seed=detections(squares[1][0]))
    videos.add_sample(sample)
    report = propagate(videos.select(sample.id), cuts_field="shots")
    assert report.videos[0].cuts == (9,)
    sample.reload()
    assert [shot.support for shot in sample.shots.detections] == [[1, 8], [9, 16]]
    assert [n for n, f in sample.frames.items() if f.tracks and f.tracks.detections] == list(range(1, 9))


def test_every_slice_of_a_group_is_tracked(dataset, squares, squares_file, tmp_path):
    dataset.add_group_field("group", default="left")
    group = fo.Group()
    samples = []
    for name in ("left", "right"):
        (tmp_path / f"{name}.mp4").symlink_to(squares_file)
        sample = fo.Sample(filepath=str(tmp_path / f"{name}.mp4"), group=group.element(name))
        sample.frames[1] = fo.Frame(seed=detections(squares[1][0]))
        samples.append(sample)
    dataset.add_samples(samples)
    right, both = dataset.select_group_slices("right"), dataset.select_group_slices(["left", "right"])
    assert propagate(right).frames == 8
    assert dataset.select_group_slices("left").count("frames.tracks.detections") == 0
    report = propagate(dataset, skip_existing=True)
    assert sorted(video.status for video in report.videos) == ["done", "skipped"]
    assert both.count("frames.tracks.detections") == 32
    assert None not in both.values("tracks_run")
    chosen = dataset.select_groups([group.id]).filter_labels("frames.seed", fo.ViewField("index") == 2)
    assert propagate(chosen, "chosen").frames == 16
    assert both.count("frames.chosen.detections") == 16


def test_a_renamed_field_stops_the_run_and_the_dataset_loads(videos):
    def rename(done, total, message):
        if done == 3:
            other = [sys.executable, "-c", f"{LOAD}.rename_frame_field('tracks', 'mine')"]
            subprocess.run([*other, videos.name], check=True, capture_output=True)

    report = propagate(videos, progress=rename)
    assert {video.status for video in report.videos} == {"failed", "skipped"}
    assert all("frames.tracks was renamed" in video.reason for video in report.with_status("failed"))
    read = f"for sample in {LOAD}:\n  for frame in sample.frames.values(): frame['mine']"
    subprocess.run([sys.executable, "-c", read, videos.name], check=True)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("{}.delete_sample_field('shots')", "shots was renamed or deleted"),
        (
            "__import__('fiftyone_colortrack').delete_tracks({}, 'tracks')",
            "frames.tracks was renamed or deleted",
        ),
    ],
)
def test_what_others_delete_during_a_run_is_not_written_and_the_dataset_loads(videos, act, reason):
    def delete(done, total, message):
        if done == 3:
            other = [sys.executable, "-c", act.format(LOAD), videos.name]
            subprocess.run(other, check=True, capture_output=True)

    failed = propagate(videos.limit(1), cuts_field="shots", progress=delete).with_status("failed")
    assert [reason in video.reason for video in failed] == [True]
    read = f"for sample in {LOAD}:\n  for frame in sample.frames.values(): frame.to_dict()"
    subprocess.run([sys.executable, "-c", read, videos.name], check=True)


@pytest.mark.parametrize("act", ["{}.clear_frame_field('tracks')", "{}.clear_frames()"])
def test_what_others_clear_during_a_run_is_missed_and_tracked_again(videos, act, monkeypatch):
    monkeypatch.setattr("fiftyone_colortrack.fields.tracks.FRAMES_PER_WRITE", 2)

    def clear(done, total, message):
        if done == 5:
            other = [sys.executable, "-c", act.format(LOAD), videos.name]
            subprocess.run(other, check=True, capture_output=True)

    (failed,) = propagate(videos.limit(1), progress=clear).with_status("failed")
    assert "cleared frames.tracks" in failed.reason
    if "clear_frames" in act:  # the seeds, too
        return
    (done,) = propagate(videos.limit(1), skip_existing=True).videos
    assert done.status == "done"
    videos.reload()
    assert [
        n for n, frame in videos.first().frames.items() if not (frame.tracks and frame.tracks.detections)
    ] == []


def test_a_dataset_that_is_renamed_during_a_run_is_written_on(videos):
    name, other = videos.name, f"{videos.name}-renamed"

    def rename(old, new):
        act = f"setattr({LOAD}, 'name', {new!r})"
        subprocess.run([sys.executable, "-c", act, old], check=True, capture_output=True)

    def once(done, total, message):
        if done == 3 and fo.dataset_exists(name):
            rename(name, other)

    report = propagate(videos, progress=once)
    assert fo.dataset_exists(other)
    rename(other, name)
    assert [video.status for video in report.videos] == ["done", "done", "skipped"]  # one without seeds


LOAD = "__import__('fiftyone').load_dataset(__import__('sys').argv[1])"


def test_a_removed_video_fails_alone(videos):
    first = videos.first().id

    def remove(done, total, message):
        if done == 3:
            videos.delete_samples(first)

    report = propagate(videos, progress=remove)
    assert [video.status for video in report.videos] == ["failed", "done", "skipped"]
    assert "removed" in report.videos[0].reason


def test_tracks_are_deleted_with_all_that_was_made_with_them(videos):
    schema = set(videos.get_field_schema()), set(videos.get_frame_field_schema())
    propagate(videos)
    ct.delete_tracks(videos, "frames.tracks")
    assert (set(videos.get_field_schema()), set(videos.get_frame_field_schema())) == schema
    assert not videos.list_runs()
    with pytest.raises(ct.ColorTrackError, match="seed"):
        ct.delete_tracks(videos, "seed")


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


@pytest.fixture
def scenes(dataset, squares, tmp_path):
    """Images of two scenes, in no order; the first one of each has labels."""
    for scene in ("a", "b"):
        for number in (10, 2, 1, 9, 3):
            path = tmp_path / f"{scene}{number}.png"
            Image.fromarray(squares[0][min(number, 8) - 1]).save(path)
            sample = fo.Sample(filepath=str(path), scene=scene, number=number)
            if number == 1:
                sample["seed"] = detections(squares[1][0])
            dataset.add_sample(sample)
    return dataset


def test_images_that_form_videos(scenes, squares):
    """Groups of images are read as videos; the tracks are written to the images."""
    groups = scenes.group_by("scene", order_by="number")
    report = propagate(groups)
    assert (report.frames, report.label_field) == (10, "tracks")
    assert scenes.count("tracks.detections") == 20
    third = scenes.match(fo.ViewField("number") == 3).first()
    found = paint(third.tracks.detections, [1, 2], (64, 96))
    assert ((found > 0) & (squares[1][2] > 0)).sum() > 0.7 * (squares[1][2] > 0).sum()
    before = scenes.values("tracks.detections.id")
    again = propagate(groups, skip_existing=True)
    assert [video.status for video in again.videos] == ["skipped", "skipped"]
    assert scenes.values("tracks.detections.id") == before
    third.tracks.detections[0].bounding_box = [0.5, 0.5, 0.25, 0.25]
    third.save()
    keyframes = {"seeds": "keyframes", "skip_existing": True}
    from_there = ct.propagate(groups, "tracks", "tracks", model="lab", config=SMALL, **keyframes)
    assert [video.kept for video in from_there.videos] == [1, 0]
    third.reload()
    assert third.tracks.detections[0].bounding_box == [0.5, 0.5, 0.25, 0.25]
    for name in ("scene", "number"):
        with pytest.raises(ct.ColorTrackError, match=name):
            propagate(groups, name)


def test_images_keep_what_was_tracked_before_a_stop(scenes, monkeypatch):
    monkeypatch.setattr(tracks, "FRAMES_PER_WRITE", 2)
    groups, seen = scenes.group_by("scene", order_by="number"), []

    def look(done, total, message):
        seen.append(scenes.count("tracks") if scenes.has_field("tracks") else 0)

    stopped = propagate(groups, progress=look, stop=lambda: len(seen) > 7)
    assert stopped.stopped
    assert 0 < seen[4] < scenes.count("tracks") < 10  # in portions, not at the end
    assert scenes.list_runs() == [stopped.run_key]
    there = scenes.count("tracks")
    assert propagate(groups, skip_existing=True).frames == 10 - there
    (missing,) = scenes.match(fo.ViewField("number") == 9).limit(1).values("filepath")
    Path(missing).unlink()
    report = propagate(groups, "other")
    assert [video.status for video in report.videos] == ["failed", "done"]
    assert missing in report.videos[0].reason
    assert scenes.count_sample_tags() == {"other_failed": 1}
    propagate(groups, "other", skip_existing=True, stop=lambda: True)  # before anything was tried again
    assert scenes.count_sample_tags() == {"other_failed": 1}


def test_labels_of_images_that_a_view_hides_are_not_tracked(scenes):
    groups = scenes.group_by("scene", order_by="number")
    report = propagate(groups.filter_labels("seed", fo.ViewField("index") == 1))
    assert (report.frames, scenes.distinct("tracks.detections.index")) == (10, [1])


def test_an_image_that_is_removed_during_a_run_is_reported(scenes):
    groups = scenes.group_by("scene", order_by="number")
    last = scenes.match((fo.ViewField("scene") == "a") & (fo.ViewField("number") == 10))
    report = propagate(groups, progress=lambda *_: scenes.delete_samples(last))
    assert [video.status for video in report.videos] == ["failed", "done"]
    assert "image was removed" in report.videos[0].reason


def test_images_that_nothing_orders_are_refused(scenes):
    with pytest.raises(ct.ColorTrackError, match="order_by"):
        propagate(scenes.group_by("scene"))
    assert not scenes.has_field("tracks")


def test_images_that_form_videos_are_scored_and_suggested(scenes, squares):
    datasets = fo.list_datasets()
    groups = scenes.group_by("scene", order_by="number")
    propagate(groups)
    scenes.clone_sample_field("tracks", "truth")
    wrong = scenes.match((fo.ViewField("scene") == "b") & (fo.ViewField("number") == 3)).first()
    wrong.tracks.detections[0].bounding_box = [0.8, 0.8, 0.1, 0.1]
    wrong.save()
    results = ct.evaluate_tracks(groups, "tracks", "truth", "eval")
    assert 0.5 < results.custom_metrics[METRIC_URI]["value"] < 1
    low = scenes.exists("eval_J").match(fo.ViewField("eval_J") < 1)
    assert low.values("id") == [wrong.id]
    assert scenes.load_evaluation_results("eval").metrics()["recall"] < 1
    assert scenes.values("eval_J").count(None) == 4  # the first and the last image of each group
    with pytest.raises(ct.ColorTrackError, match="eval"):
        ct.evaluate_tracks(groups, "tracks", "truth", "eval")
    one = groups.filter_labels("tracks", fo.ViewField("index") == 1)
    only = ct.evaluate_tracks(one, "tracks", "truth", "eval", overwrite=True)
    assert only.metrics()["recall"] == pytest.approx(0.5, abs=0.06)
    scenes.delete_evaluation("eval")
    assert not [name for name in scenes.get_field_schema() if name.startswith("eval")]
    with pytest.raises(ct.ColorTrackError, match=r"^number has no detections"):
        ct.evaluate_tracks(groups, "number", "truth", "eval")
    suggested = ct.suggest(groups, "tracks")
    assert list(suggested) == groups.values("id")
    for id, suggestions in suggested.items():
        (path,) = [s.filepath for s in suggestions]
        number = (1, 2, 3, 9, 10)[suggestions[0].frame_number - 1]
        assert (scenes[path].number, scenes[path].scene) == (number, scenes[id].scene)
    assert [len(found) for found in ct.suggest(groups, model="lab").values()] == [1, 1]
    assert fo.list_datasets() == datasets
