"""Small rendered videos: colored discs that move over a textured ground."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiftyone_colortrack.video import write_video

COLORS = ((220, 40, 40), (40, 200, 60), (50, 80, 230), (230, 210, 40))


def render(seed: int, frames: int = 14, size: int = 256) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of three moving discs, and the masks of the first of them, uint8 `[T, H, W]`."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (16, 16, 1), dtype=np.uint8)
    ground = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)[..., None].repeat(3, 2)
    ground = np.clip(ground * rng.uniform(0.7, 1.0, 3), 0, 255).astype(np.uint8)
    start, speed = rng.uniform(60, size - 60, (3, 2)), rng.uniform(-4, 4, (3, 2))
    radius, colors = rng.integers(22, 40, 3), rng.permutation(4)[:3]
    images, masks = [], []
    for t in range(frames):
        image, mask = ground.copy(), np.zeros((size, size), np.uint8)
        for i in (2, 1, 0):
            center = tuple(int(v) for v in start[i] + t * speed[i])
            cv2.circle(image, center, int(radius[i]), COLORS[colors[i]], -1)
            cv2.circle(image, center, int(radius[i]) // 2, tuple(v // 2 for v in COLORS[colors[i]]), 4)
            if i == 0:
                cv2.circle(mask, center, int(radius[i]), 1, -1)
        images.append(image)
        masks.append(mask)
    return images, np.stack(masks)


@pytest.fixture(scope="session")
def scene() -> Callable[..., tuple[list[np.ndarray], np.ndarray]]:
    return render


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four videos of 14 frames at 12 frames per second."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(4):
        write_video(folder / f"{seed}.mp4", render(seed)[0], 12)
    return folder
