import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    Lock,
    Part,
    SeedRules,
    TrackWriter,
    create_tracks_field,
    read_seeds,
    run_field,
    tracks_type,
)
from fiftyone_colortrack.fields.shapes import paint, regions, relative_box
from fiftyone_colortrack.tracking import TrackedFrame

NAN = float("nan")


@pytest.fixture
def sample(dataset, squares_file):
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    return dataset.first()


def seed(sample, labels):
    for number, label in labels.items():
        sample.frames[number]["seed"] = label
    sample.save()


def square_masks(id_map):
    return fo.Detections(
        detections=[
            fo.Detection(
                label=f"square{id}",
                index=id + 3,
                instance=fo.Instance(),
                tags=["checked"],
                color="red" if id == 1 else "blue",
                bounding_box=relative_box(region, id_map.shape),
                mask=region.mask,
            )
            for id, region in regions(id_map)
        ]
    )


def write(sample, tracked, which="first", output=None, fill_boxes=False):
    video = read_seeds(sample, "seed", SeedRules(which, fill_boxes=fill_boxes))
    create_tracks_field(sample.dataset, "tracks", "seed", output)
    with Lock(sample.dataset, sample.id) as lock:
        sample.reload()
        writer = TrackWriter(sample.dataset, sample.id, "tracks", video, lock, output=output)
        writer.begin("all", Part("run_1", "frames.seed", "", "", ()))
        for frame in tracked:
            writer.add(frame)
        writer.finish("run_1")
    sample.reload()
    return writer.written


def truth(squares, frames=range(8), drawn=(0,)):
    """Tracked frames as a perfect tracker would give them."""
    for t in frames:
        drawn_ids = frozenset({1, 2}) if t in drawn else frozenset()
        yield TrackedFrame(t, squares[1][t].astype(np.int32), {1: 0.9, 2: 0.8}, drawn_ids)


def test_masks(sample, squares):
    seed(sample, {1: square_masks(squares[1][0])})
    assert write(sample, truth(squares)) == 8
    for number, frame in sample.frames.items():
        labels = frame.tracks.detections
        painted = paint(labels, [label.index - 3 for label in labels], (64, 96))
        np.testing.assert_array_equal(painted, squares[1][number - 1])
        assert [label.keyframe for label in labels] == [number == 1] * 2
        assert [label.confidence for label in labels] == ([1, 1] if number == 1 else [0.9, 0.8])
        for drawn, label in zip(sample.frames[1].seed.detections, labels, strict=True):
            assert (label.label, label.index, label.instance.id) == (
                drawn.label,
                drawn.index,
                drawn.instance.id,
            )
            assert (label.tags, label.color) == (["checked"], drawn.color)


def test_seeds_are_copied_as_drawn_and_their_field_is_left_alone(sample, squares):
    seed(sample, {1: square_masks(squares[1][0])})
    before = sample.frames[1].seed.to_dict()
    write(sample, truth(squares))
    sample.reload()
    assert sample.frames[1].seed.to_dict() == before
    for drawn, copy in zip(sample.frames[1].seed.detections, sample.frames[1].tracks.detections, strict=True):
        assert copy.id != drawn.id
        assert copy.bounding_box == drawn.bounding_box
        np.testing.assert_array_equal(copy.mask, drawn.mask)


def test_an_object_that_a_labeled_frame_leaves_out_stays_tracked_there(sample, squares):
    only_first = square_masks(squares[1][4])
    del only_first.detections[1]
    seed(sample, {1: square_masks(squares[1][0]), 5: only_first})
    write(sample, truth(squares, drawn=(0, 4)), which="all")
    assert [label.keyframe for label in sample.frames[5].tracks.detections] == [True, False]


def test_the_run_is_marked_last(dataset, sample, squares):
    seed(sample, {1: square_masks(squares[1][0])})

    def interrupted():
        yield from truth(squares, range(4))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(sample, interrupted())
    sample.reload()
    assert sample[run_field("tracks")] is None
    write(sample, truth(squares))
    assert sample["tracks_run"] == "run_1"


