"""Outlines of masks: from cells to the edges between colors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fiftyone_colortrack.tracking.grid import Grid

STEP = 4  # the filter's coefficients are computed for every fourth pixel, and interpolated
RADII = (4, 3, 2, 1)  # of the windows in which a label is a linear function of the color, in steps
WINDOWS_PER_OBJECT = 4  # that its area must hold: wider windows would swallow it, or make it spill over
MARGIN = 8  # pixels of the input that windows need to see around what they draw
NOISE = 3e-5  # variance of colors in [0, 1] that are no edge


class Outlines:
    """Draws soft labels along the edges of one frame: a guided filter with the frame's colors as its guide.

    In every window a label is fitted by a linear function of the color, and what all windows say of a pixel
    is averaged (He, Sun, Tang: Guided Image Filtering, 2013, equations 14 to 16), at reduced resolution (He,
    Sun: Fast Guided Filter, 2015). Wide windows find more edges, and narrow ones fit small objects. What depends on
    the frame alone is computed once for all objects with the same windows.

    Args:
        frame: uint8 RGB [H, W, 3], of the grid's `input_size`
        grid: of cells of whole steps
        device: of the labels
    """

    def __init__(self, frame: np.ndarray, grid: Grid, device: torch.device) -> None:
        self._cell, self._size = grid.stride, frame.shape[:2]
        colors = torch.from_numpy(frame).to(device).permute(2, 0, 1)[None].float() / 255  # 1 x 3 x H x W
        height, width = (count * grid.stride for count in grid.cells)
        self._colors = F.pad(colors, (0, width - frame.shape[1], 0, height - frame.shape[0]), "replicate")
        self._guide = F.avg_pool2d(self._colors, STEP)
        products = self._guide[:, :, None] * self._guide[:, None]  # 1 x 3 x 3 x h x w
        self._products = products.flatten(1, 2)
        self._windows: dict[int, tuple[Tensor, Tensor]] = {}

    @staticmethod
    def radius_for(area: float) -> int | None:
        """The radius of windows for an object of some pixels; None if it is too small for any."""
        return next((r for r in RADII if area >= WINDOWS_PER_OBJECT * (STEP * (2 * r + 1)) ** 2), None)

    def _of_windows(self, radius: int) -> tuple[Tensor, Tensor]:
        """Mean [1, 3, h, w] and inverse covariance [1, 3, 3, h, w] of the colors in all windows."""
        if radius not in self._windows:
            mean = _window_mean(self._guide, radius)
            covariance = _window_mean(self._products, radius).unflatten(1, (3, 3))
            covariance -= mean[:, :, None] * mean[:, None]
            covariance += NOISE * torch.eye(3, device=mean.device)[:, :, None, None]
            # Gray frames' determinants lie below what float32 resolves; Apple's GPUs have nothing finer.
            precise = covariance if mean.device.type == "mps" else covariance.double()
            self._windows[radius] = mean, _inverse(precise).float()
        return self._windows[radius]

    def sharpen(self, label: Tensor, rows: slice, columns: slice, radius: int) -> Tensor:
        """A part of a soft label, along the frame's edges.

        Args:
            label: [h, w], 0 beyond the part
            rows, columns: of cells that make up the part
            radius: of the windows, see `radius_for`

        Returns:
            [H', W'], the pixels of the input in these cells
        """
        per_cell = self._cell // STEP
        coarse = label[None, None, rows, columns]
        part = _enlarged(coarse, per_cell)  # 1 x 1 x h x w
        guide, mean, inverse = (
            values[..., _scaled(rows, per_cell), _scaled(columns, per_cell)]
            for values in (self._guide, *self._of_windows(radius))
        )
        share = _window_mean(part, radius)
        slope = torch.einsum("bijhw,bjhw->bihw", inverse, _window_mean(guide * part, radius) - mean * share)
        offset = share - (slope * mean).sum(1, keepdim=True)
        line = _enlarged(_window_mean(torch.cat([slope, offset], 1), radius), STEP)
        colors = self._colors[..., _scaled(rows, self._cell), _scaled(columns, self._cell)]
        sharp = ((line[:, :3] * colors).sum(1) + line[:, 3])[0]
        return sharp[: self._size[0] - rows.start * self._cell, : self._size[1] - columns.start * self._cell]


def _scaled(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)


def _window_mean(values: Tensor, radius: int) -> Tensor:
    """Means of [1, C, h, w] over square windows, of what lies inside the map."""
    width = 2 * radius + 1
    if values.device.type != "cpu":
        return F.avg_pool2d(values, width, 1, radius, count_include_pad=False)
    sums = partial(
        cv2.boxFilter, ddepth=-1, ksize=(width, width), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    inside = sums(np.ones(values.shape[2:], np.float32))
    return _by_plane(lambda plane: sums(plane) / inside, values)


def _enlarged(values: Tensor, factor: int) -> Tensor:
    """[1, C, h, w] -> [1, C, factor h, factor w], bilinear."""
    if values.device.type != "cpu":
        return F.interpolate(values, scale_factor=float(factor), mode="bilinear")
    size = values.shape[3] * factor, values.shape[2] * factor
    return _by_plane(lambda plane: cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR), values)


def _by_plane(work: Callable[[np.ndarray], np.ndarray], values: Tensor) -> Tensor:
    """Apply OpenCV, many times as fast as PyTorch on a CPU, to each plane of [1, C, h, w]."""
    return torch.from_numpy(np.stack([work(plane) for plane in values[0].contiguous().numpy()]))[None]


def _inverse(matrices: Tensor) -> Tensor:
    """Inverses of symmetric 3 x 3 matrices [1, 3, 3, ...], by cross products of their rows."""
    first, second, third = matrices.unbind(1)
    cofactors = torch.stack(
        [torch.linalg.cross(a, b, dim=1) for a, b in ((second, third), (third, first), (first, second))], 1
    )
    return cofactors / (first * cofactors[:, 0]).sum(1)[:, None, None]
