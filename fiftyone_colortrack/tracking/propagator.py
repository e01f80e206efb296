"""Copying soft labels to the next frame: the step that every tracker here takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.tracking.affinity import (
    bf16_products,
    copy_labels,
    rounded,
    top_k_matches,
    trusted,
)
from fiftyone_colortrack.tracking.config import TrackerConfig
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.memory import Memory

Prepared = TypeVar("Prepared")


class Labelled(NamedTuple):
    """A frame, as a propagator prepared it, with its soft labels [h, w, L]."""

    prepared: Any
    labels: Tensor


class Propagator(ABC, Generic[Prepared]):
    """Carries soft labels from frame to frame, one `step` at a time, in either direction.

    Attributes:
        stride: pixels of the network's input per cell of the soft labels
        input_size: what frames are scaled to, see `TrackerConfig`; None leaves them as they are
        device: where soft labels live
    """

    stride: int
    input_size: int | tuple[int, int] | None
    device: torch.device

    def grid(self, size: tuple[int, int]) -> Grid:
        """The geometry for frames of (height, width) pixels."""
        return Grid.fit(size, self.input_size or size, self.stride)

    @abstractmethod
    def prepare(self, frame: np.ndarray, grid: Grid) -> Prepared:
        """What the steps need of a frame (uint8 RGB [H, W, 3]): computed once for each frame."""

    @abstractmethod
    def start(self, labelled: Sequence[Labelled], recent: Sequence[Labelled] = ()) -> None:
        """Begin at the first of these frames; the others are looked at as well.

        Args:
            labelled: the labeled frames
            recent: the last frames of an interrupted run, in the order of tracking: go on after them
        """

    @abstractmethod
    def step(self, prepared: Prepared) -> Tensor:
        """Move on to the next frame and return its soft labels [h, w, L]."""


class ColorPropagator(Propagator[Tensor]):
    """Copies labels as the network copies colours: from the cells that look alike to it."""

    def __init__(self, embedder: Embedder, config: TrackerConfig) -> None:
        self.stride = embedder.stride
        self.input_size = config.input_size
        self.device = embedder.device
        self._embedder = embedder
        self._config = config
        self._temperature = config.temperature or embedder.temperature
        self._memory: Memory | None = None

    @torch.inference_mode()
    def prepare(self, frame: np.ndarray, grid: Grid) -> Tensor:
        """The frame's features, [h, w, C]."""
        frame = resize(frame, grid.input_size)
        batch = torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None]
        return rounded(self._embedder.embed(batch)[0].permute(1, 2, 0)).contiguous()

    def start(self, labelled: Sequence[Labelled], recent: Sequence[Labelled] = ()) -> None:
        self._memory = Memory(labelled, self._config.memory, keep=self._config.labeled > 0)
        for frame in recent:
            self._memory.add(*frame)

    @torch.inference_mode()
    def step(self, prepared: Tensor) -> Tensor:
        if self._memory is None:
            raise RuntimeError("ColorPropagator.step before start")
        with bf16_products():
            query = rounded(trusted(prepared, self._memory.last, self._embedder))
            matches = top_k_matches(query, self._memory.features, self._config.top_k, self._config.radius)
        labels = copy_labels(matches, self._memory.labels, self._temperature)
        labels = labels.view(*prepared.shape[:2], -1)
        self._memory.add(prepared, labels)
        return labels


def resize(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a frame to (height, width) pixels."""
    if frame.shape[:2] == size:
        return frame
    shrinking = size[0] < frame.shape[0]
    return cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