def test_earlier_labels_are_replaced_in_the_whole_video(sample, squares):
    seed(sample, {1: square_masks(squares[1][0]), 4: square_masks(squares[1][3])})
    write(sample, truth(squares))
    sample.frames[1]["seed"] = None
    sample.save()
    assert write(sample, truth(squares, range(3, 8), drawn=(3,))) == 5
    assert [number for number, frame in sample.frames.items() if frame.tracks is not None] == [4, 5, 6, 7, 8]


def test_frames_without_documents_are_added(sample, squares):
    seed(sample, {3: square_masks(squares[1][2])})
    assert len(sample.frames) == 1
    write(sample, truth(squares, drawn=(2,)))
    assert sorted(sample.frames.keys()) == list(range(1, 9))


def test_boxes(sample):
    seed(
        sample,
        {1: fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0.25, 0.25, 0.5, 0.5])])},
    )
    tracked = [
        TrackedFrame(0, {1: np.array([24.0, 16, 72, 48])}, {1: 1.0}, frozenset({1})),
        TrackedFrame(1, {1: np.array([48.0, 16, 96, 32])}, {1: 0.5}),
        TrackedFrame(2, {}, {}),
    ]
    write(sample, tracked)
    drawn, moved = sample.frames[1].tracks.detections[0], sample.frames[2].tracks.detections[0]
    assert drawn.bounding_box == [0.25, 0.25, 0.5, 0.5]
    assert (moved.bounding_box, moved.mask) == ([0.5, 0.25, 0.5, 0.25], None)
    assert (drawn.index, drawn.instance.id, drawn.confidence) == (1, moved.instance.id, 1)
    assert sample.frames[3].tracks.detections == []


def test_filled_boxes_are_written_as_masks(sample, squares):
    boxes = square_masks(squares[1][0])
    for detection in boxes.detections:
        detection.mask = None
    seed(sample, {1: boxes})
    write(sample, truth(squares), output="masks", fill_boxes=True)
    for number in (1, 5):
        labels = sample.frames[number].tracks.detections
        np.testing.assert_array_equal(paint(labels, [1, 2], (64, 96)), squares[1][number - 1])
        assert all(label.mask.all() for label in labels)


def test_masks_are_written_as_boxes(sample, squares):
    seed(sample, {1: square_masks(squares[1][0])})
    write(sample, truth(squares), output="boxes")
    for number in (1, 5):
        labels = sample.frames[number].tracks.detections
        assert [label.mask for label in labels] == [None, None]
        expected = [relative_box(region, (64, 96)) for _, region in regions(squares[1][number - 1])]
        assert [label.bounding_box for label in labels] == expected


def test_keypoints(dataset, sample):
    dataset.skeletons = {"frames.seed": fo.KeypointSkeleton(labels=["a", "b"], edges=[[0, 1]])}
    drawn = fo.Keypoint(label="person", points=[(0.5, 0.5), (NAN, NAN)], visible=[True, False], index=2)
    seed(sample, {1: fo.Keypoints(keypoints=[drawn])})
    points = np.array([[24, 16], [NAN, NAN]])
    tracked = [
        TrackedFrame(0, {1: np.array([[48, 32], [NAN, NAN]])}, {1: np.array([1, NAN])}, frozenset({1})),
        TrackedFrame(1, {1: points}, {1: np.array([0.75, 0.0])}),
    ]
    write(sample, tracked)
    copy, moved = sample.frames[1].tracks.keypoints[0], sample.frames[2].tracks.keypoints[0]
    np.testing.assert_array_equal(moved.points, [(0.25, 0.25), (NAN, NAN)])
    assert (moved.confidence, moved.keyframe, moved.index) == ([0.75, 0], False, 2)
    assert (copy.confidence, copy.keyframe, copy.visible) == ([1, 0], True, [True, False])
    assert not moved.has_field("visible")
    assert dataset.skeletons["frames.tracks"].edges == [[0, 1]]


