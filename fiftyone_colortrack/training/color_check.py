"""The number to watch while a network trains: how wrong are the colors that it copies?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fiftyone_colortrack.model.color import AB_RANGE, lab_to_rgb, rgb_to_lab
from fiftyone_colortrack.model.colorizer import Embedder, copy_colors
from fiftyone_colortrack.training.cache import FrameCache
from fiftyone_colortrack.training.data import SHORT_SIDE
from fiftyone_colortrack.training.losses.reconstruction import windowed_affinity

PAIRS = 8
GAP = 0.5  # seconds
WINDOW = 12  # cells, the tracker's radius


class ColorCheck:
    """Copies colors between frames of the material, half a second apart, as the tracker copies labels.

    The pairs are drawn once, so that what is measured at different times can be compared. Networks see both
    frames in gray.
    """

    def __init__(self, cache: FrameCache, seed: int = 0) -> None:
        self._cache = cache
        rng = np.random.default_rng((seed, PAIRS))
        moving = [clip for clip in cache.clips if clip.length > 1]
        frames = []
        for clip in (moving[i] for i in rng.integers(max(len(moving), 1), size=PAIRS if moving else 0)):
            gap = min(max(1, round(GAP * clip.rate)), clip.length - 1)
            first = clip.first + int(rng.integers(clip.length - gap))
            frames.append((first, first + gap))
        self._frames = np.array(frames, dtype=int).reshape(-1, 2)

    @torch.inference_mode()
    def __call__(self, embedder: Embedder) -> dict[str, float]:
        """`color_error`: mean distance of copied from true ab, in CIE's units; nothing without videos."""
        errors = [self._error(pair, embedder) for pair in self._frames]
        return {"color_error": float(np.mean(errors))} if errors else {}

    def _error(self, pair: np.ndarray, embedder: Embedder) -> float:
        corners = (self._cache.sizes[pair] - SHORT_SIDE) // 2
        lab = rgb_to_lab(self._cache.windows(pair, corners).to(embedder.device).float() / 255)
        reference, target = embedder.embed(_gray(lab))[:, None]
        true = F.avg_pool2d(lab[:, 1:], embedder.stride).flatten(2) * AB_RANGE  # 2 x 2 x cells
        copied = copy_colors(windowed_affinity(target, reference, WINDOW, embedder.temperature), true[:1])
        return float((copied[0] - true[1]).norm(dim=0).mean())


def _gray(lab: Tensor) -> Tensor:
    """Lab `[B, 3, H, W]` -> its lightness alone, as uint8 RGB."""
    shown = lab * lab.new_tensor([1, 0, 0])[:, None, None]
    return (lab_to_rgb(shown).clamp(0, 1) * 255).round().byte()
