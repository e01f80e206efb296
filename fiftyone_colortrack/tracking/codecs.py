"""Labels in pixels <-> soft label maps in cells: masks, boxes, key points."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.labels import LOST, LabelKind, Labels, Seed
from fiftyone_colortrack.tracking.outlines import MARGIN, WINDOW_AREA, Outlines

LEAST_MASS = 0.5  # cells: an object that covers less is not seen

Confidence = dict[int, Any]


class Region(NamedTuple):
    """A part of a frame: its rows and columns of cells, and the pixels (y, x) that lie between them."""

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
    """

    def __init__(self, ids: Sequence[int], grid: Grid, device: torch.device) -> None:
        self.ids = tuple(ids)
        self.grid = grid
        self.device = device
        self.channels: dict[int, slice] = {}
        self.depth = 0
        self._interpolation = tuple(grid.interpolation(axis).to(device) for axis in (0, 1))

    @classmethod
    @abstractmethod
    def create(cls, seeds: Sequence[Seed], grid: Grid, device: torch.device) -> Codec:
        """A codec for all objects of these seeds; raises ColorTrackError where labels are unusable."""

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

        Args:
            soft: [h, w, L]
            outlines: of the frame; masks follow them
            ids: the objects to decode; None for all
        """

    @abstractmethod
    def overlay(self, tracked: Labels, drawn: Labels) -> Labels:
        """Drawn labels, completed with tracked ones of the other objects."""

    def complete(self, drawn: Tensor, tracked: Tensor, ids: Collection[int]) -> Tensor:
        """The soft labels of drawn objects, with the objects `ids` as tracked: [h, w, L]."""
        completed = drawn.clone()
        for object_id in sorted(ids):
            completed[..., self.channels[object_id]] = tracked[..., self.channels[object_id]]
        return completed

    def without(self, soft: Tensor, ids: Collection[int]) -> Tensor:
        """Soft labels [h, w, L] without the objects `ids`."""
        return self.complete(soft, torch.zeros_like(soft), ids) if ids else soft

    def fuse(self, forward: Tensor, backward: Tensor, nearness: float, ids: Collection[int]) -> Tensor:
        """Weighted mean of two soft label maps for the objects `ids`; all others are as in `forward`.

        The nearer labelled frame counts more, and so does the surer side: what was lost spreads thin.

        Args:
            forward: [h, w, L]
            backward: [h, w, L]
            nearness: of the labelled frame that `forward` comes from, in [0, 1]
        """
        ahead = nearness * _certainty(forward) ** 2  # [L]
        back = (1 - nearness) * _certainty(backward) ** 2
        share = ahead / (ahead + back)
        fused = forward.clone()
        for object_id in self.ids if ids is None else sorted(ids):
            channels = self.channels[object_id]
            fused[..., channels] = torch.lerp(
                backward[..., channels], forward[..., channels], share[channels]
            )
        return fused

    def _upsample(self, channel: Tensor, region: Region) -> Tensor:
        """Interpolate a channel [h, w] at the pixels of a region."""
        if self.grid.cells == self.grid.size:
            return channel[region.y, region.x]
        down = self._interpolation[0][region.y, region.rows]
        return (
            down @ channel[region.rows, region.columns] @ self._interpolation[1][region.x, region.columns].T
        )

    def _region(self, channel: Tensor, above: float) -> Region | None:
        """Where a channel [h, w] exceeds a value; None if nowhere."""
        hot = channel > above
        sides = []
        for axis in (0, 1):
            cells = hot.any(1 - axis).nonzero()
            if not len(cells):
                return None
            first, last = max(int(cells[0]) - 1, 0), min(int(cells[-1]) + 1, channel.shape[axis] - 1)
            per_cell, pixels = self.grid.pixels_per_cell[axis], self.grid.size[axis]
            start = 0 if first == 0 else min(math.floor((first + 0.5) * per_cell), pixels - 1)
            stop = (
                pixels if last == channel.shape[axis] - 1 else min(math.ceil((last + 0.5) * per_cell), pixels)
            )
            sides.append((slice(first, last + 1), slice(start, stop)))
        (rows, y), (columns, x) = sides
        return Region(rows, columns, y, x)


class MaskCodec(Codec):
    """Masks as a class distribution per cell; channel 0 is the background."""

    def __init__(self, ids: Sequence[int], grid: Grid, device: torch.device) -> None:
        super().__init__(ids, grid, device)
        self.channels = {object_id: slice(i, i + 1) for i, object_id in enumerate(self.ids, 1)}
        self.depth = len(self.ids) + 1
        self._dtype = np.min_scalar_type(max(self.ids))
        self._averaging = tuple(grid.averaging(axis).to(device) for axis in (0, 1))
        scaled = grid.size != grid.input_size
        to_frame = replace(grid, stride=1)  # from the input's pixels to the frame's
        self._pixels = tuple(to_frame.interpolation(axis).to(device) for axis in (0, 1) if scaled)

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
            raise ColorTrackError("the seeds' masks must hold at least one object, with a positive id")
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
                # An object that fills no cell to the half would lose everywhere to the background.
                soft[..., channels] = (share / peak if peak < 0.5 else share)[..., None]
        return self._with_background(soft)

    def decode(
        self, soft: Tensor, outlines: Outlines | None = None, ids: Collection[int] | None = None
    ) -> tuple[Labels, Confidence]:
        best = torch.ones(self.grid.size, device=self.device)  # the background: what no object takes
        found = {}
        for object_id in self.ids if ids is None else sorted(ids):
            channel = soft[..., self.channels[object_id].start]
            region = self._region(channel, above=0.01)
            if region is None:
                continue
            pixels = region.y, region.x
            # An object that is smaller than the filter's windows would be swallowed by them, or spill over.
            large = float(channel.sum()) * self.grid.stride**2 >= WINDOW_AREA
            sharp = outlines if large else None
            value = self._sharpen(channel, region, sharp) if sharp else self._upsample(channel, region)
            best[pixels] -= value
            found[object_id] = pixels, value
        winner = torch.zeros_like(best, dtype=torch.int32)
        for object_id, (pixels, value) in found.items():
            winner[pixels].masked_fill_(value > best[pixels], object_id)
            best[pixels] = torch.maximum(best[pixels], value)
        confidence = {}
        for object_id, (pixels, _) in found.items():
            values = best[pixels][winner[pixels] == object_id]
            if len(values):
                confidence[object_id] = min(float(values.mean()), 1.0)
        return winner.cpu().numpy().astype(self._dtype), confidence

    def _sharpen(self, channel: Tensor, region: Region, outlines: Outlines) -> Tensor:
        """A channel [h, w] at the pixels of a region, along the outlines of the frame."""
        margin = MARGIN // self.grid.stride
        rows, columns = (
            slice(max(part.start - margin, 0), min(part.stop + margin, count))
            for part, count in zip((region.rows, region.columns), self.grid.cells, strict=True)
        )
        sharp = outlines.sharpen(channel, rows, columns)
        top, left = rows.start * self.grid.stride, columns.start * self.grid.stride
        if not self._pixels:
            return sharp[
                region.y.start - top : region.y.stop - top, region.x.start - left : region.x.stop - left
            ]
        down, across = self._pixels
        return (
            down[region.y, top : top + sharp.shape[0]]
            @ sharp
            @ across[region.x, left : left + sharp.shape[1]].T
        )

    def overlay(self, tracked: Labels, drawn: Labels) -> Labels:
        drawn, tracked = np.asarray(drawn).astype(self._dtype), np.asarray(tracked)
        others = np.where(np.isin(tracked, list(self.ids_in(drawn))), 0, tracked)
        return np.where(drawn > 0, drawn, others)

    def complete(self, drawn: Tensor, tracked: Tensor, ids: Collection[int]) -> Tensor:
        # Where a person drew an object no other object is.
        return self._with_background(super().complete(drawn, tracked * drawn[..., :1], ids))

    def fuse(self, forward: Tensor, backward: Tensor, nearness: float, ids: Collection[int]) -> Tensor:
        return self._with_background(super().fuse(forward, backward, nearness, ids))

    @staticmethod
    def _with_background(soft: Tensor) -> Tensor:
        soft[..., 0] = (1 - soft[..., 1:].sum(-1)).clamp(min=0)
        return soft


class BoxCodec(Codec):
    """Boxes as filled boxes, each object for itself: they may overlap."""

    VISIBLE = 0.2  # an object whose soft label stays below this everywhere is not there

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
        for object_id in self.ids if ids is None else sorted(ids):
            channel = soft[..., self.channels[object_id].start]
            peak = float(channel.max())
            region = self._region(channel, above=peak / 4)
            if peak < self.VISIBLE or region is None:
                continue
            value = self._upsample(channel, region)
            inside = value > peak / 2
            if not inside.any():
                continue
            down, across = (inside.any(axis).nonzero() for axis in (1, 0))
            x, y = region.x.start, region.y.start
            corners = across[0] + x, down[0] + y, across[-1] + x + 1, down[-1] + y + 1
            boxes[object_id] = np.array([float(corner) for corner in corners])
            confidence[object_id] = min(float(value[inside].mean()), 1.0)
        return boxes, confidence

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
    VISIBLE = 0.05  # a point whose bump stays below this is not there

    def __init__(
        self, ids: Sequence[int], counts: Mapping[int, int], grid: Grid, device: torch.device
    ) -> None:
        super().__init__(ids, grid, device)
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
                        "[P, 2], with the same P in all labelled frames (NaN for points that are not there)"
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
        height, width, _ = soft.shape
        peak, place = soft.flatten(0, 1).max(0)  # [L]
        y, x = place // width, place % width
        near_y = (torch.arange(height, device=soft.device)[:, None] - y).abs() <= self.REACH  # [h, L]
        near_x = (torch.arange(width, device=soft.device)[:, None] - x).abs() <= self.REACH  # [w, L]
        weight = soft * near_y[:, None] * near_x[None]
        mass = weight.sum((0, 1)).clamp(min=1e-12)
        centre_y = (weight.sum(1) * self._centres(0)[:, None]).sum(0) / mass
        centre_x = (weight.sum(0) * self._centres(1)[:, None]).sum(0) / mass
        points = torch.stack([centre_x, centre_y], 1)  # [L, 2]
        points[peak < self.VISIBLE] = torch.nan
        found, sure = points.cpu().double().numpy(), peak.clamp(0, 1).cpu().numpy()
        channels = {object_id: self.channels[object_id] for object_id in (self.ids if ids is None else ids)}
        return {i: found[c] for i, c in channels.items()}, {i: sure[c] for i, c in channels.items()}

    def overlay(self, tracked: Labels, drawn: Labels) -> Labels:
        return {**tracked, **drawn}  # type: ignore[dict-item]

    def _centres(self, axis: int) -> Tensor:
        """Pixel positions of the cells' centres along an axis."""
        cells = torch.arange(self.grid.cells[axis], device=self.device)
        return (cells + 0.5) * self.grid.pixels_per_cell[axis]

    def _bump(self, axis: int, position: Tensor) -> Tensor:
        """Gaussian around each position (in pixels), at the cells of an axis: [cells, P]."""
        distance = (self._centres(axis)[:, None] - position) / self.grid.pixels_per_cell[axis]
        return torch.exp(-((distance / self.SIGMA) ** 2) / 2)


def _certainty(soft: Tensor) -> Tensor:
    """The mean of each channel of [h, w, L] over its own mass, [L] in [0, 1]; `LOST` where there is none."""
    mass = soft.sum((0, 1))
    return torch.where(mass > LEAST_MASS, soft.square().sum((0, 1)) / mass, LOST)


def _mapping(seed: Seed) -> Mapping[int, np.ndarray]:
    if not isinstance(seed.labels, dict):
        raise ColorTrackError(f"the labels of frame {seed.frame} must be a dict {{object id: array}}")
    if any(object_id < 1 for object_id in seed.labels):
        raise ColorTrackError(
            f"object ids of frame {seed.frame} must be positive, they are {list(seed.labels)}"
        )
    return seed.labels


def _ids(seeds: Sequence[Seed]) -> list[int]:
    ids = sorted({object_id for seed in seeds for object_id in _mapping(seed)})
    if not ids:
        raise ColorTrackError("the seeds hold no object")
    return ids


CODECS: dict[LabelKind, type[Codec]] = {"masks": MaskCodec, "boxes": BoxCodec, "points": PointCodec}
