"""Shapes of FiftyOne labels in pixels, and back.

FiftyOne gives coordinates as shares of the image. A *canvas* is the size (height, width), in pixels, of the
image that they refer to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import fiftyone as fo
import numpy as np
from scipy import ndimage

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import open_image

Size = tuple[int, int]
LABEL_LISTS = {fo.Detections: "detections", fo.Keypoints: "keypoints", fo.Polylines: "polylines"}
_BUILT_IN = frozenset(
    {"id", "label", "tags", "index", "instance", "confidence", "keyframe", "last", "attributes"}
)
_BUILT_IN |= {"bounding_box", "mask", "mask_path", "points", "closed", "filled"}
LARGE_ID = 2**16
FAR = 2.0**40  # pixels; points farther away are moved here, because this fits an integer
POLYGON_TOLERANCE = 1.0  # pixels that a polygon may stray from the outline of its mask


class Region(NamedTuple):
    """A mask cut to a rectangle: `rows` and `columns` of the canvas, `mask` bool [rows, columns]."""

    rows: slice
    columns: slice
    mask: np.ndarray


def stored_mask(label: fo.Detection | fo.Segmentation) -> np.ndarray | None:
    """The mask of a label; None if it has none.

    Raises:
        ColorTrackError: if its file is missing, too large to decode, or not an image
    """
    if label.mask is None and label.mask_path:
        with open_image(Path(label.mask_path)) as image:
            # Of an image with a palette, FiftyOne reads the colors instead of the numbers.
            return np.array(image) if image.mode == "P" else label.get_mask()
    return label.get_mask()


def _holds_numbers(mask: np.ndarray) -> bool:
    """Whether a mask is [height, width] and holds real numbers."""
    return mask.ndim == 2 and mask.dtype.kind in "biuf"


def split(container: fo.Label | None, targets: dict[int, str] | None = None) -> list[fo.Label]:
    """The labels in a frame's field; of a segmentation one detection per class, with its value as index.

    Args:
        container: detections, keypoints, polylines, a segmentation, or None
        targets: names of a segmentation's classes

    Raises:
        ColorTrackError: if a segmentation does not hold the numbers of classes
    """
    if container is None:
        return []
    if not isinstance(container, fo.Segmentation):
        return list(container[LABEL_LISTS[type(container)]])
    mask = stored_mask(container)
    if mask is None:
        return []
    if not _holds_numbers(mask):
        kind = "an RGB image" if mask.ndim == 3 else f"of shape {list(mask.shape)} and type {mask.dtype}"
        raise ColorTrackError(f"the segmentation is {kind}; store class numbers in a mask [height, width]")
    if mask.dtype.kind == "f" and not np.array_equal(mask, np.nan_to_num(mask).round()):
        raise ColorTrackError(
            "the segmentation has fractions instead of class numbers; threshold it: mask > 0.5"
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


def attributes(label: fo.Label, ignore: Collection[str] = ()) -> dict[str, Any]:
    """The values that a label has beyond FiftyOne's fields and the attributes that ColorTrack knows."""
    values = {name: value for name, value in label.iter_fields() if name not in _BUILT_IN}
    return {name: value for name, value in values.items() if name not in ignore and value is not None}


def is_points(label: fo.Label) -> bool:
    """Whether a label is tracked as points: keypoints and open polylines are."""
    return isinstance(label, fo.Keypoint) or (isinstance(label, fo.Polyline) and not is_closed(label))


def is_closed(polyline: fo.Polyline) -> bool:
    """Whether a polyline encloses an area."""
    return bool(polyline.closed or polyline.filled)


def has_area(label: fo.Label) -> bool:
    """Whether a label has a mask or a polygon, rather than only a box or points."""
    return is_closed(label) if isinstance(label, fo.Polyline) else label.has_mask


def outline(label: fo.Label) -> tuple[object, ...]:
    """The shape of a label as plain values, for `digest`."""
    if isinstance(label, fo.Keypoint):
        return tuple(np.array(label.points, float).ravel().tolist())
    if isinstance(label, fo.Polyline):
        return (is_closed(label), *(tuple(map(tuple, part)) for part in label.points))
    mask = stored_mask(label)
    box = () if isinstance(label, fo.Segmentation) else np.array(label.bounding_box or [], float).tolist()
    return (*box, mask.shape, np.packbits(mask > 0).tobytes()) if mask is not None else tuple(box)


def regions(id_map: np.ndarray) -> Iterator[tuple[int, Region]]:
    """The positive ids of an integer map [H, W], ascending, with the smallest rectangle that holds each."""
    if not id_map.size:
        return
    if id_map.max() > LARGE_ID:  # memory would be taken for every number up to the largest one
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


def polygons(region: Region, canvas: Size) -> list[list[tuple[float, float]]]:
    """The outlines of a region's parts as polygons of relative points. Holes are filled."""
    mask = np.pad(region.mask.astype(np.uint8), 1)
    scale = 4  # contours run through pixels' centers; at this scale, along their edges
    large = mask.repeat(scale, 0).repeat(scale, 1)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corner = np.array([region.columns.start - 1, region.rows.start - 1])
    found = []
    for contour in sorted(contours, key=len, reverse=True):
        simple = cv2.approxPolyDP(contour, POLYGON_TOLERANCE * scale / 2, closed=True)[:, 0]
        points = ((simple + 0.5) / scale + corner) / [canvas[1], canvas[0]]
        found.append([(float(x), float(y)) for x, y in np.clip(points, 0, 1)])
    return [polygon for polygon in found if len(polygon) > 2] or found[:1]


