"""Shapes of FiftyOne labels in pixels, and back.

FiftyOne gives coordinates as shares of the picture. A *canvas* is the size (height, width), in pixels, of the
picture that they refer to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import fiftyone as fo
import numpy as np
from scipy import ndimage

from fiftyone_colortrack.errors import ColorTrackError

Size = tuple[int, int]
LABEL_LISTS = {fo.Detections: "detections", fo.Keypoints: "keypoints"}
LARGE_ID = 2**16
FAR = 2.0**40  # pixels; what is farther away is as good as there, and an integer


class Region(NamedTuple):
    """A mask cut to a rectangle: `rows` and `columns` of the canvas, `mask` bool [rows, columns]."""

    rows: slice
    columns: slice
    mask: np.ndarray


def split(container: fo.Label | None, targets: dict[int, str] | None = None) -> list[fo.Label]:
    """The labels in a frame's field; of a segmentation one detection per class, with its value as index.

    Args:
        container: detections, key points, a segmentation, or None
        targets: names of a segmentation's classes

    Raises:
        ColorTrackError: if a segmentation is coloured instead of numbered
    """
    if container is None:
        return []
    if not isinstance(container, fo.Segmentation):
        return list(container[LABEL_LISTS[type(container)]])
    mask = container.get_mask()
    if mask is None:
        return []
    if mask.ndim != 2:
        raise ColorTrackError(
            "the segmentation is coloured; store the numbers of the classes in a mask [height, width]"
        )
    shared = {"keyframe": True} if attribute(container, "keyframe") else {}
    return [
        fo.Detection(
            label=(targets or {}).get(value, str(value)),
            index=value,
            bounding_box=relative_box(region, mask.shape),
            mask=region.mask,
            **shared,
        )
        for value, region in regions(mask)
    ]


def attribute(label: fo.Label, name: str) -> object:
    """An attribute that a label may or may not have."""
    return label[name] if label.has_field(name) else None


def outline(label: fo.Label) -> tuple[object, ...]:
    """The shape of a detection or key point, as plain values that print as what they are."""
    if isinstance(label, fo.Keypoint):
        return tuple(np.array(label.points, float).ravel().tolist())
    mask, box = label.get_mask(), np.array(label.bounding_box or [], float).tolist()
    return (*box, mask.shape, np.packbits(mask > 0).tobytes()) if mask is not None else tuple(box)


def regions(id_map: np.ndarray) -> Iterator[tuple[int, Region]]:
    """The positive ids of an integer map [H, W], ascending, with the smallest rectangle that holds each."""
    if not id_map.size:
        return
    if id_map.max() > LARGE_ID:  # for every number up to the largest one memory would be taken
        values, places = np.unique(id_map.astype(np.int64, copy=False), return_inverse=True)
        positive = values > 0
        numbers = np.where(positive, np.cumsum(positive), 0)
        found_numbers = regions(numbers[places].reshape(id_map.shape))
        yield from zip(values[positive].tolist(), (region for _, region in found_numbers), strict=True)
        return
    for value, found in enumerate(ndimage.find_objects(id_map.astype(np.int32, copy=False)), start=1):
        if found is not None:
            yield value, Region(found[0], found[1], id_map[found] == value)


def relative_box(region: Region, canvas: Size) -> list[float]:
    """A region's rectangle as FiftyOne has it: [left, top, width, height], shares of the canvas."""
    rows, columns, _ = region
    return [
        columns.start / canvas[1],
        rows.start / canvas[0],
        (columns.stop - columns.start) / canvas[1],
        (rows.stop - rows.start) / canvas[0],
    ]


def box_in_pixels(detection: fo.Detection, canvas: Size) -> np.ndarray | None:
    """(x0, y0, x1, y1) cut to the canvas, or None if nothing of it lies inside."""
    corners = _corners(detection, canvas)
    if corners is None:
        return None
    corners = np.clip(corners, 0, [canvas[1], canvas[0], canvas[1], canvas[0]])
    return corners if (corners[2:] > corners[:2]).all() else None


def region_in_pixels(detection: fo.Detection, canvas: Size) -> Region | None:
    """The mask of a detection (the whole box, where it has none), or None if it has no pixel on the canvas.

    The box is rounded to pixels, and the mask stretched over it by nearest neighbour.

    Raises:
        ColorTrackError: if the mask is not [height, width]
    """
    corners = _corners(detection, canvas)
    if corners is None:
        return None
    x0, y0, x1, y1 = np.floor(corners + 0.5).clip(-FAR, FAR).astype(int)
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)  # a thin label keeps a pixel
    rows = np.arange(max(y0, 0), min(y1, canvas[0]))
    columns = np.arange(max(x0, 0), min(x1, canvas[1]))
    mask = detection.get_mask()
    if mask is not None and mask.ndim != 2:
        raise ColorTrackError(
            f"the mask of '{detection.label}' has shape {list(mask.shape)}; store it as [height, width]"
        )
    if not len(rows) or not len(columns) or (mask is not None and not mask.size):
        return None
    if mask is None:
        inside = np.ones((len(rows), len(columns)), bool)
    else:
        mask_rows = ((rows - y0 + 0.5) * mask.shape[0] / (y1 - y0)).astype(int)
        mask_columns = ((columns - x0 + 0.5) * mask.shape[1] / (x1 - x0)).astype(int)
        inside = mask[np.ix_(mask_rows, mask_columns)] > 0
    region = Region(slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1), inside)
    return region if inside.any() else None


def points_in_pixels(keypoint: fo.Keypoint, canvas: Size) -> np.ndarray:
    """[P, 2] (x, y); NaN for points that are not there."""
    return np.array(keypoint.points, dtype=float).reshape(-1, 2) * [canvas[1], canvas[0]]


def points_inside(keypoint: fo.Keypoint, canvas: Size) -> np.ndarray:
    """[P, 2] (x, y) in pixels; NaN for points that are not there or not inside the canvas."""
    points = points_in_pixels(keypoint, canvas)
    inside = ((points >= 0) & (points <= [canvas[1], canvas[0]])).all(axis=1, keepdims=True)  # False for NaN
    return np.where(inside, points, np.nan)


def is_visible(label: fo.Label, canvas: Size) -> bool:
    """Whether anything of a detection or key point lies inside the canvas."""
    if isinstance(label, fo.Keypoint):
        return bool(np.isfinite(points_inside(label, canvas)).any())
    return region_in_pixels(label, canvas) is not None


def paint(detections: Sequence[fo.Detection], ids: Sequence[int], canvas: Size) -> np.ndarray:
    """Integer map of the canvas with each detection's id in its pixels, the smallest on top in overlaps."""
    id_map = np.zeros(canvas, np.int32)
    found = [
        (region, id)
        for detection, id in zip(detections, ids, strict=True)
        if (region := region_in_pixels(detection, canvas)) is not None
    ]
    for region, id in sorted(found, key=lambda item: -int(item[0].mask.sum())):
        id_map[region.rows, region.columns][region.mask] = id
    return id_map


def _corners(detection: fo.Detection, canvas: Size) -> np.ndarray | None:
    box = detection.bounding_box
    if not box or len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
        return None
    x, y, width, height = box
    return np.array([x, y, x + width, y + height]) * [canvas[1], canvas[0], canvas[1], canvas[0]]
