"""Labels as people and programs leave them: each is tracked, or left out with a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.shapes import regions

NAN = float("nan")
LEFT_OUT = "frame 1: 1 of 2 labels are empty or outside the image and were skipped"
Track = Callable[..., fo.Sample]


@pytest.fixture
def video(scene: Callable[..., np.ndarray], film: Callable[..., Path], tmp_path: Path) -> Path:
    return film(tmp_path / "video.mp4", scene(length=3))


@pytest.fixture
def track(dataset: fo.Dataset, video: Path, labeled: Callable, propagate: Callable) -> Track:
    """Tracks labels of frame 1; returns the labels of frame 3, and the warnings."""

    def run(labels: fo.Label, **options: object) -> tuple[fo.Label, tuple[str, ...]]:
        dataset.add_sample(labeled(video, labels))
        report = propagate(dataset, on_error="raise", **options)
        return dataset.first().frames[3].tracks, report.videos[0].warnings

    return run


def detections(*labels: fo.Detection) -> fo.Detections:
    return fo.Detections(detections=list(labels))


def thing(**fields: object) -> fo.Detection:
    """A box without a mask at the right edge."""
    return fo.Detection(**{"label": "thing", "bounding_box": [0.7, 0.5, 0.2, 0.3], **fields})


@pytest.mark.parametrize(
    "box",
    [[NAN, 0, 0.2, 0.2], [float("inf"), 0, 1, 1], [0, 0.1, 0.2], [], [0.2, 0.2, 0, 0], [1.5, 0, 0.2, 0.2]],
)
def test_boxes_that_are_none_are_left_out(track: Track, box: list[float]) -> None:
    labels, warnings = track(detections(thing(), thing(label="other", bounding_box=box)))
    assert [label.label for label in labels.detections] == ["thing"]
    assert warnings == (LEFT_OUT,)


@pytest.mark.parametrize("box", [[-1e9, -1e9, 2e9, 2e9], [-1e300, -1, 2e300, 2], [-0.5, -0.5, 0.8, 0.8]])
@pytest.mark.parametrize("masked", [True, False])
def test_what_lies_outside_is_cut_off(track: Track, box: list[float], masked: bool) -> None:
    mask = np.ones((3, 3), bool) if masked else None
    labels, warnings = track(detections(thing(bounding_box=box, mask=mask)))
    left, top, width, height = labels.detections[0].bounding_box
    assert 0 <= left < left + width <= 1
    assert 0 <= top < top + height <= 1
    assert not warnings


@pytest.mark.parametrize("mask", [np.zeros((4, 4), bool), np.zeros((0, 4), bool)])
def test_empty_masks_are_left_out(track: Track, square: Callable, mask: np.ndarray) -> None:
    labels, warnings = track(detections(square(), square(label="other", mask=mask)))
    assert [label.label for label in labels.detections] == ["square"]
    assert warnings == (LEFT_OUT,)


@pytest.mark.parametrize("mask", [np.ones((5, 200), bool), np.ones((1, 1), np.float32), np.full((9, 9), 255)])
def test_masks_of_any_size_are_stretched_over_their_box(
    track: Track, square: Callable, mask: np.ndarray
) -> None:
    labels, _ = track(detections(square(mask=mask)))
    np.testing.assert_allclose(labels.detections[0].bounding_box, [0.27, 0.25, 0.25, 0.25], atol=0.08)


@pytest.mark.parametrize(
    "mask",
    [np.ones(4, np.uint8), np.ones((4, 4, 3), np.uint8), np.full((4, 4), "1")],
    ids=lambda m: str(m.shape),
)
def test_masks_that_are_no_pictures_are_named(track: Track, square: Callable, mask: np.ndarray) -> None:
    with pytest.raises(
        ColorTrackError, match=r"video\.mp4, frame 1: the mask of 'square' has shape .*; store it as \["
    ):
        track(detections(square(mask=mask)))


def test_fifty_objects(track: Track) -> None:
    boxes = [[i % 10 / 10, i // 10 / 5, 0.08, 0.15] for i in range(50)]
    mask = np.ones((8, 8), bool)
    labels, warnings = track(
        detections(*(thing(bounding_box=box, mask=mask, index=i) for i, box in enumerate(boxes, 1)))
    )
    assert {label.index for label in labels.detections} <= set(range(1, 51))
    assert len(labels.detections) > 45
    assert not warnings


def test_overlapping_objects_the_smallest_is_on_top(track: Track, square: Callable) -> None:
    large = square(label="large", bounding_box=[0.1, 0.1, 0.8, 0.8])
    labels, warnings = track(detections(square(), large))
    assert {label.label for label in labels.detections} == {"square", "large"}
    assert not warnings


def test_hidden_masks_are_counted(track: Track, square: Callable) -> None:
    _, warnings = track(detections(square(), square(label="hidden")))
    assert warnings == ("frame 1: 1 masks are completely hidden under others",)


def test_duplicate_indices(track: Track, square: Callable) -> None:
    labels, warnings = track(detections(thing(index=7), thing(index=7, bounding_box=[0.1, 0.1, 0.2, 0.2])))
    assert [label.index for label in labels.detections] == [7, 1]
    assert warnings == ("frame 1: two objects 'thing' have index 7; the second one gets another index",)


def test_no_indices_no_classes_several_classes(track: Track) -> None:
    nameless = [fo.Detection(bounding_box=[x, 0.1, 0.2, 0.3]) for x in (0.05, 0.4)]
    labels, warnings = track(detections(thing(), *nameless, thing(label="other", index=-3)))
    assert [label.label for label in labels.detections] == ["thing", None, None, "other"]
    assert len({label.index for label in labels.detections}) == 4
    assert len({label.instance.id for label in labels.detections}) == 4
    assert not warnings


def test_key_points_that_are_not_there(track: Track) -> None:
    none = fo.Keypoint(label="none", points=[(NAN, NAN)] * 3)
    some = fo.Keypoint(label="some", points=[(0.4, 0.4), (NAN, 0.5), (float("inf"), 0.5), (2, 0.5)])
    labels, warnings = track(fo.Keypoints(keypoints=[none, some]))
    assert [label.label for label in labels.keypoints] == ["some"]
    found = np.array(labels.keypoints[0].points)
    assert np.isfinite(found).all(1).tolist() == [True, False, False, False]
    assert warnings == (LEFT_OUT,)


@pytest.mark.parametrize(
    "label",
    [
        fo.Keypoints(keypoints=[fo.Keypoint(label="none", points=[(NAN, NAN)] * 3)]),
        fo.Keypoints(keypoints=[fo.Keypoint(label="none", points=[])]),
        fo.Detections(detections=[fo.Detection(label="none")]),
        fo.Segmentation(mask=np.zeros((4, 4), np.uint8)),
        fo.Segmentation(mask=np.zeros((0, 4), np.uint8)),
        fo.Segmentation(mask=np.full((4, 4), -1)),
        fo.Segmentation(),
    ],
)
def test_labels_that_show_nothing_are_named(track: Track, label: fo.Label) -> None:
    with pytest.raises(
        ColorTrackError, match=r"frames\.seed of .*video\.mp4: nothing to track .*label a fra"
    ):
        track(label)


@pytest.mark.parametrize("output", [None, "segmentation"])
def test_segmentations_with_large_numbers(track: Track, output: str | None) -> None:
    mask = np.zeros((8, 12), np.int64)
    mask[2:4, 3:6] = 2**31 + 5  # as of colors, or of panoptic ids
    mask[6:, 9:] = 70_000
    tracks, _ = track(fo.Segmentation(mask=mask), output=output)
    numbers = [i for i, _ in regions(tracks.mask)] if output else [d.index for d in tracks.detections]
    assert sorted(numbers) == [70_000, 2**31 + 5]


def test_a_colored_segmentation_is_named(track: Track) -> None:
    with pytest.raises(
        ColorTrackError, match=r"video\.mp4, frame 1: the segmentation is an RGB image; store"
    ):
        track(fo.Segmentation(mask=np.zeros((8, 8, 3), np.uint8)))
