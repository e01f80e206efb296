"""Pictures of tracks: masks drawn over frames, and contact sheets of several videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

COLORS = np.array(
    [
        [228, 26, 28],
        [55, 126, 184],
        [77, 175, 74],
        [255, 127, 0],
        [152, 78, 163],
        [0, 206, 209],
        [247, 129, 191],
    ],
    np.uint8,
)
"""RGB of the objects, by id: id 1 has the first; after the last one they start over."""


def draw_masks(frame: np.ndarray, ids: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Tint every object in its colour and draw its outline.

    Args:
        frame: ``uint8`` RGB ``[H, W, 3]``
        ids: object ids, integers ``[H, W]``, 0 is background
        opacity: of the tint, 0 to 1

    Returns:
        a new frame
    """
    picture, thickness = frame.copy(), max(1, len(frame) // 240)
    for id in np.unique(ids[ids > 0]):
        mask = ids == id
        color = _color(int(id))
        picture[mask] = np.rint((1 - opacity) * frame[mask] + opacity * np.array(color))
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, color, thickness)
    return picture


def draw_boxes(frame: np.ndarray, boxes: Mapping[int, np.ndarray]) -> np.ndarray:
    """Draw the box of every object: {id: (x0, y0, x1, y1) in pixels}; returns a new frame."""
    picture, thickness = frame.copy(), max(1, len(frame) // 160)
    for id, box in boxes.items():
        x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
        cv2.rectangle(picture, (x0, y0), (x1, y1), _color(id), thickness)
    return picture


def draw_points(frame: np.ndarray, points: Mapping[int, np.ndarray]) -> np.ndarray:
    """Draw the points of every object: {id: [P, 2] in pixels, NaN for none}; returns a new frame."""
    picture, radius = frame.copy(), max(2, len(frame) // 100)
    for id, of_object in points.items():
        for x, y in np.rint(of_object[np.isfinite(of_object).all(1)]).astype(int).tolist():
            cv2.circle(picture, (x, y), radius, _color(id), cv2.FILLED, cv2.LINE_AA)
    return picture


def _color(id: int) -> list[int]:
    return COLORS[(id - 1) % len(COLORS)].tolist()


def contact_sheet(rows: Mapping[str, Sequence[np.ndarray]], height: int = 240, margin: int = 4) -> np.ndarray:
    """Lay out pictures in rows, each under its title.

    Args:
        rows: title -> pictures, ``uint8`` RGB ``[H, W, 3]`` of any size
        height: of every picture, in pixels
        margin: between pictures, in pixels

    Returns:
        ``uint8`` RGB, white where nothing is
    """
    title = 22
    strips = []
    for name, pictures in rows.items():
        scaled = [cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height)) for p in pictures]
        spaced = [np.pad(p, ((title, margin), (margin, 0), (0, 0)), constant_values=255) for p in scaled]
        strip = np.ascontiguousarray(np.hstack(spaced))
        cv2.putText(
            strip, name, (margin, title - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
        )
        strips.append(strip)
    width = max(strip.shape[1] for strip in strips) + margin
    padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    return np.vstack(padded)
