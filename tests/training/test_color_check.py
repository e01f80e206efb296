from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.training import TrainingData
from fiftyone_colortrack.training.cache import FrameCache
from fiftyone_colortrack.training.color_check import ColorCheck


class Constant(Embedder):
    """All cells look alike, so that the mean color around them is copied."""

    stride, dim = 8, 2

    def forward(self, lab: Tensor) -> Tensor:
        return torch.ones(len(lab), 2, lab.shape[-2] // 8, lab.shape[-1] // 8)


def test_a_network_that_sees_errs_less_than_one_that_does_not(videos: Path, tmp_path: Path) -> None:
    check = ColorCheck(FrameCache.open(TrainingData.collect(videos), tmp_path))
    seeing, blind = check(load_model("lab", "cpu"))["color_error"], check(Constant())["color_error"]
    assert 0 < seeing < 0.85 * blind  # measured: 0.66; encoders of H.264 differ
    assert check(Constant())["color_error"] == blind


def test_the_error_is_in_units_of_cie(tmp_path: Path) -> None:
    """A picture of two halves, Lab (50, 20, 0) and (50, -20, 0), that are exchanged in the second frame."""
    lab = np.full((256, 256, 3), (50, 20, 0), np.float32)
    lab[128:, :, 1] = -20
    picture = (cv2.cvtColor(lab, cv2.COLOR_Lab2BGR).clip(0, 1) * 255).round().astype(np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(3)]  # every second one is kept
    for path, image in zip(paths, (picture, picture, picture[::-1]), strict=True):
        cv2.imwrite(str(path), image)
    cache = FrameCache.open(TrainingData.collect([paths]), tmp_path / "cache")

    class Places(Constant):
        """Every cell is known by its place."""

        temperature = 1e-4

        def forward(self, lab: Tensor) -> Tensor:
            return torch.eye(32 * 32).view(1, 32 * 32, 32, 32).expand(len(lab), -1, -1, -1)

    assert ColorCheck(cache)(Places())["color_error"] == pytest.approx(40, abs=1)


def test_photographs_have_no_error(tmp_path: Path, scene: Callable) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), scene(0, frames=1)[0][0])
    cache = FrameCache.open(TrainingData.collect(images=tmp_path), tmp_path / "cache")
    assert ColorCheck(cache)(load_model("lab", "cpu")) == {}
