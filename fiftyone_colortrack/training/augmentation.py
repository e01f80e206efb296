"""Views rendered from windows of frames, as batched tensors on any device."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fiftyone_colortrack.model.color import rgb_to_lab
from fiftyone_colortrack.training.data import SHORT_SIDE
from fiftyone_colortrack.training.sampling import View


def view_grid(views: list[View], crop: int, device: torch.device) -> Tensor:
    """Where each pixel of each view lies in its window.

    Returns:
        float `[N, crop, crop, 2]`, (x, y) in pixels of the window.
    """
    line = (torch.arange(crop, device=device) + 0.5) / crop - 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    flip = _stack([-1.0 if view.flip else 1.0 for view in views], device)[:, None, None]
    warp = _stack([view.warp for view in views], device)  # N x 2 x 4 x 4
    warp = F.interpolate(warp, (crop, crop), mode="bicubic", align_corners=True)
    extent = _stack([view.extent for view in views], device)[:, :, None, None]  # N x 2 x 1 x 1
    offset = (torch.stack([y.expand(len(views), -1, -1), x * flip], 1) + warp) * extent
    angle = _stack([view.angle for view in views], device)[:, None, None]
    dy, dx = offset.unbind(1)
    turned = torch.stack([angle.cos() * dx - angle.sin() * dy, angle.sin() * dx + angle.cos() * dy], -1)
    center = _stack([view.center[::-1] for view in views], device)[:, None, None, :]
    return turned + center


def render_views(windows: Tensor, grid: Tensor, views: list[View]) -> Tensor:
    """Samples and jitters views.

    Args:
        windows: uint8 `[N, 3, 256, 256]`.
        grid: as `view_grid` gives it.

    Returns:
        scaled Lab `[N, 3, crop, crop]`.
    """
    sampled = F.grid_sample(
        windows.float() / 255, grid / (SHORT_SIDE / 2) - 1, padding_mode="reflection", align_corners=False
    )
    lightness, a, b = rgb_to_lab(sampled).unbind(1)
    jitter = _stack([view.jitter for view in views], windows.device)
    contrast, brightness, saturation, cosine, sine = jitter[:, :, None, None].unbind(1)
    return torch.stack(
        [
            (lightness * contrast + brightness).clamp(-1, 1),
            saturation * (cosine * a - sine * b),
            saturation * (sine * a + cosine * b),
        ],
        1,
    ).contiguous(memory_format=torch.channels_last)


def cutouts(grid: Tensor, views: list[View]) -> Tensor:
    """Which pixels of each view belong to the cut-out of its window: bool `[N, 1, crop, crop]`."""
    noise = _stack([view.cutout for view in views], grid.device)[:, None].clamp(min=-9)
    return F.grid_sample(noise, grid / (SHORT_SIDE / 2) - 1, "bicubic", "border", align_corners=False) > 0


def cell_positions(grid: Tensor, stride: int) -> Tensor:
    """Where the center of each cell lies in the window: `[N, crop, crop, 2]` -> `[N, cells, 2]`."""
    return F.avg_pool2d(grid.permute(0, 3, 1, 2), stride).flatten(2).transpose(1, 2)


def partners(first: Tensor, second: Tensor, extent: Tensor) -> Tensor:
    """For each cell of the first views the cell of the second ones that shows the same place.

    Args:
        first, second: cell positions `[N, cells, 2]` in one window.
        extent: `[N]`, pixels of the window that a second view's cell covers.

    Returns:
        int64 `[N, cells]`, -1 where the place lies outside of the second view.
    """
    distance, nearest = torch.cdist(first, second).min(2)
    return torch.where(distance <= 0.71 * extent[:, None], nearest, -1)


def pasted_partners(own: Tensor, other: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Partners in pairs onto which other pairs were pasted.

    A cell that is pasted over for the most part has the other pair's partner, one that is hardly touched its
    own, if the partner is pasted or untouched alike; cells in between have none.

    Args:
        own, other: partners int64 `[N, cells]` of the pairs, and of those that were pasted onto them.
        first, second: share of each cell that is pasted over in the first and second views, `[N, cells]`.
    """
    pasted = torch.where(first > 0.75, other, -1)
    pasted = torch.where(second.gather(1, pasted.clamp(min=0)) > 0.75, pasted, -1)
    kept = torch.where(first < 0.25, own, -1)
    kept = torch.where(second.gather(1, kept.clamp(min=0)) < 0.25, kept, -1)
    return torch.maximum(pasted, kept)


def through(*maps: Tensor) -> Tensor:
    """Partners `[N, cells]` by way of other cells: a cell's partner's partner, -1 where there is none."""
    composed = maps[0]
    for following in maps[1:]:
        composed = torch.where(composed < 0, -1, following.gather(1, composed.clamp(min=0)))
    return composed


def _stack(values: list, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(device)
