from __future__ import annotations

import numpy as np
import pytest
import torch

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.tracking.codecs import BoxCodec, MaskCodec, PointCodec
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.labels import Seed

CPU = torch.device("cpu")
SIZE = (150, 203)
GRIDS = [Grid.fit(SIZE, 150, 8), Grid.fit(SIZE, 320, 8), Grid.fit(SIZE, (96, 96), 8), Grid.fit(SIZE, 150, 4)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize("grid", GRIDS)
def test_matrices_of_the_grid(grid):
    for axis in (0, 1):
        for matrix in (grid.averaging(axis), grid.interpolation(axis)):
            torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix)))
            assert matrix.min() >= 0
        ramp = (torch.arange(SIZE[axis]) + 0.5).float()
        centers = grid.averaging(axis) @ ramp
        inner = slice(int(grid.pixels_per_cell[axis]), -2 * int(grid.pixels_per_cell[axis]))
        torch.testing.assert_close(
            (grid.interpolation(axis) @ centers)[inner], ramp[inner], atol=0.05, rtol=0
        )  # pixels that two cells share count as flat


@pytest.mark.parametrize("grid", GRIDS)
def test_masks_survive(grid):
    ids = np.zeros(SIZE, np.int32)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ids[(y - 60) ** 2 + (x - 70) ** 2 < 45**2] = 3
    ids[90:150, 120:203] = 700
    codec = MaskCodec.create([Seed(0, ids)], grid, CPU)
    soft = codec.encode(ids)
    assert soft.shape == (*grid.cells, 3)
    torch.testing.assert_close(soft.sum(-1), torch.ones(grid.cells))
    decoded, confidence = codec.decode(soft)
    assert set(confidence) == {3, 700}
    for i in (3, 700):
        assert iou(decoded == i, ids == i) > 0.93
        assert 0.7 < confidence[i] <= 1


def test_at_full_resolution_masks_are_exact():
    ids = np.random.default_rng(0).integers(0, 4, SIZE).astype(np.uint8)
    codec = MaskCodec.create([Seed(0, ids)], Grid.fit(SIZE, SIZE, 1), CPU)
    soft = codec.encode(ids)
    before = soft.clone()
    assert np.array_equal(codec.decode(soft)[0], ids)
    assert torch.equal(soft, before)


def test_tiny_objects_are_not_lost():
    ids = np.zeros(SIZE, np.uint8)
    ids[70:74, 100:105] = 1
    codec = MaskCodec.create([Seed(0, ids)], GRIDS[0], CPU)
    decoded, confidence = codec.decode(codec.encode(ids))
    assert 1 in confidence
    assert (decoded[ids == 1] == 1).mean() > 0.5
    assert (decoded == 1).sum() < 150


def test_regions_give_what_whole_maps_give():
    generator = torch.Generator().manual_seed(0)
    soft = (torch.randn(*GRIDS[0].cells, 5, generator=generator) * 3).softmax(-1)
    ids = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 5
    codec = MaskCodec.create([Seed(0, ids)], GRIDS[0], CPU)
    rows, columns = GRIDS[0].interpolation(0), GRIDS[0].interpolation(1)
    whole = torch.einsum("yh,hwl,xw->yxl", rows, soft, columns).argmax(-1).numpy()
    assert (codec.decode(soft)[0] == whole).mean() > 0.9999


def test_boxes_survive_and_may_overlap():
    boxes = {4: np.array([20.0, 30, 90, 110]), 9: np.array([60.5, 50, 203, 140])}
    codec = BoxCodec.create([Seed(0, boxes)], GRIDS[0], CPU)
    decoded, confidence = codec.decode(codec.encode(boxes))
    for i, box in boxes.items():
        np.testing.assert_allclose(decoded[i], box, atol=3)
        assert confidence[i] > 0.8
    decoded, _ = codec.decode(codec.encode({9: boxes[9]}))
    assert set(decoded) == {9}


@pytest.mark.parametrize("grid", GRIDS)
def test_points_survive_to_a_fraction_of_a_cell(grid):
    points = np.array([[30.25, 40.5], [np.nan, np.nan], [120.9, 99.1], [199.0, 5.0]])
    codec = PointCodec.create([Seed(0, {2: points})], grid, CPU)
    decoded, confidence = codec.decode(codec.encode({2: points}))
    inner, cell = [0, 2], max(grid.pixels_per_cell)
    np.testing.assert_allclose(decoded[2][inner], points[inner], atol=cell / 20)
    np.testing.assert_allclose(decoded[2][3], points[3], atol=cell / 2)
    assert np.isnan(decoded[2][1]).all()
    assert confidence[2][1] == 0
    assert (confidence[2][inner] > 0.7).all()


@pytest.mark.parametrize(
    ("codec", "labels", "message"),
    [
        (MaskCodec, np.zeros((4, 4), np.uint8), r"frame 7 has shape \(4, 4\)"),
        (MaskCodec, np.zeros(SIZE, np.uint8), "at least one object"),
        (MaskCodec, np.zeros(SIZE, np.float32), "frame 7 must be an integer array"),
        (BoxCodec, {1: np.array([5, 5, 5, 9])}, "object 1 of frame 7 has box"),
        (BoxCodec, {0: np.array([5, 5, 8, 9])}, "must be positive"),
        (BoxCodec, {}, "no object"),
        (PointCodec, {1: np.zeros(2)}, "object 1 of frame 7 has points of shape"),
        (PointCodec, np.zeros(SIZE, np.uint8), "frame 7 must be a dict"),
    ],
)
def test_unusable_labels_are_named(codec, labels, message):
    with pytest.raises(ColorTrackError, match=message):
        codec.create([Seed(7, labels)], GRIDS[0], CPU)


