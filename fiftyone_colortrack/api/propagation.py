"""The main job: propagate labels from some frames of each video to all of its frames."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import fiftyone as fo
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack import fields
from fiftyone_colortrack.api.job import Executor, Job
from fiftyone_colortrack.api.plan import (
    FoundVideo,
    PlannedVideo,
    find_videos,
    video_length,
)
from fiftyone_colortrack.api.ray_workers import check_ray, track_with_ray
from fiftyone_colortrack.api.report import PropagationReport, VideoResult, plural
from fiftyone_colortrack.api.shards import track_shards
from fiftyone_colortrack.datasets.video_dataset import video_metadata
from fiftyone_colortrack.errors import ColorTrackError, OnError, check_choice
from fiftyone_colortrack.fields import OutputKind, SeedFrames
from fiftyone_colortrack.model.weights import find_model
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.tracking.config import BASELINES, Direction, TrackerConfig
from fiftyone_colortrack.version import __version__
from fiftyone_colortrack.video import probe

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder

logger = logging.getLogger(__name__)

METHOD = "colortrack"
TRACK = {"local": Job.track_all, "delegated": track_shards, "ray": track_with_ray}


def propagate(
    samples: SampleCollection | str,
    seed_field: str,
    label_field: str,
    *,
    model: str | Embedder = "fast",
    seeds: SeedFrames = "first",
    direction: Direction = "both",
    output: OutputKind | None = None,
    objects: Sequence[str | int] | None = None,
    frames: tuple[int, int] | None = None,
    complete: bool = False,
    config: TrackerConfig | Mapping[str, Any] | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    cuts_field: str | None = None,
    device: str | torch.device | None = None,
    on_error: OnError = "skip",
    executor: Executor = "local",
    shards: int = 1,
    stop: Callable[[], bool] | None = None,
    progress: bool | ProgressCallback | None = None,
) -> PropagationReport:
    """Label every frame of videos in which some frames are labeled.

        import fiftyone_colortrack as ct

        report = ct.propagate(dataset, "frames.ground_truth", "frames.tracks")
        print(report)

    Labels are saved in portions while a video is tracked. If a run was stopped or killed, `skip_existing=True`
    continues it.

    Labels that a person drew, changed, or deleted in `label_field` stay as they are unless you set `overwrite`.
    The report counts them.

    Args:
        samples: dataset or view of videos, or a dataset's name. Videos without labels in the seed field are
            skipped. All video slices of a grouped dataset are tracked. In a view of clips or frames, only its
            frames are tracked; the labels are saved to the videos, and `view.reload()` shows them. Images that
            `dataset.group_by("sequence", order_by="frame_number")` orders are read as videos; both fields are
            then fields of the images. Save your changes to samples first: the dataset is reloaded
        seed_field: frame field with detections (masks or boxes), keypoints, polylines, or segmentations
        label_field: frame field for the tracks, new or from an earlier run. It may be the seed field if you
            continue tracks from their keyframes: `seeds="keyframes", skip_existing=True`
        model: name of a model, such as `fast` or `lab` (see `list_models`), a weights file, a loaded model, or a
            baseline: `identity` repeats the labels in place; `flow` and `raft` move them with optical flow
        seeds: labels to start from: those of the `first` labeled frame, those of `all` labeled frames, or the
            `keyframes`: labels with `keyframe=True` and labels that a person changed, unless they were only
            renamed or split from their track
        direction: direction in time, from the seeds: `forward`, `backward`, or `both`
        output: labels to write: `masks`, `boxes`, `polylines`, or a `segmentation`. Default: the seeds' own type
        objects: track only these: IDs of labels or instances, classes, or indexes. Videos that have none of them
            are skipped; an object that no video has is refused. Default: all
        frames: first and last frame to track, counted from 1, both included. Default: all
        complete: labeled frames show every object: a track ends at a labeled frame that omits its object
        config: settings of the tracker, see `TrackerConfig`
        overwrite: replace existing labels in `label_field`, in these videos, no matter who made them
        skip_existing: continue an earlier run: skip the videos that it finished, unless their seeds changed. In
            videos with changed seeds, only the frames that depend on the change are re-tracked, if the settings
            are the same
        cuts_field: sample field in which to save the detected shots as `TemporalDetections`. Default: not saved
        device: PyTorch device, such as `cpu` or `cuda:1`. Default: the best one
        on_error: `skip` a video that fails, tag it `<label_field>_failed`, and go on; or `raise` the error
        executor: where to track: in this process (`local`), in workers started with `fiftyone delegated launch`
            (`delegated`), or in Ray workers (`ray`), one for each GPU, or for each CPU if there is no GPU
        shards: number of delegated operations that share the videos
        stop: called between frames; return True to stop
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        what was tracked, what was skipped, and what failed

    Raises:
        ColorTrackError: if the run cannot start, see `Propagation.check`; with `on_error="raise"`, also if a
            video fails
    """
    options = {name: value for name, value in locals().items() if name not in ("stop", "progress")}
    return Propagation(**options).run(progress, stop)


@dataclass
class Propagation(Job):
    """A run of `propagate` that you can check and plan first, as the form in the App does.

        run = Propagation(dataset, "frames.ground_truth", "frames.tracks")
        run.check()
        print(sum(video.frames for video in run.plan()))
        report = run.run()

    The attributes are the arguments of `propagate`.

    Attributes:
        read: calls a function of a view, `read(function, view, ...)`; the form remembers what it returned
    """

    read: Callable[..., Any] = field(default=lambda function, *args: function(*args), repr=False)

    def check(self) -> None:
        """Check that the run can start.

        Raises:
            ColorTrackError: if it cannot; the message says what to do
        """
        self._check_values()
        if self.executor == "ray":
            check_ray()
        seed_type = fields.check_seed_field(self.videos, self.seed_field)
        label_type = fields.tracks_type(seed_type, self.output)
        if self.in_place:
            self._check_in_place()
        else:
            fields.check_label_field(
                self.videos,
                self.label_field,
                label_type,
                overwrite=self.overwrite or (self.skip_existing and self._renamed is not None),
                skip_existing=self.skip_existing,
            )
        if self.cuts_field is not None:
            fields.check_cuts_field(self.videos, self.cuts_field, self.label_field)
        if isinstance(self.model, str) and self.model not in BASELINES:
            find_model(self.model)

    def plan(self) -> list[PlannedVideo]:
        """Say what the run would do with each video.

        Raises:
            ColorTrackError: if no video has one of the objects to track
        """
        found: list[FoundVideo] = self.read(find_videos, self.videos, *self.scope)
        self._check_objects(found)
        return [self.plan_video(video) for video in found]

    def run(
        self,
        progress: bool | ProgressCallback | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> PropagationReport:
        """Check, plan, and track.

        Args:
            progress: see `propagate`
            stop: see `propagate`

        Returns:
            what was tracked, what was skipped, and what failed

        Raises:
            ColorTrackError: see `propagate`
        """
        if fields.is_image_groups(self.samples):
            if self.cuts_field is not None:
                raise ColorTrackError("shots cannot be kept with images (cuts_field); leave it out")
            with fields.as_videos(self.samples) as videos:
                try:
                    report = replace(self, samples=videos).run(progress, stop)
                    return replace(report, label_field=self.label_field)
                finally:
                    fields.push_runs(videos._root_dataset, self.label_field)
        started = time.perf_counter()
        self.check()
        report = PropagationReport(None, fields.frame_path(self.label_field))
        self._adopt_renamed(report)
        videos = self.plan()
        if not any(video.labeled for video in videos):
            raise ColorTrackError(
                f"none of the {len(videos)} videos has labels in {fields.frame_path(self.seed_field)}; "
                "label a frame, or choose another seed field"
            )
        todo = [video for video in videos if not video.reason]
        skipped = [VideoResult(v.id, v.filepath, "skipped", reason=v.reason) for v in videos if v.reason]
        if others := [video for video in videos if video.other]:
            report.notes.append(self._other_settings(others))
        for note in report.notes:
            logger.warning(note)  # now, because the report may come hours later
        if todo:
            if self.executor == "local":
                self.loaded_model  # noqa: B018  # fails before anything is written if something is missing
            self._prepare(report, todo)
            todo = [replace(v, frames=v.frames or video_length(v.filepath)) for v in todo]
            with progress_bar(progress, "Tracking") as update:
                track = TRACK[self.executor]
                tracked = track(self, todo, report.run_key or "", update, stop or (lambda: False))
            of_video = {result.sample_id: result for result in tracked}
            report.stopped = len(of_video) < len(todo) or any(v.status == "stopped" for v in tracked)
        else:
            of_video = {}
        of_video |= {result.sample_id: result for result in skipped}
        report.videos = [of_video[video.id] for video in videos if video.id in of_video]
        report.seconds = time.perf_counter() - started
        if report.run_key and fo.dataset_exists(self.dataset.name):
            self.dataset.reload()  # else frames that the caller holds do not show the labels
            if self.dataset.has_run(report.run_key):  # somebody may have deleted the tracks meanwhile
                results = self.dataset.init_run_results(report.run_key, report=asdict(report))
                self.dataset.save_run_results(report.run_key, results)
        return report

    @cached_property
    def _renamed(self) -> tuple[str, str] | None:
        """The names of tracks that somebody renamed, from this field or to it."""
        return fields.find_renamed(self.dataset, self.label_field)

    def _check_values(self) -> None:
        choices: dict[str, Sequence[Any]] = {
            "seeds": fields.SEED_FRAMES,
            "direction": get_args(Direction),
            "output": (None, *get_args(OutputKind)),
            "on_error": get_args(OnError),
            "executor": get_args(Executor),
            **dict.fromkeys(("complete", "overwrite", "skip_existing"), (False, True)),
        }
        for name, known in choices.items():
            check_choice(name, getattr(self, name), known)
        if isinstance(self.objects, str) or not all(isinstance(one, str | int) for one in self.objects or ()):
            raise ColorTrackError(f"objects is {self.objects!r}; pass a list of IDs, classes, or indexes")
        if self.objects is not None and not len(self.objects):
            raise ColorTrackError("objects is empty; pass at least one, or None for all")
        if self.frames is not None:
            pair = tuple(self.frames) if isinstance(self.frames, Sequence) else ()
            if len(pair) != 2 or not all(type(n) is int for n in pair) or not 1 <= pair[0] <= pair[1]:
                raise ColorTrackError(
                    f"frames is {self.frames!r}; pass the first and the last frame, counted from 1: (1, 100)"
                )
        self.tracker  # noqa: B018  # checks the settings
        if self.overwrite and self.skip_existing:
            raise ColorTrackError("overwrite replaces tracks and skip_existing continues them; choose one")
        if (
            type(self.shards) is not int
            or self.shards < 1
            or (self.shards > 1 and self.executor != "delegated")
        ):
            raise ColorTrackError(f"shards is {self.shards}; it must be 1, or more with executor 'delegated'")
        if self.executor == "delegated" and not isinstance(self.model, str):
            raise ColorTrackError(
                "delegated workers cannot use a loaded model; pass a model's name or weights file"
            )

    def _check_objects(self, videos: Sequence[FoundVideo]) -> None:
        """Refuse objects that no video has."""
        found = [video.objects for video in videos if video.objects is not None]
        missing = set(self.objects or ()).difference(*(objects.has for objects in found))
        if not missing or any(video.labeled and video.objects is None for video in videos):
            return
        known = sorted(set().union(*(objects.known for objects in found)))
        names = [f"{label} (index {index})" for label, index in known[:20]] + ["..."] * (len(known) > 20)
        has = f"has {', '.join(names)}" if names else "has no labels to start from"
        raise ColorTrackError(
            f"no video has these objects to track (objects): {', '.join(sorted(map(str, missing)))}; "
            f"{fields.frame_path(self.seed_field)} {has}"
        )

    def _check_in_place(self) -> None:
        """Refuse to write tracks over their seeds if that would lose a person's work."""
        path = fields.frame_path(self.label_field)
        tracks = fields.is_tracks(self.videos, self.label_field) or self._renamed is not None
        if not tracks or self.seeds != "keyframes" or not self.skip_existing:
            way_on = ", or continue these tracks (skip_existing) from their keyframes" if tracks else ""
            raise ColorTrackError(
                f"{path} holds the labels to start from; write the tracks to another field{way_on}"
            )
        if self.output is not None:
            raise ColorTrackError(
                f"{path} keeps its type when you continue its tracks; remove the setting output"
            )

    def _adopt_renamed(self, report: PropagationReport) -> None:
        if self._renamed is None:
            return
        with fields.Lock(self.dataset, "fields"):
            self.dataset.reload()
            names = fields.adopt_renamed(self.dataset, self.label_field)
        if names:
            old, new = map(fields.frame_path, names)
            report.notes.append(f"{old} was renamed to {new}; its record was renamed, too")

    def _prepare(self, report: PropagationReport, todo: Sequence[PlannedVideo]) -> None:
        """Create the fields, and record the run and its settings."""
        with fields.Lock(self.dataset, "fields"):
            self.dataset.reload()  # else it takes away what others have added meanwhile
            report.run_key = f"{self.label_field}_{secrets.token_hex(3)}"
            fields.create_tracks_field(
                self.dataset, self.label_field, self.seed_field, self.output, self.cuts_field
            )
            fields.push_schema(self.dataset, self.label_field)
            config = self.dataset.init_run(
                method=METHOD,
                seed_field=fields.frame_path(self.seed_field),
                label_field=report.label_field,
                seeds=self.seeds,
                objects=None if self.objects is None else [str(one) for one in self.objects],
                frames=self.frames and list(self.frames),
                complete=self.complete,
                videos=len(todo),
                **self._how(),
            )
            self.dataset.register_run(report.run_key, config)
            fields.color_by_object(self.dataset)
        if computed := _compute_metadata(self.dataset, todo):
            report.notes.append(f"Computed the missing metadata of {plural(computed, 'video')}")

    def _other_settings(self, videos: Sequence[PlannedVideo]) -> str:
        """The note about videos whose earlier tracks have a different model or different settings."""
        texts = []
        if again := sum(not video.reason for video in videos):
            texts.append(
                f"{plural(again, 'video')} will be tracked from scratch, not only where labels changed"
            )
        if kept := len(videos) - again:
            texts.append(f"{plural(kept, 'finished video')} skipped (overwrite re-tracks them)")
        text = f"{'; '.join(texts)}: the earlier tracks have a different model or different settings"
        runs = {video.other for video in videos}
        known = [self.dataset.get_run_info(run).config for run in runs if self.dataset.has_run(run)]
        earlier = [_flat(vars(config)) for config in known]
        differences = []
        for name, now in _flat(self._how()).items():
            if others := {values.get(name, now) for values in earlier} - {now}:
                differences.append(f"{name} {' or '.join(sorted(others))}, now {now}")
        return f"{text} ({'; '.join(differences)})" if differences else text

    def _how(self) -> dict[str, Any]:
        """The model and settings, as runs record them."""
        model = self.model if isinstance(self.model, str) else self.model.name
        return {
            "version": __version__,
            "model": model
            if model in BASELINES or not isinstance(self.model, str)
            else find_model(model).name,
            "direction": self.direction,
            "output": self.output,
            "tracker": asdict(self.tracker),
        }


def _compute_metadata(dataset: fo.Dataset, videos: Sequence[PlannedVideo]) -> int:
    """Save the missing metadata of videos, which the App needs; return how many were missing."""
    view = fields.whole(dataset)
    found = view.select([video.id for video in videos]).values(
        ["id", "filepath", "metadata.total_frame_count"]
    )
    metadata = {}
    for id, path, length in zip(*found, strict=True):
        if length is None:
            with suppress(ColorTrackError):  # tracking it will say why
                metadata[id] = video_metadata(Path(path), probe(path))
    if metadata:
        view.set_values("metadata", metadata, key_field="id")
    return len(metadata)


def _flat(how: Mapping[str, Any]) -> dict[str, str]:
    """`Propagation._how` as texts, with the tracker's settings one by one."""
    values = {**{name: how[name] for name in ("version", "model", "direction", "output")}, **how["tracker"]}
    texts = {name: str(list(v) if isinstance(v, tuple) else v) for name, v in values.items()}
    return {**texts, "output": how["output"] or "as labeled"}