def box_in_pixels(label: fo.Label, canvas: Size) -> np.ndarray | None:
    """(x0, y0, x1, y1) cut to the canvas, or None if nothing of it lies inside."""
    corners = _corners(label, canvas)
    if corners is None:
        return None
    corners = np.clip(corners, 0, [canvas[1], canvas[0], canvas[1], canvas[0]])
    return corners if (corners[2:] > corners[:2]).all() else None


def region_in_pixels(label: fo.Label, canvas: Size) -> Region | None:
    """The mask of a detection or closed polyline, or None if it has no pixel on the canvas.

    A detection without a mask counts as a filled box. The box is rounded to pixels, and the mask stretched
    over it by nearest neighbor. Masks of floats are thresholded at half of their range.

    Raises:
        ColorTrackError: if the mask is not [height, width], or does not hold numbers
    """
    corners = _corners(label, canvas)
    if corners is None:
        return None
    x0, y0, x1, y1 = np.floor(corners + 0.5).clip(-FAR, FAR).astype(int)
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)  # a thin label keeps a pixel
    rows = np.arange(max(y0, 0), min(y1, canvas[0]))
    columns = np.arange(max(x0, 0), min(x1, canvas[1]))
    if isinstance(label, fo.Polyline):
        filled = np.zeros((len(rows), len(columns)), np.uint8)
        if filled.size:
            corner = [columns[0], rows[0]]
            size = [canvas[1], canvas[0]]
            parts = [np.array(part, float) * size - corner - 0.5 for part in label.points if part]
            cv2.fillPoly(filled, [np.round(part).clip(-(2**15), 2**15).astype(np.int32) for part in parts], 1)
        inside = filled > 0
    else:
        mask = stored_mask(label)
        if mask is not None and not _holds_numbers(mask):
            raise ColorTrackError(
                f"the mask of '{label.label}' has shape {list(mask.shape)} and type {mask.dtype}; "
                "store it as [height, width], as numbers, or in a grayscale image"
            )
        if mask is None:
            inside = np.ones((len(rows), len(columns)), bool)
        elif mask.size:
            mask_rows = ((rows - y0 + 0.5) * mask.shape[0] / (y1 - y0)).astype(int)
            mask_columns = ((columns - x0 + 0.5) * mask.shape[1] / (x1 - x0)).astype(int)
            inside = threshold(mask)[np.ix_(mask_rows, mask_columns)]
        else:
            return None
    if not inside.any():
        return None
    return Region(slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1), inside)


def threshold(mask: np.ndarray) -> np.ndarray:
    """A mask as bool: floats are cut at half of their range (0 to 1, or to the largest value)."""
    half = 0.5 * max(np.nanmax(mask, initial=0), 1) if mask.dtype.kind == "f" else 0
    return mask > half


def points_in_pixels(label: fo.Label, canvas: Size) -> np.ndarray:
    """[P, 2] (x, y) of a keypoint or polyline; NaN for points that are not there."""
    points = [p for part in label.points for p in part] if isinstance(label, fo.Polyline) else label.points
    return np.array(points, dtype=float).reshape(-1, 2) * [canvas[1], canvas[0]]


def points_inside(label: fo.Label, canvas: Size) -> np.ndarray:
    """[P, 2] (x, y) in pixels; NaN for points that are not there or not inside the canvas."""
    points = points_in_pixels(label, canvas)
    inside = ((points >= 0) & (points <= [canvas[1], canvas[0]])).all(axis=1, keepdims=True)  # False for NaN
    return np.where(inside, points, np.nan)


def is_visible(label: fo.Label, canvas: Size) -> bool:
    """Whether any part of a label lies inside the canvas."""
    if is_points(label):
        return bool(np.isfinite(points_inside(label, canvas)).any())
    return region_in_pixels(label, canvas) is not None


def paint(labels: Sequence[fo.Label], ids: Sequence[int], canvas: Size) -> np.ndarray:
    """Integer map of the canvas with each label's id in its pixels, the smallest on top in overlaps."""
    id_map = np.zeros(canvas, np.int32)
    found = [
        (region, id)
        for label, id in zip(labels, ids, strict=True)
        if (region := region_in_pixels(label, canvas)) is not None
    ]
    for region, id in sorted(found, key=lambda item: -int(item[0].mask.sum())):
        id_map[region.rows, region.columns][region.mask] = id
    return id_map


def _corners(label: fo.Label, canvas: Size) -> np.ndarray | None:
    if isinstance(label, fo.Polyline):
        points = points_in_pixels(label, canvas)
        if not len(points) or not np.isfinite(points).all():
            return None
        return np.concatenate([points.min(0), points.max(0)])
    box = label.bounding_box
    if not box or len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
        return None
    x, y, width, height = box
    return np.array([x, y, x + width, y + height]) * [canvas[1], canvas[0], canvas[1], canvas[0]]
