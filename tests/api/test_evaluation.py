import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F
from fiftyone.utils.eval.detection import DetectionResults

import fiftyone_colortrack as ct
from fiftyone_colortrack.api.evaluation import METRIC_URI, main_scores
from fiftyone_colortrack.api.scores import pair_objects
from fiftyone_colortrack.fields import TrackedObject
from fiftyone_colortrack.fields.shapes import regions, relative_box
from fiftyone_colortrack.metrics import pck, score_sequence

NAN = float("nan")


def detections(id_map, index=lambda id: id, boxes=False, **attributes):
    return fo.Detections(
        detections=[
            fo.Detection(
                label="square",
                index=index(id),
                bounding_box=relative_box(region, id_map.shape),
                mask=None if boxes else region.mask,
                **attributes,
            )
            for id, region in regions(id_map)
        ]
    )


@pytest.fixture
def predicted(squares):
    """The squares' id maps, shifted; object 2 is lost in the last frames."""
    maps = np.roll(squares[1], 3, axis=2)
    maps[5:][maps[5:] == 2] = 0
    return maps


def add_video(dataset, path, gt, pred):
    sample = fo.Sample(filepath=str(path))
    for number, (true, found) in enumerate(zip(gt, pred, strict=True), 1):
        sample.frames[number] = fo.Frame(gt=true, pred=found)
    dataset.add_sample(sample)
    dataset.add_dynamic_frame_fields()
    return dataset.last()


@pytest.fixture
def masks(dataset, squares, squares_file, predicted):
    add_video(dataset, squares_file, map(detections, squares[1]), map(detections, predicted))
    return dataset


def scores(results):
    return {row["label"]: row["value"] for row in results.custom_metrics.values()}


def test_j_and_f_are_those_of_davis(masks, squares, predicted):
    found = scores(ct.evaluate_tracks(masks, "frames.pred", "frames.gt", "eval"))
    expected = score_sequence(predicted, squares[1])
    j = np.mean([score.J.mean for score in expected.values()])
    f = np.mean([score.F.mean for score in expected.values()])
    assert found == pytest.approx({"J&F": (j + f) / 2, "J": j, "F": f})
    sample = masks.first()
    assert sample.eval_J == pytest.approx(j)
    per_frame = [sample.frames[n].eval_J for n in range(1, 9)]
    assert per_frame[0] is per_frame[-1] is None
    values = np.mean([score.J.values for score in expected.values()], 0)
    np.testing.assert_allclose(per_frame[1:-1], values)


def test_the_mean_is_over_the_objects_of_all_videos(masks, squares, squares_file, predicted, tmp_path):
    other = tmp_path / "other.mp4"
    other.symlink_to(squares_file)
    only_one = np.where(squares[1] == 1, 1, 0)
    add_video(masks, other, map(detections, only_one), map(detections, only_one))
    found = scores(ct.evaluate_tracks(masks, "pred", "gt", "eval"))
    objects = [*(score.J.mean for score in score_sequence(predicted, squares[1]).values()), 1.0]
    assert found["J"] == pytest.approx(np.mean(objects))


def test_objects_are_paired_by_index_not_by_overlap(dataset, squares, squares_file):
    swapped = [detections(id_map, index=lambda id: 3 - id) for id_map in squares[1]]
    add_video(dataset, squares_file, map(detections, squares[1]), swapped)
    assert scores(ct.evaluate_tracks(dataset, "pred", "gt", "eval"))["J"] == 0


def test_only_frames_with_truth_and_without_keyframes_are_scored(masks):
    sample = masks.first()
    for number in (2, 4, 5):
        sample.frames[number]["gt"] = None
    for label in sample.frames[3].pred.detections:
        label["keyframe"] = True
    sample.save()
    results = ct.evaluate_tracks(masks, "pred", "gt", "eval")
    sample.reload()
    scored = [n for n in range(1, 9) if sample.frames[n].eval_J is not None]
    assert scored == [6, 7]
    assert results.metrics()["support"] == 2 * 5  # the frames with truth


