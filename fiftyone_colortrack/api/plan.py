"""Plan a run: which videos to track, and how many of their frames."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    DrawnLabels,
    FoundObjects,
    OutputKind,
    Part,
    Ranges,
    SeedRules,
    TrackRecord,
    digest,
    field_name,
    find_corrections,
    find_objects,
    frame_path,
    is_tracks,
    read_drawn,
    record_field,
    run_field,
    seed_frames,
    whole,
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
    """The settings of tracks, without the seeds; see `propagate`."""

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
    """What a run will do with a video.

    Attributes:
        id: of the sample
        filepath: of the video
        frames: number of frames to track; 0 if that is unknown
        reason: why the video is left alone; empty if it is not
        labeled: whether it has labels to start from
        other: key of the run that made its earlier tracks with another model or other settings
        corrections: number of labels that a person drew, changed, or deleted in the output field, among
            those that the run is for
    """

    id: str
    filepath: str
    frames: int = 0
    reason: str = ""
    labeled: bool = True
    other: str = ""
    corrections: int = 0


@dataclass(frozen=True)
class FoundVideo:
    """What the database knows about a video.

    Attributes:
        id: of the sample
        filepath: of the video
        length: number of frames; 0 if that is unknown
        labeled: whether it has labels to start from
        ranges: the frames that are to be tracked; None for all
        earlier: what was tracked before in the same scope; None if nothing, or if that is to be replaced
        drawn: what a person labeled in it, where there are earlier tracks to compare it with
        damaged: numbers (from 1) of frames in which FiftyOne's App interpolated boxes
        corrections: see `PlannedVideo`
        objects: the objects in it, where only some are to be tracked; None if its labels cannot be read
    """

    id: str
    filepath: str
    length: int
    labeled: bool
    ranges: Ranges | None = None
    earlier: Part | None = None
    drawn: DrawnLabels | None = None
    damaged: frozenset[int] = frozenset()
    corrections: int = 0
    objects: FoundObjects | None = None


def find_videos(
    samples: SampleCollection,
    seed_field: str,
    label_field: str,
    rules: SeedRules,
    skip_existing: bool,
) -> list[FoundVideo]:
    """Find what the plan needs to know, without opening the videos.

    Args:
        samples: videos
        seed_field: name of the field to start from
        label_field: name of the field to write to
        rules: which labels to start from
        skip_existing: see `propagate`
    """
    source = seed_samples(samples, seed_field, label_field)
    corrections = find_corrections(samples, label_field, unrecorded=True)
    changed = find_corrections(source, seed_field) if rules.which == "keyframes" else {}
    labeled = seed_frames(source, seed_field, rules, changed)
    earlier = _earlier(samples, label_field, rules) if skip_existing else {}
    chosen = find_objects(source, seed_field, rules) if rules.objects is not None else {}
    continued = [id for id in earlier if labeled[id]]
    drawn = read_drawn(source.select(continued), seed_field, rules) if continued else {}
    found = []
    for id, path, length in zip(
        *samples.values(["id", "filepath", "metadata.total_frame_count"]), strict=True
    ):
        changes = corrections.get(id)
        damaged = frozenset(changes.interpolated) if changes and skip_existing else frozenset()
        objects = chosen.get(id)
        ranges, tracks = rules.ranges(id), objects.tracks if objects else None
        within = [range(first - 1, last) for first, last in ranges or ()]
        count = len(changes) - len(changes.outside(within, tracks)) if changes else 0
        facts = ranges, earlier.get(id), drawn.get(id), damaged, count
        starts = bool(labeled[id]) and (objects is None or bool(objects.has))
        found.append(FoundVideo(id, path, length or 0, starts, *facts, objects))
    return found


def plan_video(video: FoundVideo, seed_field: str, label_field: str, settings: Settings) -> PlannedVideo:
    """What `propagate` does with a video."""
    reason = other = ""
    frames = sum(len(frames) for frames in spans(video.ranges, video.length) or [range(video.length)])
    part, drawn = video.earlier, video.drawn
    if not video.labeled:
        of_those = " of these objects" if video.objects and video.objects.known else ""
        reason = f"{frame_path(seed_field)} has no labels{of_those} to start from"
    elif part is not None and part.done is None and _continued_in_place(part, seed_field, label_field):
        reason = f"finished by run {part.run}, which continued these tracks from their keyframes"
    elif part is not None and drawn is not None:
        if part.settings != settings.digest(drawn.kind):
            other = part.run
        if part.done is None and Part.digest_of(drawn.digests) == part.seeds and not video.damaged:
            reason = f"finished by run {part.run}"
        else:
            frames = _frames_to_track(video, settings)
    return PlannedVideo(video.id, video.filepath, frames, reason, video.labeled, other, video.corrections)


def _continued_in_place(part: Part, seed_field: str, label_field: str) -> bool:
    own = frame_path(label_field)
    return part.seed_field == own != frame_path(seed_field)


def _frames_to_track(video: FoundVideo, settings: Settings) -> int:
    drawn, part = video.drawn, video.earlier
    assert drawn is not None
    assert part is not None
    length = video.length or video_length(video.filepath)
    segments = plan_segments(
        drawn.ids,
        length,
        settings.direction,
        settings.config.labeled,
        gone=drawn.gone,
        cuts=part.cuts,
        spans=spans(video.ranges, length),
    )
    now = Part.of("", "", settings.digest(drawn.kind), drawn.digests, segments)
    todo = now.todo(segments, part)
    if part.done is not None:
        return sum(frame + 1 not in part.done for segment in todo for frame in segment.frames)
    todo += [s for s in segments if s not in todo and any(n - 1 in s.frames for n in video.damaged)]
    return sum(len(segment.frames) for segment in todo)


def seed_samples(samples: SampleCollection, seed_field: str, label_field: str) -> SampleCollection:
    """Where the seeds are read: in place, no label that the view hides may get lost."""
    in_place = field_name(seed_field) == field_name(label_field)
    return whole(samples._root_dataset).select(samples.values("id")) if in_place else samples


def spans(ranges: Ranges | None, length: int) -> list[range]:
    """The frames (from 0) of a video that are in ranges; empty for all, or where there are none."""
    found = [range(first - 1, min(last, length)) for first, last in ranges or ()]
    return [frames for frames in found if frames]


def scope_of(rules: SeedRules, id: str) -> str:
    """What a run of a video is limited to: "all", or a digest of objects and frames."""
    limited = rules.objects, rules.ranges(id)
    return "all" if limited == (None, None) else digest(*limited)[:12]


def video_length(filepath: str) -> int:
    """Number of frames; 0 if the video cannot be read, because tracking will report that."""
    try:
        return probe(filepath).frame_count
    except ColorTrackError:
        return 0


def _earlier(
    samples: SampleCollection,
    label_field: str,
    rules: SeedRules,
) -> dict[str, Part]:
    """What was tracked before in this scope, by video: where its labels are."""
    name = field_name(label_field)
    if not is_tracks(samples, name) or name not in samples.get_frame_field_schema():
        return {}
    there = set(whole(samples._root_dataset).exists(frame_path(name)).values("id"))
    paths = ["id", record_field(name), *filter(samples.has_sample_field, [run_field(name)])]
    earlier: dict[str, Part] = {}
    for id, values, *run in zip(*samples.values(paths), strict=True):
        part = TrackRecord.from_dict(values).parts.get(scope_of(rules, id))
        if part is not None and id in there:
            # A run that was killed right after it marked the video as finished has not noted it.
            earlier[id] = replace(part, done=None) if part.run in run else part
    return earlier
