"""A run that is killed, at any moment: what is finished stays, and the next run does the rest."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fiftyone as fo
import numpy as np
import pymongo.collection
import pytest

from fiftyone_colortrack.fields import lock, tracks

RUN = Path(__file__).with_name("run.py")
LENGTH = 8
WRITES = ("bulk_write", "insert_one", "insert_many", "replace_one", "update_one", "update_many")


@pytest.fixture
def videos(
    dataset: fo.Dataset,
    scene: Callable[..., np.ndarray],
    film: Callable[..., Path],
    labeled: Callable[..., fo.Sample],
    tmp_path: Path,
) -> fo.Dataset:
    path = film(tmp_path / "video.mp4", scene(length=LENGTH))
    for i in range(4):
        (tmp_path / f"video{i}.mp4").symlink_to(path)
        dataset.add_sample(labeled(tmp_path / f"video{i}.mp4"))
    return dataset


def check_videos(dataset: fo.Dataset, earlier: dict[str, str]) -> dict[str, str]:
    """Check that finished videos are whole; returns them with their runs."""
    dataset.reload()
    finished, begun = {}, []
    for sample in dataset:  # every sample and frame can be loaded
        labels = [f["tracks"] for f in sample.frames.values() if f.has_field("tracks")]
        labels = [label for label in labels if label is not None]
        assert all(len(label.detections) == 1 for label in labels)
        run = sample["tracks_run"] if sample.has_field("tracks_run") else None
        if run is None:
            begun += [sample.id] if labels else []
            continue
        finished[sample.id] = run
        assert len(labels) == LENGTH
        assert sample["tracks_record"] is not None
        assert run in dataset.list_runs()
    assert len(begun) <= 1, "more than the video in hand is unfinished"
    assert earlier.items() <= finished.items(), "what was finished did not stay"
    return finished


def forget(dataset: fo.Dataset) -> None:
    """Take the tracks away, but not their fields."""
    for name in ("tracks_run", "tracks_record"):
        dataset.clear_sample_field(name)
    dataset.clear_frame_field("tracks")


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_at_random_moments(videos: fo.Dataset, propagate: Callable, kills: int) -> None:
    moments = random.Random(kills)
    finished: dict[str, str] = {}
    for _ in range(kills):
        if len(finished) == len(videos):
            forget(videos)
            finished = {}
        command = [sys.executable, str(RUN), videos.name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("tracks lab\n")
            process.stdin.flush()
            time.sleep(moments.uniform(0, 1.5))
            process.kill()
        finished = check_videos(videos, finished)
    report = propagate(videos, skip_existing=True)
    assert {video.sample_id for video in report.with_status("skipped")} == finished.keys()
    assert len(check_videos(videos, finished)) == len(videos)


class Killed(BaseException):
    """Nobody may catch it."""


@contextmanager
def killed_at_write(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """From a write to the database on, counted from 1, nothing more is written."""
    count = 0

    def dying(write: Callable) -> Callable:
        def attempt(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count >= number:
                raise Killed
            return write(*args, **kwargs)

        return attempt

    with monkeypatch.context() as patch:
        for name in (*WRITES, "delete_one", "delete_many", "find_one_and_update"):
            write = getattr(pymongo.collection.Collection, name)
            patch.setattr(pymongo.collection.Collection, name, dying(write))
        yield


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the lock's thread
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.soak)])
def test_at_writes_to_the_database(
    videos: fo.Dataset, propagate: Callable, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(lock, "LEASE", 0.1)  # a killed process unlocks nothing
    monkeypatch.setattr(tracks, "FRAMES_PER_WRITE", 3)
    view = videos.limit(2)
    number, finished, ended = 1, {}, False
    while not ended:
        with killed_at_write(number, monkeypatch):
            try:
                ended = bool(propagate(view, skip_existing=True, model="identity").videos)
            except Killed:
                number += step
        finished = check_videos(videos, finished)
    assert len(finished) == 2
    assert number > 20  # it was killed while it wrote, too


def test_after_a_kill_the_run_goes_on_from_the_last_written_frame(
    videos: fo.Dataset, propagate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, str(RUN), videos.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        process.stdin.write("tracks lab\n")
        process.stdin.flush()
        while not (videos.has_frame_field("tracks") and videos.count("frames.tracks") >= 2):
            time.sleep(0.01)
            videos.reload()
        process.kill()
    written = videos.count("frames.tracks")
    assert 0 < written < 4 * LENGTH
    report = propagate(videos, skip_existing=True)
    assert report.frames <= 4 * LENGTH - written + 2  # the portion in hand
    assert [len(labels) for labels in videos.values("frames.tracks.detections")] == [LENGTH] * 4
    assert len(check_videos(videos, {})) == 4
    assert not report.videos[0].kept


def test_a_failed_video_is_tagged_before_the_run_ends(
    videos: fo.Dataset, propagate: Callable, tmp_path: Path
) -> None:
    (tmp_path / "video0.mp4").unlink()
    tagged = []
    propagate(videos, progress=lambda *_: tagged.append(videos.match_tags("tracks_failed").values("id")))
    assert tagged[0] == [videos.first().id]
