"""Trackers that need no network, behind the same interface: to see what a network is worth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.propagator import Labelled, Propagator, resize


class IdentityPropagator(Propagator[None]):
    """Nothing ever moves: the labelled frame's labels, repeated."""

    stride = 1
    input_size = None
    device = torch.device("cpu")

    def prepare(self, frame: np.ndarray, grid: Grid) -> None:
        return None

    def start(self, labelled: Sequence[Labelled]) -> None:
        self._labels = labelled[0].labels

    def step(self, prepared: None) -> Tensor:
        return self._labels


class FlowPropagator(Propagator[np.ndarray]):
    """Labels follow the optical flow from frame to frame (DIS: Kroeger et al. 2016, OpenCV's)."""

    stride = 1
    device = torch.device("cpu")

    def __init__(self, input_size: int | tuple[int, int] = 480) -> None:
        self.input_size = input_size
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def prepare(self, frame: np.ndarray, grid: Grid) -> np.ndarray:
        """The frame in grey, uint8 [H, W]."""
        return cv2.cvtColor(resize(frame, grid.input_size), cv2.COLOR_RGB2GRAY)

    def start(self, labelled: Sequence[Labelled]) -> None:
        self._last, self._labels = labelled[0]

    def step(self, prepared: np.ndarray) -> Tensor:
        # Backward flow: where each pixel of this frame was in the last one.
        flow = self._flow.calc(prepared, self._last, np.zeros((*prepared.shape, 2), np.float32))
        y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
        moved = [
            cv2.remap(
                channel, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for channel in self._labels.permute(2, 0, 1).contiguous().numpy()
        ]
        self._last, self._labels = prepared, torch.from_numpy(np.stack(moved, axis=-1))
        return self._labels