def test_boxes_are_scored_without_contours(dataset, squares, squares_file, predicted):
    gt = [detections(id_map, boxes=True) for id_map in squares[1]]
    add_video(dataset, squares_file, gt, [detections(id_map, boxes=True) for id_map in predicted])
    expected = score_sequence(predicted, squares[1])  # squares fill their boxes
    j = np.mean([score.J.mean for score in expected.values()])
    found = scores(ct.evaluate_tracks(dataset, "pred", "gt", "eval"))
    assert found.pop("J of boxes") == pytest.approx(j)
    assert set(found) <= {"HOTA", "MOTA", "IDF1"}


def test_box_tracks_get_hota_mota_and_idf1(dataset, squares, squares_file):
    """The predicted squares swap their numbers in frame 5; frames 2 to 7 are scored."""
    pytest.importorskip("trackeval")
    gt = [detections(id_map, boxes=True) for id_map in squares[1]]
    pred = [
        detections(id_map, index=lambda id, n=n: id if n < 5 else 3 - id, boxes=True)
        for n, id_map in enumerate(squares[1], 1)
    ]
    add_video(dataset, squares_file, gt, pred)
    found = scores(ct.evaluate_tracks(dataset, "pred", "gt", "eval"))
    assert found["MOTA"] == pytest.approx(1 - 2 / 12)
    assert found["IDF1"] == pytest.approx(0.5)
    assert found["HOTA"] == pytest.approx((3 / 9) ** 0.5)
    assert dataset.values("eval_HOTA") == [found["HOTA"]]
    assert not dataset.has_frame_field("eval_HOTA")  # it belongs to whole videos
    assert [b.name for b in ct.analyze(dataset, "eval", metric="HOTA").breakdowns] == ["videos"]
    dataset.delete_evaluation("eval")
    assert not dataset.has_sample_field("eval_HOTA")


def test_key_points(dataset, squares_file):
    rng = np.random.default_rng(0)
    gt = rng.uniform(20, 60, (8, 4, 2))
    pred = gt + rng.normal(0, 6, gt.shape)
    gt[2, 1] = pred[3, 2] = NAN
    gt[5, 1:] = NAN  # a single point has no extent

    def keypoints(points):
        return fo.Keypoints(keypoints=[fo.Keypoint(label="a", index=1, points=(points / [96, 64]).tolist())])

    add_video(dataset, squares_file, map(keypoints, gt), map(keypoints, pred))
    results = ct.evaluate_tracks(dataset, "pred", "gt", "eval")
    found = scores(results)
    gt[5] = NAN
    for mode in ("strict", "legacy"):
        expected = pck([pred], [gt], mode=mode)
        for alpha, value in zip(expected.alphas, expected.mean, strict=True):
            assert found[f"PCK@{alpha} ({mode})"] == pytest.approx(value)
    assert 0 < found["PCK@0.1 (strict)"] < found["PCK@0.5 (strict)"]
    assert dataset.first().eval_PCK20 == pytest.approx(found["PCK@0.2 (strict)"])
    assert list(main_scores(results)) == ["PCK@0.1 (strict)", "PCK@0.2 (strict)"]


@pytest.mark.parametrize("points", [[(0.5, 0.5)], [(0.5, 0.5), (NAN, NAN)]])
def test_single_points_are_refused_and_nothing_is_lost(masks, points):
    ct.evaluate_tracks(masks, "pred", "gt", "eval")
    sample = masks.first()
    for frame in sample.frames.values():
        label = fo.Keypoints(keypoints=[fo.Keypoint(label="a", index=1, points=points)])
        frame["points"], frame["tracked"] = label, label.copy()
    sample.save()
    with pytest.raises(ct.ColorTrackError, match=r"squares\.mp4 .* frames\.points has no object"):
        ct.evaluate_tracks(masks, "tracked", "points", "eval", overwrite=True)
    assert masks.load_evaluation_results("eval").config.gt_field == "frames.gt"
    assert masks.first().eval_J is not None


