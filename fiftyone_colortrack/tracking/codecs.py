"""Labels in pixels <-> soft label maps in cells: masks, boxes, keypoints."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.labels import LOST, LabelKind, Labels, Seed
from fiftyone_colortrack.tracking.outlines import MARGIN, Outlines

LEAST_MASS = 0.5  # cells: an object that covers less is not seen
REACH = 16  # pixels of the input: components this near to where the object was continue it
LARGE = 0.1  # of an object's largest component: components above this are no specks

Confidence = dict[int, Any]


class Region(NamedTuple):
    """A part of a frame: its rows and columns of cells, and the pixels (y, x) between their centers."""

    rows: slice
    columns: slice
    y: slice
    x: slice


class Codec(ABC):
    """Encodes the labels of one video's objects as channels of a soft label map, and back.

    Attributes:
        ids: the objects, in the order of their channels
        channels: {id: its channels}
        depth: L, the number of channels
        min_confidence: objects and points with less confidence are not decoded
    """

    def __init__(self, ids: Sequence[int], grid: Grid, device: torch.device) -> None:
        self.ids = tuple(ids)
        self.grid = grid
        self.device = device
        self.channels: dict[int, slice] = {}
        self.depth = 0
        self.min_confidence = 0.0
        self._from_cells = _Interpolation(grid, device)

    @classmethod
    @abstractmethod
    def create(cls, seeds: Sequence[Seed], grid: Grid, device: torch.device) -> Codec:
        """A codec for all objects of the seeds; raises ColorTrackError if their labels are unusable."""

    @abstractmethod
    def ids_in(self, labels: Labels) -> frozenset[int]:
        """The objects that a frame's labels contain."""

    @abstractmethod
    def encode(self, labels: Labels) -> Tensor:
        """Labels -> soft label map [h, w, L]."""

    @abstractmethod
    def decode(
        self, soft: Tensor, outlines: Outlines | None = None, ids: Collection[int] | None = None
    ) -> tuple[Labels, Confidence]:
        """Soft label map -> labels, and the confidence of each object that is visible.

        The confidence of a mask or box is the mean soft label of its pixels, times the mean soft label of all
        cells, weighted with itself. It falls when an object leaves or is hidden: what is copied then spreads
        over cells that are only partly sure of it.

        Args:
            soft: [h, w, L]
            outlines: of the frame; masks follow them
            ids: the objects to decode; None for all
        """

    @abstractmethod
    def overlay(self, tracked: Labels, drawn: Labels) -> Labels:
        """Drawn labels, completed with tracked labels of the other objects."""

    @abstractmethod
    def cells(self, soft: Tensor) -> Tensor | None:
        """The cells that each channel covers, bool [L, h, w]; None if they may be scattered."""

    def clean(self, soft: Tensor, before: Tensor, origin: Tensor | None = None) -> Tensor:
        """Take out specks: components of an object that are small and do not continue it.

        Args:
            soft: [h, w, L]
            before: [h, w, L], of the frame before, in the order of tracking
            origin: the cell of that frame where each cell's colors are, [h, w]; None if unknown
        """
        cells = self.cells(soft)
        if cells is None:
            return soft
        now = cells.byte().cpu().numpy()
        was: np.ndarray | None = None
        specks = np.zeros(now.shape, bool)
        reach = np.ones(2 * (2 * max(REACH // self.grid.stride, 1) + 1,), np.uint8)  # both sides
        for channel, covered in enumerate(now):
            count, components, stats, _ = cv2.connectedComponentsWithStats(covered)
            if count <= 2:  # the rest of the frame, and one component
                continue
            if was is None:
                was = self.cells(before).byte().cpu().numpy()  # type: ignore[union-attr]
            area = stats[:, cv2.CC_STAT_AREA]
            continued = np.zeros(count, bool)
            continued[components[cv2.dilate(was[channel], reach) > 0]] = True
            if not continued[1:].any():
                continue
            kept = continued | (area >= LARGE * area[1:].max())
            kept[0] = False
            around = [
                cv2.dilate(part.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
                for part in (kept[components], (covered > 0) & ~kept[components])
            ]
            specks[channel] = around[1] & ~around[0] | (covered > 0) & ~kept[components]
        if not specks.any():
            return soft
        return soft.masked_fill(torch.from_numpy(specks).permute(1, 2, 0).to(soft.device), 0)

    def complete(self, drawn: Tensor, tracked: Tensor, ids: Collection[int]) -> Tensor:
        """The soft labels of drawn objects, with the objects `ids` as tracked: [h, w, L]."""
        completed = drawn.clone()
        for object_id in ids:
            completed[..., self.channels[object_id]] = tracked[..., self.channels[object_id]]
        return completed

    def without(self, soft: Tensor, ids: Collection[int]) -> Tensor:
        """Soft labels [h, w, L] without the objects `ids`."""
        return self.complete(soft, torch.zeros_like(soft), ids) if ids else soft

    def fuse(self, forward: Tensor, backward: Tensor, nearness: float, ids: Collection[int]) -> Tensor:
        """Weighted mean of two soft label maps for the objects `ids`; all others are as in `forward`.

        The nearer labeled frame counts more, and so does the surer side: what was lost spreads thin.

        Args:
            forward: [h, w, L]
            backward: [h, w, L]
            nearness: of the labeled frame that `forward` comes from, in [0, 1]
        """
        ahead = nearness * _certainty(forward) ** 2  # [L]
        back = (1 - nearness) * _certainty(backward) ** 2
        share = ahead / (ahead + back)
        fused = forward.clone()
        for object_id in ids:
            channels = self.channels[object_id]
            fused[..., channels] = torch.lerp(
                backward[..., channels], forward[..., channels], share[channels]
            )
        return fused

    def _chosen(self, ids: Collection[int] | None) -> list[int]:
        return [object_id for object_id in self.ids if ids is None or object_id in ids]

    def _upsample(self, channel: Tensor, region: Region) -> Tensor:
        """Interpolate a channel [h, w] at the pixels of a region."""
        corner = region.rows.start, region.columns.start
        return self._from_cells(channel[region.rows, region.columns], corner, region.y, region.x)

    def _regions(self, hot: Tensor) -> list[Region | None]:
        """The region around the cells of each channel of [h, w, L]; None where there is none."""
        down, across = (self._bounds(hot.any(1 - axis).T.cpu().numpy(), axis) for axis in (0, 1))
        return [
            Region(rows[0], columns[0], rows[1], columns[1]) if rows and columns else None
            for rows, columns in zip(down, across, strict=True)
        ]

    def _bounds(self, covered: np.ndarray, axis: int) -> Iterator[tuple[slice, slice] | None]:
        """Where each channel of [L, cells] begins and ends on an axis, with one cell around it."""
        cells, pixels, per_cell = covered.shape[1], self.grid.size[axis], self.grid.pixels_per_cell[axis]
        first = np.maximum(covered.argmax(1) - 1, 0).tolist()
        last = np.minimum(cells - covered[:, ::-1].argmax(1), cells - 1).tolist()
        for low, high, anywhere in zip(first, last, np.asarray(covered.any(axis=1)), strict=True):
            start = 0 if low == 0 else min(math.floor((low + 0.5) * per_cell), pixels - 1)
            stop = pixels if high == cells - 1 else min(math.ceil((high + 0.5) * per_cell), pixels)
            yield (slice(low, high + 1), slice(start, stop)) if anywhere else None


class MaskCodec(Codec):
    """Masks as a class distribution per cell; channel 0 is the background."""

    def __init__(self, ids: Sequence[int], grid: Grid, device: torch.device) -> None:
        super().__init__(ids, grid, device)
        self.channels = {object_id: slice(i, i + 1) for i, object_id in enumerate(self.ids, 1)}
        self.depth = len(self.ids) + 1
        self._dtype = np.min_scalar_type(max(self.ids))
        self._averaging = tuple(grid.averaging(axis).to(device) for axis in (0, 1))
        self._to_frame = _Interpolation(replace(grid, stride=1), device)  # from the pixels of the input
        self._cell_of = [  # the cell of each row and column of pixels
            ((np.arange(size) + 0.5) / per_cell).astype(int).clip(max=cells - 1)
            for size, per_cell, cells in zip(grid.size, grid.pixels_per_cell, grid.cells, strict=True)
        ]

    @classmethod
    def create(cls, seeds: Sequence[Seed], grid: Grid, device: torch.device) -> MaskCodec:
        ids: set[int] = set()
        for seed in seeds:
            if not isinstance(seed.labels, np.ndarray) or seed.labels.dtype.kind not in "iub":
                raise ColorTrackError(f"the mask of frame {seed.frame} must be an integer array [H, W]")
            if seed.labels.shape != grid.size:
                raise ColorTrackError(
                    f"the mask of frame {seed.frame} has shape {seed.labels.shape}, the video's frames have "
                    f"{grid.size}; resize the mask"
                )
            ids |= {int(i) for i in np.unique(seed.labels)} - {0}
        if not ids or min(ids) < 0:
            raise ColorTrackError("the seeds' masks must contain at least one object with a positive number")
        return cls(sorted(ids), grid, device)

    def ids_in(self, labels: Labels) -> frozenset[int]:
        return frozenset(int(i) for i in np.unique(np.asarray(labels))) - {0}

    def encode(self, labels: Labels) -> Tensor:
        mask = torch.from_numpy(np.asarray(labels).astype(np.int64)).to(self.device)
        soft = torch.zeros(*self.grid.cells, self.depth, device=self.device)
        for object_id, channels in self.channels.items():
            hit = (mask == object_id).float()
            if hit.any():
                share = self._averaging[0] @ hit @ self._averaging[1].T
                peak = share.max()
                # An object that fills no cell to the half would lose to the background everywhere.
                soft[..., channels] = (share / peak if peak < 0.5 else share)[..., None]
        return self._with_background(soft)

    def decode(
        self, soft: Tensor, outlines: Outlines | None = None, ids: Collection[int] | None = None
    ) -> tuple[Labels, Confidence]:
        certainty = _certainty(soft).tolist()
        areas = (soft.sum((0, 1)) * self.grid.stride**2).tolist()
        regions = self._regions(soft > 0.01)
        best = torch.ones(self.grid.size, device=self.device)  # the background: what no object takes
        found = {}
        for object_id in self._chosen(ids):
            channel = self.channels[object_id].start
            region = regions[channel]
            if region is None:
                continue
            value = self._at_pixels(soft[..., channel], region, areas[channel], outlines)
            best[region.y, region.x] -= value
            found[object_id] = (region.y, region.x), value
        winner = torch.zeros_like(best, dtype=torch.int32)
        for object_id, (pixels, value) in found.items():
            winner[pixels].masked_fill_(value > best[pixels], object_id)
            best[pixels] = torch.maximum(best[pixels], value)
        confidence = {}
        for object_id, (pixels, value) in found.items():
            mine = winner[pixels] == object_id
            area = int(mine.sum())
            sure = min(float((value * mine).sum()) / max(area, 1), 1.0)
            sure *= certainty[self.channels[object_id].start]
            if area and sure >= self.min_confidence:
                confidence[object_id] = sure
            elif area:
                winner[pixels].masked_fill_(mine, 0)
        ids = winner.cpu().numpy().astype(self._dtype)
        if outlines is not None:
            self._remove_islands(ids, soft.cpu().numpy(), {i: pixels for i, (pixels, _) in found.items()})
        return ids, confidence

    def _remove_islands(
        self, ids: np.ndarray, soft: np.ndarray, regions: Mapping[int, tuple[slice, slice]]
    ) -> None:
        """Take out components of masks [H, W] that lie off the object's cells: outlines only move borders."""
        for object_id, (y, x) in regions.items():
            mine = ids[y, x] == object_id
            count, components = cv2.connectedComponents(mine.astype(np.uint8))
            if count <= 2:  # the rest, and one component
                continue
            channel = soft[..., self.channels[object_id].start]
            certain = (channel >= min(channel.max(), 1) / 4)[self._cell_of[0][y]][:, self._cell_of[1][x]]
            kept = np.zeros(count, bool)
            kept[components[certain]] = True
            ids[y, x][mine & ~kept[components]] = 0

    def cells(self, soft: Tensor) -> Tensor:
        covered = soft.argmax(-1) == torch.arange(self.depth, device=self.device)[:, None, None]
        covered[0] = False  # the background may be scattered
        return covered

    def clean(self, soft: Tensor, before: Tensor, origin: Tensor | None = None) -> Tensor:
        cleaned = super().clean(soft, before, origin)
        if cleaned is soft:
            return soft
        cleaned = cleaned / cleaned.sum(-1, keepdim=True).clamp(min=1e-3)
        cleaned[..., 0] += 1 - cleaned.sum(-1)
        return cleaned

    def _at_pixels(self, channel: Tensor, region: Region, area: float, outlines: Outlines | None) -> Tensor:
        """A channel [h, w] of an object at the pixels of a region, along the outlines of the frame if there are any."""
        radius = None if outlines is None else outlines.radius_for(area)
        if outlines is None or radius is None:
            return self._upsample(channel, region)
        margin, stride = MARGIN // self.grid.stride, self.grid.stride
        rows, columns = (
            slice(max(part.start - margin, 0), min(part.stop + margin, count))
            for part, count in zip((region.rows, region.columns), self.grid.cells, strict=True)
        )
        sharp = outlines.sharpen(channel, rows, columns, radius)
        corner = rows.start * stride, columns.start * stride
        return self._to_frame(sharp, corner, region.y, region.x)

    def overlay(self, tracked: Labels, drawn: Labels) -> Labels:
        drawn, tracked = np.asarray(drawn).astype(self._dtype), np.asarray(tracked)
        others = np.where(np.isin(tracked, list(self.ids_in(drawn))), 0, tracked)
        return np.where(drawn > 0, drawn, others)

    def complete(self, drawn: Tensor, tracked: Tensor, ids: Collection[int]) -> Tensor:
        # Where a person drew an object no other object is.
        return self._with_background(super().complete(drawn, tracked * drawn[..., :1], ids))

    def without(self, soft: Tensor, ids: Collection[int]) -> Tensor:
        return self._with_background(super().complete(soft, torch.zeros_like(soft), ids)) if ids else soft

    def fuse(self, forward: Tensor, backward: Tensor, nearness: float, ids: Collection[int]) -> Tensor:
        return self._with_background(super().fuse(forward, backward, nearness, ids))

    @staticmethod
    def _with_background(soft: Tensor) -> Tensor:
        soft[..., 0] = (1 - soft[..., 1:].sum(-1)).clamp(min=0)
        return soft


class BoxCodec(Codec):
    """Boxes as filled boxes, each in a channel of its own: they may overlap."""

    VISIBLE = 0.2  # an object whose soft label stays below this everywhere is not visible

    def __init__(self, ids: Sequence[int], grid: Grid, device: torch.device) -> None:
        super().__init__(ids, grid, device)
        self.channels = {object_id: slice(i, i + 1) for i, object_id in enumerate(self.ids)}
        self.depth = len(self.ids)

    @classmethod
    def create(cls, seeds: Sequence[Seed], grid: Grid, device: torch.device) -> BoxCodec:
        for seed in seeds:
            for object_id, box in _mapping(seed).items():
                if (
                    np.shape(box) != (4,)
                    or not np.isfinite(box).all()
                    or box[0] >= box[2]
                    or box[1] >= box[3]
                ):
                    raise ColorTrackError(
                        f"object {object_id} of frame {seed.frame} has box {np.asarray(box).tolist()}; a box "
                        "is (x0, y0, x1, y1) with x0 < x1 and y0 < y1"
                    )
        return cls(_ids(seeds), grid, device)

    def ids_in(self, labels: Labels) -> frozenset[int]:
        return frozenset(labels)

    def encode(self, labels: Labels) -> Tensor:
        soft = torch.zeros(*self.grid.cells, self.depth, device=self.device)
        for object_id, (x0, y0, x1, y1) in labels.items():  # type: ignore[union-attr]
            covered = self._covered(0, y0, y1)[:, None] * self._covered(1, x0, x1)
            soft[..., self.channels[object_id]] = covered[..., None]
        return soft

    def decode(
        self, soft: Tensor, outlines: Outlines | None = None, ids: Collection[int] | None = None
    ) -> tuple[Labels, Confidence]:
        boxes: dict[int, np.ndarray] = {}
        confidence = {}
        peaks, certainty = soft.amax((0, 1)), _certainty(soft).tolist()
        regions = self._regions((soft > peaks / 4) & (peaks >= self.VISIBLE))
        for object_id in self._chosen(ids):
            channel = self.channels[object_id].start
            region = regions[channel]
            if region is None:
                continue
            value = self._upsample(soft[..., channel], region)
            inside = value > peaks[channel] / 2
            if not inside.any():
                continue
            sure = min(float(value[inside].mean()), 1.0) * certainty[channel]
            if sure < self.min_confidence:
                continue
            down, across = (inside.any(axis).nonzero() for axis in (1, 0))
            x, y = region.x.start, region.y.start
            corners = across[0] + x, down[0] + y, across[-1] + x + 1, down[-1] + y + 1
            boxes[object_id] = np.array([float(corner) for corner in corners])
            confidence[object_id] = sure
        return boxes, confidence

    def cells(self, soft: Tensor) -> Tensor:
        peaks = soft.amax((0, 1))
        return ((soft > peaks / 2) & (peaks >= self.VISIBLE)).permute(2, 0, 1)

    def overlay(self, tracked: Labels, drawn: Labels) -> Labels:
        return {**tracked, **drawn}  # type: ignore[dict-item]

    def _covered(self, axis: int, start: float, stop: float) -> Tensor:
        """Share of every cell of an axis that lies between two positions in pixels."""
        per_cell = self.grid.pixels_per_cell[axis]
        low = torch.arange(self.grid.cells[axis], device=self.device) * per_cell
        overlap = (low + per_cell).clamp(max=float(stop)) - low.clamp(min=float(start))
        return (overlap / per_cell).clamp(0, 1)


class PointCodec(Codec):
    """Points as Gaussian bumps, one channel per point; several may share a cell."""

    SIGMA = 0.75  # of the bump, in cells: wide enough that its sampled centroid is exact to 1/50 of a cell
    REACH = 2  # the centroid is taken over the cells within this distance of the peak
    VISIBLE = 0.02  # a point whose bump stays below this is not visible
    NEAR = 20  # pixels of the input: a point is rarely farther from where its colors were in the last frame
    JUMP = 0.05  # what a bump elsewhere counts

    def __init__(
        self, ids: Sequence[int], counts: Mapping[int, int], grid: Grid, device: torch.device
    ) -> None:
        super().__init__(ids, grid, device)
        self._per_cell = torch.tensor(grid.pixels_per_cell[::-1], device=device)  # (x, y)
        for object_id in self.ids:
            self.channels[object_id] = slice(self.depth, self.depth + counts[object_id])
            self.depth += counts[object_id]

    @classmethod
    def create(cls, seeds: Sequence[Seed], grid: Grid, device: torch.device) -> PointCodec:
        counts: dict[int, int] = {}
        for seed in seeds:
            for object_id, points in _mapping(seed).items():
                shape = np.shape(points)
                if len(shape) != 2 or shape[1] != 2 or counts.setdefault(object_id, shape[0]) != shape[0]:
                    raise ColorTrackError(
                        f"object {object_id} of frame {seed.frame} has points of shape {shape}; points are "
                        "[P, 2], with the same P in all labeled frames (NaN for points that are not visible)"
                    )
        return cls(_ids(seeds), counts, grid, device)

    def ids_in(self, labels: Labels) -> frozenset[int]:
        return frozenset(labels)

    def encode(self, labels: Labels) -> Tensor:
        soft = torch.zeros(*self.grid.cells, self.depth, device=self.device)
        for object_id, points in labels.items():  # type: ignore[union-attr]
            position = torch.as_tensor(np.asarray(points), dtype=torch.float32, device=self.device)  # [P, 2]
            across = self._bump(1, position[:, 0])
            down = self._bump(0, position[:, 1])
            soft[..., self.channels[object_id]] = torch.einsum("hp,wp->hwp", down, across).nan_to_num(0)
        return soft

    def decode(
        self, soft: Tensor, outlines: Outlines | None = None, ids: Collection[int] | None = None
    ) -> tuple[Labels, Confidence]:
        peak = soft.amax((0, 1))  # [L]
        points = self._positions(self._bumps(soft, soft))  # [L, 2]
        points[peak < max(self.VISIBLE, self.min_confidence)] = torch.nan
        found, sure = points.cpu().double().numpy(), peak.clamp(0, 1).cpu().numpy()
        chosen = {object_id: self.channels[object_id] for object_id in self._chosen(ids)}
        return {i: found[c] for i, c in chosen.items()}, {i: sure[c] for i, c in chosen.items()}

    def cells(self, soft: Tensor) -> None:
        return None

    def clean(self, soft: Tensor, before: Tensor, origin: Tensor | None = None) -> Tensor:
        """For each point, keep only the bump that continues it: a look-alike elsewhere must be much clearer.

        As in a Bayesian filter, soft labels are weighted by a prior: a Gaussian around where the point was, at the
        cells whose colors were there, above a floor. The bump that is kept stays as high as it is.
        """
        at = self._at_cells(origin)  # [h, w, 2]
        was = self._positions(before) / self._per_cell - 0.5  # [L, 2], in cells
        distance = (at[:, :, None] - was).square().sum(-1).sqrt() * self.grid.stride  # [h, w, L]
        prior = self.JUMP + (1 - self.JUMP) * torch.exp(-((distance / self.NEAR) ** 2) / 2)
        prior.masked_fill_(before.amax((0, 1)) < self.VISIBLE, 1)
        return self._bumps(soft, soft * prior)

    def _at_cells(self, origin: Tensor | None) -> Tensor:
        """Where each cell was in the frame before, in cells (x, y): [h, w, 2]. Single cells may be wrong."""
        y, x = torch.meshgrid(
            *(torch.arange(cells, device=self.device) for cells in self.grid.cells), indexing="ij"
        )
        here = torch.stack([x, y]).float()  # 2 x h x w
        if origin is None:
            return here.permute(1, 2, 0)
        moved = torch.stack([origin % self.grid.cells[1], origin // self.grid.cells[1]]) - here
        around = F.unfold(F.pad(moved[:, None], (1, 1, 1, 1), mode="replicate"), 3)  # 2 x 9 x hw
        return (here + around.median(1).values.view_as(here)).permute(1, 2, 0)

    def overlay(self, tracked: Labels, drawn: Labels) -> Labels:
        return {**tracked, **drawn}  # type: ignore[dict-item]

    def _bumps(self, soft: Tensor, likely: Tensor) -> Tensor:
        """The bump of each channel of soft labels [h, w, L], where `likely` [h, w, L] is highest."""
        width = soft.shape[1]
        place = likely.flatten(0, 1).argmax(0)  # [L]
        rows, columns = (torch.arange(cells, device=soft.device)[:, None] for cells in soft.shape[:2])
        near_y = (rows - place // width).abs() <= self.REACH  # [h, L]
        near_x = (columns - place % width).abs() <= self.REACH  # [w, L]
        return soft * near_y[:, None] * near_x[None]

    def _positions(self, bumps: Tensor) -> Tensor:
        """The centers of bumps [h, w, L] in pixels, (x, y): [L, 2]."""
        mass = bumps.sum((0, 1)).clamp(min=1e-12)
        center_y = (bumps.sum(1) * self._centers(0)[:, None]).sum(0) / mass
        center_x = (bumps.sum(0) * self._centers(1)[:, None]).sum(0) / mass
        return torch.stack([center_x, center_y], 1)

    def _centers(self, axis: int) -> Tensor:
        """Pixel positions of the cells' centers along an axis."""
        cells = torch.arange(self.grid.cells[axis], device=self.device)
        return (cells + 0.5) * self.grid.pixels_per_cell[axis]

    def _bump(self, axis: int, position: Tensor) -> Tensor:
        """Gaussian around each position (in pixels), at the cells of an axis: [cells, P]."""
        distance = (self._centers(axis)[:, None] - position) / self.grid.pixels_per_cell[axis]
        return torch.exp(-((distance / self.SIGMA) ** 2) / 2)


class _Interpolation:
    """Interpolates between the centers of cells at the pixels of a frame."""

    def __init__(self, grid: Grid, device: torch.device) -> None:
        self._identity = grid.cells == grid.size
        self._per_cell = grid.pixels_per_cell
        on_cpu = device.type == "cpu"
        self._matrices = () if on_cpu else tuple(grid.interpolation(axis).to(device) for axis in (0, 1))

    def __call__(self, part: Tensor, corner: tuple[int, int], y: slice, x: slice) -> Tensor:
        """A part of a map of cells [h, w], which begins at a corner (row, column), at pixels y and x."""
        top, left = corner
        if self._identity:
            return part[y.start - top : y.stop - top, x.start - left : x.stop - left]
        if self._matrices:
            down = self._matrices[0][y, top : top + part.shape[0]]
            return down @ part @ self._matrices[1][x, left : left + part.shape[1]].T
        height, width = self._per_cell
        to_cells = np.array(
            [
                [1 / width, 0, (x.start + 0.5) / width - 0.5 - left],
                [0, 1 / height, (y.start + 0.5) / height - 0.5 - top],
            ]
        )
        pixels = cv2.warpAffine(
            part.contiguous().numpy(),
            to_cells,
            (x.stop - x.start, y.stop - y.start),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return torch.from_numpy(pixels)


def _certainty(soft: Tensor) -> Tensor:
    """Mean of each channel of [h, w, L], weighted with itself: [L] in [0, 1]; `LOST` where it is empty."""
    mass = soft.sum((0, 1))
    return torch.where(mass > LEAST_MASS, soft.square().sum((0, 1)) / mass, LOST)


def _mapping(seed: Seed) -> Mapping[int, np.ndarray]:
    if not isinstance(seed.labels, dict):
        raise ColorTrackError(f"the labels of frame {seed.frame} must be a dict {{object id: array}}")
    if any(object_id < 1 for object_id in seed.labels):
        raise ColorTrackError(f"object IDs of frame {seed.frame} must be positive, not {list(seed.labels)}")
    return seed.labels


def _ids(seeds: Sequence[Seed]) -> list[int]:
    ids = sorted({object_id for seed in seeds for object_id in _mapping(seed)})
    if not ids:
        raise ColorTrackError("the seeds contain no object")
    return ids


CODECS: dict[LabelKind, type[Codec]] = {"masks": MaskCodec, "boxes": BoxCodec, "points": PointCodec}
