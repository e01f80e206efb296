"""What is done to a network in training to use it, and to say how good it is."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fiftyone_colortrack.model.color import AB_RANGE, lab_to_rgb, rgb_to_lab
from fiftyone_colortrack.model.colorizer import Embedder, copy_colors
from fiftyone_colortrack.training.cache import FrameCache
from fiftyone_colortrack.training.data import SHORT_SIDE
from fiftyone_colortrack.training.losses import windowed_affinity

BATCH = 4
TRACKED_SIDE = 480  # of the frames that the tracker sees, in pixels
PAIRS = 8
GAP = 0.5  # seconds
WINDOW = 12  # cells, the tracker's radius


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


@torch.inference_mode()
def color_error(network: Embedder, cache: FrameCache, seed: int = 0) -> dict[str, float]:
    """How wrong are the colors that a network copies between frames, as the tracker copies labels?

    The same pairs of frames of the material, half a second apart, are drawn for each network, so that what is
    measured at different times can be compared. Networks see both frames in gray.

    Returns:
        `color_error`: mean distance of copied from true ab, in CIE's units; nothing without videos.
    """
    rng = np.random.default_rng((seed, PAIRS))
    moving = [clip for clip in cache.clips if clip.length > 1]
    errors = []
    for clip in (moving[i] for i in rng.integers(max(len(moving), 1), size=PAIRS if moving else 0)):
        gap = min(max(1, round(GAP * clip.rate)), clip.length - 1)
        first = clip.first + int(rng.integers(clip.length - gap))
        pair = np.array([first, first + gap])
        windows = cache.windows(pair, (cache.sizes[pair] - SHORT_SIDE) // 2)
        lab = rgb_to_lab(windows.to(network.device).float() / 255)
        gray = lab_to_rgb(lab * lab.new_tensor([1, 0, 0])[:, None, None])
        reference, target = network.embed((gray.clamp(0, 1) * 255).round().byte())[:, None]
        true = F.avg_pool2d(lab[:, 1:], network.stride).flatten(2) * AB_RANGE  # 2 x 2 x cells
        copied = copy_colors(windowed_affinity(target, reference, WINDOW, network.temperature), true[:1])
        errors.append(float((copied[0] - true[1]).norm(dim=0).mean()))
    return {"color_error": float(np.mean(errors))} if errors else {}
