"""Copy soft labels to the next frame: one step of tracking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fiftyone_colortrack.model.colorizer import Embedder, Features, fast_dtype
from fiftyone_colortrack.tracking.affinity import (
    Matches,
    bf16_products,
    cells_at_once,
    compare_again,
    copy_labels,
    open_matches,
    rounded,
    rows_of,
    shared,
    top_k_matches,
    trust,
    wants_large_kernels,
    weighted,
)
from fiftyone_colortrack.tracking.config import TrackerConfig
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.labels import LabelKind

DIMENSIONS = 128
"""Number of channels for the search of candidates, see `_Memory.searched`."""
SPARE = 4
"""Number of candidates beyond the matches that are wanted, where the candidates are compared again."""
UNIFORM = 0.02
"""If the labels around the matches of a cell differ by less, its four fine cells get the same label."""
NEGLIGIBLE = 8.0
"""Matches that are this many temperatures less similar than the best one are ignored."""
SURE = 12
"""Number of cells with which a query is compared to learn the least quality of its matches."""
POINT_REACH = 0.75
"""Share of the radius for points, which move less from frame to frame than the cells of whole objects."""
Prepared = TypeVar("Prepared")


class Labeled(NamedTuple):
    """A frame, as a propagator prepared it, with its soft labels [h, w, L]."""

    prepared: Any
    labels: Tensor


class Propagator(ABC, Generic[Prepared]):
    """Copy soft labels from frame to frame, one `step` at a time, in either direction.

    Attributes:
        stride: pixels of the network's input per cell of the soft labels
        padding: the number of cells on each side is a multiple of this
        input_size: what frames are scaled to, see `TrackerConfig`; None leaves them as they are
        device: where soft labels live
        origin: after a step, the cell of the frame before where each cell's colors are, [h, w]; None if unknown
    """

    stride: int
    padding: int = 1
    input_size: int | tuple[int, int] | None
    device: torch.device
    origin: Tensor | None = None

    def grid(self, size: tuple[int, int]) -> Grid:
        """The geometry for frames of (height, width) pixels."""
        return Grid.fit(size, self.input_size or size, self.stride, self.padding)

    @abstractmethod
    def prepare(self, frame: np.ndarray, grid: Grid) -> Prepared:
        """Compute what the steps need of a frame (uint8 RGB [H, W, 3]), once for each frame."""

    @abstractmethod
    def start(self, labeled: Sequence[Labeled], recent: Sequence[Labeled] = ()) -> None:
        """Begin at the first labeled frame; the others are searched, too.

        Args:
            labeled: the labeled frames
            recent: the last frames of an interrupted run, in the order of tracking, to continue after
        """

    @abstractmethod
    def step(self, prepared: Prepared) -> Tensor:
        """Move on to the next frame and return its soft labels [h, w, L]."""


class ColorPropagator(Propagator[Features]):
    """Copy labels as the network copies colors: from the most similar cells.

    Args:
        embedder: makes the features
        config: settings of the tracker
        kind: kind of labels. Only masks use fine cells: a point in a fine cell would soon be lost, and boxes do not
            improve
    """

    def __init__(self, embedder: Embedder, config: TrackerConfig, kind: LabelKind = "masks") -> None:
        config = config.with_defaults(embedder.tracker_settings)
        if config.top_k is None:
            embedder = embedder.for_all_cells()
        if config.detail == "fine":
            embedder = embedder.at_half_stride()
        opens = config.detail != "coarse" and config.top_k is not None
        self._fine = kind == "masks" and opens and embedder.has_fine
        self.stride = embedder.stride // 2 if self._fine else embedder.stride
        self.padding = 2 if self._fine else 1
        self.input_size = config.input_size or embedder.input_size
        self.device = embedder.device
        self._embedder = embedder
        self._config = config
        self._temperature = config.temperature or embedder.temperature
        reach = POINT_REACH if kind == "points" else 1.0
        self._radius = config.radius and reach * config.radius / embedder.stride  # in cells
        self._handicap = None if config.handicap is None else config.handicap * self._temperature
        self._memory: _Memory | None = None

    @torch.inference_mode()
    def prepare(self, frame: np.ndarray, grid: Grid) -> Features:
        """The frame's features."""
        batch = torch.from_numpy(resize(frame, grid.input_size)).to(self.device).permute(2, 0, 1)[None]
        return self._embedder.features(batch, self._fine)

    def start(self, labeled: Sequence[Labeled], recent: Sequence[Labeled] = ()) -> None:
        config = self._config
        self._memory = _Memory(
            labeled, config.memory, keep=config.labeled > 0, fine=self._fine, exact=config.top_k is None
        )
        for frame in recent:
            self._memory.add(*frame)

    @torch.inference_mode()
    def step(self, prepared: Features) -> Tensor:
        if self._memory is None:
            raise RuntimeError("ColorPropagator.step before start")
        memory, config = self._memory, self._config
        size = prepared.coarse.shape[:2]
        with bf16_products():
            share, found = trust(prepared.coarse, memory.last, self._embedder)
            features = weighted(prepared.coarse, share, self._embedder)
            query = memory.searched(features)
            wanted = self._wanted(query, found)  # [h, w]
            matches = top_k_matches(
                query,
                memory.features,
                config.top_k and config.top_k + (0 if memory.exact is None else SPARE),
                self._radius,
                whole=0 if self._handicap is None else memory.labeled,
                handicap=self._handicap or 0.0,
                wanted=wanted,
            )
            cells = torch.arange(size.numel(), device=query.device)
            cells = cells if wanted is None else cells[wanted.flatten()]  # [n]
            matches = Matches(matches.similarity[cells].float(), matches.cell[cells])
            if memory.exact is not None and config.top_k is not None:
                exact = rounded(features).flatten(0, 1)[cells]
                penalty = self._penalty(matches.cell, cells, size)
                matches = compare_again(matches, exact, memory.exact, config.top_k, penalty)
            labels = memory.resting.expand(size.numel(), -1).clone()  # [hw, L]
            if len(cells):
                labels[cells] = copy_labels(matches, memory.labels, self._temperature)
            labels = labels.unflatten(0, size)
            if self._fine:
                labels = self._open(prepared, share, cells, matches, labels)
        memory.add(prepared, labels)
        self.origin = found.view(size)
        return labels

    def _penalty(self, matched: Tensor, cells: Tensor, size: torch.Size) -> Tensor | None:
        """The handicap of each match [n, k] of some cells [n], as `top_k_matches` takes it."""
        assert self._memory is not None
        if self._handicap is None or self._radius is None:
            return None
        height, width = size
        at = matched % (height * width)
        down, across = at // width - (cells // width)[:, None], at % width - (cells % width)[:, None]
        labeled = matched < self._memory.labeled * height * width
        return self._handicap * (labeled & (down**2 + across**2 > self._radius**2))

    def _wanted(self, query: Tensor, found: Tensor) -> Tensor | None:
        """The cells that must be matched, bool [h, w]; None for all. For the others, the label is known.

        Most of a frame is background, far from any object. A cell is skipped if all labels within its reach are the
        resting one, and no cell of a labeled frame with another label looks more like it than the worst match that it
        certainly has: the best of the cells around the place where its colors are in the last frame.

        Args:
            query: what is searched with, [h, w, D]
            found: cell of the last frame, [h * w]
        """
        assert self._memory is not None
        memory, config = self._memory, self._config
        height, width, _ = query.shape
        if self._radius is None or config.top_k is None or config.top_k > SURE:
            return None
        if wants_large_kernels(query.device):  # which would wait to know which cells
            return None
        reach = 2 * int(self._radius) + 1
        other = memory.other.any(0)[None, None].float()  # 1 x 1 x h x w
        for window in ((reach, 1), (1, reach)):
            other = F.max_pool2d(other, window, 1, (window[0] // 2, window[1] // 2))
        wanted = other[0, 0] > 0
        rivals = memory.features[: memory.labeled][memory.other[: memory.labeled]]  # [m, D]
        cells = (~wanted).flatten().nonzero()[:, 0]  # [n]
        if self._handicap is None or not len(rivals) or not len(cells):
            return wanted
        y, x = found[cells] // width, found[cells] % width
        dy, dx = torch.meshgrid(torch.arange(-1, 2), torch.arange(-1, 3), indexing="ij")
        dy, dx = dy.flatten().to(y.device), dx.flatten().to(y.device)
        y, x = (y[:, None] + dy).clamp(0, height - 1), (x[:, None] + dx).clamp(0, width - 1)
        around = y * width + x  # [n, 12]
        queries = query.flatten(0, 1)[cells]
        sure = torch.bmm(rows_of(memory.recent.flatten(0, 1), around), queries[:, :, None])[..., 0]  # [n, 12]
        sure = sure.float().topk(config.top_k, 1).values
        least = torch.maximum(sure[:, -1], sure[:, 0] - NEGLIGIBLE * self._temperature)
        rival = torch.cat([(part @ rivals.T).amax(1) for part in queries.split(512)]).float()
        wanted.view(-1)[cells] = rival - self._handicap > least
        return wanted

    def _open(
        self, prepared: Features, share: Tensor, cells: Tensor, matches: Matches, labels: Tensor
    ) -> Tensor:
        """Labels [2h, 2w, L] of the fine cells, from those of the coarse cells [h, w, L].

        If all labels around all matches of a cell are the same, its fine cells get that label. Only the other cells are
        matched again.
        """
        assert self._memory is not None
        assert prepared.fine is not None
        memory, top_k = self._memory, self._config.top_k or 1
        height, width, depth = labels.shape
        relevant = matches.similarity > matches.similarity[:, :1] - NEGLIGIBLE * self._temperature  # [n, k]
        low, high = memory.extremes  # [T hw, L] each
        lowest = rows_of(low, matches.cell).masked_fill_(~relevant[..., None], torch.inf).amin(1)  # [n, L]
        highest = rows_of(high, matches.cell).masked_fill_(~relevant[..., None], -torch.inf).amax(1)
        candidates = torch.where(relevant, matches.cell, matches.cell[:, :1])
        opened = (highest - lowest).amax(1).gt(UNIFORM).nonzero()[:, 0]
        fine = labels[:, None, :, None].expand(-1, 2, -1, 2, -1).clone()  # [h, 2, w, 2, L]
        up = F.interpolate(share.permute(2, 0, 1)[None], scale_factor=2.0, mode="bilinear")[0, 0]  # [2h, 2w]
        features, shares = prepared.fine.view(height, 2, width, 2, -1), up.view(height, 2, width, 2, 1)
        keys, fine_labels = memory.fine, memory.fine_labels

        @torch.inference_mode()
        def work(parts: Sequence[Tensor]) -> None:
            for part in filter(len, parts):  # nothing is opened where no object is left
                y, x = cells[part] // width, cells[part] % width
                query = weighted(features[y, :, x].float(), shares[y, :, x], self._embedder)  # [m, 2, 2, C]
                copied = open_matches(
                    candidates[part], query.flatten(1, 2), keys, fine_labels, top_k, self._temperature
                )
                fine[y, :, x] = copied.unflatten(1, (2, 2))

        shared(work, opened.split(cells_at_once(labels.device)), labels.device)
        return fine.view(2 * height, 2 * width, depth)


class _Memory:
    """Features and soft labels of a fixed number of frames: the labeled ones, which stay, and the last ones.

    The buffers are written in place and do not grow with the length of the video.

    Args:
        labeled: the labeled frames, at least one
        recent: number of later frames to keep
        keep: whether the labeled frames stay; otherwise the first of them leaves like any other frame
        fine: whether labels are those of fine cells
        exact: whether all cells are copied from, so that the search must be exact
    """

    def __init__(self, labeled: Sequence[Labeled], recent: int, keep: bool, fine: bool, exact: bool) -> None:
        features, labels = labeled[0]
        self.labeled = len(labeled) if keep else 0
        self._recent, self._added, self._slot, self._has_fine = recent, 0, 0, fine
        size = self.labeled + recent
        height, width, _ = features.coarse.shape
        depth = labels.shape[-1]
        self._dtype = fast_dtype(features.coarse.device)
        self._searches_exactly = exact
        self._axes = None if exact else _principal_axes(features.coarse.flatten(0, 1), DIMENSIONS)
        searched = self.searched(features.coarse)
        self._features = searched.new_empty(size, *searched.shape)
        compared = features.coarse.bfloat16()  # without a loss: this is their precision
        self._exact = None if fine or exact else compared.new_empty(size, *compared.shape)
        self.last = features.coarse
        self._labels = labels.new_empty(size, height, width, depth)
        self.resting = labels.flatten(0, 1).median(0).values
        self.other = torch.zeros(size, height, width, dtype=torch.bool, device=labels.device)
        if fine:
            self._fine = features.fine.new_empty(size, *features.fine.shape)
            self._fine_labels = labels.new_empty(size, *labels.shape)
            self._low, self._high = self._labels.clone(), self._labels.clone()
        if keep:
            for slot, frame in enumerate(labeled):
                self._put(slot, *frame)
        else:
            self.add(features, labels)

    def add(self, features: Features, labels: Tensor) -> None:
        """Add the next frame, in place of the oldest one that does not stay."""
        self._slot = self.labeled + self._added % self._recent
        self._put(self._slot, features, labels)
        self.last = features.coarse
        self._added += 1

    def _put(self, slot: int, features: Features, labels: Tensor) -> None:
        self._features[slot] = self.searched(features.coarse)
        if self._exact is not None:
            self._exact[slot] = features.coarse  # which have its precision
        if not self._has_fine:
            self._labels[slot] = labels
            self.other[slot] = (labels - self.resting).abs().amax(-1) > UNIFORM
            return
        self._fine[slot] = features.fine
        self._fine_labels[slot] = labels
        self._labels[slot] = (
            labels[0::2, 0::2] + labels[0::2, 1::2] + labels[1::2, 0::2] + labels[1::2, 1::2]
        ) / 4
        self._low[slot], self._high[slot] = (_around(labels, fold) for fold in (torch.minimum, torch.maximum))
        spread = torch.maximum(self._high[slot] - self.resting, self.resting - self._low[slot])
        self.other[slot] = spread.amax(-1) > UNIFORM

    def searched(self, features: Tensor) -> Tensor:
        """Features [h, w, C] in the form in which they are searched.

        Matches are compared again, in fine cells or with all channels, so the search for candidates needs less
        precision: it uses bf16 where that is fast, along the axes in which the features differ most.
        """
        if self._searches_exactly:
            return rounded(features)
        return (features if self._axes is None else features @ self._axes).to(self._dtype)

    @property
    def exact(self) -> Tensor | None:
        """[T * h * w, C] the features with which candidates are compared again; None if fine cells are."""
        return None if self._exact is None else self._exact[: self._size].flatten(0, 2)

    @property
    def features(self) -> Tensor:
        """[T, h, w, D]"""
        return self._features[: self._size]

    @property
    def recent(self) -> Tensor:
        """The features of the last frame, [h, w, D]."""
        return self._features[self._slot]

    @property
    def labels(self) -> Tensor:
        """[T * h * w, L]"""
        return self._labels[: self._size].flatten(0, 2)

    @property
    def fine(self) -> Tensor:
        """[T, 2h, 2w, C]"""
        return self._fine[: self._size]

    @property
    def fine_labels(self) -> Tensor:
        """[T * 2h * 2w, L]"""
        return self._fine_labels[: self._size].flatten(0, 2)

    @property
    def extremes(self) -> tuple[Tensor, Tensor]:
        """The lowest and highest fine labels in and around each coarse cell: [T * h * w, L] each."""
        return self._low[: self._size].flatten(0, 2), self._high[: self._size].flatten(0, 2)

    @property
    def _size(self) -> int:
        return self.labeled + min(self._added, self._recent)


def _around(fine: Tensor, fold: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Fold the labels [2h, 2w, L] of each match's candidates, its own fine cells and those around them: [h, w, L]."""
    for axis in (0, 1):
        fine = fine.transpose(0, axis)
        found = fold(fine[0::2], fine[1::2])
        found[1:] = fold(found[1:], fine[1:-1:2])
        found[:-1] = fold(found[:-1], fine[2::2])
        fine = found.transpose(0, axis)
    return fine


def _principal_axes(features: Tensor, count: int) -> Tensor | None:
    """[C, count] axes in which features [N, C] keep most of their products; None if they have no more channels."""
    if features.shape[1] <= count:
        return None
    return torch.linalg.eigh(features.T @ features).eigenvectors[:, -count:].contiguous()


def resize(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a frame to (height, width) pixels."""
    if frame.shape[:2] == size:
        return frame
    shrinking = size[0] < frame.shape[0]
    return cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
