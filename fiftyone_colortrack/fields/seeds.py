"""Reading what a person labelled in a video."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import fiftyone as fo
import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.objects import ObjectTable, TrackedObject
from fiftyone_colortrack.fields.record import digest
from fiftyone_colortrack.fields.schema import SeedFrames, field_name, select_labelled
from fiftyone_colortrack.fields.shapes import (
    Size,
    attribute,
    box_in_pixels,
    is_visible,
    outline,
    paint,
    points_inside,
    split,
)
from fiftyone_colortrack.tracking.labels import LabelKind, Seed
from fiftyone_colortrack.video import Frames, ImageSequence, VideoFile

Drawn = list[tuple[int, fo.Label]]
"""Labels of a frame as drawn, with the ids of their objects."""


@dataclass(frozen=True)
class DrawnLabels:
    """What a person labelled in a video.

    Attributes:
        kind: of the labels
        objects: that they show; each has an index and an instance
        drawn: per labelled frame (from 0) its labels as drawn, with the ids of their objects
        digests: per labelled frame, of all that the tracks of its objects and the copies of its labels take
            from it; the same for copies as `TrackWriter` writes them
    """

    kind: LabelKind
    objects: dict[int, TrackedObject]
    drawn: dict[int, Drawn]
    digests: dict[int, str]


@dataclass(frozen=True)
class DrawnObjects:
    """Which objects a person labelled in a video: `DrawnLabels` without the labels, which are large.

    Attributes:
        kind: of the labels
        ids: per labelled frame (from 0) those of the objects
        digests: per labelled frame, see `DrawnLabels`
    """

    kind: LabelKind
    ids: dict[int, frozenset[int]]
    digests: dict[int, str]


@dataclass(frozen=True)
class SeededVideo(DrawnLabels):
    """A video, what a person labelled in it, and what it takes to write labels of the same objects.

    Attributes:
        frames: of the video
        canvas: (height, width) of the picture that relative coordinates refer to, in pixels of `frames`
        seeds: the labelled frames, ascending
        warnings: what was left out or guessed
    """

    frames: Frames
    canvas: Size
    seeds: list[Seed]
    warnings: list[str] = field(default_factory=list)


def open_video(sample: fo.Sample) -> tuple[Frames, Size]:
    """The frames of a sample, and the canvas that its labels refer to, in pixels of these frames.

    The original images are read where every frame has a `filepath`, else the video file. An encoder may have
    padded images of odd size by a row or column: labels then refer to the padded size.

    Raises:
        ColorTrackError: if the video or the first image cannot be read
    """
    video = VideoFile(sample.filepath)
    paths = _original_images(sample)
    if len(paths) != len(video):
        return video, (video.height, video.width)
    frames = ImageSequence(paths)
    padded = 0 <= video.height - frames.height <= 1 and 0 <= video.width - frames.width <= 1
    return frames, (video.height, video.width) if padded else (frames.height, frames.width)


def _original_images(sample: fo.Sample) -> list[str]:
    """The images of frames 1 to N; nothing if one is missing."""
    if not sample.dataset.has_frame_field("filepath"):
        return []
    view = sample.dataset.select(sample.id)
    numbers, paths = view.values(["frames.frame_number", "frames.filepath"], unwind=True)
    ordered = sorted(zip(numbers, paths, strict=True))
    gaps = any(number != i or path is None for i, (number, path) in enumerate(ordered, 1))
    return [] if gaps else [path for _, path in ordered]


def read_seeds(
    sample: fo.Sample, path: str, which: SeedFrames = "first", *, fill_boxes: bool = False
) -> SeededVideo:
    """Read what a person labelled in a video.

    Detections with masks, and segmentations, are read as masks (each class of a segmentation is one object);
    detections without masks as boxes; key points as points. Where only some detections have masks, the boxes
    of the others count as filled masks. Labels of several frames are matched by `ObjectTable`'s rules. What
    lies outside the picture is cut off, and what has nothing inside it is left out with a warning.

    Args:
        sample: a video
        path: one of `seed_fields`
        which: the first labelled frame, all of them, or only the labels with `keyframe=True`
        fill_boxes: whether boxes are read as filled masks

    Raises:
        ColorTrackError: if there is nothing to track, or something cannot be read
    """
    name = field_name(path)
    frames, canvas = open_video(sample)
    warnings = frames.warnings if isinstance(frames, VideoFile) else []
    labelled = _usable_labels(sample, name, which, canvas, len(frames), warnings)
    if not labelled:
        reason = "; ".join(warnings) or f"no {'keyframes' if which == 'keyframes' else 'labels'} in any frame"
        raise ColorTrackError(
            f"frames.{name} of {sample.filepath}: nothing to track ({reason}); "
            "label a frame or choose another seed field"
        )
    found = _identify(labelled, sample.id, fill_boxes, _evaluation_attributes(sample.dataset), warnings)
    size = (frames.height, frames.width)
    seeds = [_seed(frame, pairs, found.kind, canvas, size, warnings) for frame, pairs in found.drawn.items()]
    if found.kind == "points":
        _check_point_counts(found.drawn, sample.filepath)
    return SeededVideo(**vars(found), frames=frames, canvas=canvas, seeds=seeds, warnings=warnings)


def read_drawn(
    view: SampleCollection, path: str, which: SeedFrames = "first", *, fill_boxes: bool = False
) -> dict[str, DrawnObjects]:
    """Which objects a person labelled in each of some videos, by sample id, without opening the videos.

    As `read_seeds` finds it, but for labels that lie outside the picture: those are not left out. Videos
    whose labels cannot be read are not listed, nor are those without labels.
    """
    name = field_name(path)
    targets = view._root_dataset.get_mask_targets(f"frames.{name}")
    ignore = _evaluation_attributes(view._root_dataset)
    fields = ["id", "frames.frame_number", f"frames.{name}"]
    found = {}
    for id, numbers, frames in zip(*select_labelled(view, name, which).values(fields), strict=True):
        if not numbers:
            continue
        with suppress(ColorTrackError, OSError):
            by_number = sorted(zip(numbers, frames, strict=True), key=lambda frame: frame[0])
            labelled = {number: _chosen(split(labels, targets), which) for number, labels in by_number}
            labels = _identify(labelled, id, fill_boxes, ignore, [])
            ids = {frame: frozenset(id for id, _ in pairs) for frame, pairs in labels.drawn.items()}
            found[id] = DrawnObjects(labels.kind, ids, labels.digests)
    return found


def _identify(
    labelled: Mapping[int, list[fo.Label]],
    sample_id: str,
    fill_boxes: bool,
    ignore: frozenset[str],
    warnings: list[str],
) -> DrawnLabels:
    """The objects that labels show, by frame number."""
    kind = _kind([label for labels in labelled.values() for label in labels], fill_boxes, warnings)
    table = ObjectTable(parts=kind == "masks", ignore=ignore)
    drawn = {
        number - 1: list(zip(table.match(labels, number), labels, strict=True))
        for number, labels in labelled.items()
    }
    warnings += table.warnings
    objects = table.completed(sample_id)
    digests = {frame: _digest(pairs, objects, table) for frame, pairs in drawn.items()}
    return DrawnLabels(kind, objects, drawn, digests)


def _digest(drawn: Drawn, objects: Mapping[int, TrackedObject], table: ObjectTable) -> str:
    parts: list[object] = []
    for id, label in drawn:
        obj, own = objects[id], table.attributes(label)
        instance = obj.instance and obj.instance.id
        parts += [obj.label, obj.index, instance, obj.tags, sorted(obj.attributes.items())]
        parts += [label.label, list(label.tags), sorted(own.items()), outline(label)]
    return digest(parts)


def _usable_labels(
    sample: fo.Sample, name: str, which: SeedFrames, canvas: Size, length: int, warnings: list[str]
) -> dict[int, list[fo.Label]]:
    """Labels that show something, by frame number; only the first such frame for `which="first"`."""
    targets = sample.dataset.get_mask_targets(f"frames.{name}")
    usable = {}
    for number, frame in sample.frames.items():
        try:
            labels = _chosen(split(frame[name], targets), which)
            visible = [label for label in labels if is_visible(label, canvas)]
        except (ColorTrackError, OSError) as error:
            raise ColorTrackError(f"frames.{name} of {sample.filepath}, frame {number}: {error}") from error
        if labels and number > length:
            warnings.append(f"frame {number} has labels, but the video ends with frame {length}")
            break
        if len(visible) < len(labels):
            warnings.append(
                f"frame {number}: {len(labels) - len(visible)} of {len(labels)} labels are empty or outside "
                "the picture and were left out"
            )
        if visible:
            usable[number] = visible
            if which == "first":
                break
    return usable


def _chosen(labels: list[fo.Label], which: SeedFrames) -> list[fo.Label]:
    return [label for label in labels if attribute(label, "keyframe")] if which == "keyframes" else labels


def _kind(labels: list[fo.Label], fill_boxes: bool, warnings: list[str]) -> LabelKind:
    if isinstance(labels[0], fo.Keypoint):
        return "points"
    boxes = sum(not label.has_mask for label in labels)
    if 0 < boxes < len(labels):
        warnings.append(
            f"{boxes} of {len(labels)} labels have no mask: their boxes are tracked as filled masks"
        )
    return "masks" if fill_boxes or boxes < len(labels) else "boxes"


def _seed(
    frame: int,
    drawn: Drawn,
    kind: LabelKind,
    canvas: Size,
    size: Size,
    warnings: list[str],
) -> Seed:
    if kind == "points":
        return Seed(frame, {id: points_inside(label, canvas) for id, label in drawn})
    if kind == "boxes":
        boxes = {id: box_in_pixels(label, canvas) for id, label in drawn}
        return Seed(frame, {id: box for id, box in boxes.items() if box is not None})
    ids, labels = zip(*drawn, strict=True)
    id_map = paint(labels, ids, canvas)[: size[0], : size[1]]
    hidden = len(set(ids) - set(np.unique(id_map)))
    if hidden:
        warnings.append(f"frame {frame + 1}: {hidden} masks are wholly hidden under others")
    return Seed(frame, id_map)


def _check_point_counts(drawn: dict[int, Drawn], filepath: str) -> None:
    first: dict[int, tuple[int, int]] = {}
    for frame, pairs in drawn.items():
        for id, label in pairs:
            known_frame, count = first.setdefault(id, (frame, len(label.points)))
            if len(label.points) != count:
                raise ColorTrackError(
                    f"{filepath}: '{label.label}' has {count} points in frame {known_frame + 1}, but "
                    f"{len(label.points)} in frame {frame + 1}; give it the same points in every labelled "
                    "frame (NaN where one is not there)"
                )


def _evaluation_attributes(dataset: fo.Dataset) -> frozenset[str]:
    """Attributes that evaluations wrote on labels: true of the label in its frame, not of its object."""
    keys = dataset.list_evaluations()
    return frozenset(f"{key}{suffix}" for key in keys for suffix in ("", "_id", "_iou"))
