"""The main job: labels of some frames of each video become labels of all its frames."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import fiftyone as fo
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.api.report import Clock, Progress, PropagationReport, VideoResult
from fiftyone_colortrack.datasets.video_dataset import color_by_instance
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    SEED_FRAMES,
    OutputKind,
    SeedFrames,
    TrackWriter,
    create_tracks_field,
    field_name,
    labelled_frames,
    read_seeds,
    run_field,
    seed_fields,
    tracks_type,
)
from fiftyone_colortrack.tracking.config import Direction, TrackerConfig
from fiftyone_colortrack.version import __version__
from fiftyone_colortrack.video import probe

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder

logger = logging.getLogger(__name__)

OnError = Literal["skip", "raise"]
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
        view: videos; those without labels in the seed field are skipped
        seed_field: frame field with detections (masks or boxes), key points or segmentations
        out_field: frame field to write, new or made by an earlier run
        progress: called after every frame
        options: see `propagate_iter`

    Returns:
        What was done, skipped and failed

    Raises:
        ColorTrackError: if the run cannot start, see `check_propagation`; with `on_error="raise"` also if a
            video fails
    """
    steps = propagate_iter(view, seed_field, out_field, **options)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if progress is not None:
            progress(step)


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
) -> Generator[Progress, None, PropagationReport]:
    """`propagate` as a generator of its progress; it returns the report.

    A video's labels are written when all its frames are tracked: whenever the run ends, each video has all
    its new labels or none.

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
        skip_existing: continue an earlier run: leave the videos alone that it finished
        device: torch device; default: the best one there is
        on_error: `skip` a video that fails and go on with the next, or `raise`
        stop: asked between frames whether to stop; the video in hand is then left out
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
    options = {"model": model, "direction": direction, "config": config, "device": device}
    job = _Job(view, field_name(seed_field), field_name(out_field), seeds, output, options, on_error)
    return job.run(skip_existing, stop or (lambda: False))


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
    check_out_field(
        view,
        seed_field,
        out_field,
        tracks_type(seed_type, output),
        overwrite=overwrite,
        skip_existing=skip_existing,
    )


def check_videos(view: SampleCollection) -> None:
    """Raise a ColorTrackError if the samples are not whole videos."""
    if view.media_type != "video" or view._is_clips:
        raise ColorTrackError(
            "tracks run through whole videos; choose a dataset or view of videos, not clips"
        )


def check_seed_field(view: SampleCollection, seed_field: str) -> type[fo.Label]:
    """The type of the labels in the seed field; a ColorTrackError if they cannot be seeds."""
    check_videos(view)
    types = seed_fields(view)
    if field_name(seed_field) not in types:
        known = ", ".join(types) or "none yet: label a frame first"
        raise ColorTrackError(
            f"frames.{field_name(seed_field)} has no detections, key points or segmentations to start from; "
            f"fields that have: {known}"
        )
    return types[field_name(seed_field)]


def check_out_field(
    view: SampleCollection,
    seed_field: str,
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
    if name == field_name(seed_field):
        raise ColorTrackError(
            f"frames.{name} holds the labels to start from; write the tracks to another field"
        )
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


@dataclass
class _Job:
    view: SampleCollection
    seed_field: str
    out_field: str
    seeds: SeedFrames
    output: OutputKind | None
    tracker_options: dict[str, Any]
    on_error: OnError

    def run(
        self, skip_existing: bool, stop: Callable[[], bool]
    ) -> Generator[Progress, None, PropagationReport]:
        started = time.perf_counter()
        todo, skipped = self._plan(skip_existing)
        report = PropagationReport(None, self.out_field, skipped)
        if todo:
            self._load_model()
            report.run_key = self._register(len(todo))
            create_tracks_field(self.dataset, self.out_field, self.seed_field, self.output)
            clock = Clock([(os.path.basename(video.filepath), video.length) for video in todo])
            samples = self.view.select_fields(f"frames.{self.seed_field}")
            for video in todo:
                try:
                    result = yield from self._track(samples[video.id], report.run_key, clock, stop)
                except Exception as error:
                    if self.on_error == "raise":
                        raise
                    result = _failure(video, error)
                if result is None:
                    report.stopped = True
                    break
                report.videos.append(result)
                clock.finish_video()
        report.seconds = time.perf_counter() - started
        if report.run_key:
            results = self.dataset.init_run_results(report.run_key, report=asdict(report))
            self.dataset.save_run_results(report.run_key, results)
        return report

    @property
    def dataset(self) -> fo.Dataset:
        return self.view._root_dataset

    def _plan(self, skip_existing: bool) -> tuple[list[_Video], list[VideoResult]]:
        """The videos to track, and those to skip."""
        mark = run_field(self.out_field)
        paths = ["id", "filepath", "metadata.total_frame_count"]
        marked = self.view.has_sample_field(mark)
        ids, files, lengths = self.view.values(paths)
        runs = self.view.values(mark) if marked else [None] * len(ids)
        labelled = labelled_frames(self.view, self.seed_field, self.seeds)
        todo, skipped = [], []
        for id, filepath, length, run in zip(ids, files, lengths, runs, strict=True):
            if not labelled[id]:
                reason = f"frames.{self.seed_field} has no labels to start from"
                skipped.append(VideoResult(id, filepath, "skipped", reason=reason))
            elif skip_existing and run is not None:
                skipped.append(VideoResult(id, filepath, "skipped", reason=f"finished by run {run}"))
            else:
                todo.append(_Video(id, filepath, length or _length(filepath)))
        if not any(labelled.values()):
            raise ColorTrackError(
                f"none of the {len(ids)} videos has labels to start from in frames.{self.seed_field}; "
                "label a frame or choose another seed field"
            )
        return todo, skipped

    def _load_model(self) -> None:
        """Load the model once for all videos."""
        from fiftyone_colortrack.model import load_model
        from fiftyone_colortrack.tracking.tracker import BASELINES, make_propagator

        options = self.tracker_options
        options["config"] = options["config"] or TrackerConfig()
        model, config, device = (options[name] for name in ("model", "config", "device"))
        if model in BASELINES:
            make_propagator(model, config, device)  # to say what it lacks before the run begins
        elif isinstance(model, str):
            options["model"] = load_model(model, device)

    def _register(self, videos: int) -> str:
        """Record what is run, and how, in the dataset."""
        run_key = f"{self.out_field}_{secrets.token_hex(3)}"
        model = self.tracker_options["model"]
        config = self.dataset.init_run(
            method=METHOD,
            version=__version__,
            seed_field=f"frames.{self.seed_field}",
            out_field=f"frames.{self.out_field}",
            model=model if isinstance(model, str) else model.name,
            seeds=self.seeds,
            direction=self.tracker_options["direction"],
            output=self.output,
            tracker=asdict(self.tracker_options["config"]),
            videos=videos,
        )
        self.dataset.register_run(run_key, config)
        if self.dataset.app_config.color_scheme is None:
            color_by_instance(self.dataset)
        return run_key

    def _track(
        self, sample: fo.Sample, run_key: str, clock: Clock, stop: Callable[[], bool]
    ) -> Generator[Progress, None, VideoResult | None]:
        """Track a video and write its labels; None if it was stopped, and nothing written."""
        from fiftyone_colortrack.tracking import Tracker

        started = time.perf_counter()
        video = read_seeds(sample, self.seed_field, self.seeds, fill_boxes=self.output == "masks")
        tracker = Tracker(video.frames, video.seeds, kind=video.kind, **self.tracker_options)
        writer = TrackWriter(sample, self.out_field, video, run_key, self.output)
        for step, tracked in enumerate(tracker.steps(), 1):
            if tracked is not None:
                writer.add(tracked)
            yield clock.step(step * len(tracker) // tracker.step_count, len(tracker))
            if stop():
                return None
        frames = writer.commit()
        seconds = time.perf_counter() - started
        return VideoResult(
            sample.id, sample.filepath, "done", frames, seconds, warnings=tuple(video.warnings)
        )


@dataclass(frozen=True)
class _Video:
    id: str
    filepath: str
    length: int


def _length(filepath: str) -> int:
    try:
        return probe(filepath).frame_count
    except ColorTrackError:
        return 0  # tracking it will say why


def _failure(video: _Video, error: Exception) -> VideoResult:
    if isinstance(error, ColorTrackError):
        reason = str(error)
        logger.warning("Skipped %s: %s", video.filepath, reason)
    else:
        reason = f"{type(error).__name__}: {error}"
        logger.exception("Tracking %s failed", video.filepath)
    return VideoResult(video.id, video.filepath, "failed", reason=reason)
