"""What a run has to do: which videos, and how many of their frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    DrawnObjects,
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
from fiftyone_colortrack.model.weights import fingerprint
from fiftyone_colortrack.tracking.config import Direction, TrackerConfig
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
        return digest(__version__, self._fingerprint, self.direction, kind, output, self.config)

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.model)


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
        other: whether another model or other settings made its earlier tracks
    """

    id: str
    filepath: str
    frames: int = 0
    reason: str = ""
    labelled: bool = True
    earlier: TrackRecord | None = None
    other: bool = False

    @property
    def anew(self) -> bool:
        """Whether none of its earlier tracks is kept."""
        return self.other and not self.reason


@dataclass(frozen=True)
class FoundVideo:
    """What the database knows of a video.

    Attributes:
        id: of the sample
        filepath: of the video
        length: number of frames; 0 if that is unknown
        seed_field: that the labels to start from are in
        labelled: whether it has such labels
        run: that finished its tracks; None if there is none, or if they are to be replaced
        earlier: record of these tracks
        drawn: what a person labelled in it, where there is such a record to compare it with
    """

    id: str
    filepath: str
    length: int
    seed_field: str
    labelled: bool
    run: str | None
    earlier: TrackRecord | None
    drawn: DrawnObjects | None

    def plan(self, settings: Settings) -> PlannedVideo:
        """What `propagate_iter` does with it."""
        frames, reason, other = self.length, "", False
        if not self.labelled:
            reason = f"frames.{self.seed_field} has no labels to start from"
        elif self.drawn and self.earlier:
            other = self.earlier.settings != settings.digest(self.drawn.kind)
            if TrackRecord.digest_of(self.drawn.digests) == self.earlier.seeds:
                reason = f"finished by run {self.run}"
            else:
                length = self.length or video_length(self.filepath)
                frames = _frames_to_track(self.drawn, length, settings, self.earlier)
        return PlannedVideo(self.id, self.filepath, frames, reason, self.labelled, self.earlier, other)


def find_videos(
    view: SampleCollection,
    seed_field: str,
    out_field: str,
    seeds: SeedFrames,
    skip_existing: bool,
    fill_boxes: bool,
) -> list[FoundVideo]:
    """What there is to plan with, found without opening the videos; see `propagate_iter` and `read_seeds`."""
    source = seed_samples(view, seed_field, out_field)
    labelled = labelled_frames(source, seed_field, seeds)
    finished = _finished(view, out_field) if skip_existing else {}
    continued = [id for id in finished if labelled[id]]
    drawn = (
        read_drawn(source.select(continued), seed_field, seeds, fill_boxes=fill_boxes) if continued else {}
    )
    found = []
    columns = view.values(["id", "filepath", "metadata.total_frame_count"])
    for id, path, length in zip(*columns, strict=True):
        run, earlier = finished.get(id, (None, None))
        seeded = field_name(seed_field), bool(labelled[id])
        found.append(FoundVideo(id, path, length or 0, *seeded, run, earlier, drawn.get(id)))
    return found


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


def _frames_to_track(drawn: DrawnObjects, length: int, settings: Settings, earlier: TrackRecord) -> int:
    segments = plan_segments(drawn.ids, length, settings.direction, settings.config.labeled)
    record = TrackRecord.of(settings.digest(drawn.kind), drawn.digests, segments)
    return sum(len(segment.frames) for segment in record.changed(segments, earlier))
