from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder, build
from fiftyone_colortrack.training import TrainingData
from fiftyone_colortrack.training.cache import Clip, FrameCache
from fiftyone_colortrack.training.scoring import color_error, settled


class Constant(Embedder):
    """All cells look alike, so that the mean color around them is copied."""

    stride, dim = 8, 2

    def forward(self, lab: Tensor) -> Tensor:
        return torch.ones(len(lab), 2, lab.shape[-2] // 8, lab.shape[-1] // 8)


def test_a_network_that_sees_errs_less_than_one_that_does_not(videos: Path, tmp_path: Path) -> None:
    cache = FrameCache.open(TrainingData.collect(videos), tmp_path)
    seeing, blind = (color_error(m, cache)["color_error"] for m in (load_model("lab", "cpu"), Constant()))
    assert 0 < seeing < 0.85 * blind  # measured: 0.66; encoders of H.264 differ
    assert color_error(Constant(), cache)["color_error"] == blind


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

    assert color_error(Places(), cache)["color_error"] == pytest.approx(40, abs=1)


def test_photographs_have_no_error(tmp_path: Path, scene: Callable) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), scene(0, frames=1)[0][0])
    cache = FrameCache.open(TrainingData.collect(images=tmp_path), tmp_path / "cache")
    assert color_error(load_model("lab", "cpu"), cache) == {}


def test_a_settled_network_normalizes_whole_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3 * 256 * 256 * 3,), dtype=torch.uint8, generator=generator)
    offsets = np.arange(3) * 256 * 256 * 3
    cache = FrameCache(pixels, np.array([[256, 256]] * 3), offsets, [Clip("a", 0, 3, 12.0, 1.0)])
    network = build("fast", channels=8)
    first = network.trunk.stem[1]
    statistics = settled(network, cache, seed=0, batches=2)
    assert torch.equal(first.running_mean, torch.zeros(64))  # the original stays as it is
    assert not statistics.training
    seen = []
    norm = statistics.trunk.stem[1]
    norm.register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    windows = cache.windows(np.arange(3), np.zeros((3, 2), dtype=int))
    statistics.embed(torch.nn.functional.interpolate(windows, (480, 480), mode="bilinear"))
    assert seen[0].float().mean((0, 2, 3)).abs().max() < 0.1
    torch.testing.assert_close(seen[0].float().var((0, 2, 3)), torch.ones(64), atol=0.1, rtol=0)
    again = settled(network, cache, seed=0, batches=2)
    assert torch.equal(again.trunk.stem[1].running_var, norm.running_var)
