"""Shot changes of rendered videos, and of the real clips where they are here."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from fiftyone_colortrack.shots import find_cuts
from fiftyone_colortrack.video import ArrayFrames


def pan(seed: int, count: int, speed: float = 2.0, size: int = 96) -> np.ndarray:
    """Frames of a camera that pans over a colorful texture."""
    rng = np.random.default_rng(seed)
    tint = rng.uniform(0.3, 1, 3)
    wide = cv2.resize(rng.random((12, 60, 3)) * tint * 255, (size * 5, size), interpolation=cv2.INTER_CUBIC)
    scene = np.clip(wide, 0, 255).astype(np.uint8)
    starts = (int(speed * t) % (size * 4) for t in range(count))
    return np.stack([scene[:, start : start + size] for start in starts])


def cuts(frames: np.ndarray) -> list[int]:
    return find_cuts(ArrayFrames(frames))


def test_cuts_are_found_wherever_they_are() -> None:
    lengths = [2, 20, 9, 30, 1]
    shots = [pan(seed, length) for seed, length in enumerate(lengths)]
    assert cuts(np.concatenate(shots)) == [2, 22, 31, 61]


@pytest.mark.parametrize("speed", [0, 2, 12])
def test_one_shot_has_no_cuts(speed: float) -> None:
    assert cuts(pan(3, 30, speed)) == []
    assert cuts(pan(3, 1, speed)) == []


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_not_a_cut(length: int) -> None:
    frames = pan(5, 30)
    frames[12 : 12 + length] = 255 - (255 - frames[12 : 12 + length]) // 4
    assert cuts(frames) == []


def test_frames_of_any_size_are_compared() -> None:
    thin = np.concatenate([pan(1, 8)[:, :3], pan(2, 8)[:, :3]])
    assert cuts(thin) == [8]


def test_finding_cuts_does_not_import_torch() -> None:
    code = "import sys, fiftyone_colortrack.shots; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
