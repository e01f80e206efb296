"""What the network sees, as films in a dataset of their own: colours, embeddings, and all side by side."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.api.plan import video_length
from fiftyone_colortrack.api.propagation import OnError, check_videos
from fiftyone_colortrack.api.report import Clock, Progress, Status, VideoResult, drain
from fiftyone_colortrack.datasets import ENCODED
from fiftyone_colortrack.datasets.video_dataset import video_sample
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import field_name, open_video, run_field, seed_fields
from fiftyone_colortrack.fields.shapes import Size, box_in_pixels, paint, points_in_pixels, split
from fiftyone_colortrack.model.weights import fingerprint
from fiftyone_colortrack.pictures import draw_boxes, draw_masks, draw_points
from fiftyone_colortrack.tracking.config import TrackerConfig
from fiftyone_colortrack.video import Frames, VideoFile, VideoInfo, VideoWriter

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.films import EmbeddingBasis
    from fiftyone_colortrack.model.colorizer import Embedder

logger = logging.getLogger(__name__)

Basis = Literal["video", "dataset"]
Picture = tuple[np.ndarray, Mapping[str, float]]
"""A frame of a film (uint8 RGB), and what was measured in it."""

FILM_FIELDS = ("source_id", "source", "film", "settings")
INFO = "films"  # key of `dataset.info`: name of the dataset of its films
BASIS_VIDEOS = 24  # from so many videos a dataset's basis is fitted


@dataclass
class FilmReport:
    """What a run did.

    Attributes:
        dataset: name of the dataset of films; each film has `source_id`, the id of its video
        videos: one result each, in the order of the view
        seconds: of the whole run
        stopped: whether the run was stopped before its last video
    """

    dataset: str
    videos: list[VideoResult] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    def with_status(self, status: Status) -> list[VideoResult]:
        """The videos that were done or skipped, or failed."""
        return [video for video in self.videos if video.status == status]

    def __str__(self) -> str:
        done, skipped, failed = (len(self.with_status(status)) for status in get_args(Status))
        text = f"{done} film{'' if done == 1 else 's'} in {self.seconds:.0f} s"
        text += f", in the dataset {self.dataset}" if done or skipped else ""
        text += f"; {skipped} there already" if skipped else ""
        text += f"; {failed} failed" if failed else ""
        return text + ("; stopped early" if self.stopped else "")


def colorize(
    view: SampleCollection,
    out_dir: str | Path | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> FilmReport:
    """Show each video's first frame in colour, the others in grey, and predict their colours.

        report = colorize(dataset)
        films = fo.load_dataset(report.dataset)

    Each film is written as H.264 and becomes a sample of a dataset of films. Its frames but the first have
    the fields `color_top1` and `color_distance`, see `ColorError`, and those of the first frame's colours,
    unmoved: `still_top1` and `still_distance`. The sample has their means.

    Args:
        view: videos
        out_dir: folder of the films; by default the folder `colortrack-videos` beside each video
        progress: called after every frame
        options: see `films_iter`

    Returns:
        What was done, skipped and failed

    Raises:
        ColorTrackError: if the samples are no videos, the model does not exist, or the name of the dataset of
            films is taken; with `on_error="raise"` also if a video fails
    """
    return drain(films_iter(view, "colors", out_dir, **options), progress)


def embed(
    view: SampleCollection,
    out_dir: str | Path | None = None,
    *,
    basis: Basis = "video",
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> FilmReport:
    """Show the embeddings of each video in false colours: three principal components as red, green and blue.

    Args:
        view, out_dir, progress, options: see `colorize`
        basis: `video`: each has principal components of its own; `dataset`: all have the same, fitted to
            videos of the first view and used again since, so that a colour means the same in all films

    Returns:
        What was done, skipped and failed

    Raises:
        ColorTrackError: see `colorize`
    """
    return drain(films_iter(view, "embedding", out_dir, basis=basis, **options), progress)


def film(
    view: SampleCollection,
    tracks: str | None = None,
    out_dir: str | Path | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> FilmReport:
    """Show each video, its tracks, its predicted colours and its embeddings side by side.

    Args:
        view, out_dir, progress, options: see `colorize`
        tracks: frame field with detections, key points or segmentations; without it there is no such column

    Returns:
        What was done, skipped and failed

    Raises:
        ColorTrackError: see `colorize`; also if there are no such tracks
    """
    return drain(films_iter(view, "overview", out_dir, tracks=tracks, **options), progress)


FilmKind = Literal["colors", "embedding", "overview"]


def films_iter(
    view: SampleCollection,
    kind: FilmKind,
    out_dir: str | Path | None = None,
    *,
    model: str | Embedder = "fast",
    basis: Basis = "video",
    tracks: str | None = None,
    config: TrackerConfig | None = None,
    device: str | torch.device | None = None,
    films_dataset: str | None = None,
    overwrite: bool = False,
    on_error: OnError = "skip",
    stop: Callable[[], bool] | None = None,
) -> Generator[Progress, None, FilmReport]:
    """`colorize`, `embed` or `film` as a generator of its progress; it returns the report.

    A film appears when all its frames are written. Films that an earlier run finished with the same settings
    are left alone.

    Args:
        view, out_dir: see `colorize`
        kind: of the films
        model: see `propagate_iter`; embeddings need a network, no baseline
        basis: see `embed`
        tracks: see `film`
        config: the tracker's settings
        device: torch device; default: the best one there is
        films_dataset: name of the dataset of films; by default that of the last run, at first the name of the
            view's dataset with `-films` behind it
        overwrite: make films again that are there
        on_error: `skip` a video that fails and go on with the next, or `raise`
        stop: asked between frames whether to stop; the film in hand is then left out
    """
    check_videos(view)
    if kind not in get_args(FilmKind):
        raise ColorTrackError(f"kind is {kind!r}; choose one of {', '.join(get_args(FilmKind))}")
    if basis not in get_args(Basis):
        raise ColorTrackError(f"basis is {basis!r}; choose one of {', '.join(get_args(Basis))}")
    if tracks is not None and field_name(tracks) not in seed_fields(view):
        known = ", ".join(f"frames.{name}" for name in seed_fields(view)) or "none yet"
        raise ColorTrackError(f"{tracks} has no tracks to draw; fields that have: {known}")
    films = _FilmDataset(view._root_dataset, films_dataset)
    settings = _Settings(kind, model, basis, tracks and field_name(tracks), config or TrackerConfig(), device)
    job = _Job(view, films, settings, Path(out_dir) if out_dir else None, overwrite, on_error)
    return job.run(stop or (lambda: False))


@dataclass(frozen=True)
class _Settings:
    kind: FilmKind
    model: str | Embedder
    basis: Basis
    tracks: str | None
    config: TrackerConfig
    device: str | torch.device | None

    def describe(self, **more: object) -> str:
        """All that a film depends on but its video."""
        name = self.model if isinstance(self.model, str) else self.model.name
        model = {"model": name, "fingerprint": self._fingerprint}
        return json.dumps({"film": self.kind, **model, **asdict(self.config), **more}, sort_keys=True)

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.model)


@dataclass(frozen=True)
class _Film:
    """A film to make, of the video of a sample."""

    sample_id: str
    source: str
    length: int
    settings: str

    def path(self, out_dir: Path | None, kind: FilmKind) -> Path:
        source = Path(self.source).resolve()
        digest = hashlib.sha256(f"{source} {self.settings}".encode()).hexdigest()[:8]
        return (out_dir or source.parent / ENCODED) / f"{source.stem}-{kind}-{digest}.mp4"


class _Stopped(Exception):  # noqa: N818, a person's wish
    pass


@dataclass
class _Job:
    view: SampleCollection
    films: _FilmDataset
    settings: _Settings
    out_dir: Path | None
    overwrite: bool
    on_error: OnError
    basis: EmbeddingBasis | None = None

    def run(self, stop: Callable[[], bool]) -> Generator[Progress, None, FilmReport]:
        started = time.perf_counter()
        self._load_model()
        films = self._plan()
        there = set() if self.overwrite else self.films.finished(films)
        report = FilmReport(self.films.name)
        for film in there:
            report.videos.append(VideoResult(film.sample_id, film.source, "skipped", reason="there already"))
        todo = [film for film in films if film not in there]
        clock = Clock([(os.path.basename(film.source), film.length) for film in todo])
        for film in todo:
            try:
                report.videos.append((yield from self._make(film, clock, stop)))
            except _Stopped:
                report.stopped = True
                break
            except Exception as error:
                if self.on_error == "raise":
                    raise
                report.videos.append(_failure(film, error))
            clock.finish_video()
        report.seconds = time.perf_counter() - started
        return report

    def _load_model(self) -> None:
        """Load the model once for all videos, and its basis where they share one."""
        from fiftyone_colortrack.model import load_model
        from fiftyone_colortrack.tracking import BASELINES

        settings = self.settings
        if isinstance(settings.model, str) and settings.model not in BASELINES:
            self.settings = replace(settings, model=load_model(settings.model, settings.device))
        elif isinstance(settings.model, str) and settings.kind != "colors":
            raise ColorTrackError(f"{settings.model} has no embeddings; choose a network, like fast")
        if settings.kind == "embedding" and settings.basis == "dataset":
            self.basis = self._shared_basis()

    def _plan(self) -> list[_Film]:
        """A film for every video of the view."""
        tracks, more = self.settings.tracks, {}
        if self.settings.kind == "embedding":
            axes = b"" if self.basis is None else self.basis.axes.cpu().numpy().tobytes()
            more["basis"] = hashlib.sha256(axes).hexdigest()[:8] if axes else None
        if self.settings.kind == "overview":
            more["tracks"] = tracks
        mark = run_field(tracks) if tracks else None
        ids, sources, lengths = self.view.values(["id", "filepath", "metadata.total_frame_count"])
        runs = self.view.values(mark) if mark and self.view.has_sample_field(mark) else [None] * len(ids)
        return [
            _Film(id, source, length or video_length(source), self.settings.describe(**more, run=run))
            for id, source, length, run in zip(ids, sources, lengths, runs, strict=True)
        ]

    def _make(
        self, film: _Film, clock: Clock, stop: Callable[[], bool]
    ) -> Generator[Progress, None, VideoResult]:
        started = time.perf_counter()
        sample = self.view._root_dataset[film.sample_id]
        frames, canvas = open_video(sample)
        path = film.path(self.out_dir, self.settings.kind)
        measured = []
        with VideoWriter(path, VideoFile(film.source).info.frame_rate) as writer:
            for picture, measures in self._pictures(sample, frames, canvas):
                writer.write(picture)
                measured.append(measures)
                yield clock.step(len(measured), len(frames))
                if stop():
                    raise _Stopped
        self.films.add(film, self.settings.kind, path, writer.info, measured)
        seconds = time.perf_counter() - started
        return VideoResult(film.sample_id, film.source, "done", len(measured), seconds)

    def _pictures(self, sample: fo.Sample, frames: Frames, canvas: Size) -> Iterator[Picture]:
        from fiftyone_colortrack import films

        settings = self.settings
        if settings.kind == "colors":
            model, config, device = settings.model, settings.config, settings.device
            for colored in films.colorize(frames, model=model, config=config, device=device):
                yield colored.image, colored.measures
            return
        assert not isinstance(settings.model, str)
        if settings.kind == "embedding":
            pictures = films.embedding_film(frames, settings.model, self.basis, settings.config)
        else:
            tracks = draw_tracks(sample, settings.tracks, frames, canvas) if settings.tracks else None
            pictures = films.overview(frames, tracks, settings.model, config=settings.config)
        for picture in pictures:
            yield picture, {}

    def _shared_basis(self) -> EmbeddingBasis:
        """The basis of the dataset of films; fitted to some videos of the view where there is none yet."""
        import torch

        from fiftyone_colortrack.films import EmbeddingBasis, sample_embeddings

        assert not isinstance(self.settings.model, str)
        key = self.settings.describe()
        stored = None if self.overwrite else self.films.basis(key)
        if stored is not None:
            device = self.settings.model.device
            return EmbeddingBasis(**{name: torch.tensor(v, device=device) for name, v in stored.items()})
        chosen = self.view.values("id")
        chosen = chosen[:: -(-len(chosen) // BASIS_VIDEOS) or 1]
        samples = []
        for sample in self.view._root_dataset.select(chosen):
            try:
                frames, _ = open_video(sample)
                samples.append(sample_embeddings(frames, self.settings.model, self.settings.config))
            except ColorTrackError as error:
                logger.warning("Left out of the basis: %s", error)
        if not samples:
            raise ColorTrackError(
                "no video of the view can be read, so that there is no basis for embeddings"
            )
        basis = EmbeddingBasis.fit(torch.cat(samples))
        self.films.store_basis(key, {f.name: getattr(basis, f.name).tolist() for f in fields(basis)})
        return basis


class _FilmDataset:
    """The dataset of the films of a dataset; made when its first film is there."""

    def __init__(self, source: fo.Dataset, name: str | None) -> None:
        self._source = source
        self.name = name or source.info.get(INFO) or f"{source.name}-films"
        if fo.dataset_exists(self.name) and self._dataset.info.get("films_of") != self._source_id:
            raise ColorTrackError(
                f"a dataset {self.name!r} exists that holds no films of {source.name}; choose another name"
            )

    def finished(self, films: Sequence[_Film]) -> set[_Film]:
        """Those of the films that are there, with all frames that were written."""
        if not fo.dataset_exists(self.name):
            return set()
        columns = self._dataset.values(["source_id", "settings", "filepath", "metadata.total_frame_count"])
        there = {(source, settings): file for source, settings, *file in zip(*columns, strict=True)}
        return {
            film
            for film in films
            if (file := there.get((film.sample_id, film.settings))) and video_length(file[0]) == file[1]
        }

    def add(
        self,
        film: _Film,
        kind: FilmKind,
        path: Path,
        info: VideoInfo,
        measured: Sequence[Mapping[str, float]],
    ) -> None:
        """Add a film, in place of the earlier one with the same settings."""
        from fiftyone_colortrack.films import mean_measures

        dataset = self._dataset if fo.dataset_exists(self.name) else self._create()
        same = dataset.match((F("source_id") == film.sample_id) & (F("settings") == film.settings))
        dataset.delete_samples(same)
        values = (film.sample_id, film.source, kind, film.settings)
        sample = video_sample(path, info, tags=[kind], **dict(zip(FILM_FIELDS, values, strict=True)))
        sample.update_fields(mean_measures(measured))
        for number, measures in enumerate(measured, 1):
            if measures:
                sample.frames[number] = fo.Frame(**measures)
        dataset.add_sample(sample)

    def basis(self, key: str) -> dict[str, Any] | None:
        return self._dataset.info["bases"].get(key) if fo.dataset_exists(self.name) else None

    def store_basis(self, key: str, values: dict[str, Any]) -> None:
        dataset = self._dataset if fo.dataset_exists(self.name) else self._create()
        dataset.info["bases"] = {**dataset.info["bases"], key: values}
        dataset.save()

    @property
    def _dataset(self) -> fo.Dataset:
        return fo.load_dataset(self.name)

    @property
    def _source_id(self) -> str:
        return str(self._source._doc.id)

    def _create(self) -> fo.Dataset:
        dataset = fo.Dataset(self.name, persistent=self._source.persistent)
        dataset.media_type = fo.core.media.VIDEO
        dataset.info = {"films_of": self._source_id, "source": self._source.name, "bases": {}}
        for name in FILM_FIELDS:
            dataset.add_sample_field(name, fo.StringField)
        dataset.save()
        self._source.info[INFO] = self.name
        self._source.save()
        return dataset


def draw_tracks(sample: fo.Sample, path: str, frames: Frames, canvas: Size) -> Iterator[np.ndarray]:
    """The frames of a video with the labels of a frame field drawn in, uint8 RGB [H, W, 3]; for the arguments
    see `open_video`.
    """
    name = field_name(path)
    targets = sample.dataset.get_mask_targets(f"frames.{name}")
    numbers = set(sample.frames)
    for number, picture in enumerate(frames.read(range(len(frames))), 1):
        labels = split(sample.frames[number][name], targets) if number in numbers else []
        yield _draw(picture, labels, canvas)


def _draw(picture: np.ndarray, labels: Sequence[fo.Label], canvas: Size) -> np.ndarray:
    height, width = picture.shape[:2]
    numbers = [label.index if label.index and label.index > 0 else 1 for label in labels]
    masks = [i for i, label in enumerate(labels) if isinstance(label, fo.Detection) and label.has_mask]
    id_map = paint([labels[i] for i in masks], [numbers[i] for i in masks], canvas)
    picture = draw_masks(picture, id_map[:height, :width])
    for number, label in zip(numbers, labels, strict=True):
        if isinstance(label, fo.Keypoint):
            picture = draw_points(picture, {number: points_in_pixels(label, canvas)})
        elif not label.has_mask and (box := box_in_pixels(label, canvas)) is not None:
            picture = draw_boxes(picture, {number: box})
    return picture


def _failure(film: _Film, error: Exception) -> VideoResult:
    known = isinstance(error, ColorTrackError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    logger.warning("No film of %s: %s", film.source, reason, exc_info=not known)
    return VideoResult(film.sample_id, film.source, "failed", reason=reason)
