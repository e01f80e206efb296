"""Baselines that did not learn from colors, with the interface of the tracker: what a network has to beat."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.weights import best_device
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.propagator import Labeled, Prepared, Propagator, resize


class IdentityPropagator(Propagator[None]):
    """Nothing ever moves: the labeled frame's labels, repeated."""

    stride = 1
    input_size = None
    device = torch.device("cpu")

    def prepare(self, frame: np.ndarray, grid: Grid) -> None:
        return None

    def start(self, labeled: Sequence[Labeled], recent: Sequence[Labeled] = ()) -> None:
        self._labels = labeled[0].labels

    def step(self, prepared: None) -> Tensor:
        return self._labels


class FlowPropagator(Propagator[Prepared]):
    """Labels follow the optical flow from frame to frame."""

    stride = 1
    device = torch.device("cpu")

    def __init__(self, input_size: int | tuple[int, int] = 480) -> None:
        self.input_size = input_size

    @abstractmethod
    def flow(self, frame: Prepared, last: Prepared) -> np.ndarray:
        """Backward flow, [H, W, (x, y)] in pixels: how far back each pixel of a frame was in the last one."""

    def start(self, labeled: Sequence[Labeled], recent: Sequence[Labeled] = ()) -> None:
        self._last, self._labels = recent[-1] if recent else labeled[0]

    def step(self, prepared: Prepared) -> Tensor:
        height, width = self._labels.shape[:2]
        flow = self.flow(prepared, self._last)[:height, :width]
        y, x = np.mgrid[:height, :width].astype(np.float32)
        moved = [
            cv2.remap(
                channel, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for channel in self._labels.permute(2, 0, 1).contiguous().numpy()
        ]
        self._last, self._labels = prepared, torch.from_numpy(np.stack(moved, axis=-1))
        return self._labels


class DisPropagator(FlowPropagator[np.ndarray]):
    """Flow by dense inverse search (Kroeger et al. 2016), OpenCV's."""

    def __init__(self, input_size: int | tuple[int, int] = 480) -> None:
        super().__init__(input_size)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def prepare(self, frame: np.ndarray, grid: Grid) -> np.ndarray:
        """The frame in gray, uint8 [H, W]."""
        return cv2.cvtColor(resize(frame, grid.input_size), cv2.COLOR_RGB2GRAY)

    def flow(self, frame: np.ndarray, last: np.ndarray) -> np.ndarray:
        return self._flow.calc(frame, last, np.zeros((*frame.shape, 2), np.float32))


class RaftPropagator(FlowPropagator[Tensor]):
    """Flow by a network trained on rendered scenes with known flow (RAFT: Teed and Deng 2020), torchvision's.

    Raises:
        ColorTrackError: if its weights are not in the folder of torch.hub; nothing is downloaded
    """

    def __init__(
        self, input_size: int | tuple[int, int] = 480, device: str | torch.device | None = None
    ) -> None:
        super().__init__(input_size)
        self._network = _load_raft().to(device or best_device())

    def prepare(self, frame: np.ndarray, grid: Grid) -> Tensor:
        """The frame in -1 to 1, [1, 3, H, W], padded to whole cells of 8 pixels, at least 16 of them."""
        frame = resize(frame, grid.input_size)
        bottom, right = (max(-size % 8, 128 - size) for size in frame.shape[:2])
        padded = cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        device = next(self._network.parameters()).device
        return torch.from_numpy(padded).to(device).permute(2, 0, 1)[None] / 127.5 - 1

    @torch.inference_mode()
    def flow(self, frame: Tensor, last: Tensor) -> np.ndarray:
        return self._network(frame, last)[-1][0].permute(1, 2, 0).cpu().numpy()


def _load_raft() -> nn.Module:
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    weights = Raft_Large_Weights.DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if not path.is_file():
        raise ColorTrackError(f"the weights of RAFT are missing: save {weights.url} as {path}")
    return raft_large(weights=weights).eval()
