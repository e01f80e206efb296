"""Track videos one by one, in any process."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

import fiftyone as fo
import fiftyone.core.odm as foo
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.view import DatasetView

from fiftyone_colortrack import fields
from fiftyone_colortrack.api.plan import (
    FoundVideo,
    PlannedVideo,
    find_videos,
    scope_of,
    seed_samples,
    spans,
    video_length,
)
from fiftyone_colortrack.api.report import Clock, VideoResult
from fiftyone_colortrack.errors import ColorTrackError, OnError
from fiftyone_colortrack.fields import OutputKind, SeedFrames
from fiftyone_colortrack.model.weights import fingerprint
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.shots import find_cuts
from fiftyone_colortrack.tracking.config import BASELINES, Direction, TrackerConfig
from fiftyone_colortrack.tracking.labels import LabelKind
from fiftyone_colortrack.tracking.segments import plan_segments, shots
from fiftyone_colortrack.version import __version__

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder
    from fiftyone_colortrack.tracking import Seed
    from fiftyone_colortrack.tracking.segments import Segment

logger = logging.getLogger(__name__)

Executor = Literal["local", "delegated", "ray"]


@dataclass
class Job:
    """What a run does with its videos. The attributes are the arguments of `propagate`."""

    samples: SampleCollection | str
    seed_field: str
    label_field: str
    model: str | Embedder = "fast"
    seeds: SeedFrames = "first"
    direction: Direction = "both"
    output: OutputKind | None = None
    objects: Sequence[str | int] | None = None
    frames: tuple[int, int] | None = None
    complete: bool = False
    config: TrackerConfig | Mapping[str, Any] | None = None
    overwrite: bool = False
    skip_existing: bool = False
    cuts_field: str | None = None
    device: str | torch.device | None = None
    on_error: OnError = "skip"
    executor: Executor = "local"
    shards: int = 1

    def __post_init__(self) -> None:
        self.seed_field, self.label_field = (
            fields.field_name(self.seed_field),
            fields.field_name(self.label_field),
        )

    def to_dict(self) -> dict[str, Any]:
        """The job for `from_dict` in another process; it can be written as JSON if the model is a name."""
        model = self.model
        if isinstance(model, str) and os.path.isfile(model):
            model = os.path.abspath(model)  # the other process has another working folder
        return {
            **{name: getattr(self, name) for name in signature(Job).parameters},
            "dataset": str(self.dataset._doc.id),
            "samples": self.videos.view()._serialize(),
            "viewed": self.viewed,
            "objects": self.rules.objects,
            "frames": self.rules.frames,
            "model": model,
            "config": asdict(self.tracker),
            "device": self.device and str(self.device),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], dataset: fo.Dataset | None = None) -> Job:
        """The same job in another process.

        Args:
            values: made by `to_dict`
            dataset: the dataset that the process was started for; the job must be for this dataset

        Raises:
            ColorTrackError: if there is no such dataset, or it is another one
        """
        if dataset is None:
            document = foo.get_db_conn().datasets.find_one({"_id": ObjectId(values["dataset"])})
            if document is None:
                raise ColorTrackError(
                    f"the worker on {socket.gethostname()} finds no dataset {values['dataset']}; "
                    "set FIFTYONE_DATABASE_URI to the same MongoDB on all machines"
                )
            dataset = fo.load_dataset(document["name"])
        elif str(dataset._doc.id) != values["dataset"]:
            raise ColorTrackError(
                f"this work belongs to another dataset, not to {dataset.name!r}; start the run again"
            )
        dataset.reload()  # this process may know it from before it had the fields
        config, size = dict(values["config"]), values["config"]["input_size"]
        config["input_size"] = tuple(size) if isinstance(size, list) else size  # JSON has no tuples
        own = {"samples": DatasetView._build(dataset, values["samples"]), "config": config}
        job = cls(**{k: v for k, v in {**values, **own}.items() if k not in ("dataset", "viewed")})
        job.viewed = tuple((id, tuple((a, b) for a, b in ranges)) for id, ranges in values["viewed"])
        return job

    @cached_property
    def videos(self) -> SampleCollection:
        """The samples as videos, see `check_videos`."""
        return fields.check_videos(self.samples)

    @property
    def dataset(self) -> fo.Dataset:
        return self.videos._root_dataset

    @cached_property
    def viewed(self) -> tuple[tuple[str, fields.Ranges], ...]:
        """The frames that the samples show of each video, see `viewed_ranges`."""
        return fields.viewed_ranges(self.samples) if isinstance(self.samples, SampleCollection) else ()

    @property
    def tracker(self) -> TrackerConfig:
        """The settings of the tracker."""
        return TrackerConfig.from_value(self.config)

    @cached_property
    def rules(self) -> fields.SeedRules:
        """Which labels to start from."""
        return fields.SeedRules(
            which=self.seeds,
            objects=None if self.objects is None else tuple(self.objects),
            frames=None if self.frames is None else (self.frames[0], self.frames[1]),
            fill_boxes=self.output == "masks",
            complete=self.complete,
            viewed=self.viewed,
        )

    @property
    def in_place(self) -> bool:
        return self.seed_field == self.label_field

    @cached_property
    def loaded_model(self) -> str | Embedder:
        """The model, loaded once for all videos."""
        from fiftyone_colortrack.model import load_model
        from fiftyone_colortrack.tracking.tracker import make_propagator

        if isinstance(self.model, str) and self.model in BASELINES:
            make_propagator(self.model, self.tracker, self.device)  # fails now if something is missing
            return self.model
        return load_model(self.model, self.device) if isinstance(self.model, str) else self.model

    @property
    def scope(self) -> tuple[Any, ...]:
        """The arguments of `find_videos` after the videos."""
        return self.seed_field, self.label_field, self.rules, self.skip_existing

    def plan_video(self, video: FoundVideo) -> PlannedVideo:
        """What the run does with a video."""
        reason = other = ""
        frames = sum(len(frames) for frames in spans(video.ranges, video.length) or [range(video.length)])
        part, drawn = video.earlier, video.drawn
        seeds, tracks = fields.frame_path(self.seed_field), fields.frame_path(self.label_field)
        if not video.labeled:
            of_those = " of these objects" if video.objects and video.objects.known else ""
            reason = f"{seeds} has no labels{of_those} to start from"
        elif part is not None and part.done is None and part.seed_field == tracks != seeds:
            reason = f"finished by run {part.run}, which continued these tracks from their keyframes"
        elif part is not None and drawn is not None:
            if part.settings != self._digest(drawn.kind):
                other = part.run
            if part.done is None and fields.Part.digest_of(drawn.digests) == part.seeds and not video.damaged:
                reason = f"finished by run {part.run}"
            else:
                frames = self._count_frames(video, part, drawn)
        return PlannedVideo(video.id, video.filepath, frames, reason, video.labeled, other, video.corrections)

    def _count_frames(self, video: FoundVideo, part: fields.Part, drawn: fields.DrawnLabels) -> int:
        """How many frames to track of a video that has a part of its tracks."""
        length = video.length or video_length(video.filepath)
        segments = plan_segments(
            drawn.ids,
            length,
            self.direction,
            self.tracker.labeled,
            gone=drawn.gone,
            cuts=part.cuts,
            spans=spans(video.ranges, length),
        )
        now = fields.Part.of("", "", self._digest(drawn.kind), drawn.digests, segments)
        todo = now.todo(segments, part, video.damaged)
        return sum(frame + 1 not in (part.done or ()) for segment in todo for frame in segment.frames)

    def _digest(self, kind: LabelKind) -> str:
        """A hash of the model and all settings that determine the tracks of seeds of a kind."""
        output = self.output or kind
        return fields.digest(__version__, self._fingerprint, self.direction, kind, output, self.tracker)

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.model)

    def finished(self, videos: Sequence[PlannedVideo], run_key: str) -> list[VideoResult]:
        """Results of the videos that a worker of this run has written, even if it could not report them."""
        written = set(
            fields.whole(self.dataset).match(F(fields.run_field(self.label_field)) == run_key).values("id")
        )
        return [VideoResult(v.id, v.filepath, "done", v.frames) for v in videos if v.id in written]

    def track_all(
        self,
        videos: Sequence[PlannedVideo],
        run_key: str,
        update: ProgressCallback,
        stop: Callable[[], bool],
    ) -> list[VideoResult]:
        """Track videos in this process, one after the other, except those that the run has already finished.

        Returns:
            one result per video; fewer if the run was stopped
        """
        clock = Clock(videos, update)
        results = self.finished(videos, run_key)
        done = {result.sample_id for result in results}
        for index, video in enumerate(videos):
            if video.id not in done:
                result = self.track(video, run_key, lambda *at, i=index: clock.step(i, *at), stop)
                if result is None:
                    break
                results.append(result)
                if result.status == "stopped":
                    break
            clock.finish(index)
        return results

    def track(
        self,
        video: PlannedVideo,
        run_key: str,
        step: Callable[..., None],
        stop: Callable[[], bool],
    ) -> VideoResult | None:
        """Track a video, or only what changed in it. None if the run was stopped before anything was tracked.

        Args:
            video: what was planned
            run_key: of the run
            step: called as `step(frame, frames)` after every frame, with the stage before tracking begins
            stop: asked after every frame
        """
        try:
            with fields.Lock(self.dataset, video.id, self.label_field, stop=stop) as lock:
                return self._track(video, run_key, lock, step, stop) if lock.held else None
        except _StoppedError:
            return None
        except Exception as error:
            if self.on_error == "raise":
                raise
            if isinstance(error, ColorTrackError):
                logger.warning("Skipped %s: %s", video.filepath, error)
                return self.fail(video, str(error))
            logger.exception("Tracking %s failed", video.filepath)
            return self.fail(video, f"{type(error).__name__}: {error}; the log has the details")

    def fail(self, video: PlannedVideo, reason: str) -> VideoResult:
        """Tag a failed video right away, because the run may be killed before its end.

        If an error ends the run, the videos after it were never tried: none is tagged.
        """
        tagged = False
        if self.on_error == "skip":
            with suppress(ColorTrackError):  # if the tracks were deleted, their tag means nothing
                fields.check_fields(self.dataset, self.label_field, video.id)
                fields.whole(self.dataset).select(video.id).tag_samples(fields.failed_tag(self.label_field))
                tagged = True
        return VideoResult(video.id, video.filepath, "failed", reason=reason, tagged=tagged)

    def _track(
        self,
        planned: PlannedVideo,
        run_key: str,
        lock: fields.Lock,
        step: Callable[..., None],
        stop: Callable[[], bool],
    ) -> VideoResult | None:
        from fiftyone_colortrack.tracking import Tracker

        model = self.loaded_model  # first, because loading does not count as tracking time
        started = time.perf_counter()
        fields.check_fields(self.dataset, self.label_field, planned.id)
        fields.pull(self.dataset, [planned.id], self.label_field)
        present = find_videos(self.videos.select(planned.id), *self.scope)
        if not present:
            raise ColorTrackError("the view no longer shows the video; run again with a new view")
        (found,) = present
        now = self.plan_video(found)
        if now.reason and self.skip_existing:  # another run has finished it meanwhile
            return VideoResult(planned.id, planned.filepath, "skipped", reason=now.reason)
        video = self._read_seeds(planned)
        ranges = self._ranges(planned.id, len(video.frames))

        def look(frame: int, frames: int) -> None:
            step(frame, frames, "looking for shot changes")
            if stop():
                raise _StoppedError

        tracker = Tracker(
            video.frames,
            video.seeds,
            kind=video.kind,
            model=model,
            direction=self.direction,
            config=self.tracker,
            device=self.device,
            spans=ranges,
            cuts=find_cuts(video.frames, look) if self.tracker.end_at_cuts else (),
        )
        part = fields.Part.of(
            run_key,
            fields.frame_path(self.seed_field),
            self._digest(video.kind),
            video.digests,
            tracker.segments,
            tracker.cuts,
        )
        todo = part.todo(tracker.segments, found.earlier, found.damaged)
        done = {frame + 1 for s in tracker.segments if s not in todo for frame in s.frames}
        resume = self._resume(planned.id, video, part, found.earlier, todo)
        if resume:
            assert found.earlier is not None
            done |= found.earlier.done or set()
        limited = self.rules.objects is not None
        tracks = {obj.instance.id for obj in video.objects.values() if obj.instance} if limited else None
        writer = fields.TrackWriter(
            self.dataset,
            planned.id,
            self.label_field,
            video,
            lock,
            output=self.output,
            in_place=self.in_place,
            overwrite=self.overwrite,
            ranges=ranges,
            tracks=tracks,
        )
        writer.begin(scope_of(self.rules, planned.id), part, done)
        part_tracker = tracker.only(todo)
        part_tracker.resume = resume
        stopped = False
        try:
            for count, tracked in enumerate(part_tracker.steps(), 1):
                if tracked is not None and (not ranges or any(tracked.frame in r for r in ranges)):
                    writer.add(tracked)
                step(count * len(part_tracker) // part_tracker.step_count, len(part_tracker))
                if stop():
                    stopped = True
                    break
        except KeyboardInterrupt:
            writer.stop()
            raise
        if stopped:
            writer.stop()
        else:
            self._write_cuts(planned.id, tracker.cuts, len(video.frames))
            writer.finish(run_key)
        return VideoResult(
            planned.id,
            planned.filepath,
            "stopped" if stopped else "done",
            writer.written,
            time.perf_counter() - started,
            warnings=tuple(video.warnings),
            cuts=tuple(cut + 1 for cut in tracker.cuts),
            kept=writer.kept,
            replaced=writer.replaced,
        )

    def _ranges(self, id: str, length: int) -> list[range]:
        """The frames (from 0) to track; empty for all."""
        ranges = self.rules.ranges(id)
        found = spans(ranges, length)
        if ranges == ():
            raise ColorTrackError(f"the view shows none of the frames {self.rules.frames}; choose others")
        if ranges and not found:
            raise ColorTrackError(
                f"the video has {length} frames; frames {ranges[0][0]} and later do not exist"
            )
        return found

    def _read_seeds(self, video: PlannedVideo) -> fields.SeededVideo:
        samples = seed_samples(self.videos, self.seed_field, self.label_field).select(video.id)
        changed = fields.find_corrections(samples, self.seed_field) if self.rules.which == "keyframes" else {}
        # Where the first labeled frame shows nothing, the next one is the first.
        rules = replace(self.rules, which="all") if self.rules.which == "first" else self.rules
        numbers = fields.seed_frames(samples, self.seed_field, rules, changed)
        sample = fields.select_frames(samples, self.seed_field, numbers).first()
        return fields.read_seeds(sample, self.seed_field, self.rules, changed.get(video.id))

    def _resume(
        self,
        id: str,
        video: fields.SeededVideo,
        part: fields.Part,
        earlier: fields.Part | None,
        todo: Sequence[Segment],
    ) -> list[Seed]:
        """The last frames that an interrupted run wrote, after which the tracker continues."""
        kind = self.output or fields.default_output(video)
        same = earlier is not None and (earlier.settings, earlier.seeds) == (part.settings, part.seeds)
        if not same or earlier is None or earlier.done is None or kind != video.kind:
            return []
        wanted = sorted(frame for segment in todo for frame in segment.frames)
        if self.direction == "backward":
            wanted.reverse()
        count = next((i for i, frame in enumerate(wanted) if frame + 1 not in earlier.done), len(wanted))
        recent = sorted(wanted[:count][-self.tracker.memory :])
        return (
            fields.read_written(fields.whole(self.dataset).select(id), self.label_field, video, recent)
            if recent
            else []
        )

    def _write_cuts(self, id: str, cuts: Sequence[int], length: int) -> None:
        if self.cuts_field is None:
            return
        fields.check_fields(self.dataset, self.label_field, id, self.cuts_field)
        found = [
            fo.TemporalDetection(label="shot", support=[shot.start + 1, shot.stop])
            for shot in shots(length, cuts)
        ]
        value = fo.TemporalDetections(detections=found)
        fields.whole(self.dataset).set_values(self.cuts_field, {id: value}, key_field="id")


class _StoppedError(Exception):
    """The run was stopped before any frame of the video was tracked."""
