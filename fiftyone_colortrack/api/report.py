"""What a run of many videos is doing, and what it did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

from fiftyone_colortrack.fields.schema import failed_tag

S = TypeVar("S")
T = TypeVar("T")
Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class VideoResult:
    """What became of one video: `reason` says why it was skipped or failed, `frames` counts those written."""

    sample_id: str
    filepath: str
    status: Status
    frames: int = 0
    seconds: float = 0.0
    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass
class PropagationReport:
    """What a run of `propagate` did.

    Attributes:
        run_key: of the run's record, see `dataset.get_run_info`; None where there was nothing to track
        out_field: the frame field that the tracks are in
        videos: one result each, in the order of the view
        notes: on the run as a whole, such as that videos were tracked anew, and why
        seconds: of the whole run
        stopped: whether the run was stopped before its last video
    """

    run_key: str | None
    out_field: str
    videos: list[VideoResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    def with_status(self, status: Status) -> list[VideoResult]:
        """The videos that were done or skipped, or failed."""
        return [video for video in self.videos if video.status == status]

    @property
    def frames(self) -> int:
        """Number of frames written."""
        return sum(video.frames for video in self.videos)

    @property
    def warnings(self) -> list[str]:
        """The notes, and all warnings, each with its video."""
        of_videos = [f"{os.path.basename(v.filepath)}: {text}" for v in self.videos for text in v.warnings]
        return self.notes + of_videos

    def __str__(self) -> str:
        done, skipped, failed = (self.with_status(status) for status in get_args(Status))
        text = (
            f"{plural(len(done), 'video')} ({plural(self.frames, 'frame')}) tracked in {self.seconds:.0f} s"
        )
        text = f"Stopped: {text}" if self.stopped else text
        text += f", written to frames.{self.out_field}" if done else ""
        text += f"; {len(skipped)} skipped" if skipped else ""
        return text + (f"; {len(failed)} failed, tagged {failed_tag(self.out_field)}" if failed else "")


@dataclass(frozen=True)
class Progress:
    """Where a run is: frame `frame` of `frames` of video `video` of `videos` (all from 1) was just tracked.

    Attributes:
        done: frames tracked so far, in all videos
        total: frames to track, in all videos
        fps: frames per second so far
        seconds_left: estimated, at this speed
    """

    video: int
    videos: int
    name: str
    frame: int
    frames: int
    done: int
    total: int
    fps: float

    @property
    def seconds_left(self) -> float:
        return max(self.total - self.done, 0) / self.fps if self.fps else 0.0

    @property
    def fraction(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 0.0

    def __str__(self) -> str:
        text = f"{self.name}: frame {self.frame} of {self.frames}"
        text = f"video {self.video} of {self.videos}, {text}" if self.videos > 1 else text
        return f"{text}, {self.fps:.1f} frames/s, {duration(self.seconds_left)} left" if self.fps else text


class Clock:
    """Counts frames and time over the videos of a run.

    Args:
        videos: name and number of frames of each; the number may be a guess
    """

    def __init__(self, videos: Sequence[tuple[str, int]]) -> None:
        self._names = [name for name, _ in videos]
        self._lengths = [length for _, length in videos]
        self._tracked = [0] * len(videos)  # frames, in each video
        self._finished = [False] * len(videos)
        self._started = time.perf_counter()

    def step(self, frame: int, frames: int, video: int | None = None) -> Progress:
        """The progress after `frame` of `frames` of a video, by default the first unfinished one."""
        video = self._finished.index(False) if video is None else video
        self._tracked[video], self._lengths[video] = frame, frames
        columns = zip(self._lengths, self._tracked, self._finished, strict=True)
        return Progress(
            video=video + 1,
            videos=len(self._names),
            name=self._names[video],
            frame=frame,
            frames=frames,
            done=sum(length if finished else tracked for length, tracked, finished in columns),
            total=sum(self._lengths),
            fps=sum(self._tracked) / (time.perf_counter() - self._started),
        )

    def finish_video(self, video: int | None = None) -> None:
        """Count a video as done, by default the first one that is not, whether or not it was tracked."""
        self._finished[self._finished.index(False) if video is None else video] = True


def drain(steps: Generator[S, None, T], progress: Callable[[S], None] | None = None) -> T:
    """Go through all steps, showing each to `progress`; returns what they return."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if progress is not None:
            progress(step)


def plural(count: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