def test_of_two_directions_the_nearer_and_the_surer_count_more():
    grid = Grid.fit((64, 64), 64, 8)
    codec = MaskCodec.create([Seed(0, np.ones((64, 64), np.uint8))], grid, torch.device("cpu"))
    sure, thin = torch.zeros(8, 8, 2), torch.zeros(8, 8, 2)
    sure[2:4, 2:4, 1] = 1
    thin[4:, 4:, 1] = 0.25  # as much of the object, spread over four times the cells
    for soft in (sure, thin):
        soft[..., 0] = 1 - soft[..., 1]
    assert torch.equal(codec.fuse(sure, sure, 0.3, [1]), sure)
    assert torch.equal(codec.fuse(sure, thin, 0.5, []), sure)
    halfway = codec.fuse(sure, thin, 0.5, [1])
    assert halfway[2, 2, 1] > 0.9
    torch.testing.assert_close(halfway, codec.fuse(thin, sure, 0.5, [1]))
    assert halfway[2, 2, 1] > codec.fuse(sure, thin, 0.2, [1])[2, 2, 1]


def discs(*circles: tuple[int, int, int, int]) -> np.ndarray:
    """Object ids of discs (id, x, y, radius), uint8 of SIZE."""
    ids = np.zeros(SIZE, np.uint8)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for i, center_x, center_y, radius in circles:
        ids[(x - center_x) ** 2 + (y - center_y) ** 2 < radius**2] = i
    return ids


@pytest.mark.parametrize("grid", [GRIDS[0], GRIDS[3]])
def test_specks_are_taken_out(grid):
    body, parts = (1, 60, 60, 40), ((1, 150, 40, 18), (2, 150, 110, 30))
    before = discs(body, *parts)
    speck, near, new = (1, 120, 140, 8), (1, 112, 60, 9), (1, 60, 130, 16)
    codec = MaskCodec.create([Seed(0, before)], grid, CPU)
    soft = codec.encode(discs(body, *parts, speck, near, new))
    cleaned = codec.clean(soft, codec.encode(before))
    torch.testing.assert_close(cleaned.sum(-1), torch.ones(grid.cells))
    clean, expected = codec.decode(cleaned)[0], codec.decode(codec.encode(discs(body, *parts, near, new)))[0]
    ids = discs(speck)
    assert not (clean[ids == 1] == 1).any()
    assert (clean == expected)[ids == 0].mean() > 0.99

    assert codec.clean(soft, soft) is soft  # what was there before is no speck
    elsewhere = codec.encode(discs((1, 190, 10, 8), (2, 150, 110, 30)))
    assert torch.equal(codec.clean(soft, elsewhere)[..., 1] > 0, soft[..., 1] > 0)


def test_specks_do_not_stretch_boxes():
    box = {1: np.array([20.0, 30, 90, 110])}
    codec = BoxCodec.create([Seed(0, box)], GRIDS[0], CPU)
    soft = codec.encode(box)
    stray = soft.clone()
    stray[2, 22] = 0.9
    assert codec.decode(stray)[0][1][2] > 170
    np.testing.assert_array_equal(codec.decode(codec.clean(stray, soft))[0][1], codec.decode(soft)[0][1])


def test_points_do_not_jump_to_lookalikes():
    seed = {1: np.array([[40.0, 60], [150, 100], [np.nan, np.nan]])}
    codec = PointCodec.create([Seed(0, seed)], GRIDS[0], CPU)
    before = codec.encode(seed)
    here = codec.encode({1: np.array([[48.0, 64], [150, 100], [100, 50]])})
    elsewhere = codec.encode({1: np.array([[160.0, 60], [20, 20], [100, 50]])})
    cleaned = codec.clean(0.4 * here + 0.6 * elsewhere, before)
    np.testing.assert_allclose(codec.decode(cleaned)[0][1][:2], [[48, 64], [150, 100]], atol=0.5)
    np.testing.assert_allclose(codec.decode(cleaned)[1][1][:2], codec.decode(0.4 * here)[1][1][:2], rtol=0.01)

    far_clearer = codec.clean(0.02 * here + 0.6 * elsewhere, before)
    np.testing.assert_allclose(codec.decode(far_clearer)[0][1][:2], [[160, 60], [20, 20]], atol=0.5)
    appeared = codec.clean(0.1 * here + 0.2 * elsewhere, before)
    np.testing.assert_allclose(codec.decode(appeared)[0][1][2], [100, 50], atol=0.5)


def test_points_are_expected_where_their_colors_moved():
    grid = Grid.fit((160, 160), 160, 8)
    codec = PointCodec.create([Seed(0, {1: np.array([[44.0, 60]])})], grid, CPU)
    before = codec.encode({1: np.array([[44.0, 60]])})
    moved, stayed = ({1: np.array([[x, 60.0]])} for x in (108, 44))
    soft = 0.5 * codec.encode(moved) + 0.7 * codec.encode(stayed)
    cells = torch.arange(400).view(20, 20)
    origin = cells.roll(8, 1)  # everything moved by eight cells to the right
    assert codec.decode(codec.clean(soft, before, origin))[0][1][0, 0] == pytest.approx(108, abs=0.5)
    assert codec.decode(codec.clean(soft, before))[0][1][0, 0] == pytest.approx(44, abs=0.5)
