import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import shapes

CANVAS = (20, 40)
NAN = float("nan")


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0.25, 0.5, 0.5, 0.25], [10, 10, 30, 15]),
        ([-0.25, -0.5, 0.5, 1.0], [0, 0, 10, 10]),
        ([0.9, 0.9, 5.0, 5.0], [36, 18, 40, 20]),
    ],
)
def test_box_in_pixels(box, expected):
    np.testing.assert_allclose(shapes.box_in_pixels(fo.Detection(bounding_box=box), CANVAS), expected)


@pytest.mark.parametrize("box", [[1.5, 0, 1, 1], [0, 0, 0, 0.5], [0, 0, NAN, 1], [], None, [-1, 0, 0.5, 0.5]])
def test_nothing_inside_the_canvas(box):
    label = fo.Detection(bounding_box=box)
    assert shapes.box_in_pixels(label, CANVAS) is None
    assert shapes.region_in_pixels(label, CANVAS) is None
    assert not shapes.is_visible(label, CANVAS)


def test_masks_survive_the_way_there_and_back():
    rng = np.random.default_rng(0)
    id_map = np.zeros((37, 53), np.int32)
    id_map[3:20, 5:31] = rng.integers(0, 4, (17, 26))
    detections = {
        id: fo.Detection(bounding_box=shapes.relative_box(region, id_map.shape), mask=region.mask)
        for id, region in shapes.regions(id_map)
    }
    assert sorted(detections) == [1, 2, 3]
    painted = shapes.paint(list(detections.values()), list(detections), id_map.shape)
    np.testing.assert_array_equal(painted, id_map)


def test_a_mask_partly_outside_keeps_its_scale():
    mask = np.zeros((10, 10), bool)
    mask[:, 5:] = True  # right half of a box that starts left of the canvas
    region = shapes.region_in_pixels(fo.Detection(bounding_box=[-0.25, 0, 0.5, 0.5], mask=mask), CANVAS)
    assert (region.rows, region.columns) == (slice(0, 10), slice(0, 10))
    assert region.mask.all()


def test_a_mask_of_another_size_is_stretched():
    label = fo.Detection(bounding_box=[0, 0, 0.5, 0.5], mask=np.array([[1, 0], [0, 1]]))
    region = shapes.region_in_pixels(label, CANVAS)
    np.testing.assert_array_equal(region.mask, np.kron(np.eye(2), np.ones((5, 10))))


def test_an_empty_mask_is_not_visible():
    assert not shapes.is_visible(fo.Detection(bounding_box=[0, 0, 1, 1], mask=np.zeros((4, 4), bool)), CANVAS)
    assert not shapes.is_visible(fo.Detection(bounding_box=[0, 0, 1, 1], mask=np.zeros((0, 4), bool)), CANVAS)


def test_a_thin_box_keeps_a_pixel():
    region = shapes.region_in_pixels(fo.Detection(bounding_box=[0.5, 0.5, 0.001, 0.5]), CANVAS)
    assert region.mask.shape == (10, 1)


def test_the_smaller_of_two_overlapping_masks_is_on_top():
    large, small = fo.Detection(bounding_box=[0, 0, 1, 1]), fo.Detection(bounding_box=[0, 0, 0.5, 0.5])
    painted = shapes.paint([small, large], [1, 2], CANVAS)
    assert (painted[:10, :20] == 1).all()
    assert (painted == 2).sum() == 20 * 40 - 10 * 20


def test_points_outside_or_missing_are_nan():
    points = shapes.points_inside(fo.Keypoint(points=[(0.5, 0.5), (NAN, NAN), (1.2, 0.5), (0, 1)]), CANVAS)
    np.testing.assert_array_equal(points, [[20, 10], [NAN, NAN], [NAN, NAN], [0, 20]])


def test_a_segmentation_is_split_into_classes():
    mask = np.zeros((4, 8), np.uint8)
    mask[1:3, 2:4], mask[0, 7] = 5, 255
    five, void = shapes.split(fo.Segmentation(mask=mask), {5: "cat"})
    assert (five.label, five.index, five.bounding_box) == ("cat", 5, [0.25, 0.25, 0.25, 0.5])
    assert (void.label, void.index) == ("255", 255)


def test_an_rgb_segmentation_is_refused():
    with pytest.raises(ColorTrackError, match="RGB"):
        shapes.split(fo.Segmentation(mask=np.zeros((4, 8, 3), np.uint8)))
