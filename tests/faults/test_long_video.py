"""A long video takes no more memory than a short one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import numpy as np
import psutil
import pytest

from fiftyone_colortrack import video
from fiftyone_colortrack.video import VideoFile, VideoWriter

WARM = 0.3  # share of the video after which everything that is kept should be there


def own_memory() -> int:
    """Bytes in use that are not pages of files."""
    info = psutil.Process().memory_info()
    return info.rss - getattr(info, "shared", 0)


@pytest.mark.parametrize(
    ("length", "megabytes"), [(1500, 30), pytest.param(10_000, 60, marks=pytest.mark.soak)]
)
def test_memory_does_not_grow(
    dataset: fo.Dataset,
    scene: Callable[..., np.ndarray],
    square: Callable[..., fo.Detection],
    labeled: Callable[..., fo.Sample],
    propagate: Callable,
    tmp_path: Path,
    length: int,
    megabytes: int,
) -> None:
    frames = scene(length=24)
    with VideoWriter(tmp_path / "long.mp4", 25) as writer:
        for i in range(length):
            writer.write(frames[i % 24 if i % 48 < 24 else 23 - i % 24])  # it goes right and left
    two = [square(label=str(i), bounding_box=[0.25, i / 2, 0.25, 0.4]) for i in range(2)]
    middle = fo.Detections(detections=two)
    dataset.add_sample(labeled(tmp_path / "long.mp4", {length // 2 // 48 * 48 + 1: middle}))
    memory: dict[int, int] = {}

    def measure(done: int, total: int, message: str) -> None:
        if done > WARM * total:
            memory.setdefault(done // 50, own_memory())

    report = propagate(dataset, on_error="raise", progress=measure)
    assert report.frames == length
    memory[length] = own_memory()
    warm = next(iter(memory.values()))
    assert max(memory.values()) - warm < megabytes * 2**20


@pytest.mark.parametrize("length", [1500, pytest.param(10_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("keyframes", [12, 100_000])
def test_reading_takes_bounded_memory(
    scene: Callable[..., np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    keyframes: int,
) -> None:
    monkeypatch.setattr(video, "KEY_FRAME_INTERVAL", keyframes)
    monkeypatch.setattr(video, "REVERSE_BUFFER_BYTES", 4 * 2**20)
    frames = scene(length=2)
    with VideoWriter(tmp_path / "long.mp4", 25) as writer:
        for i in range(length):
            writer.write(frames[i % 2])
    long = VideoFile(tmp_path / "long.mp4")
    list(long.read(range(length // 2, length // 2 - 300, -1)))
    warm = most = own_memory()
    for indices in (range(length), range(length - 1, -1, -1)):
        for count, _ in enumerate(long.read(indices), start=1):
            most = max(most, own_memory()) if count % 50 == 0 else most
        assert count == length
    assert most - warm < 16 * 2**20
