"""The main job: labels of some frames of each video become labels of all its frames."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

import fiftyone as fo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.view import DatasetView

from fiftyone_colortrack.api.plan import PlannedVideo, Settings, find_videos, seed_samples, video_length
from fiftyone_colortrack.api.report import Clock, Progress, PropagationReport, VideoResult, drain, plural
from fiftyone_colortrack.datasets.video_dataset import OnError, color_by_instance
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    SEED_FRAMES,
    Lock,
    OutputKind,
    SeededVideo,
    SeedFrames,
    TrackRecord,
    TrackWriter,
    create_tracks_field,
    failed_tag,
    field_name,
    read_seeds,
    run_field,
    seed_fields,
    select_labelled,
    tracks_type,
)
from fiftyone_colortrack.model.weights import find_model
from fiftyone_colortrack.tracking.config import BASELINES, Direction, TrackerConfig
from fiftyone_colortrack.version import __version__

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder

logger = logging.getLogger(__name__)

T = TypeVar("T")
Executor = Literal["local", "delegated", "ray"]
METHOD = "colortrack"


def propagate(
    view: SampleCollection,
    seed_field: str,
    out_field: str,
    *,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> PropagationReport:
    """Label every frame of videos that have some labelled frames.

        report = propagate(dataset, "frames.ground_truth", "frames.tracks")

    Args:
        view: videos; those without labels in the seed field are skipped. Save samples that you have changed
            before: the dataset is reloaded
        seed_field: frame field with detections (masks or boxes), key points or segmentations
        out_field: frame field to write, new or made by an earlier run; it may be the seed field where that is
            continued from its keyframes: `seeds="keyframes", skip_existing=True`
        progress: called after every frame
        options: see `propagate_iter`

    Returns:
        What was done, skipped and failed

    Raises:
        ColorTrackError: if the run cannot start, see `check_propagation`; with `on_error="raise"` also if a
            video fails
    """
    return drain(propagate_iter(view, seed_field, out_field, **options), progress)


def propagate_iter(
    view: SampleCollection,
    seed_field: str,
    out_field: str,
    *,
    model: str | Embedder = "fast",
    seeds: SeedFrames = "first",
    direction: Direction = "both",
    output: OutputKind | None = None,
    config: TrackerConfig | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    device: str | torch.device | None = None,
    on_error: OnError = "skip",
    stop: Callable[[], bool] | None = None,
    executor: Executor = "local",
    shards: int = 1,
) -> Generator[Progress, None, PropagationReport]:
    """`propagate` as a generator of its progress; it returns the report.

    A video's labels are written when all its frames are tracked: whenever the run ends, each video has all
    its new labels or none. Where a video is written halfway, a run that continues this one does it again.

    Args:
        view: see `propagate`
        seed_field: see `propagate`
        out_field: see `propagate`
        model: `fast`, `lab`, another name that `list_models` knows, a weights file, a loaded model, or the
            baselines `identity` (repeats the labels in place), `flow` and `raft` (optical flow)
        seeds: the labels to start from: those of the `first` labelled frame, those of `all` labelled frames,
            or the `keyframes`, which have `keyframe=True`
        direction: `forward` in time from the seeds, `backward`, or `both`
        output: `masks`, `boxes` or `segmentation`, see `TrackWriter`; by default as the seeds are
        config: the tracker's settings
        overwrite: replace earlier labels in `out_field`, of the videos of this view
        skip_existing: continue an earlier run: leave alone the videos that it finished, unless their seeds
            have changed since. Of those only the frames that follow from what changed are tracked again, if
            the settings are the same, and all other labels stay as they are
        device: torch device; default: the best one there is
        on_error: `skip` a video that fails, tag it as `failed_tag` says and go on with the next; or `raise`
        stop: asked between frames whether to stop; the videos in hand are then left out
        executor: who tracks the videos: this process (`local`), workers that were started with `fiftyone
            delegated launch` (`delegated`), or Ray's (`ray`): one for each GPU, or for each CPU where there
            is none. What a lost worker has not finished is done again by another one
        shards: how many delegated operations the videos are shared among
    """
    check_propagation(
        view,
        seed_field,
        out_field,
        seeds=seeds,
        output=output,
        overwrite=overwrite,
        skip_existing=skip_existing,
    )
    if direction not in get_args(Direction):
        raise ColorTrackError(f"direction is {direction!r}; choose one of {', '.join(get_args(Direction))}")
    settings = Settings(model, direction, output, config or TrackerConfig())
    job = Job(view, field_name(seed_field), field_name(out_field), seeds, settings, device, on_error)
    track = _executor(executor, shards, model)
    return job.run(track, skip_existing, stop or (lambda: False))


def check_propagation(
    view: SampleCollection,
    seed_field: str,
    out_field: str,
    *,
    seeds: SeedFrames = "first",
    output: OutputKind | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> None:
    """Raise a ColorTrackError that says why labels cannot be propagated so, if that is the case."""
    seed_type = check_seed_field(view, seed_field)
    if seeds not in SEED_FRAMES:
        raise ColorTrackError(f"seeds is {seeds!r}; choose one of {', '.join(SEED_FRAMES)}")
    label_type = tracks_type(seed_type, output)
    if field_name(seed_field) == field_name(out_field):
        check_in_place(view, out_field, seeds=seeds, output=output, skip_existing=skip_existing)
    else:
        check_out_field(view, out_field, label_type, overwrite=overwrite, skip_existing=skip_existing)


def check_videos(view: SampleCollection) -> None:
    """Raise a ColorTrackError if the samples are not whole videos."""
    if view.media_type != "video" or view._is_clips:
        kind = "clips" if view._is_clips else view.media_type or "nothing"
        raise ColorTrackError(
            f"tracks run through whole videos, but this view holds {kind}; choose a dataset or view of videos"
        )


def check_seed_field(view: SampleCollection, seed_field: str) -> type[fo.Label]:
    """The type of the labels in the seed field; a ColorTrackError if they cannot be seeds."""
    check_videos(view)
    types = seed_fields(view)
    if field_name(seed_field) not in types:
        known = ", ".join(f"frames.{name}" for name in types) or "none yet: label a frame first"
        raise ColorTrackError(
            f"frames.{field_name(seed_field)} has no detections, key points or segmentations to start from; "
            f"fields that have: {known}"
        )
    return types[field_name(seed_field)]


def check_in_place(
    view: SampleCollection,
    field: str,
    *,
    seeds: SeedFrames,
    output: OutputKind | None = None,
    skip_existing: bool = False,
) -> None:
    """Raise a ColorTrackError if tracks must not be written to the field of their seeds.

    They may be where nobody's work is lost: in tracks that are continued from their keyframes.
    """
    name = field_name(field)
    is_tracks = view.has_sample_field(run_field(name))
    if not is_tracks or seeds != "keyframes" or not skip_existing:
        way_on = ", or continue these tracks (skip_existing) from their keyframes" if is_tracks else ""
        raise ColorTrackError(
            f"frames.{name} holds the labels to start from; write the tracks to another field{way_on}"
        )
    if output is not None:
        raise ColorTrackError(f"frames.{name} stays of the kind that it is; leave the output as labelled")


def check_out_field(
    view: SampleCollection,
    out_field: str,
    label_type: type[fo.Label],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> None:
    """Raise a ColorTrackError if tracks of a type must not be written to a frame field."""
    name = field_name(out_field)
    if not name.isidentifier() or name.startswith("_"):
        raise ColorTrackError(f"{name!r} is no name for a field; use letters, digits and underscores")
    schema = view.get_frame_field_schema()
    if name not in schema:
        return
    present = getattr(schema[name], "document_type", None)
    if present is not label_type:
        kind = present.__name__ if present else type(schema[name]).__name__
        raise ColorTrackError(
            f"frames.{name} exists as {kind}, but the tracks are {label_type.__name__}; choose another name"
        )
    is_tracks = view.has_sample_field(run_field(name))
    if not overwrite and not (skip_existing and is_tracks):
        way_out = "continue the earlier run (skip_existing), replace its labels (overwrite)"
        raise ColorTrackError(
            f"frames.{name} exists; {way_out if is_tracks else 'replace its labels (overwrite)'} "
            "or choose another name"
        )


class Track(Protocol):
    """Tracks and writes videos, and returns what became of each, in any order; of fewer if it was stopped."""

    def __call__(
        self, job: Job, videos: Sequence[PlannedVideo], run_key: str, stop: Callable[[], bool]
    ) -> Generator[Progress, None, list[VideoResult]]: ...


def _executor(name: Executor, shards: int, model: str | Embedder) -> Track:
    if name not in get_args(Executor):
        raise ColorTrackError(f"executor is {name!r}; choose one of {', '.join(get_args(Executor))}")
    if shards < 1 or (shards > 1 and name != "delegated"):
        raise ColorTrackError(
            f"shards is {shards}; it must be at least 1, and more only with executor 'delegated'"
        )
    if name == "ray":
        from fiftyone_colortrack.api.ray_workers import RayWorkers

        return RayWorkers()
    if name == "delegated":
        from fiftyone_colortrack.api.shards import Shards

        if not isinstance(model, str):
            raise ColorTrackError(
                "a loaded model stays in this process; give delegated workers a model's name or weights file"
            )
        return Shards(shards)
    return track_here


def track_here(
    job: Job, videos: Sequence[PlannedVideo], run_key: str, stop: Callable[[], bool]
) -> Generator[Progress, None, list[VideoResult]]:
    """Track videos in this process, one after the other, but those that the run has finished: a `Track`."""
    clock = video_clock(videos)
    results = job.finished(videos, run_key)
    done = {result.sample_id for result in results}
    for index, video in enumerate(videos):
        if video.id not in done:
            result = yield from job.track(video, run_key, clock, stop)
            if result is None:
                break
            results.append(result)
        clock.finish_video(index)
    return results


def video_clock(videos: Sequence[PlannedVideo]) -> Clock:
    """Counts frames and time over some videos."""
    return Clock([(os.path.basename(video.filepath), video.frames) for video in videos])


@dataclass
class Job:
    """What a run does, wherever it does it; the parameters are those of `propagate_iter`."""

    view: SampleCollection
    seed_field: str
    out_field: str
    seeds: SeedFrames
    settings: Settings
    device: str | torch.device | None
    on_error: OnError

    def run(
        self, track: Track, skip_existing: bool, stop: Callable[[], bool]
    ) -> Generator[Progress, None, PropagationReport]:
        started = time.perf_counter()
        todo, skipped, notes = self._plan(skip_existing)
        report = PropagationReport(None, self.out_field, skipped, notes)
        if todo:
            if track is track_here:
                self.model  # noqa: B018  # says what it lacks before anything is written
            with Lock(self.dataset, "fields"):
                self.dataset.reload()  # else it takes away what others have added meanwhile
                report.run_key = self._register(len(todo))
                create_tracks_field(self.dataset, self.out_field, self.seed_field, self.settings.output)
            todo = [replace(video, frames=video.frames or video_length(video.filepath)) for video in todo]
            tracked = yield from track(self, todo, report.run_key, stop)
            of_video = {result.sample_id: result for result in tracked}
            report.videos += [of_video[video.id] for video in todo if video.id in of_video]
            report.stopped = len(tracked) < len(todo)
        report.seconds = time.perf_counter() - started
        if report.run_key:
            results = self.dataset.init_run_results(report.run_key, report=asdict(report))
            self.dataset.save_run_results(report.run_key, results)
        return report

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes this job of, in another process; JSON if the model is a name."""
        model = self.settings.model
        if isinstance(model, str) and os.path.isfile(model):
            model = os.path.abspath(model)  # the other process has another working folder
        return {
            "dataset": self.dataset.name,
            "view": self.view.view()._serialize(),
            "seed_field": self.seed_field,
            "out_field": self.out_field,
            "seeds": self.seeds,
            "model": model,
            "direction": self.settings.direction,
            "output": self.settings.output,
            "config": asdict(self.settings.config),
            "device": self.device and str(self.device),
            "on_error": self.on_error,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Job:
        if not fo.dataset_exists(values["dataset"]):
            raise ColorTrackError(
                f"the worker on {socket.gethostname()} finds no dataset {values['dataset']!r}; all machines "
                "need one MongoDB, named there in FIFTYONE_DATABASE_URI"
            )
        dataset = fo.load_dataset(values["dataset"])
        dataset.reload()  # this process may know it from before it had the fields
        size = values["config"]["input_size"]
        size = size if isinstance(size, int) else tuple(size)  # JSON has no tuples
        config = TrackerConfig(**{**values["config"], "input_size": size})
        return cls(
            DatasetView._build(dataset, values["view"]),
            values["seed_field"],
            values["out_field"],
            values["seeds"],
            Settings(values["model"], values["direction"], values["output"], config),
            values["device"],
            values["on_error"],
        )

    def finished(self, videos: Sequence[PlannedVideo], run_key: str) -> list[VideoResult]:
        """Results of those videos that a worker of this run has written, whether or not it could say so."""
        written = set(self.dataset.match(F(run_field(self.out_field)) == run_key).values("id"))
        return [VideoResult(v.id, v.filepath, "done", v.frames) for v in videos if v.id in written]

    @property
    def dataset(self) -> fo.Dataset:
        return self.view._root_dataset

    @property
    def in_place(self) -> bool:
        return self.seed_field == self.out_field

    def _plan(self, skip_existing: bool) -> tuple[list[PlannedVideo], list[VideoResult], list[str]]:
        """The videos to track, those to skip, and what is to be said of them together."""
        fill_boxes = self.settings.output == "masks"
        found = find_videos(self.view, self.seed_field, self.out_field, self.seeds, skip_existing, fill_boxes)
        videos = [video.plan(self.settings) for video in found]
        if not any(video.labelled for video in videos):
            raise ColorTrackError(
                f"none of the {len(videos)} videos has labels to start from in frames.{self.seed_field}; "
                "label a frame or choose another seed field"
            )
        runs = [before.run for before, video in zip(found, videos, strict=True) if video.other]
        notes = [self._other_settings(runs, sum(video.anew for video in videos))] if runs else []
        for note in notes:
            logger.warning(note)  # now, not only in the report: it may take hours
        skipped = [VideoResult(v.id, v.filepath, "skipped", reason=v.reason) for v in videos if v.reason]
        return [video for video in videos if not video.reason], skipped, notes

    def _other_settings(self, runs: Sequence[str | None], anew: int) -> str:
        """What is said of videos whose tracks were made otherwise, by these runs; some are tracked anew."""
        texts = []
        if anew:
            texts.append(
                f"all frames of {plural(anew, 'video')} are tracked anew, not only those that follow from "
                "changed labels"
            )
        if kept := len(runs) - anew:
            texts.append(f"{plural(kept, 'finished video')} left alone (overwrite tracks them anew)")
        text = f"{'; '.join(texts)}: another model or other settings made the earlier tracks"
        known = [self.dataset.get_run_info(run).config for run in {*runs} if self.dataset.has_run(run)]
        earlier = [_flat(vars(config)) for config in known]
        differences = []
        for name, now in _flat(self._how()).items():
            if others := {values.get(name, now) for values in earlier} - {now}:
                differences.append(f"{name} {' or '.join(sorted(others))}, now {now}")
        return f"{text} ({'; '.join(differences)})" if differences else text

    def _how(self) -> dict[str, Any]:
        """What tracks are made with, as runs record it."""
        return {
            "version": __version__,
            "model": self._model_name,
            "direction": self.settings.direction,
            "output": self.settings.output,
            "tracker": asdict(self.settings.config),
        }

    @cached_property
    def model(self) -> str | Embedder:
        """The model, loaded once for all videos."""
        from fiftyone_colortrack.model import load_model
        from fiftyone_colortrack.tracking.tracker import make_propagator

        model = self.settings.model
        if model in BASELINES:
            make_propagator(model, self.settings.config, self.device)  # to say now what it lacks
        elif isinstance(model, str):
            return load_model(model, self.device)
        return model

    @property
    def _model_name(self) -> str:
        model = self.settings.model
        if isinstance(model, str):
            return model if model in BASELINES else find_model(model).name
        return model.name

    def _register(self, videos: int) -> str:
        """Record what is run, and how, in the dataset."""
        run_key = f"{self.out_field}_{secrets.token_hex(3)}"
        config = self.dataset.init_run(
            method=METHOD,
            seed_field=f"frames.{self.seed_field}",
            out_field=f"frames.{self.out_field}",
            seeds=self.seeds,
            videos=videos,
            **self._how(),
        )
        self.dataset.register_run(run_key, config)
        if self.dataset.app_config.color_scheme is None:
            color_by_instance(self.dataset)
        return run_key

    def _read_seeds(self, video: PlannedVideo) -> tuple[fo.Sample, SeededVideo]:
        samples = seed_samples(self.view, self.seed_field, self.out_field).select(video.id)
        # Where the first labelled frame shows nothing, the next one is the first.
        which = "all" if self.seeds == "first" else self.seeds
        sample = select_labelled(samples, self.seed_field, which).first()
        fill_boxes = self.settings.output == "masks"
        return sample, read_seeds(sample, self.seed_field, self.seeds, fill_boxes=fill_boxes)

    def track(
        self, video: PlannedVideo, run_key: str, clock: Clock, stop: Callable[[], bool]
    ) -> Generator[Progress, None, VideoResult | None]:
        """Track a video, or what has changed in it; None if it was stopped, and nothing was written."""
        try:
            return (yield from self._track(video, run_key, clock, stop))
        except Exception as error:
            if self.on_error == "raise":
                raise
            return self.fail(video, _reason(video, error))

    def fail(self, video: PlannedVideo, reason: str) -> VideoResult:
        """Tag a video that could not be tracked: now, as the run may be killed before its end.

        Where an error ends the run, the videos after it were never tried: none is tagged.
        """
        if self.on_error == "skip":
            self.dataset.select(video.id).tag_samples(failed_tag(self.out_field))
        return VideoResult(video.id, video.filepath, "failed", reason=reason)

    def _track(
        self, planned: PlannedVideo, run_key: str, clock: Clock, stop: Callable[[], bool]
    ) -> Generator[Progress, None, VideoResult | None]:
        from fiftyone_colortrack.tracking import Tracker

        started = time.perf_counter()
        sample, video = self._read_seeds(planned)
        tracker = Tracker(
            video.frames,
            video.seeds,
            kind=video.kind,
            model=self.model,
            direction=self.settings.direction,
            config=self.settings.config,
            device=self.device,
        )
        record = TrackRecord.of(self.settings.digest(video.kind), video.digests, tracker.segments)
        part = tracker.only(record.changed(tracker.segments, planned.earlier))
        writer = TrackWriter(sample, self.out_field, video, self.settings.output, in_place=self.in_place)
        with _beside(writer.add) as add:
            for step, tracked in enumerate(part.steps(), 1):
                if tracked is not None:
                    add(tracked)
                yield clock.step(step * len(part) // part.step_count, len(part))
                if stop():
                    return None
        if self.in_place and self._read_seeds(planned)[1].digests != video.digests:
            raise ColorTrackError(
                f"keyframes of {planned.filepath} were edited while it was tracked; propagate again"
            )
        kept = [segment for segment in tracker.segments if segment not in part.segments]
        frames = writer.commit(run_key, record, {frame for segment in kept for frame in segment.frames})
        seconds = time.perf_counter() - started
        return VideoResult(
            planned.id, planned.filepath, "done", frames, seconds, warnings=tuple(video.warnings)
        )


@contextmanager
def _beside(function: Callable[[T], None]) -> Iterator[Callable[[T], None]]:
    """Calls a function in a thread while the caller goes on; each call waits for the one before it."""
    with ThreadPoolExecutor(1, "colortrack-writer") as thread:
        last = thread.submit(lambda: None)

        def call(value: T) -> None:
            nonlocal last
            last.result()
            last = thread.submit(function, value)

        yield call
        last.result()


def _flat(how: Mapping[str, Any]) -> dict[str, str]:
    """`Job._how` in words, the tracker's settings one by one."""
    values = {**{name: how[name] for name in ("version", "model", "direction", "output")}, **how["tracker"]}
    texts = {name: str(list(v) if isinstance(v, tuple) else v) for name, v in values.items()}
    return {**texts, "output": how["output"] or "as labelled"}


def _reason(video: PlannedVideo, error: Exception) -> str:
    """Why a video failed, which the log gets, too."""
    if isinstance(error, ColorTrackError):
        logger.warning("Skipped %s: %s", video.filepath, error)
        return str(error)
    logger.exception("Tracking %s failed", video.filepath)
    return f"{type(error).__name__}: {error}; the log tells where"
