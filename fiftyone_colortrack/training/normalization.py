"""Recompute the statistics of batch normalization from what the tracker will see."""

from __future__ import annotations

import copy

import numpy as np
import torch.nn.functional as F
from torch import nn

from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.training.cache import FrameCache
from fiftyone_colortrack.training.data import SHORT_SIDE

BATCH = 4
TRACKED_SIDE = 480  # of the frames that the tracker sees, in pixels


def settled(network: Embedder, cache: FrameCache, seed: int, batches: int = 8) -> Embedder:
    """A copy of a network that normalizes by the statistics of undistorted frames.

    Those of training are of small crops with hidden colors and pasted parts. Frames in full color
    have others; to track them with the former costs points of J&F (docs/recipes.md).

    Args:
        network: trained weights.
        cache: frames to take the statistics from, scaled to the tracker's size.
        seed: of the choice of frames.
        batches: of `BATCH` frames.
    """
    network = copy.deepcopy(network).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
            norm.train()
    rng = np.random.default_rng(seed)
    for _ in range(batches):
        frames = rng.integers(len(cache.sizes), size=BATCH)
        corners = rng.integers(cache.sizes[frames] - SHORT_SIDE + 1)
        windows = cache.windows(frames, corners)
        scaled = F.interpolate(windows.float(), (TRACKED_SIDE, TRACKED_SIDE), mode="bilinear")
        network.embed(scaled.round().byte())
    return network.eval()
