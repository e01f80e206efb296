"""A run that continues an earlier one: what it redoes, and what it leaves alone."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F

import fiftyone_colortrack as ct
from fiftyone_colortrack.api.propagation import Propagation
from fiftyone_colortrack.fields import TrackWriter, labels_of, tracks
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
    """Two videos, of which frame 1 is labeled."""
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
    features = LabEmbedder.features
    monkeypatch.setattr(LabEmbedder, "features", lambda *args: calls.append(1) or features(*args))
    return calls


def test_only_what_follows_from_a_new_seed_is_redone(videos, squares, embedded):
    propagate(videos)
    first, second = videos
    before, other = ids(first), ids(second)
    draw(first, 5, detections(squares[1][4]))
    report = go_on(videos)
    assert [video.status for video in report.videos] == ["done", "skipped"]
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
    assert [video.status for video in report.videos] == ["done", "skipped"]
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
    sample.frames[5].tracks.detections[0].bounding_box = [0.3, 0.1, 0.2, 0.3]
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
    sample.frames[5].tracks.detections[1] = drawn
    sample.save()
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

    def edit(done, total, message):
        if done == 1:
            correct(sample, 8, squares[1][7])
            drawn.update(contents(sample))

    drawn = {}
    go_on_in_place(videos, progress=edit)
    assert contents(sample)[8][:2] == drawn[8][:2]
    assert len(go_on_in_place(videos).with_status("done")) == 1
    assert [one.keyframe for one in sample.frames[8].tracks.detections] == [True, True]


@pytest.mark.parametrize(
    ("field", "options", "message"),
    [
        ("seed", {"seeds": "keyframes", "skip_existing": True}, "write the tracks to another field$"),
        ("tracks", {"seeds": "keyframes", "overwrite": True}, r"or continue these tracks \(skip_existing\)"),
        ("tracks", {"seeds": "all", "skip_existing": True}, "from their keyframes"),
        ("tracks", {"seeds": "keyframes", "skip_existing": True, "output": "boxes"}, "keeps its type"),
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
    assert note.startswith("1 video will be tracked from scratch")
    assert "; 1 finished video skipped" in note
    assert note.endswith("a different model or different settings (model lab, now identity; memory 2, now 3)")
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
    assert "1 video will be tracked from scratch" in caplog.text


class Killed(BaseException):
    """Nobody may catch it."""


def test_a_video_that_was_written_halfway_is_finished(videos, squares, monkeypatch):
    propagate(videos)
    sample = videos.first()
    correct(sample, 5, squares[1][4])
    monkeypatch.setattr(tracks, "FRAMES_PER_WRITE", 2)
    write = TrackWriter._set

    def killed(self, path, value):
        if path == "frames.tracks_confidence" and 6 in value:
            raise Killed
        write(self, path, value)

    with monkeypatch.context() as patch:
        patch.setattr(TrackWriter, "_set", killed)
        with pytest.raises(Killed):
            go_on_in_place(videos)
    assert [run is None for run in videos.values("tracks_run")] == [True, False]
    assert go_on_in_place(videos).frames < 7
    propagate(videos.limit(1), "tracks", "whole", seeds="keyframes")
    assert [len(labels) for labels in videos.values("frames.tracks.detections")[0]] == [2] * 8
    assert len(go_on_in_place(videos).with_status("skipped")) == 2


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


def test_corrections_survive_a_run_from_other_seeds(videos, squares):
    propagate(videos)
    sample = videos.first()
    correct(sample, 5, np.roll(squares[1][4], 3, 1))
    drawn = ids(sample)[5], contents(sample)[5][:2]
    draw(sample, 8, detections(squares[1][7]))
    report = go_on(videos)
    assert report.videos[0].kept == 2
    assert (ids(sample)[5], contents(sample)[5][:2]) == drawn
    go_on_in_place(videos)
    draw(sample, 7, detections(squares[1][6]))
    report = go_on(videos)
    assert "which continued these tracks" in report.videos[0].reason
    assert ids(sample)[5] == drawn[0]
    report = propagate(videos.limit(1), overwrite=True)
    assert ids(sample)[5] != drawn[0]
    assert report.videos[0].replaced
    assert "Replaced: " in "".join(report.warnings)


def without_keyframes(sample: fo.Sample, number: int, *, of: int = 0, **changes) -> None:
    """Change a label as a program does, which marks nothing."""
    sample.reload()
    label = sample.frames[number].tracks.detections[of]
    for name, value in changes.items():
        label[name] = value
    sample.save()


@pytest.mark.parametrize(
    "changes",
    [
        {"bounding_box": [0.1, 0.1, 0.3, 0.3]},
        {"mask": np.ones((3, 3), bool)},
        {"label": "circle"},
        {"note": "mine"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_labels_that_were_changed_unmarked_are_a_persons(videos, changes):
    propagate(videos)
    sample = videos.first()
    without_keyframes(sample, 5, **changes)
    changed = ids(sample)[5][0]
    report = go_on_in_place(videos)
    renamed = "label" in changes  # its place is the same: there is nothing to track from it
    assert report.videos[0].status == ("skipped" if renamed else "done")
    sample.reload()
    label = sample.frames[5].tracks.detections[0]
    assert (label.id, bool(label.keyframe)) == (changed, not renamed)
    for name, value in changes.items():
        assert np.array_equal(label[name], value)


def test_a_deleted_label_stays_deleted(videos, squares):
    propagate(videos)
    sample = videos.first()
    sample.reload()
    del sample.frames[6].tracks.detections[1]
    sample.save()
    draw(sample, 8, detections(squares[1][7]))
    assert go_on(videos).videos[0].kept == 1
    sample.reload()
    assert [one.index for one in sample.frames[6].tracks.detections] == [1]
    assert [one.index for one in sample.frames[7].tracks.detections] == [1, 2]
    propagate(videos.limit(1), overwrite=True)
    sample.reload()
    assert [one.index for one in sample.frames[6].tracks.detections] == [1, 2]


def test_boxes_that_the_app_interpolated_are_repaired(videos, squares):
    """What FiftyOne 1.22 does when a box is moved: see `Written.compare`."""
    propagate(videos, seeds="first")
    sample = videos.first()
    before = contents(sample)
    labels = {n: frame.tracks.detections[0] for n, frame in sample.frames.items()}
    start = labels[1].bounding_box
    moved = [start[0] + 0.2, *start[1:]]
    for number, label in labels.items():
        share = min((number - 1) / 4, 1)
        label.bounding_box = (np.array(start) + share * (np.array(moved) - start)).tolist()
        label["keyframe"] = number in (1, 5)
    sample.save()
    go_on_in_place(videos)
    after = contents(sample)
    assert after[5][0][1] == moved
    for number in (2, 3, 4, 6, 7, 8):
        assert after[number][0][4] is False
        box, mask = after[number][0][1:3]
        height, width = np.shape(mask)
        assert np.allclose([box[2] * 96, box[3] * 64], [width, height])  # the mask is not stretched
    assert len(before) == len(after)


STILL = [[0.1, 0.1, 0.25, 0.25], [0.6, 0.6, 0.25, 0.25]]
OTHER = [0.3, 0.3, 0.25, 0.25]


def still_labels(kind: type[fo.Label]) -> list[fo.Label]:
    corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in STILL]
    if kind is fo.Detection:
        return [fo.Detection(label="square", index=i, bounding_box=box) for i, box in enumerate(STILL, 1)]
    if kind is fo.Keypoint:
        return [fo.Keypoint(label="square", index=i, points=p) for i, p in enumerate(corners, 1)]
    return [fo.Polyline(label="square", index=i, points=[p], closed=True) for i, p in enumerate(corners, 1)]


@pytest.fixture(params=[fo.Detection, fo.Keypoint, fo.Polyline], ids=lambda kind: kind.__name__)
def still(request, videos):
    """A video whose tracks do not move: each label has the same shape in all frames."""
    sample, kind = videos.first(), request.param
    lists = {fo.Detection: fo.Detections, fo.Keypoint: fo.Keypoints, fo.Polyline: fo.Polylines}
    of_frame = {f"{kind.__name__.lower()}s": still_labels(kind)}
    sample.frames[1]["still"] = lists[kind](**of_frame)
    sample.save()
    view = videos.limit(1)
    propagate(view, "still", model="identity", seeds="first")
    return view


def rows(view, field: str = "tracks") -> list[set]:
    """What the labels of each frame are called."""
    sample = view.first()
    sample.reload()
    return [
        {
            (one.label, one.index, one["note"] if one.has_field("note") else None)
            for one in labels_of(f[field])
        }
        for f in sample.frames.values()
    ]


def annotate(view, *_) -> None:
    sample = view.first()
    for number in (3, 8):
        labels_of(sample.frames[number].tracks)[0]["note"] = "mine"
        labels_of(sample.frames[number].tracks)[1].index = 9
    sample.save()


EDITS = {
    "rename": lambda view: ct.rename_track(view, "tracks", 1, "circle"),
    "merge": lambda view: (
        ct.end_track(view, "tracks", 1, 4),
        ct.end_track(view, "tracks", 2, 4, before=True),
        ct.merge_tracks(view, "tracks", 2, 1),
    ),
    "split": lambda view: ct.split_track(view, "tracks", 1, 4),
    "end": lambda view: ct.end_track(view, "tracks", 2, 5),
    "attribute and index": annotate,
}
LATER = {
    "skip_existing": lambda view: go_on(view, seed="still", model="identity", seeds="first"),
    "other objects": lambda view: go_on(view, seed="still", model="identity", objects=[2], seeds="first"),
    "other model": lambda view: go_on(view, seed="still", model="lab", seeds="first"),
    "new seed": lambda view: (
        without_keyframes_in(view, "still", 1, "color", "red"),
        go_on(view, seed="still", model="identity", seeds="first"),
    ),
    "stopped": lambda view: (
        without_keyframes_in(view, "still", 1, "color", "red"),
        go_on(view, seed="still", model="identity", seeds="first", stop=after(4)),
        go_on(view, seed="still", model="identity", seeds="first"),
    ),
    "in place": lambda view: go_on_in_place(view, model="identity"),
}


def after(count: int):
    calls: list[int] = []
    return lambda: len(calls) >= count or bool(calls.append(1))


def without_keyframes_in(view, field: str, number: int, name: str, value: object) -> None:
    sample = view.first()
    sample.reload()
    labels_of(sample.frames[number][field])[1][name] = value
    sample.save()


@pytest.mark.parametrize("edit", EDITS)
def test_edits_of_tracks_that_do_not_move_survive_every_run(still, edit):
    EDITS[edit](still)
    edited = rows(still)
    for later, run in LATER.items():
        if (edit, later) == ("merge", "in place"):
            continue  # the merged object jumps: no model finds it halfway
        run(still)
        assert rows(still) == edited, later


@pytest.mark.parametrize("edit", ["rename", "split"])
def test_labels_that_are_only_renamed_are_no_keyframes(still, edit):
    EDITS[edit](still)

    def marks() -> list:
        sample = still.first()
        sample.reload()
        labels = [one for f in sample.frames.values() for one in labels_of(f.tracks)]
        return [(one.label, one.index, one["keyframe"], one.confidence) for one in labels]

    edited = marks()
    report = go_on_in_place(still, model="identity")
    assert marks() == edited
    assert report.frames == (0 if edit == "split" else 8)  # a keyframe has another class now


def test_overwriting_some_labels_counts_and_replaces_these_alone(videos):
    view, sample = videos.limit(1), videos.first()
    sample.frames[1]["still"] = fo.Detections(detections=still_labels(fo.Detection))
    sample.save()
    options = {"model": "identity", "seeds": "first"}
    propagate(view, "still", **options)
    for number, index in ((3, 0), (6, 0), (6, 1), (8, 1)):
        without_keyframes(sample, number, of=index, bounding_box=OTHER)
    sample.reload()
    del sample.frames[7].tracks.detections[0]
    sample.save()

    def drawn() -> list[tuple[int, int]]:
        sample.reload()
        frames = sample.frames.items()
        return [(n, d.index) for n, f in frames for d in f.tracks.detections if d.bounding_box == OTHER]

    for limits, replaced, kept, left in (
        ({"frames": (1, 4)}, 1, 4, [(6, 1), (6, 2), (8, 2)]),
        ({"objects": [1], "frames": (5, 8)}, 2, 2, [(6, 2), (8, 2)]),
        ({"objects": [2]}, 2, 0, []),
    ):
        run = Propagation(view, "still", "tracks", overwrite=True, **options, config=SMALL, **limits)
        assert [video.corrections for video in run.plan()] == [replaced]
        (result,) = run.run().videos
        assert (result.replaced, result.kept, drawn()) == (replaced, kept, left)
        assert go_on(view, seed="still", **options).run_key is None
    assert [len(names) for names in rows(view)] == [2] * 8


@pytest.mark.parametrize("how", ["clear_frame_field", "delete_frame_field"])
def test_tracks_that_are_gone_are_tracked_again(videos, how):
    propagate(videos)
    getattr(videos, how)("tracks")
    report = go_on(videos)
    assert report.frames == 16
    assert videos.count("frames.tracks.detections") == 32


def test_a_renamed_field_keeps_its_record(videos, squares):
    run = propagate(videos).run_key
    for name in ("mine", "yours"):
        videos.rename_frame_field("tracks" if name == "mine" else "mine", name)
        before = ids(videos.first(), name)
        report = go_on(videos, out=name)
        assert [video.status for video in report.videos] == ["skipped", "skipped"]
        assert "was renamed" in report.warnings[0]
        assert ids(videos.first(), name) == before
        assert videos.values(f"{name}_run") == [run] * 2
    videos.rename_frame_field("yours", "tracks")
    correct(videos.first(), 4, squares[1][4])
    assert go_on_in_place(videos).frames > 0
    videos.rename_frame_field("tracks", "mine")
    assert [video.status for video in go_on(videos, out="mine").videos] == ["skipped", "skipped"]
    assert propagate(videos).frames == 16


def test_a_run_under_the_old_name_leaves_the_record_with_the_renamed_tracks(videos):
    propagate(videos)
    videos.rename_frame_field("tracks", "mine")
    assert propagate(videos).frames == 16
    assert [video.status for video in go_on(videos, out="mine").videos] == ["skipped", "skipped"]


def test_renamed_tracks_are_deleted_with_all_that_belongs_to_them(videos):
    propagate(videos)
    videos.clone_frame_field("tracks", "truth")
    ct.evaluate_tracks(videos, "tracks", "truth", "score")
    before = set(videos.get_field_schema())
    videos.rename_frame_field("tracks", "mine")
    with pytest.raises(ct.ColorTrackError, match=r"frames.tracks was renamed to frames.mine"):
        ct.delete_tracks(videos, "tracks")
    assert set(videos.get_field_schema()) == before
    ct.delete_tracks(videos, "mine")
    assert not [name for name in videos.get_field_schema() if name.startswith(("tracks", "mine", "score"))]
    assert not videos.list_runs()
    assert not videos.list_evaluations()
    with pytest.raises(ct.ColorTrackError, match="does not hold tracks"):
        ct.delete_tracks(videos, "truth")  # a copy is the user's own


@pytest.mark.parametrize("own", ["run", "confidence"])
def test_a_field_beside_the_tracks_that_is_gone_does_not_matter(videos, own):
    propagate(videos)
    videos.rename_sample_field(f"tracks_{own}", "other")
    assert [video.status for video in go_on(videos).videos] == ["skipped", "skipped"]


def test_without_their_record_tracks_are_labels_of_their_own(videos):
    propagate(videos)
    videos.delete_sample_field("tracks_record")
    with pytest.raises(ct.ColorTrackError, match=r"exists; replace its labels \(overwrite\)"):
        go_on(videos)
    report = propagate(videos, overwrite=True)
    assert [video.replaced for video in report.videos] == [16] * 2


def test_tracks_can_be_edited(videos):
    propagate(videos)
    view, sample = videos.limit(1), videos.first()
    other = contents(videos.last())

    def indexes() -> list[list[int]]:
        sample.reload()
        return [[one.index for one in frame.tracks.detections] for frame in sample.frames.values()]

    assert ct.end_track(view, "frames.tracks", 2, 6) == 2
    assert indexes() == [*[[1, 2]] * 6, [1], [1]]
    assert ct.end_track(view, "tracks", 2, 3, before=True) == 2
    assert indexes() == [[1], [1], *[[1, 2]] * 4, [1], [1]]
    assert ct.split_track(view, "tracks", 1, 5) == 4
    assert indexes() == [[1], [1], [1, 2], [1, 2], [3, 2], [3, 2], [3], [3]]
    assert ct.merge_tracks(view, "tracks", 2, 3) == 4
    assert indexes() == [[1], [1], [1, 3], [1, 3], [3], [3], [3], [3]]
    assert ct.rename_track(view, "tracks", 3, "circle") == 6
    sample.reload()
    assert [one.label for one in sample.frames[3].tracks.detections] == ["square", "circle"]
    assert contents(videos.last()) == other
    report = propagate(view, "tracks", "again", objects=["circle"])
    assert report.frames == 8
    assert {one.label for f in videos.first().frames.values() for one in f.again.detections} == {"circle"}
    for name, reason in ((7, "no track"), ("no such id", "no track")):
        with pytest.raises(ct.ColorTrackError, match=reason):
            ct.rename_track(videos, "tracks", name, "x")
    with pytest.raises(ct.ColorTrackError, match="same track"):
        ct.merge_tracks(view, "tracks", 3, "circle")


def test_an_ended_track_stays_ended(videos, squares):
    propagate(videos)
    sample = videos.first()
    ct.end_track(videos.limit(1), "tracks", 2, 5)
    draw(sample, 3, detections(squares[1][2]))
    go_on(videos)
    sample.reload()
    found = [[one.index for one in frame.tracks.detections] for frame in sample.frames.values()]
    assert found == [*[[1, 2]] * 5, [1], [1], [1]]
