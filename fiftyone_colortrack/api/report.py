"""Progress and results of a run over many videos."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from fiftyone_colortrack.api.plan import PlannedVideo
from fiftyone_colortrack.fields.schema import failed_tag
from fiftyone_colortrack.progress import ProgressCallback

Status = Literal["done", "stopped", "skipped", "failed"]


@dataclass(frozen=True)
class VideoResult:
    """What happened to one video.

    Attributes:
        sample_id: ID of the video
        filepath: path of the video
        status: `done`, `stopped`, `skipped`, or `failed`. Stopped videos keep the tracked labels; a run with
            `skip_existing` finishes them
        frames: number of labeled frames
        seconds: tracking time
        reason: why the video was skipped or failed
        warnings: what was skipped or guessed
        cuts: numbers (from 1) of the first frames of new shots
        kept: number of labels that a person drew, changed, or deleted, and that stayed as they are
        replaced: number of such labels that `overwrite` replaced
        tagged: whether the video got the tag of failed ones: not where its tracks were deleted during the run
    """

    sample_id: str
    filepath: str
    status: Status
    frames: int = 0
    seconds: float = 0.0
    reason: str = ""
    warnings: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    kept: int = 0
    replaced: int = 0
    tagged: bool = False


@dataclass
class PropagationReport:
    """What a run of `propagate` did.

    Attributes:
        run_key: key of the run's record, see `dataset.get_run_info`; None if there was nothing to track
        label_field: frame field of the tracks, such as `frames.tracks`
        videos: one result per video, in the order of the view
        notes: notes about the whole run, such as why videos were tracked from scratch
        seconds: time of the whole run
        stopped: whether the run was stopped before its last video
    """

    run_key: str | None
    label_field: str
    videos: list[VideoResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    def with_status(self, status: Status) -> list[VideoResult]:
        """The videos that are done, stopped, skipped, or failed."""
        return [video for video in self.videos if video.status == status]

    @property
    def frames(self) -> int:
        """Number of labeled frames."""
        return sum(video.frames for video in self.videos)

    @property
    def warnings(self) -> list[str]:
        """The notes, and the warnings of all videos."""
        texts = list(self.notes)
        for count, what in (
            (sum(video.kept for video in self.videos), "Kept as before"),
            (sum(video.replaced for video in self.videos), "Replaced"),
        ):
            if count:
                texts.append(f"{what}: {plural(count, 'label')} that a person drew, changed, or deleted")
        for video in self.videos:
            name = os.path.basename(video.filepath)
            if video.cuts:
                begin = "new shots begin at frames" if len(video.cuts) > 1 else "a new shot begins at frame"
                texts.append(f"{name}: {begin} {', '.join(map(str, video.cuts))}")
            texts += [f"{name}: {text}" for text in video.warnings]
        return texts

    def __str__(self) -> str:
        return "\n".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """What was done, which videos failed and why, and the warnings."""
        failed = [f"{os.path.basename(v.filepath)} failed: {v.reason}" for v in self.with_status("failed")]
        return [self.headline, *failed, *self.warnings]

    @property
    def headline(self) -> str:
        """What was done, in one line."""
        done, stopped, skipped, failed = (self.with_status(status) for status in get_args(Status))
        videos, frames = plural(len(done) + len(stopped), "video"), plural(self.frames, "frame")
        text = f"{videos} ({frames}) tracked in {duration(self.seconds)}"
        text = f"Stopped: {text}" if self.stopped else text
        text += f", written to {self.label_field}" if done or stopped else ""
        text += f"; {len(stopped)} only in part: the next run continues" if stopped else ""
        text += f"; {len(skipped)} skipped" if skipped else ""
        text += f"; {len(failed)} failed" if failed else ""
        return text + (f", tagged {failed_tag(self.label_field)}" if any(v.tagged for v in failed) else "")


class Clock:
    """Count frames and time over the videos of a run, and call a progress callback.

    Args:
        videos: the videos; their numbers of frames may be guesses
        update: the callback, see `progress_bar`
    """

    def __init__(self, videos: Sequence[PlannedVideo], update: ProgressCallback) -> None:
        self._names = [os.path.basename(video.filepath) for video in videos]
        self._lengths = [video.frames for video in videos]
        self._update = update
        self._tracked = [0] * len(videos)  # frames, in each video
        self._finished = [False] * len(videos)
        self._started = time.perf_counter()

    def step(self, video: int, frame: int, frames: int, stage: str = "") -> None:
        """Report that frame `frame` of `frames` of a video (its index) was tracked, or read in another stage."""
        if not stage:
            self._tracked[video], self._lengths[video] = frame, frames
        columns = zip(self._lengths, self._tracked, self._finished, strict=True)
        done = sum(length if finished else tracked for length, tracked, finished in columns)
        total = max(sum(self._lengths), done)
        fps = sum(self._tracked) / (time.perf_counter() - self._started)
        text = f"{self._names[video]}: {f'{stage}, ' if stage else ''}frame {frame} of {frames}"
        text = f"video {video + 1} of {len(self._names)}, {text}" if len(self._names) > 1 else text
        if fps:
            text += f", {fps:.1f} frames/s, {duration((total - done) / fps)} left"
        self._update(done, total, text)

    def finish(self, video: int) -> None:
        """Count a video as done, whether or not it was tracked."""
        self._finished[video] = True


def plural(count: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """`5 s`, `2 min 05 s`, `13 min`, `1 h 02 min`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes >= 10:
        return f"{minutes} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
