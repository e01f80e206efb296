"""Videos that show what the network sees: predicted colors, embeddings, and both beside the tracks.

The rendered videos of a dataset become a dataset of their own. Importing this module does not import PyTorch.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import fiftyone as fo
import numpy as np
import pandas as pd
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack import fields, pictures
from fiftyone_colortrack.api.plan import video_length
from fiftyone_colortrack.api.report import Status, plural
from fiftyone_colortrack.datasets import ENCODED
from fiftyone_colortrack.datasets.video_dataset import video_sample
from fiftyone_colortrack.errors import ColorTrackError, OnError, check_choice
from fiftyone_colortrack.fields.shapes import Size, box_in_pixels, paint, points_in_pixels, split
from fiftyone_colortrack.model.weights import fingerprint
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.settings import check_allowed
from fiftyone_colortrack.tracking.config import BASELINES, TrackerConfig
from fiftyone_colortrack.video import Frames, VideoWriter, probe

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder

logger = logging.getLogger(__name__)

FilmKind = Literal["colors", "embedding", "overview"]
Basis = Literal["video", "dataset"]

FILM_FIELDS = ("source_id", "source", "film", "settings")
INFO = "films"  # key of `dataset.info`: the name of the dataset of its rendered videos
BASIS_VIDEOS = 24  # a basis that videos share is fitted to this many of them


@dataclass(frozen=True)
class FilmResult:
    """What happened to one video.

    Attributes:
        sample_id: of the source video
        filepath: of the source video
        status: "done", "skipped" (rendered earlier), or "failed"
        path: the rendered video, None if it failed
        frames: number of rendered frames
        seconds: rendering time
        reason: why it failed
        measures: mean color errors of the video, see `colorize`
    """

    sample_id: str
    filepath: str
    status: Status
    path: Path | None = None
    frames: int = 0
    seconds: float = 0.0
    reason: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass
class FilmReport:
    """What a run did.

    Attributes:
        dataset: the dataset of rendered videos, in which `source_id` is the ID of the source. None if nothing was
            rendered
        videos: one result per video, in order
        seconds: time of the whole run
        stopped: whether the run stopped before its last video
    """

    dataset: fo.Dataset | None = None
    videos: list[FilmResult] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    def with_status(self, status: Status) -> list[FilmResult]:
        """The videos that are done, were skipped, or failed."""
        return [video for video in self.videos if video.status == status]

    def __str__(self) -> str:
        done, skipped, failed = (len(self.with_status(status)) for status in ("done", "skipped", "failed"))
        text = f"{plural(done, 'video')} rendered in {self.seconds:.0f} s"
        text += f", in the dataset {self.dataset.name}" if self.dataset is not None else ""
        text += f"; {skipped} already rendered" if skipped else ""
        text += f"; {failed} failed" if failed else ""
        return text + ("; stopped early" if self.stopped else "")


def colorize(
    samples: SampleCollection | str,
    *,
    model: str | Embedder = "fast",
    config: TrackerConfig | Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    out_dir: str | Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
    on_error: OnError = "skip",
    progress: bool | ProgressCallback | None = None,
    stop: Callable[[], bool] | None = None,
) -> FilmReport:
    """Predict the colors of each video from its first frame, and measure the error.

        report = colorize(dataset)
        report.dataset.first().color_distance

    Every frame of a rendered video except the first has the fields `color_top1` and `color_distance` (see
    `metrics.ColorError`). `still_top1` and `still_distance` are the same errors if the first frame's colors stay
    in place. Samples have the means. A rendered video appears in the dataset once it is complete.

    Args:
        samples: dataset or view of videos, or a dataset's name
        model: name of a model, a weights file, a loaded model, or a baseline
        config: settings of the tracker
        device: PyTorch device, such as `cpu` or `cuda:1`. Default: the best one
        out_dir: folder of the rendered videos. Default: `colortrack-videos` next to each video
        name: name of the dataset of rendered videos. Default: that of the last run, or the source's name plus `-films`
        overwrite: render videos again even if an earlier run finished them with the same settings
        on_error: `skip` a video that fails and go on, or `raise` the error
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar
        stop: called between frames; return True to stop. The unfinished video is discarded

    Returns:
        the rendered videos, and the source videos that were skipped or failed

    Raises:
        ColorTrackError: if the samples are not videos, the model does not exist, or the name is taken
    """
    job = _Job(samples, "colors", model, config, device, out_dir, name, overwrite, on_error)
    return job.run(progress, stop)


def embed(
    samples: SampleCollection | str,
    *,
    basis: Basis = "video",
    model: str | Embedder = "fast",
    config: TrackerConfig | Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    out_dir: str | Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
    on_error: OnError = "skip",
    progress: bool | ProgressCallback | None = None,
    stop: Callable[[], bool] | None = None,
) -> FilmReport:
    """Show the embeddings of each video in false colors: three principal components as red, green, and blue.

    Args:
        samples: dataset or view of videos, or a dataset's name
        basis: principal components: `video` computes them for each video and shows the most detail; `dataset`
            shares those of the first run, so that a color means the same in every video
        model: name of a model, a weights file, or a loaded model
        config: settings of the tracker; only `input_size` has an effect
        device: PyTorch device, such as `cpu` or `cuda:1`. Default: the best one
        out_dir: folder of the rendered videos. Default: `colortrack-videos` next to each video
        name: name of the dataset of rendered videos. Default: that of the last run, or the source's name plus `-films`
        overwrite: render videos again even if an earlier run finished them with the same settings
        on_error: `skip` a video that fails and go on, or `raise` the error
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar
        stop: called between frames; return True to stop. The unfinished video is discarded

    Returns:
        the rendered videos, and the source videos that were skipped or failed

    Raises:
        ColorTrackError: see `colorize`
    """
    job = _Job(samples, "embedding", model, config, device, out_dir, name, overwrite, on_error)
    check_choice("basis", basis, get_args(Basis))
    return replace(job, shared=basis == "dataset").run(progress, stop)


def film(
    samples: SampleCollection | str,
    label_field: str | None = None,
    *,
    confidence: bool = False,
    model: str | Embedder = "fast",
    config: TrackerConfig | Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    out_dir: str | Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
    on_error: OnError = "skip",
    progress: bool | ProgressCallback | None = None,
    stop: Callable[[], bool] | None = None,
) -> FilmReport:
    """Show each video, its tracks, its predicted colors, and its embeddings in a 2 x 2 grid.

    Args:
        samples: dataset or view of videos, or a dataset's name
        label_field: frame field of the tracks to draw: detections, keypoints, or segmentations
        confidence: show the tracker's confidence in each frame
        model: name of a model, a weights file, or a loaded model
        config: settings of the tracker
        device: PyTorch device, such as `cpu` or `cuda:1`. Default: the best one
        out_dir: folder of the rendered videos. Default: `colortrack-videos` next to each video
        name: name of the dataset of rendered videos. Default: that of the last run, or the source's name plus `-films`
        overwrite: render videos again even if an earlier run finished them with the same settings
        on_error: `skip` a video that fails and go on, or `raise` the error
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar
        stop: called between frames; return True to stop. The unfinished video is discarded

    Returns:
        the rendered videos, and the source videos that were skipped or failed

    Raises:
        ColorTrackError: see `colorize`; also if the field has no tracks
    """
    job = _Job(samples, "overview", model, config, device, out_dir, name, overwrite, on_error)
    label_field = label_field and fields.field_name(label_field)
    if label_field and label_field not in fields.seed_fields(job.view):
        known = ", ".join(f"frames.{field}" for field in fields.seed_fields(job.view))
        raise ColorTrackError(
            f"frames.{label_field} has no tracks to draw; fields with tracks: {known or 'none yet'}"
        )
    return replace(job, label_field=label_field, confidence=confidence).run(progress, stop)


class _Stopped(Exception):  # noqa: N818, not an error
    pass


@dataclass(frozen=True)
class _Source:
    """A video to render; the result depends only on the `settings`."""

    id: str
    path: str
    length: int
    settings: str


@dataclass
class _Job:
    """One run: its videos, and how they are rendered."""

    samples: SampleCollection | str
    kind: FilmKind
    model: str | Embedder
    config: Any
    device: str | torch.device | None
    out_dir: str | Path | None
    name: str | None
    overwrite: bool
    on_error: OnError
    label_field: str | None = None
    confidence: bool = False
    shared: bool = False
    basis: pictures.EmbeddingBasis | None = None

    def __post_init__(self) -> None:
        self.config = TrackerConfig.from_value(self.config)
        self.view = fields.check_videos(self.samples, whole_videos=True)
        source = self.view._root_dataset
        self.name = self.name or source.info.get(INFO) or f"{source.name}-films"
        if fo.dataset_exists(self.name) and self._dataset().info.get("films_of") != str(source._doc.id):
            raise ColorTrackError(
                f"a dataset {self.name!r} exists that holds no rendered videos of {source.name}; "
                "choose another name (name)"
            )

    def run(self, progress: bool | ProgressCallback | None, stop: Callable[[], bool] | None) -> FilmReport:
        from fiftyone_colortrack.model import load_model

        started = time.perf_counter()
        if isinstance(self.model, str) and self.model not in BASELINES:
            self.model = load_model(self.model, self.device)
        elif isinstance(self.model, str) and self.kind != "colors":
            raise ColorTrackError(f"{self.model} has no embeddings; choose a network, such as fast")
        if self.shared:
            self.basis = self._shared_basis()
        report, done, sources = FilmReport(), 0, self._sources()
        total = sum(source.length for source in sources)
        with progress_bar(progress, "Rendering") as update:
            for source in sources:
                name = os.path.basename(source.path)

                def tick(frame: int, done: int = done, name: str = name) -> None:
                    update(done + frame, total, name)
                    if stop is not None and stop():
                        raise _Stopped

                try:
                    result = self._render(source, tick)
                except _Stopped:
                    report.stopped = True
                    break
                except Exception as error:
                    if self.on_error == "raise":
                        raise
                    known = isinstance(error, ColorTrackError)
                    reason = str(error) if known else f"{type(error).__name__}: {error}"
                    logger.warning("Skipped %s: %s", source.path, reason, exc_info=not known)
                    result = FilmResult(source.id, source.path, "failed", reason=reason)
                report.videos.append(result)
                done += source.length
        if fo.dataset_exists(self.name):
            report.dataset = self._dataset()
        report.seconds = time.perf_counter() - started
        return report

    def _sources(self) -> list[_Source]:
        settings: dict[str, Any] = {
            "film": self.kind,
            "model": self.model if isinstance(self.model, str) else self.model.name,
            "fingerprint": fingerprint(self.model),
            **asdict(self.config),
        }
        if self.basis is not None:
            settings["basis"] = fields.digest(self.basis.axes.tobytes())[:8]
        if self.kind == "overview":
            settings |= {"tracks": self.label_field, "confidence": self.confidence}
        mark = fields.run_field(self.label_field) if self.label_field else ""
        ids, paths, lengths = self.view.values(["id", "filepath", "metadata.total_frame_count"])
        runs = self.view.values(mark) if mark and self.view.has_sample_field(mark) else [None] * len(ids)
        return [
            _Source(
                id, path, length or video_length(path), json.dumps(settings | {"run": run}, sort_keys=True)
            )
            for id, path, length, run in zip(ids, paths, lengths, runs, strict=True)
        ]

    def _path(self, source: _Source) -> Path:
        file = Path(source.path).resolve()
        digest = fields.digest(file, source.settings)[:8]
        return Path(self.out_dir or file.parent / ENCODED) / f"{file.stem}-{self.kind}-{digest}.mp4"

    def _render(self, source: _Source, tick: Callable[[int], None]) -> FilmResult:
        """Write one video, unless an earlier run has, and add it to the dataset."""
        path, started = self._path(source), time.perf_counter()
        if not self.overwrite and (finished := self._finished(source)):
            return FilmResult(source.id, source.path, "skipped", finished)
        sample = self.view._root_dataset[source.id]
        frames, canvas = fields.open_video(sample)
        rate = probe(source.path).frame_rate
        measured: list[Mapping[str, float]] = []
        with VideoWriter(path, rate, within=check_allowed(path.parent)) as writer:
            for picture, measures in self._pictures(sample, frames, canvas):
                writer.write(picture)
                measured.append(measures)
                tick(len(measured))
        means = {name: float(mean) for name, mean in pd.DataFrame(measured).mean().items()}
        about = dict(zip(FILM_FIELDS, (source.id, source.path, self.kind, source.settings), strict=True))
        made = video_sample(path, writer.info, tags=[self.kind], **about, **means)
        for number, measures in enumerate(measured, 1):
            if measures:
                made.frames[number] = fo.Frame(**measures)
        dataset = self._dataset()
        dataset.delete_samples(self._earlier(dataset, source))
        dataset.add_sample(made)
        seconds = time.perf_counter() - started
        return FilmResult(source.id, source.path, "done", path, len(measured), seconds, measures=means)

    def _pictures(
        self, sample: fo.Sample, frames: Frames, canvas: Size
    ) -> Iterator[tuple[np.ndarray, Mapping[str, float]]]:
        """The frames to write, with what was measured in them."""
        model, config = self.model, self.config
        if self.kind == "colors":
            for colored in pictures.colorize_frames(frames, model=model, config=config, device=self.device):
                yield colored.image, colored.measures
            return
        assert not isinstance(model, str)
        if self.kind == "embedding":
            rendered = pictures.embed_frames(frames, model, self.basis, config)
        else:
            tracks = None
            if self.label_field:
                tracks = draw_tracks(sample, self.label_field, frames, canvas, self.confidence)
            rendered = pictures.overview(frames, tracks, model, config)
        for picture in rendered:
            yield picture, {}

    def _shared_basis(self) -> pictures.EmbeddingBasis:
        """The basis stored with the rendered videos; else a new one, fitted to some of the videos."""
        assert not isinstance(self.model, str)
        key = json.dumps({"fingerprint": fingerprint(self.model), **asdict(self.config)}, sort_keys=True)
        bases = self._dataset().info["bases"]
        if key in bases and not self.overwrite:
            stored = {name: np.array(values, np.float32) for name, values in bases[key].items()}
            return pictures.EmbeddingBasis(**stored)
        ids = self.view.values("id")
        chosen = self.view._root_dataset.select(ids[:: -(-len(ids) // BASIS_VIDEOS) or 1])
        basis = pictures.fit_basis(_readable(chosen), self.model, self.config)
        dataset = self._dataset()
        dataset.info["bases"] = {**bases, key: {name: v.tolist() for name, v in vars(basis).items()}}
        dataset.save()
        return basis

    def _finished(self, source: _Source) -> Path | None:
        """The file of this video in the dataset, if it has all frames that were written."""
        if not fo.dataset_exists(self.name):
            return None
        files = self._earlier(self._dataset(), source).values(["filepath", "metadata.total_frame_count"])
        return next((Path(p) for p, count in zip(*files, strict=True) if video_length(p) == count), None)

    def _earlier(self, dataset: fo.Dataset, source: _Source) -> SampleCollection:
        return dataset.match((F("source_id") == source.id) & (F("settings") == source.settings))

    def _dataset(self) -> fo.Dataset:
        """The dataset of rendered videos, which is created when it is first needed."""
        if fo.dataset_exists(self.name):
            return fo.load_dataset(self.name)
        source = self.view._root_dataset
        dataset = fo.Dataset(self.name, persistent=source.persistent)
        dataset.media_type = fo.core.media.VIDEO
        dataset.info = {"films_of": str(source._doc.id), "source": source.name, "bases": {}}
        for name in FILM_FIELDS:
            dataset.add_sample_field(name, fo.StringField)
        dataset.save()
        source.info[INFO] = self.name
        source.save()
        return dataset


def draw_tracks(
    sample: fo.Sample, label_field: str, frames: Frames, canvas: Size, confidence: bool = False
) -> Iterator[np.ndarray]:
    """Draw the labels of a frame field over each frame of a video.

    Args:
        sample: the video
        label_field: the frame field: detections, keypoints with their skeleton, or segmentations
        frames: of the video, see `fields.open_video`
        canvas: what the labels refer to, see `fields.open_video`
        confidence: show the tracker's confidence in each frame

    Returns:
        `uint8` RGB `[H, W, 3]`, one per frame
    """
    name = fields.field_name(label_field)
    targets = sample.dataset.get_mask_targets(f"frames.{name}")
    skeleton = fields.find_skeleton(sample.dataset, name)
    edges = skeleton.edges if skeleton else ()
    score = fields.confidence_field(name)
    numbers = set(sample.frames)
    for number, picture in enumerate(frames.read(range(len(frames))), 1):
        labels = split(sample.frames[number][name], targets) if number in numbers else []
        picture = _draw(picture, labels, canvas, edges)
        if confidence and number in numbers and sample.frames[number].has_field(score):
            value = sample.frames[number][score]
            picture = pictures.caption(
                picture, "" if value is None else f"{value:.0%} confident", bottom=True
            )
        yield picture


def _draw(
    picture: np.ndarray, labels: Sequence[fo.Label], canvas: Size, edges: Sequence[Sequence[int]]
) -> np.ndarray:
    height, width = picture.shape[:2]
    numbers = [label.index if label.index and label.index > 0 else 1 for label in labels]
    masks = [i for i, label in enumerate(labels) if isinstance(label, fo.Detection) and label.has_mask]
    id_map = paint([labels[i] for i in masks], [numbers[i] for i in masks], canvas)
    picture = pictures.draw_masks(picture, id_map[:height, :width])
    for number, label in zip(numbers, labels, strict=True):
        if isinstance(label, fo.Keypoint):
            picture = pictures.draw_points(picture, {number: points_in_pixels(label, canvas)}, edges)
        elif not label.has_mask and (box := box_in_pixels(label, canvas)) is not None:
            picture = pictures.draw_boxes(picture, {number: box})
    return picture


def _readable(samples: Iterable[fo.Sample]) -> Iterator[Frames]:
    for sample in samples:
        try:
            yield fields.open_video(sample)[0]
        except ColorTrackError as error:
            logger.warning("Not used for the shared colors: %s", error)
