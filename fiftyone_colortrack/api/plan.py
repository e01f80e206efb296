"""What a run has to do: which videos, and how many of their frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    DrawnLabels,
    OutputKind,
    SeedFrames,
    TrackRecord,
    digest,
    field_name,
    labelled_frames,
    read_drawn,
    record_field,
    run_field,
)
from fiftyone_colortrack.model.weights import find_model
from fiftyone_colortrack.tracking.config import BASELINES, Direction, TrackerConfig
from fiftyone_colortrack.tracking.labels import LabelKind
from fiftyone_colortrack.tracking.segments import plan_segments
from fiftyone_colortrack.version import __version__
from fiftyone_colortrack.video import probe

if TYPE_CHECKING:
    from fiftyone_colortrack.model.colorizer import Embedder


@dataclass(frozen=True)
class Settings:
    """All that tracks are made with, but for the seeds; see `propagate_iter`."""

    model: str | Embedder = "fast"
    direction: Direction = "both"
    output: OutputKind | None = None
    config: TrackerConfig = field(default_factory=TrackerConfig)

    def digest(self, kind: LabelKind) -> str:
        """Changes with what these settings make of seeds of a kind."""
        output = self.output or kind
        return digest(__version__, _weights(self.model), self.direction, kind, output, self.config)


@dataclass(frozen=True)
class PlannedVideo:
    """What a run does with a video.

    Attributes:
        id: of the sample
        filepath: of the video
        frames: to track; 0 if that is unknown
        reason: why the video is left alone; empty if it is not
        labelled: whether it has labels to start from
        earlier: record of the tracks that are kept where their seeds have not changed
    """

    id: str
    filepath: str
    frames: int = 0
    reason: str = ""
    labelled: bool = True
    earlier: TrackRecord | None = None


def plan_videos(
    view: SampleCollection,
    seed_field: str,
    out_field: str,
    *,
    seeds: SeedFrames,
    skip_existing: bool,
    settings: Settings,
) -> list[PlannedVideo]:
    """What `propagate_iter` does with each video, found without opening the videos."""
    source = seed_samples(view, seed_field, out_field)
    labelled = labelled_frames(source, seed_field, seeds)
    finished = _finished(view, out_field) if skip_existing else {}
    continued = [id for id in finished if labelled[id]]
    fill_boxes = settings.output == "masks"
    drawn = (
        read_drawn(source.select(continued), seed_field, seeds, fill_boxes=fill_boxes) if continued else {}
    )
    planned = []
    for id, filepath, length in zip(
        *view.values(["id", "filepath", "metadata.total_frame_count"]), strict=True
    ):
        run, earlier = finished.get(id, (None, None))
        frames, reason = length or 0, ""
        if not labelled[id]:
            reason = f"frames.{field_name(seed_field)} has no labels to start from"
        elif earlier and id in drawn:
            if TrackRecord.digest_of(drawn[id].digests) == earlier.seeds:
                reason = f"finished by run {run}"
            else:
                frames = _frames_to_track(drawn[id], length or video_length(filepath), settings, earlier)
        planned.append(PlannedVideo(id, filepath, frames, reason, bool(labelled[id]), earlier))
    return planned


def seed_samples(view: SampleCollection, seed_field: str, out_field: str) -> SampleCollection:
    """Where the seeds are read: in place no label that the view hides may get lost."""
    in_place = field_name(seed_field) == field_name(out_field)
    return view._root_dataset.select(view.values("id")) if in_place else view


def video_length(filepath: str) -> int:
    """Number of frames, 0 if the video cannot be read: tracking it will say why."""
    try:
        return probe(filepath).frame_count
    except ColorTrackError:
        return 0


def _finished(view: SampleCollection, out_field: str) -> dict[str, tuple[str, TrackRecord | None]]:
    """The run that finished each video, and the record of its tracks."""
    fields = [run_field(out_field), record_field(out_field)]
    if not all(view.has_sample_field(name) for name in fields):
        return {}
    return {
        id: (run, record and TrackRecord.from_dict(record))
        for id, run, record in zip(*view.values(["id", *fields]), strict=True)
        if run is not None
    }


def _frames_to_track(drawn: DrawnLabels, length: int, settings: Settings, earlier: TrackRecord) -> int:
    objects = {frame: frozenset(id for id, _ in labels) for frame, labels in drawn.drawn.items()}
    segments = plan_segments(objects, length, settings.direction, settings.config.labelled)
    record = TrackRecord.of(settings.digest(drawn.kind), drawn.digests, segments)
    return sum(len(segment.frames) for segment in record.changed(segments, earlier))


def _weights(model: str | Embedder) -> str:
    """A digest of a model's weights; the name of a model that has none."""
    if isinstance(model, str):
        path = None if model in BASELINES else find_model(model).path
        return model if path is None else _file_digest(path, path.stat().st_mtime_ns)
    sha1 = hashlib.sha1(usedforsecurity=False)
    for name, tensor in sorted(model.state_dict().items()):
        sha1.update(name.encode() + tensor.cpu().numpy().tobytes())
    return sha1.hexdigest()


@lru_cache
def _file_digest(path: Path, changed_ns: int) -> str:
    """The digest of a file as it was at a time: forms ask for it again and again."""
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