def test_videos_that_were_never_tracked_are_left_out_or_count_as_zero(masks, squares_file, tmp_path, caplog):
    other = tmp_path / "other.mp4"
    other.symlink_to(squares_file)
    truth = [frame.gt.copy() for frame in masks.first().frames.values()]
    add_video(masks, other, truth, [None] * len(truth))
    results = ct.evaluate_tracks(masks, "pred", "gt", "eval")
    assert [score is None for score in masks.values("eval_J")] == [False, True]
    assert "1 video" in caplog.text
    zero = ct.evaluate_tracks(masks, "pred", "gt", "all", untracked="zero")
    assert masks.values("all_J")[1] == 0
    (one, half) = (
        {row["key"]: row["value"] for row in r.custom_metrics.values()}["J"] for r in (results, zero)
    )
    assert half == pytest.approx(one / 2)
    with pytest.raises(ct.ColorTrackError, match="untracked"):
        ct.evaluate_tracks(masks, "pred", "gt", "third", untracked="maybe")


def test_videos_without_an_object_are_left_out(masks, squares_file, tmp_path, caplog):
    other = tmp_path / "other.mp4"
    other.symlink_to(squares_file)
    tracks = [frame.pred.copy() for frame in masks.first().frames.values()]
    add_video(masks, other, [fo.Detections() for _ in tracks], tracks)
    ct.evaluate_tracks(masks, "pred", "gt", "eval")
    assert [score is None for score in masks.values("eval_J")] == [False, True]
    assert "other.mp4" in caplog.text


def test_ground_truth_beyond_the_end_is_left_out_of_every_measure(masks, caplog):
    plain = ct.evaluate_tracks(masks, "pred", "gt", "plain")
    sample = masks.first()
    sample.frames[99] = fo.Frame(gt=sample.frames[2].gt.copy())
    sample.save()
    beyond = ct.evaluate_tracks(masks, "pred", "gt", "beyond")
    assert beyond.custom_metrics == plain.custom_metrics
    assert beyond.metrics() == plain.metrics()
    assert "frame 99" in caplog.text
    for number in range(1, len(sample.frames)):
        sample.frames[number]["gt"] = None
    sample.save()
    with pytest.raises(ct.ColorTrackError, match="99 of 8"):
        ct.evaluate_tracks(masks, "pred", "gt", "nothing")


def test_slices_of_a_grouped_dataset(masks, squares_file):
    dataset = fo.Dataset()
    dataset.add_group_field("group", default="left")
    group = fo.Group()
    for name in ("left", "right"):
        sample = fo.Sample(filepath=str(squares_file), group=group.element(name))
        for number, frame in masks.first().frames.items():
            sample.frames[number] = fo.Frame(gt=frame.gt.copy(), pred=frame.pred.copy())
        dataset.add_sample(sample)
    ct.evaluate_tracks(dataset.select_group_slices("right"), "pred", "gt", "right")
    ct.evaluate_tracks(dataset, "pred", "gt", "both")
    both = dataset.select_group_slices(["left", "right"])
    assert [score is None for score in both.sort_by("group.name").values("right_J")] == [True, False]
    assert None not in both.values("both_J")
    dataset.delete()


