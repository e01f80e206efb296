"""A long video takes no more memory than a short one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import numpy as np
import psutil
import pytest

from fiftyone_colortrack.video import VideoWriter

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
    labelled: Callable[..., fo.Sample],
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
    dataset.add_sample(labelled(tmp_path / "long.mp4", {length // 2 // 48 * 48 + 1: middle}))
    warm, most = [], [0]

    def measure(step) -> None:
        if step.frame % 50 == 0:
            if step.fraction > WARM and not warm:
                warm.append(own_memory())
            most[0] = max(most[0], own_memory())

    report = propagate(dataset, on_error="raise", progress=measure)
    assert report.frames == length
    assert most[0] - warm[0] < megabytes * 2**20
    assert own_memory() - warm[0] < megabytes * 2**20
