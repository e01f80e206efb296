"""Plan a run: which videos to track, and how many of their frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack import fields
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import probe


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
    ranges: fields.Ranges | None = None
    earlier: fields.Part | None = None
    drawn: fields.DrawnLabels | None = None
    damaged: frozenset[int] = frozenset()
    corrections: int = 0
    objects: fields.FoundObjects | None = None


def find_videos(
    samples: SampleCollection,
    seed_field: str,
    label_field: str,
    rules: fields.SeedRules,
    skip_existing: bool,
) -> list[FoundVideo]:
    """Find what the plan needs to know without opening the videos.

    Args:
        samples: videos
        seed_field: name of the field to start from
        label_field: name of the field to write to
        rules: which labels to start from
        skip_existing: see `propagate`
    """
    source = seed_samples(samples, seed_field, label_field)
    corrections = fields.find_corrections(samples, label_field, unrecorded=True)
    changed = fields.find_corrections(source, seed_field) if rules.which == "keyframes" else {}
    labeled = fields.seed_frames(source, seed_field, rules, changed)
    earlier = _earlier(samples, label_field, rules) if skip_existing else {}
    chosen = fields.find_objects(source, seed_field, rules) if rules.objects is not None else {}
    continued = [id for id in earlier if labeled[id]]
    drawn = fields.read_drawn(source.select(continued), seed_field, rules) if continued else {}
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


def seed_samples(samples: SampleCollection, seed_field: str, label_field: str) -> SampleCollection:
    """The samples to read seeds from. In place, these are whole videos, so that no hidden label gets lost."""
    in_place = fields.field_name(seed_field) == fields.field_name(label_field)
    return fields.whole(samples._root_dataset).select(samples.values("id")) if in_place else samples


def spans(ranges: fields.Ranges | None, length: int) -> list[range]:
    """The frames (from 0) of a video that are in ranges; empty for all, or where there are none."""
    found = [range(first - 1, min(last, length)) for first, last in ranges or ()]
    return [frames for frames in found if frames]


def scope_of(rules: fields.SeedRules, id: str) -> str:
    """What a run of a video is limited to: "all", or a digest of objects and frames."""
    limited = rules.objects, rules.ranges(id)
    return "all" if limited == (None, None) else fields.digest(*limited)[:12]


def video_length(filepath: str) -> int:
    """Number of frames; 0 if the video cannot be read, because tracking will report that."""
    try:
        return probe(filepath).frame_count
    except ColorTrackError:
        return 0


def _earlier(
    samples: SampleCollection,
    label_field: str,
    rules: fields.SeedRules,
) -> dict[str, fields.Part]:
    """What was tracked before in this scope, by video, as far as its labels still exist."""
    name = fields.field_name(label_field)
    if not fields.is_tracks(samples, name) or name not in samples.get_frame_field_schema():
        return {}
    there = set(fields.whole(samples._root_dataset).exists(fields.frame_path(name)).values("id"))
    paths = ["id", fields.record_field(name), *filter(samples.has_sample_field, [fields.run_field(name)])]
    earlier: dict[str, fields.Part] = {}
    for id, values, *run in zip(*samples.values(paths), strict=True):
        part = fields.TrackRecord.from_dict(values).parts.get(scope_of(rules, id))
        if part is not None and id in there:
            # A run that was killed right after it marked the video as finished has not noted it.
            earlier[id] = replace(part, done=None) if part.run in run else part
    return earlier
