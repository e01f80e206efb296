"""Statistics of what is tracked in place of those of training."""

import numpy as np
import torch

from fiftyone_colortrack.model.presets import build
from fiftyone_colortrack.training.cache import Clip, FrameCache
from fiftyone_colortrack.training.normalization import settled


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
