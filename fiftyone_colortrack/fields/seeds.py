"""Read what a person labeled in a video."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import fiftyone as fo
import fiftyone.core.odm as foo
import numpy as np
from bson import ObjectId
from fiftyone.core.collections import SampleCollection
from fiftyone.core.evaluation import EvaluationMethod
from fiftyone.core.runs import Run

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import schema, shapes
from fiftyone_colortrack.fields.objects import ObjectTable, TrackedObject
from fiftyone_colortrack.fields.record import Corrections, TrackRecord, digest, labels_of, track_name
from fiftyone_colortrack.fields.shapes import Size
from fiftyone_colortrack.tracking.labels import LabelKind, Seed
from fiftyone_colortrack.video import Frames, ImageSequence, VideoFile

Drawn = list[tuple[int, fo.Label]]
"""Labels of a frame as drawn, with the IDs of their objects."""


@dataclass(frozen=True)
class SeedRules:
    """Which labels to start from, and what they mean.

    Attributes:
        which: labels of the first labeled frame, of all labeled frames, or only keyframes: labels with
            `keyframe=True`, and those that a person changed since a run wrote them, unless they were only renamed
        objects: the objects to track, by the id of a label or instance, class, or index; None for all
        frames: first and last frame (from 1) to track; None for all. `first` then means the first labeled
            frame among these; else the last one before them, or the first one after them
        viewed: frames that a view of clips or frames shows, by video id: no others are tracked
        fill_boxes: whether boxes are read as filled masks
        complete: whether labeled frames show every object: a track ends at a labeled frame that omits its object
    """

    which: schema.SeedFrames = "first"
    objects: tuple[str | int, ...] | None = None
    frames: tuple[int, int] | None = None
    fill_boxes: bool = False
    complete: bool = False
    viewed: tuple[tuple[str, schema.Ranges], ...] = ()

    def ranges(self, id: str) -> schema.Ranges | None:
        """The frames of a video that are to be tracked; None for all."""
        shown = self._viewed.get(id)
        if shown is None or self.frames is None:
            return shown or (self.frames and (self.frames,))
        parts = [(max(a, self.frames[0]), min(b, self.frames[1])) for a, b in shown]
        return tuple((first, last) for first, last in parts if first <= last)

    def in_order(self, numbers: Iterable[int], id: str) -> list[int]:
        """Numbers of labeled frames of a video in the order in which one is the first."""
        ordered, ranges = sorted(numbers), self.ranges(id)
        if not ranges:
            return ordered
        inside = [n for n in ordered if any(first <= n <= last for first, last in ranges)]
        before = [n for n in reversed(ordered) if n < ranges[0][0]]
        return inside + before + [n for n in ordered if n not in (*inside, *before)]

    @cached_property
    def _viewed(self) -> dict[str, schema.Ranges]:
        return dict(self.viewed)


@dataclass(frozen=True)
class DrawnLabels:
    """What a person labeled in a video.

    Attributes:
        kind: of the labels
        objects: that they show; each has an index and an instance
        drawn: per labeled frame (from 0) its labels as drawn, with the ids of their objects
        gone: per frame (from 0) the ids of the objects whose tracks end before it
        digests: per frame, of all that the tracks of its objects and the copies of its labels take from it;
            the same for copies as `TrackWriter` writes them
    """

    kind: LabelKind
    objects: dict[int, TrackedObject]
    drawn: dict[int, Drawn]
    gone: dict[int, frozenset[int]]
    digests: dict[int, str]

    @property
    def ids(self) -> dict[int, frozenset[int]]:
        """Per frame with a seed, the ids of the objects that are drawn in it."""
        frames = sorted({*self.drawn, *self.gone})
        return {frame: frozenset(id for id, _ in self.drawn.get(frame, [])) for frame in frames}


class FoundObjects(NamedTuple):
    """The objects of a video.

    Attributes:
        has: those of the objects to track that it has
        tracks: names of their tracks, see `track_name`
        known: class and index of each of its objects
    """

    has: set[str | int]
    tracks: set[str]
    known: set[tuple[str, int]]


@dataclass(frozen=True)
class SeededVideo(DrawnLabels):
    """A video, what a person labeled in it, and what it takes to write labels of the same objects.

    Attributes:
        frames: of the video
        canvas: (height, width) of the image that relative coordinates refer to, in pixels of `frames`
        seeds: the labeled frames, ascending
        warnings: what was skipped or guessed
    """

    frames: Frames
    canvas: Size
    seeds: list[Seed]
    warnings: list[str] = field(default_factory=list)


def open_video(sample: fo.Sample, notes: list[str] | None = None) -> tuple[Frames, Size]:
    """The frames of a sample, and the canvas that its labels refer to, in pixels of these frames.

    If every frame has an image of its own, of the video's size, these are read instead of the video: they
    are free of its compression. An encoder may have padded images of odd size by a row or column: labels then
    refer to the padded size.

    Args:
        sample: a video
        notes: gets a sentence if images that are listed cannot be used

    Raises:
        ColorTrackError: if neither the video nor the images can be read
    """
    paths = _frame_images(sample)
    if missing := [path for path in paths if not os.path.isfile(path)]:
        if not os.path.isfile(sample.filepath):
            raise ColorTrackError(f"{missing[0]} is not a file: it is missing, or was moved")
        if notes is not None:
            notes.append(
                f"the image {missing[0]} is missing, so ColorTrack reads the video instead of images"
            )
        paths = []
    if paths and not os.path.isfile(sample.filepath):
        frames = ImageSequence(paths)
        return frames, (frames.height, frames.width)
    video = VideoFile(sample.filepath)
    if paths and len(paths) == len(video):
        frames = ImageSequence(paths)
        if 0 <= video.height - frames.height <= 1 and 0 <= video.width - frames.width <= 1:
            return frames, (video.height, video.width)
    return video, (video.height, video.width)


def _frame_images(sample: fo.Sample) -> list[str]:
    """The images of frames 1 to N; empty if a frame has none."""
    if not sample.dataset.has_frame_field("filepath"):
        return []
    paths = schema.frame_values(schema.whole(sample.dataset).select(sample.id), "filepath")
    gaps = any(number != i or path is None for i, (number, path) in enumerate(paths.items(), 1))
    return [] if gaps else list(paths.values())


def read_seeds(
    sample: fo.Sample, path: str, rules: SeedRules, corrections: Corrections | None = None
) -> SeededVideo:
    """Read what a person labeled in a video.

    Detections with masks, closed polylines, and segmentations are read as masks (each class of a segmentation
    is one object); detections without masks as boxes; keypoints and open polylines as points. Where only some
    detections have masks, the boxes of the others count as filled masks. Labels of several frames are matched
    by the rules of `ObjectTable`. Parts outside the image are cut off; labels with nothing inside it are left
    out with a warning.

    A label with the attribute `last=True` is the last one of its object: the track ends there, until a later
    labeled frame shows the object again.

    Args:
        sample: a video, with the labels of all frames that count
        path: one of `seed_fields`
        rules: which labels to start from
        corrections: what a person changed, where the seeds are tracks of an earlier run

    Raises:
        ColorTrackError: if there is nothing to track, or something cannot be read
    """
    name = schema.field_name(path)
    warnings: list[str] = []
    frames, canvas = open_video(sample, warnings)
    warnings += frames.warnings if isinstance(frames, VideoFile) else []
    targets = sample.dataset.get_mask_targets(schema.frame_path(name))
    labeled: dict[int, list[fo.Label]] = {}
    for number in rules.in_order(sample.frames.keys(), sample.id):
        try:
            labels = _chosen(shapes.split(sample.frames[number][name], targets), number, rules, corrections)
            visible = [label for label in labels if shapes.is_visible(label, canvas)]
        except (ColorTrackError, OSError) as error:
            raise ColorTrackError(
                f"{schema.frame_path(name)} of {sample.filepath}, frame {number}: {error}"
            ) from error
        if labels and number > len(frames):
            warnings.append(f"frame {number} has labels, but the video ends with frame {len(frames)}")
            continue
        if len(visible) < len(labels):
            warnings.append(
                f"frame {number}: {len(labels) - len(visible)} of {len(labels)} labels are empty or outside "
                "the image and were skipped"
            )
        if visible:
            labeled[number] = visible
            if rules.which == "first" and rules.objects is None:
                break
    ignore = evaluation_attributes(sample.dataset)
    try:
        found = _identify(dict(sorted(labeled.items())), sample.id, rules, ignore, warnings)
    except ColorTrackError as error:
        raise ColorTrackError(f"{schema.frame_path(name)} of {sample.filepath}: {error}") from error
    if found is None or not found.drawn:
        what = "keyframes" if rules.which == "keyframes" else "labels"
        reason = "; ".join(warnings) or f"no {what} in any frame"
        if labeled:
            reason = f"none of its labels belongs to {', '.join(map(str, rules.objects or ()))}"
        raise ColorTrackError(
            f"{schema.frame_path(name)} of {sample.filepath}: nothing to track ({reason}); "
            "label a frame, or choose another seed field"
        )
    if found.kind == "points":
        _check_point_counts(found.drawn, sample.filepath)
    seeds = []
    for frame, ids in found.ids.items():
        if frame < len(frames):
            pairs, gone = found.drawn.get(frame, []), found.gone.get(frame, frozenset())
            of_frame = seed_labels(pairs, found.kind, canvas, (frames.height, frames.width))
            seeds.append(Seed(frame, of_frame, gone))
            if found.kind == "masks" and (hidden := len(ids - {*np.unique(of_frame).tolist()})):
                warnings.append(f"frame {frame + 1}: {hidden} masks are completely hidden under others")
    return SeededVideo(**vars(found), frames=frames, canvas=canvas, seeds=seeds, warnings=warnings)


def read_drawn(samples: SampleCollection, path: str, rules: SeedRules) -> dict[str, DrawnLabels]:
    """What a person labeled in each of some videos, by sample id, without opening the videos.

    As `read_seeds` finds it, but labels outside the image are not left out. Videos whose labels cannot be
    read are not listed, nor are those without labels.
    """
    ignore, found = evaluation_attributes(samples._root_dataset), {}
    for id, labeled in _read_labels(samples, path, rules):
        with suppress(ColorTrackError, OSError):
            drawn = _identify(labeled, id, rules, ignore, [])
            if drawn is not None and drawn.drawn:
                found[id] = drawn
    return found


def find_objects(samples: SampleCollection, path: str, rules: SeedRules) -> dict[str, FoundObjects]:
    """Which of the objects to track each of some videos has, by sample id; without videos that cannot be read."""
    wanted, found = rules.objects or (), {}
    for id, labeled in _read_labels(
        samples, path, replace(rules, which="all") if rules.which == "first" else rules
    ):
        with suppress(ColorTrackError, OSError):
            _, drawn, table = _match_objects(labeled, rules, frozenset(), [])
            objects = table.completed(id)
            pairs = [(label, objects[i]) for of_frame in drawn.values() for i, label in of_frame]
            has = {one for one in wanted if any(_is_one_of(*pair, (one,)) for pair in pairs)}
            own = {o.instance.id for one, o in pairs if o.instance and _is_one_of(one, o, wanted)}
            found[id] = FoundObjects(has, own, {(str(o.label), o.index or 0) for o in objects.values()})
    return found


def _read_labels(
    samples: SampleCollection, path: str, rules: SeedRules
) -> Iterator[tuple[str, dict[int, list[fo.Label]]]]:
    """The labels of each of some videos that can be seeds, by frame number; without videos that cannot be read."""
    name = schema.field_name(path)
    targets = samples._root_dataset.get_mask_targets(schema.frame_path(name))
    corrections = find_corrections(samples, name) if rules.which == "keyframes" else {}
    view = schema.select_frames(samples, name, seed_frames(samples, name, rules, corrections))
    for id, numbers, frames in zip(
        *view.values(["id", "frames.frame_number", schema.frame_path(name)]), strict=True
    ):
        with suppress(ColorTrackError, OSError):
            ordered = sorted(zip(numbers or [], frames or [], strict=True), key=lambda frame: frame[0])
            chosen = {
                n: _chosen(shapes.split(labels, targets), n, rules, corrections.get(id))
                for n, labels in ordered
            }
            yield id, {number: labels for number, labels in chosen.items() if labels}


def seed_frames(
    samples: SampleCollection, path: str, rules: SeedRules, corrections: Mapping[str, Corrections] = {}
) -> dict[str, list[int]]:
    """Numbers (from 1) of the frames of each video whose labels have to be read to find its seeds."""
    numbers = schema.labeled_frames(samples, path, "all" if rules.which == "first" else rules.which)
    if rules.which == "first" and rules.objects is None:
        return {id: rules.in_order(of_video, id)[:1] for id, of_video in numbers.items()}
    changed = {id: {n for n in found.drawn if found.seeds(n)} for id, found in corrections.items()}
    return {id: sorted({*of_video, *changed.get(id, ())}) for id, of_video in numbers.items()}


def find_corrections(
    samples: SampleCollection, path: str, *, unrecorded: bool = False
) -> dict[str, Corrections]:
    """What people changed in the tracks of each of some videos, by sample id; empty if a field has no tracks.

    Labels of unknown origin (written by version 0.1.0) count as a person's if they are keyframes.

    Args:
        samples: videos
        path: the frame field
        unrecorded: whether all labels of videos that no run has written to count as drawn
    """
    name, found = schema.field_name(path), {}
    if name not in schema.seed_fields(samples):
        return {}
    tracks, ignore = schema.is_tracks(samples, name), evaluation_attributes(samples._root_dataset)
    paths = [
        "id",
        "frames.frame_number",
        schema.frame_path(name),
        *([schema.record_field(name)] if tracks else []),
    ]
    chosen = (
        samples if unrecorded else samples.exists(schema.record_field(name)) if tracks else samples.limit(0)
    )
    for id, numbers, containers, *values in zip(*chosen.values(paths), strict=True):
        labels = {n: labels_of(c) for n, c in zip(numbers or [], containers or [], strict=True)}
        record = TrackRecord.from_dict(values[0] if values else None, ignore)
        if any(values) and record.written is not None:
            if any(c is not None for c in containers or []):  # else somebody cleared the field
                found[id] = record.written.compare(labels)
        else:
            keyframes = {
                n: {
                    one.id: track_name(one)
                    for one in ones
                    if not any(values) or shapes.attribute(one, "keyframe")
                }
                for n, ones in labels.items()
            }
            found[id] = Corrections({n: ids for n, ids in keyframes.items() if ids}, {}, {}, {})
    return {id: corrections for id, corrections in found.items() if any(corrections)}


def find_renamed(dataset: fo.Dataset, label_field: str) -> tuple[str, str] | None:
    """The old and new name of tracks that have been renamed, if `label_field` is either of them.

    `rename_frame_field` renames the labels alone, and their field keeps the mark with the old name.
    """
    if schema.IMAGES in dataset.info:  # where renaming the copies would leave the images as they are
        return None
    name, frame_schema = schema.field_name(label_field), schema.whole(dataset).get_frame_field_schema() or {}
    names = ((schema.marked_name(one), new) for new, one in frame_schema.items())
    lost = ((old, new) for old, new in names if old and old not in frame_schema and name in (old, new))
    return next((pair for pair in lost if schema.is_tracks(dataset, pair[0])), None)


def adopt_renamed(dataset: fo.Dataset, label_field: str) -> tuple[str, str] | None:
    """Rename what belongs to tracks whose field has been renamed; returns the names as `find_renamed` does."""
    names = find_renamed(dataset, label_field)
    if names is None:
        return None
    old, new = names
    old_path, new_path = map(schema.frame_path, names)
    if old_path in dataset.label_schemas:  # FiftyOne leaves it behind, and then renames nothing else
        dataset.set_label_schemas({k: v for k, v in dataset.label_schemas.items() if k != old_path})
        schema.set_up_annotation(dataset, new)
    sample_fields = {
        name(old): name(new) for name in (schema.record_field, schema.run_field, schema.confidence_field)
    }
    dataset.rename_sample_fields({a: b for a, b in sample_fields.items() if dataset.has_sample_field(a)})
    schema.mark_tracks(dataset, new)
    if dataset.has_frame_field(schema.confidence_field(old)):
        dataset.rename_frame_field(schema.confidence_field(old), schema.confidence_field(new))
    videos = schema.whole(dataset).exists(schema.record_field(new))
    records = dict(zip(*videos.values(["id", schema.record_field(new)]), strict=True))
    for values in records.values():
        for part in values.get("parts", {}).values():
            if part["seed_field"] == old_path:
                part["seed_field"] = new_path
    schema.whole(dataset).set_values(schema.record_field(new), records, key_field="id")
    for method in (Run, EvaluationMethod):
        for key in method.list_runs(dataset):
            config = method.get_run_info(dataset, key).config
            names_of_fields = ("label_field", "seed_field", "pred_field", "gt_field")
            own = [name for name in names_of_fields if getattr(config, name, None) == old_path]
            for name in own:
                setattr(config, name, new_path)
            if own:
                method.update_run_config(dataset, key, config)
    return names


def _chosen(
    labels: list[fo.Label], number: int, rules: SeedRules, corrections: Corrections | None
) -> list[fo.Label]:
    if rules.which != "keyframes":
        return labels
    changed = corrections.seeds(number) if corrections else ()
    return [label for label in labels if shapes.attribute(label, "keyframe") or label.id in changed]


def _identify(
    labeled: Mapping[int, list[fo.Label]],
    sample_id: str,
    rules: SeedRules,
    ignore: frozenset[str],
    warnings: list[str],
) -> DrawnLabels | None:
    """The objects that labels show, by frame number; None without labels."""
    if not labeled:
        return None
    kind, drawn, table = _match_objects(labeled, rules, ignore, warnings)
    warnings += table.warnings
    objects = table.completed(sample_id)
    if rules.objects is not None:
        pairs = [pair for of_frame in drawn.values() for pair in of_frame]
        wanted = {id for id, label in pairs if _is_one_of(label, objects[id], rules.objects)}
        drawn = {f: [pair for pair in of_frame if pair[0] in wanted] for f, of_frame in drawn.items()}
        drawn = {f: of_frame for f, of_frame in drawn.items() if of_frame}
        objects = {id: obj for id, obj in objects.items() if id in wanted}
    if rules.which == "first" and drawn:
        first = rules.in_order((frame + 1 for frame in drawn), sample_id)[0] - 1
        drawn = {first: drawn[first]}
    gone = _ends(drawn, rules.complete)
    digests = {frame: _digest(pairs, objects, table) for frame, pairs in drawn.items()}
    digests |= {frame: digest(digests.get(frame), sorted(ids)) for frame, ids in gone.items()}
    return DrawnLabels(kind, objects, drawn, gone, digests)


def _match_objects(
    labeled: Mapping[int, list[fo.Label]], rules: SeedRules, ignore: frozenset[str], warnings: list[str]
) -> tuple[LabelKind, dict[int, Drawn], ObjectTable]:
    kind = _kind([label for labels in labeled.values() for label in labels], rules.fill_boxes, warnings)
    table = ObjectTable(parts=kind == "masks", ignore=ignore)
    drawn = {
        number - 1: list(zip(table.match(labels, number), labels, strict=True))
        for number, labels in labeled.items()
    }
    return kind, drawn, table


def _is_one_of(label: fo.Label, obj: TrackedObject, wanted: Collection[str | int]) -> bool:
    names = (label.id, label.instance_id, label.label, obj.index, obj.instance and obj.instance.id)
    return not {str(name) for name in names if name is not None}.isdisjoint(map(str, wanted))


def _ends(drawn: Mapping[int, Drawn], complete: bool) -> dict[int, frozenset[int]]:
    """Per frame, the objects whose tracks end before it."""
    ends: dict[int, set[int]] = {}
    known: set[int] = set()
    for frame in sorted(drawn):
        ids = {id for id, _ in drawn[frame]}
        if complete:
            ends.setdefault(frame, set()).update(known - ids)
            known = set()
        known |= ids
        for id, label in drawn[frame]:
            if shapes.attribute(label, "last"):
                ends.setdefault(frame + 1, set()).add(id)
    shown = {frame: {id for id, _ in pairs} for frame, pairs in drawn.items()}
    gone = {frame: frozenset(ids - shown.get(frame, set())) for frame, ids in ends.items()}
    return {frame: ids for frame, ids in sorted(gone.items()) if ids}


def _digest(drawn: Drawn, objects: Mapping[int, TrackedObject], table: ObjectTable) -> str:
    parts: list[object] = []
    for id, label in drawn:
        obj, own = objects[id], table.attributes(label)
        instance = obj.instance and obj.instance.id
        parts += [obj.label, obj.index, instance, obj.tags, sorted(obj.attributes.items())]
        parts += [label.label, list(label.tags), sorted(own.items()), shapes.outline(label)]
    return digest(parts)


def _kind(labels: list[fo.Label], fill_boxes: bool, warnings: list[str]) -> LabelKind:
    points = sum(map(shapes.is_points, labels))
    if 0 < points < len(labels):
        raise ColorTrackError(
            f"{points} of {len(labels)} polylines are open and tracked as points; the others are "
            "closed and tracked as masks; put them into two fields"
        )
    if points:
        return "points"
    boxes = sum(not shapes.has_area(label) for label in labels)
    if 0 < boxes < len(labels):
        warnings.append(
            f"{boxes} of {len(labels)} labels have no mask, so their boxes are tracked as filled masks"
        )
    return "masks" if fill_boxes or boxes < len(labels) else "boxes"


def seed_labels(
    pairs: Drawn,
    kind: LabelKind,
    canvas: Size,
    size: Size,
    points: Callable[[fo.Label, Size], np.ndarray] = shapes.points_inside,
) -> Any:
    """Labels with the ids of their objects as the tracker takes them, see `Seed.labels`.

    Args:
        pairs: the labels of a frame
        kind: what they are read as
        canvas: see `SeededVideo`
        size: (height, width) of the frames, which may be smaller than the canvas
        points: how to read those of a label
    """
    if kind == "masks":
        return shapes.paint([label for _, label in pairs], [id for id, _ in pairs], canvas)[
            : size[0], : size[1]
        ]
    if kind == "points":
        return {id: points(label, canvas) for id, label in pairs}
    return {id: box for id, label in pairs if (box := shapes.box_in_pixels(label, canvas)) is not None}


def _check_point_counts(drawn: dict[int, Drawn], filepath: str) -> None:
    first: dict[int, tuple[int, int]] = {}
    for frame, pairs in drawn.items():
        for id, label in pairs:
            points = len(shapes.points_in_pixels(label, (1, 1)))
            known_frame, count = first.setdefault(id, (frame, points))
            if points != count:
                raise ColorTrackError(
                    f"{filepath}: '{label.label}' has {count} points in frame {known_frame + 1}, but "
                    f"{points} in frame {frame + 1}; use the same points in every labeled frame "
                    "(NaN for missing points)"
                )


def evaluation_attributes(dataset: fo.Dataset) -> frozenset[str]:
    """Attributes that evaluations wrote on labels: true of the label in its frame, not of its object."""
    id = ObjectId(dataset.info.get(schema.IMAGES, dataset._doc.id))
    found = foo.get_db_conn().datasets.find_one({"_id": id}, {"evaluations": 1}) or {}
    return frozenset(f"{key}{part}" for key in found.get("evaluations") or () for part in ("", "_id", "_iou"))
