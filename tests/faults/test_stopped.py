"""A run that is told to stop does so within two seconds, wherever it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.tracking import TrackerConfig

FIRST, LAST = 1, 60


@pytest.mark.parametrize(
    ("frames", "seeds"),
    [([FIRST], "first"), ([LAST], "first"), ([FIRST, LAST], "all")],
    ids=["forward", "backward", "between"],
)
def test_within_two_seconds_of_work(
    dataset: fo.Dataset,
    scene: Callable[..., np.ndarray],
    square: Callable[..., fo.Detection],
    film: Callable[..., Path],
    labeled: Callable[..., fo.Sample],
    propagate: Callable,
    tmp_path: Path,
    frames: list[int],
    seeds: str,
) -> None:
    short = film(tmp_path / "short.mp4", scene(240, 320, 2))
    long = film(tmp_path / "long.mp4", scene(240, 320, LAST))
    dataset.add_sample(labeled(short))
    dataset.add_sample(labeled(long, {n: fo.Detections(detections=[square()]) for n in frames}))
    dataset.add_sample(labeled(short))
    asked: list[float] = []  # in seconds of this process's work: others may have the processor

    def stop() -> bool:
        at_work = time.process_time()
        if not asked and dataset.values("tracks_run")[0] is not None:
            asked.append(at_work + 0.5)
        return bool(asked) and at_work > asked[0]

    options = {"model": "fast", "config": TrackerConfig(), "seeds": seeds}
    report = propagate(dataset, stop=stop, **options)
    ended = time.process_time()
    assert report.stopped
    assert ended - asked[0] < 2
    assert [run is not None for run in dataset.values("tracks_run")] == [True, False, False]
    assert [video.status for video in report.videos] == ["done", "stopped"]