def test_segmentations_are_written_back_on_request(dataset, sample, squares):
    seed(sample, {1: fo.Segmentation(mask=squares[1][0] * 100)})
    dataset.mask_targets = {"frames.seed": {100: "red", 200: "blue"}}
    write(sample, truth(squares), output="segmentation")
    for number, frame in sample.frames.items():
        np.testing.assert_array_equal(frame.tracks.mask, squares[1][number - 1] * 100)
        assert frame.tracks.keyframe == (number == 1)
    assert dataset.mask_targets["frames.tracks"] == {100: "red", 200: "blue"}


def test_segmentations_become_detections_of_their_classes(dataset, sample, squares):
    seed(sample, {1: fo.Segmentation(mask=squares[1][0] * 100)})
    write(sample, truth(squares))
    labels = sample.frames[5].tracks.detections
    assert [(label.label, label.index) for label in labels] == [("100", 100), ("200", 200)]
    np.testing.assert_array_equal(paint(labels, [1, 2], (64, 96)), squares[1][4])


def test_keyframes_can_be_filtered(dataset, sample, squares):
    seed(sample, {1: square_masks(squares[1][0])})
    write(sample, truth(squares))
    keyframes = dataset.filter_labels("frames.tracks", fo.ViewField("keyframe") == True)  # noqa: E712
    assert keyframes.count("frames.tracks.detections") == 2


@pytest.mark.parametrize(
    ("seed_type", "output"),
    [(fo.Keypoints, "masks"), (fo.Detections, "segmentation"), (fo.Detections, "points")],
)
def test_impossible_outputs_are_refused(seed_type, output):
    with pytest.raises(ColorTrackError, match=f"cannot be written as {output}; choose"):
        tracks_type(seed_type, output)


def test_masks_are_written_as_polygons(sample, squares):
    seed(sample, {1: square_masks(squares[1][0])})
    write(sample, truth(squares), output="polylines")
    for number in (1, 5):
        labels = sample.frames[number].tracks.polylines
        assert all(label.closed and label.filled for label in labels)
        assert [len(label.points[0]) for label in labels] == [4, 4]
        painted = paint(labels, [1, 2], (64, 96))
        assert (painted == squares[1][number - 1]).mean() > 0.99
        assert [label.instance.id for label in labels] == [
            label.instance.id for label in sample.frames[1].seed.detections
        ]


def test_polygons_stay_polygons(sample, squares):
    drawn = fo.Polyline(label="a", points=[[(0.1, 0.1), (0.3, 0.1), (0.3, 0.4)]], closed=True, filled=True)
    seed(sample, {1: fo.Polylines(polylines=[drawn])})
    write(sample, truth(squares))
    copy, tracked = (sample.frames[n].tracks.polylines[0] for n in (1, 5))
    assert (copy.points, copy.keyframe) == ([[[0.1, 0.1], [0.3, 0.1], [0.3, 0.4]]], True)
    assert (tracked.label, tracked.index, tracked.closed) == ("a", copy.index, True)


def test_open_polylines_stay_open(sample):
    shapes = [[(0.5, 0.5), (0.75, 0.5)], [(0.5, 0.75), (0.25, 0.25)]]
    seed(sample, {1: fo.Polylines(polylines=[fo.Polyline(label="a", points=shapes)])})
    first = np.array([[48.0, 32], [72, 32], [48, 48], [24, 16]])
    moved = np.array([[24.0, 16], [NAN, NAN], [48, 32], [72, 32]])
    tracked = [
        TrackedFrame(0, {1: first}, {1: np.ones(4)}, frozenset({1})),
        TrackedFrame(1, {1: moved}, {1: np.array([0.75, 0, 1, 1])}),
    ]
    write(sample, tracked)
    assert sample.frames[2].tracks.polylines[0].points == [[[0.25, 0.25]], [[0.5, 0.5], [0.75, 0.5]]]
    assert not sample.frames[2].tracks.polylines[0].closed
