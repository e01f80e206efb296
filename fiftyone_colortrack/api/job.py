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
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.core.odm as foo
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.view import DatasetView

from fiftyone_colortrack.api.plan import (
    FoundVideo,
    PlannedVideo,
    Settings,
    find_videos,
    plan_video,
    scope_of,
    seed_samples,
    spans,
)
from fiftyone_colortrack.api.report import Clock, VideoResult
from fiftyone_colortrack.errors import ColorTrackError, OnError
from fiftyone_colortrack.fields import (
    NO_CORRECTIONS,
    Lock,
    Part,
    SeededVideo,
    SeedRules,
    TrackRecord,
    TrackWriter,
    check_fields,
    default_output,
    failed_tag,
    find_corrections,
    frame_path,
    pull,
    read_seeds,
    read_written,
    record_field,
    run_field,
    seed_frames,
    select_frames,
    whole,
)
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.shots import find_cuts
from fiftyone_colortrack.tracking.config import BASELINES, TrackerConfig

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder
    from fiftyone_colortrack.tracking import Seed
    from fiftyone_colortrack.tracking.segments import Segment

logger = logging.getLogger(__name__)


@dataclass
class Job:
    """What a run does with its videos; the parameters are those of `propagate`.

    Attributes:
        samples: videos
    """

    samples: SampleCollection
    seed_field: str
    label_field: str
    rules: SeedRules
    settings: Settings
    overwrite: bool = False
    skip_existing: bool = False
    cuts_field: str | None = None
    device: str | torch.device | None = None
    on_error: OnError = "skip"

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes this job of, in another process; JSON if the model is a name."""
        model = self.settings.model
        if isinstance(model, str) and os.path.isfile(model):
            model = os.path.abspath(model)  # the other process has another working folder
        return {
            "dataset": str(self.dataset._doc.id),
            "view": self.samples.view()._serialize(),
            "seed_field": self.seed_field,
            "label_field": self.label_field,
            "rules": asdict(self.rules),
            "settings": {**asdict(replace(self.settings, model="")), "model": model},
            "overwrite": self.overwrite,
            "skip_existing": self.skip_existing,
            "cuts_field": self.cuts_field,
            "device": self.device and str(self.device),
            "on_error": self.on_error,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], dataset: fo.Dataset | None = None) -> Job:
        """The same job in another process.

        Args:
            values: made by `to_dict`
            dataset: that the process was started for; the job must be for this dataset

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
        rules, settings = dict(values["rules"]), dict(values["settings"])
        for name in ("objects", "frames"):
            rules[name] = None if rules[name] is None else tuple(rules[name])
        rules["viewed"] = tuple((id, tuple((a, b) for a, b in ranges)) for id, ranges in rules["viewed"])
        size = settings["config"]["input_size"]
        size = tuple(size) if isinstance(size, list) else size  # JSON has no tuples
        settings["config"] = TrackerConfig(**{**settings["config"], "input_size": size})
        special = {
            "samples": DatasetView._build(dataset, values["view"]),
            "rules": SeedRules(**rules),
            "settings": Settings(**settings),
        }
        return cls(**special, **{k: v for k, v in values.items() if k not in {*special, "dataset", "view"}})

    @property
    def dataset(self) -> fo.Dataset:
        return self.samples._root_dataset

    @property
    def in_place(self) -> bool:
        return self.seed_field == self.label_field

    @cached_property
    def model(self) -> str | Embedder:
        """The model, loaded once for all videos."""
        from fiftyone_colortrack.model import load_model
        from fiftyone_colortrack.tracking.tracker import make_propagator

        model = self.settings.model
        if isinstance(model, str) and model in BASELINES:
            make_propagator(model, self.settings.config, self.device)  # to say now what it lacks
            return model
        return load_model(model, self.device) if isinstance(model, str) else model

    @property
    def scope(self) -> tuple[Any, ...]:
        """The arguments of `find_videos` after the videos."""
        return self.seed_field, self.label_field, self.rules, self.skip_existing

    def find(self, samples: SampleCollection) -> list[FoundVideo]:
        """What the database knows about some videos."""
        return find_videos(samples, *self.scope)

    def finished(self, videos: Sequence[PlannedVideo], run_key: str) -> list[VideoResult]:
        """Results of the videos that a worker of this run has written, even if it could not report them."""
        written = set(whole(self.dataset).match(F(run_field(self.label_field)) == run_key).values("id"))
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
            what became of each video; of fewer if the run was stopped
        """
        names = [os.path.basename(video.filepath) for video in videos]
        clock = Clock(names, [video.frames for video in videos], update)
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
        """Track a video, or what changed in it; None if it was stopped before anything was tracked.

        Args:
            video: what was planned
            run_key: of the run
            step: called as `step(frame, frames)` after every frame, with the stage before tracking begins
            stop: asked after every frame
        """
        try:
            with Lock(self.dataset, video.id, self.label_field, stop=stop) as lock:
                return self._track(video, run_key, lock, step, stop) if lock.held else None
        except _StoppedError:
            return None
        except Exception as error:
            if self.on_error == "raise":
                raise
            return self.fail(video, _reason(video, error))

    def fail(self, video: PlannedVideo, reason: str) -> VideoResult:
        """Tag a failed video right away, because the run may be killed before its end.

        If an error ends the run, the videos after it were never tried: none is tagged.
        """
        tagged = False
        if self.on_error == "skip":
            with suppress(ColorTrackError):  # where tracks were deleted, a tag of theirs is nobody's
                check_fields(self.dataset, self.label_field, video.id)
                whole(self.dataset).select(video.id).tag_samples(failed_tag(self.label_field))
                tagged = True
        return VideoResult(video.id, video.filepath, "failed", reason=reason, tagged=tagged)

    def _track(
        self,
        planned: PlannedVideo,
        run_key: str,
        lock: Lock,
        step: Callable[..., None],
        stop: Callable[[], bool],
    ) -> VideoResult | None:
        from fiftyone_colortrack.tracking import Tracker

        model = self.model  # loading it says nothing about the speed
        started = time.perf_counter()
        check_fields(self.dataset, self.label_field, planned.id)
        pull(self.dataset, [planned.id], self.label_field)
        present = self.find(self.samples.select(planned.id))
        if not present:
            raise ColorTrackError("the video was removed from the dataset during the run")
        (found,) = present
        now = plan_video(found, self.seed_field, self.label_field, self.settings)
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
            direction=self.settings.direction,
            config=self.settings.config,
            device=self.device,
            spans=ranges,
            cuts=find_cuts(video.frames, look) if self.settings.config.end_at_cuts else (),
        )
        part = Part.of(
            run_key,
            frame_path(self.seed_field),
            self.settings.digest(video.kind),
            video.digests,
            tracker.segments,
            tracker.cuts,
        )
        todo = part.todo(tracker.segments, found.earlier)
        todo = [s for s in tracker.segments if s in todo or any(n - 1 in s.frames for n in found.damaged)]
        done = {frame + 1 for s in tracker.segments if s not in todo for frame in s.frames}
        resume = self._resume(planned.id, video, part, found.earlier, todo)
        if resume:
            assert found.earlier is not None
            done |= found.earlier.done or set()
        view = whole(self.dataset).select(planned.id)
        corrections = find_corrections(view, self.label_field, unrecorded=True).get(
            planned.id, NO_CORRECTIONS
        )
        (values,) = view.values(record_field(self.label_field))
        limited = self.rules.objects is not None
        tracks = {obj.instance.id for obj in video.objects.values() if obj.instance} if limited else None
        standing = corrections.outside(ranges, tracks) if self.overwrite else corrections
        writer = TrackWriter(
            self.dataset,
            planned.id,
            self.label_field,
            video,
            lock,
            output=self.settings.output,
            in_place=self.in_place,
            overwrite=self.overwrite,
            ranges=ranges,
            tracks=tracks,
            record=TrackRecord.from_dict(values),
            corrections=standing,
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
            kept=len(standing),
            replaced=len(corrections) - len(standing),
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

    def _read_seeds(self, video: PlannedVideo) -> SeededVideo:
        samples = seed_samples(self.samples, self.seed_field, self.label_field).select(video.id)
        changed = find_corrections(samples, self.seed_field) if self.rules.which == "keyframes" else {}
        # Where the first labeled frame shows nothing, the next one is the first.
        rules = replace(self.rules, which="all") if self.rules.which == "first" else self.rules
        numbers = seed_frames(samples, self.seed_field, rules, changed)
        sample = select_frames(samples, self.seed_field, numbers).first()
        return read_seeds(sample, self.seed_field, self.rules, changed.get(video.id))

    def _resume(
        self, id: str, video: SeededVideo, part: Part, earlier: Part | None, todo: Sequence[Segment]
    ) -> list[Seed]:
        """The last frames that an interrupted run wrote, after which the tracker continues."""
        kind = self.settings.output or default_output(video)
        same = earlier is not None and (earlier.settings, earlier.seeds) == (part.settings, part.seeds)
        if not same or earlier is None or earlier.done is None or kind != video.kind:
            return []
        wanted = sorted(frame for segment in todo for frame in segment.frames)
        if self.settings.direction == "backward":
            wanted.reverse()
        count = next((i for i, frame in enumerate(wanted) if frame + 1 not in earlier.done), len(wanted))
        recent = sorted(wanted[:count][-self.settings.config.memory :])
        return read_written(whole(self.dataset).select(id), self.label_field, video, recent) if recent else []

    def _write_cuts(self, id: str, cuts: Sequence[int], length: int) -> None:
        if self.cuts_field is None:
            return
        check_fields(self.dataset, self.label_field, id, self.cuts_field)
        bounds = [0, *cuts, length]
        shots = [
            fo.TemporalDetection(label="shot", support=[first + 1, stop]) for first, stop in pairwise(bounds)
        ]
        value = fo.TemporalDetections(detections=shots)
        whole(self.dataset).set_values(self.cuts_field, {id: value}, key_field="id")


class _StoppedError(Exception):
    """Somebody stopped the run before anything of the video was tracked."""


def _reason(video: PlannedVideo, error: Exception) -> str:
    """Log and return why a video failed."""
    if isinstance(error, ColorTrackError):
        logger.warning("Skipped %s: %s", video.filepath, error)
        return str(error)
    logger.exception("Tracking %s failed", video.filepath)
    return f"{type(error).__name__}: {error}; the log has the details"