def test_half_an_evaluation_is_taken_back(masks, monkeypatch):
    fields = [*masks.get_field_schema(), *masks.get_frame_field_schema()]
    with monkeypatch.context() as patch:
        patch.setattr(DetectionResults, "save", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ct.evaluate_tracks(masks, "pred", "gt", "eval")
    assert masks.list_evaluations() == []
    assert [*masks.get_field_schema(), *masks.get_frame_field_schema()] == fields


def test_evaluations_are_replaced_only_on_demand_and_leave_nothing_behind(masks):
    ct.evaluate_tracks(masks, "pred", "gt", "eval")
    with pytest.raises(ct.ColorTrackError, match="'eval' exists; replace it"):
        ct.evaluate_tracks(masks, "pred", "gt", "eval")
    ct.evaluate_tracks(masks, "pred", "gt", "eval", overwrite=True)
    masks.rename_evaluation("eval", "final")
    assert masks.first().final_J is not None
    masks.delete_evaluation("final")
    leftovers = [*masks.get_field_schema(), *masks.get_frame_field_schema()]
    assert not [name for name in leftovers if name.startswith(("eval", "final"))]


def test_scores_are_stored_with_the_evaluation(masks):
    results = ct.evaluate_tracks(masks, "pred", "gt", "eval")
    masks._evaluation_cache.clear()  # as in another session
    loaded = masks.load_evaluation_results("eval")
    assert loaded.custom_metrics == results.custom_metrics
    assert not any(row["lower_is_better"] for row in loaded.custom_metrics.values())
    worst = masks.match_frames(F("eval_J").exists() & (F("eval_J") < 0.5), omit_empty=True)
    assert worst.count("frames") == 2  # where object 2 is lost


def test_fiftyones_own_evaluation_can_use_the_metric(masks):
    results = masks.evaluate_detections(
        "frames.pred", gt_field="frames.gt", eval_key="own", use_masks=True, custom_metrics=[METRIC_URI]
    )
    assert [row["label"] for row in results.custom_metrics.values()] == ["J&F", "J", "F"]
    assert masks.first().own_J is not None


@pytest.mark.parametrize(
    ("pred", "gt", "key", "message"),
    [
        ("gt", "gt", "eval", "the same field"),
        ("pred", "nothing", "eval", "frames.nothing has no .*: frames.gt, frames.pred, frames.points"),
        ("pred", "points", "eval", "of different types"),
        ("pred", "gt", "my eval", "letters, digits, and underscores"),
        (
            "pred",
            "empty",
            "eval",
            r"no video can be scored: .* has no frame to score: frames.empty has no labels in this video; label some",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(masks, pred, gt, key, message):
    masks.add_frame_field("points", fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
    masks.add_frame_field("empty", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    with pytest.raises(ct.ColorTrackError, match=message):
        ct.evaluate_tracks(masks, pred, gt, key)
    assert masks.list_evaluations() == []


def test_pairs_by_instance_then_index_and_class_then_index():
    shared = fo.Instance()
    gt = {
        1: TrackedObject(1, "cat", 1, shared),
        2: TrackedObject(2, "cat", 2, None),
        3: TrackedObject(3, "dog", 2, None),
        4: TrackedObject(4, "cow", 5, None),
    }
    pred = {
        1: TrackedObject(1, "dog", 2, None),
        2: TrackedObject(2, "cat", 9, shared),
        3: TrackedObject(3, "calf", 5, None),
        4: TrackedObject(4, "cat", 7, None),
    }
    assert pair_objects(pred, gt) == {2: 1, 1: 3, 3: 4}


@pytest.mark.parametrize("key", ["id", "mask", "copy", "color", "own", "theirs", "_x", "a.b", 5])
def test_an_evaluation_does_not_touch_fields_of_others(masks, key):
    sample = masks.first()
    sample["own_J"], sample.frames[2]["theirs_tp"] = "mine", 7
    sample.frames[2].pred.detections[0]["color"] = "red"
    sample.save()
    masks.add_dynamic_frame_fields()
    schema = set(masks.get_field_schema(flat=True)), set(masks.get_frame_field_schema(flat=True))
    with pytest.raises(ct.ColorTrackError, match=str(key)):
        ct.evaluate_tracks(masks, "pred", "gt", key)
    sample.reload()
    assert (sample["own_J"], sample.frames[2]["theirs_tp"]) == ("mine", 7)
    assert sample.frames[2].pred.detections[0]["color"] == "red"
    assert (set(masks.get_field_schema(flat=True)), set(masks.get_frame_field_schema(flat=True))) == schema
    assert not masks.list_evaluations()
