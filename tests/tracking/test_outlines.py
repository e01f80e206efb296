"""Labels that follow the edges between colors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fiftyone_colortrack.metrics import jaccard
from fiftyone_colortrack.tracking import Seed
from fiftyone_colortrack.tracking.codecs import MaskCodec
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.outlines import NOISE, RADII, STEP, WINDOWS_PER_OBJECT, Outlines

CPU = torch.device("cpu")


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two ellipses on a ground of another hue, with noise: frame and object ids."""
    rng = np.random.default_rng(0)
    frame, ids = np.full((height, width, 3), (70, 110, 60), np.uint8), np.zeros((height, width), np.uint8)
    for i, color in ((1, (200, 60, 50)), (2, (60, 80, 210))):
        center = (width * i // 3, height * (3 - i) // 3)
        cv2.ellipse(ids, center, (width // 9, height // 5), 30, 0, 360, i, -1)
        frame[ids == i] = color
    return np.clip(frame + rng.normal(0, 6, frame.shape), 0, 255).astype(np.uint8), ids


def plain(frame: np.ndarray, label: np.ndarray, radius: int) -> np.ndarray:
    """The guided filter as it is written, for every fourth pixel: a regression in every window."""
    guide = cv2.resize(
        frame.astype(np.float64) / 255, None, fx=1 / STEP, fy=1 / STEP, interpolation=cv2.INTER_AREA
    )
    height, width = label.shape
    lines = np.zeros((height, width, 4))
    for y in range(height):
        for x in range(width):
            part = np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
            colors, values = guide[part].reshape(-1, 3), label[part].ravel()
            covariance = np.cov(colors.T, bias=True) + NOISE * np.eye(3)
            slope = np.linalg.solve(covariance, ((colors - colors.mean(0)) * values[:, None]).mean(0))
            lines[y, x] = [*slope, values.mean() - slope @ colors.mean(0)]
    mean = np.zeros_like(lines)
    for y in range(height):
        for x in range(width):
            part = np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
            mean[y, x] = lines[part].mean((0, 1))
    mean = cv2.resize(mean, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return (mean[..., :3] * (frame / 255)).sum(-1) + mean[..., 3]


@pytest.mark.parametrize("radius", [2, 4])
def test_the_same_as_a_regression_in_every_window(radius: int) -> None:
    frame, ids = picture(64, 96)
    label = cv2.resize((ids == 1).astype(np.float32), (12, 8), interpolation=cv2.INTER_AREA)
    grid = Grid.fit((64, 96), 64, 8)
    sharp = Outlines(frame, grid, CPU).sharpen(torch.from_numpy(label), slice(0, 8), slice(0, 12), radius)
    coarse = cv2.resize(label, (24, 16), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(sharp.numpy(), plain(frame, coarse, radius), atol=0.02)


@pytest.mark.parametrize("size", [(120, 168), (117, 171), (240, 330), (90, 131)])
def test_masks_follow_the_edges_of_any_frame(size: tuple[int, int]) -> None:
    frame, ids = picture(*size)
    grid = Grid.fit(size, 120, 8)
    codec = MaskCodec.create([Seed(0, ids)], grid, CPU)
    soft = codec.encode(ids)
    scaled = cv2.resize(frame, grid.input_size[::-1], interpolation=cv2.INTER_AREA)
    sharp, _ = codec.decode(soft, Outlines(scaled, grid, CPU))
    smooth, _ = codec.decode(soft)
    for i in (1, 2):
        assert jaccard(sharp == i, ids == i) > max(0.95, jaccard(smooth == i, ids == i))


def test_a_part_is_sharpened_as_in_the_whole() -> None:
    frame, ids = picture(120, 168)
    grid = Grid.fit((120, 168), 120, 8)
    outlines = Outlines(frame, grid, CPU)
    label = MaskCodec.create([Seed(0, ids)], grid, CPU).encode(ids)[..., 1]
    whole = outlines.sharpen(label, slice(0, 15), slice(0, 21), RADII[0])
    hot = (label > 0.01).nonzero()
    top, left = (hot.amin(0) - 4).clamp(min=0).tolist()
    bottom, right = (min(int(h), c) for h, c in zip(hot.amax(0) + 5, grid.cells, strict=True))
    part = outlines.sharpen(label, slice(top, bottom), slice(left, right), RADII[0])
    inner = np.s_[8 * top + 16 : 8 * bottom - 16, 8 * left + 16 : 8 * right - 16]
    torch.testing.assert_close(part[16:-16, 16:-16], whole[inner], atol=5e-3, rtol=0)


def test_small_objects_get_narrow_windows_and_the_smallest_none() -> None:
    areas = [WINDOWS_PER_OBJECT * (STEP * (2 * radius + 1)) ** 2 for radius in RADII]
    assert [Outlines.radius_for(area) for area in areas] == list(RADII)
    assert Outlines.radius_for(areas[-1] - 1) is None


def test_without_edges_labels_stay_as_they_are() -> None:
    grid = Grid.fit((64, 64), 64, 8)
    outlines = Outlines(np.full((64, 64, 3), 90, np.uint8), grid, CPU)
    ones = outlines.sharpen(torch.ones(8, 8), slice(0, 8), slice(0, 8), RADII[0])
    torch.testing.assert_close(ones, torch.ones(64, 64), atol=1e-4, rtol=0)


def test_gray_frames_are_no_less_exact() -> None:
    ids = cv2.circle(np.zeros((96, 96), np.uint8), (48, 48), 26, 1, -1)
    frame = np.where(ids[..., None] > 0, 240, 10).astype(np.uint8).repeat(3, 2)
    grid = Grid.fit((96, 96), 96, 8)
    codec = MaskCodec.create([Seed(0, ids)], grid, CPU)
    labels, _ = codec.decode(codec.encode(ids), Outlines(frame, grid, CPU))
    assert jaccard(labels == 1, ids == 1) > 0.97


def test_outlines_draw_no_islands():
    """A spot of the object's color just beside it is not a part of it."""
    frame, ids = np.full((160, 240, 3), (70, 110, 60), np.uint8), np.zeros((160, 240), np.uint8)
    cv2.circle(ids, (100, 80), 40, 1, -1)
    cv2.circle(ids, (200, 30), 20, 2, -1)
    frame[ids == 1], frame[ids == 2] = (200, 60, 50), (60, 80, 210)
    cv2.circle(frame, (146, 80), 4, (200, 60, 50), -1)
    grid = Grid.fit((160, 240), 160, 4, 2)
    codec = MaskCodec.create([Seed(0, ids)], grid, CPU)
    drawn = np.asarray(codec.decode(codec.encode(ids), Outlines(frame, grid, CPU))[0])
    for object_id in (1, 2):
        assert jaccard(drawn == object_id, ids == object_id) > 0.97
        assert cv2.connectedComponents((drawn == object_id).astype(np.uint8))[0] == 2  # the rest, and one
