from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_colortrack.fields.shapes import regions, relative_box

HERE = Path(__file__).parent
WORKERS = 2
PATIENCE = 300  # seconds, on a busy machine


class Gate:
    """The workers' log, and the gate that they halt at: see gate.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.killed: tuple[int, str] | None = None

    def events(self, event: str) -> list[tuple[int, str]]:
        """The process and the video of each event of a kind."""
        log = self.folder / "log"
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [(int(pid), video) for name, pid, video in lines if name == event]

    def kill_one(self) -> None:
        """Kill a worker in the middle of a video, when all have halted; then let the others go on."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and len(self.events("halted")) < WORKERS:
            time.sleep(0.05)
        if halted := self.events("halted"):
            os.kill(halted[0][0], signal.SIGKILL)
            self.killed = halted[0]
        (self.folder / "open").touch()

    def check(self, dataset: fo.Dataset, report) -> None:
        """Every video was written once and whole, that of the killed worker by another one."""
        assert self.killed is not None, "the workers did not halt"
        assert [video.status for video in report.videos] == ["done"] * len(dataset)
        assert [video.sample_id for video in report.videos] == dataset.values("id")
        wrote = {video: pid for pid, video in self.events("wrote")}
        assert len(self.events("wrote")) == len(wrote) == len(dataset)
        pid, video = self.killed
        assert wrote[video] != pid
        dataset.reload()
        assert dataset.values("tracks_run") == [report.run_key] * len(dataset)
        assert dataset.count("frames.tracks.detections") == 2 * report.frames == 16 * len(dataset)


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """With a thread that kills a worker."""
    folder = tmp_path / "gate"
    folder.mkdir()
    monkeypatch.setenv("COLORTRACK_TEST_GATE", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    gate = Gate(folder)
    thread = threading.Thread(target=gate.kill_one, daemon=True)
    thread.start()
    return gate


@pytest.fixture
def videos(dataset, squares, squares_file, tmp_path):
    """Six copies of `squares` of 8 frames, with labels in frame 1 of `seed`."""
    for i in range(6):
        path = tmp_path / f"video{i}.mp4"
        path.symlink_to(squares_file)
        metadata = fo.VideoMetadata(total_frame_count=8, frame_width=96, frame_height=64)
        sample = fo.Sample(filepath=str(path), metadata=metadata)
        labels = [
            fo.Detection(label="square", index=id, bounding_box=relative_box(r, (64, 96)), mask=r.mask)
            for id, r in regions(squares[1][0])
        ]
        sample.frames[1] = fo.Frame(seed=fo.Detections(detections=labels))
        dataset.add_sample(sample)
    return dataset
