"""Write tracks to a frame field."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import record, schema, shapes
from fiftyone_colortrack.fields.images import pull, push
from fiftyone_colortrack.fields.lock import Lock
from fiftyone_colortrack.fields.objects import TrackedObject
from fiftyone_colortrack.fields.seeds import SeededVideo, evaluation_attributes, find_corrections, seed_labels
from fiftyone_colortrack.fields.shapes import Region, Size
from fiftyone_colortrack.tracking.labels import Seed, TrackedFrame

FRAMES_PER_WRITE = 50
SECONDS_PER_WRITE = 10.0


@dataclass
class TrackWriter:
    """Write a video's labels in portions while they are tracked, and then mark the video as finished.

    The seeds are copied as they were drawn, with `keyframe=True`. All labels of an object share its index and
    instance; those that are not drawn also its class, tags, and attributes.

    Labels that a person drew, changed, or deleted since a run wrote them stay as they are. So do labels of
    objects and frames outside the run's scope.

    Args:
        dataset: the video's dataset
        sample_id: of the video
        path: a frame field made by `create_tracks_field`
        video: what `read_seeds` returned
        lock: held for this video and field
        output: see `propagate`; None keeps the seeds' kind
        in_place: whether the seeds are the keyframes of this very field: they stay the labels that they are
        overwrite: whether labels that a person changed are replaced as well
        ranges: frames (from 0) that the run is limited to; empty for all
        tracks: names of the tracks that the run is limited to (see `track_name`); None for all

    Attributes:
        kept: number of labels that a person drew, changed, or deleted, and that stay as they are
        replaced: number of such labels that are replaced
        written: number of labeled frames
    """

    dataset: fo.Dataset
    sample_id: str
    path: str
    video: SeededVideo
    lock: Lock
    _: KW_ONLY
    output: schema.OutputKind | None = None
    in_place: bool = False
    overwrite: bool = False
    ranges: Sequence[range] = ()
    tracks: Collection[str] | None = None

    def __post_init__(self) -> None:
        self._name = schema.field_name(self.path)
        self._output: schema.OutputKind = self.output or default_output(self.video)
        (values,) = self._view.values(schema.record_field(self._name))
        self.record = record.TrackRecord.from_dict(values)
        self._origin_is_known = self.record.written is not None
        corrections = find_corrections(self._view, self._name, unrecorded=True)
        found = corrections.get(self.sample_id, record.NO_CORRECTIONS)
        self.corrections = found.outside(self.ranges, self.tracks) if self.overwrite else found
        self.kept, self.replaced = len(self.corrections), len(found) - len(self.corrections)
        self._portion: dict[int, tuple[fo.Label | None, float | None]] = {}
        self._done: set[int] = set()
        self._labeled: set[int] = set()  # frames to which this run has written labels
        self._since = time.monotonic()
        self.written = 0

    @property
    def _view(self) -> SampleCollection:
        return schema.whole(self.dataset).select(self.sample_id)

    def begin(self, scope: str, part: record.Part, done: Collection[int] = ()) -> None:
        """Note what is about to be tracked; `done` are numbers of frames that stay as they are."""
        written = self.record.written
        if written is None or (self.overwrite and self.tracks is None and not self.ranges):
            written = self.record.written = record.Written()
        written.ignore = evaluation_attributes(self.dataset)
        self._scope = scope
        self._done = set(done)
        self.record.begin(scope, part, done)
        self._check()
        self._set(schema.run_field(self._name), None)
        self._save()

    def add(self, frame: TrackedFrame) -> None:
        """Add the labels of a frame. From time to time, a portion of them is written."""
        label = frame_label(frame, self.video, self._output, in_place=self.in_place)
        self._portion[frame.frame + 1] = label, frame.lowest_confidence
        late = time.monotonic() - self._since > SECONDS_PER_WRITE
        if late or len(self._portion) >= FRAMES_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Write the labels that were added since the last portion."""
        written = self.record.written
        assert written is not None
        numbers = sorted(self._portion)
        present = self._present(numbers)
        labels, confidence = {}, {}
        for number in numbers:
            label, confidence[number] = self._portion[number]
            labels[number] = self._merge(number, present.get(number), label, written)
        if numbers:
            self._check()
            self._save()  # first the record, which shows whose the labels are if the run is killed in between
            self._set(schema.frame_path(self._name), labels)
            self._set(schema.frame_path(schema.confidence_field(self._name)), confidence)
        written.end()
        self._labeled.update(number for number in numbers if labels[number] is not None)
        self._done.update(numbers)
        self.written += sum(self._portion[number][0] is not None for number in numbers)
        self._portion = {}
        self._note_done(self._done)
        self._since = time.monotonic()

    def stop(self) -> None:
        """Write the last portion of a run that was stopped; another run can go on from here."""
        self.flush()
        self._save()

    def finish(self, run_key: str) -> None:
        """Write the last portion, remove earlier tracks of frames that have none now, and mark the end.

        Args:
            run_key: written to `run_field(path)` when everything else is written

        Raises:
            ColorTrackError: if somebody cleared what was written
        """
        self.flush()
        labeled = self._view.match_frames(F(self._name).exists())
        numbers = set(labeled.values("frames.frame_number", unwind=True))
        self._check_kept(numbers)
        stale = sorted(
            n for n in numbers - self._done if not self.ranges or any(n - 1 in r for r in self.ranges)
        )
        present = {n: label for n, label in self._present(stale).items() if label is not None}
        self._portion = {number: (None, None) for number in present}
        self.flush()
        self._check()
        confidence = self._view.mean(schema.frame_path(schema.confidence_field(self._name)))
        self._set(schema.confidence_field(self._name), confidence)
        self._view.untag_samples(schema.failed_tag(self._name))
        self._set(schema.run_field(self._name), run_key)
        self._note_done(None)
        self._save()

    def _merge(
        self, number: int, present: fo.Label | None, label: fo.Label | None, written: record.Written
    ) -> fo.Label | None:
        """The labels of a frame: new ones, and those that stay."""
        deleted = self.corrections.deleted.get(number, frozenset())
        earlier, new = record.labels_of(present), record.labels_of(label)
        copied = {one.id for one in new}
        kept = [one for one in earlier if one.id not in copied and self._stays(number, one, written)]
        names = {record.track_name(one) for one in kept} | deleted
        drawn = {one.id for one in earlier}
        mended = self.corrections.interpolated.get(number, frozenset())
        renamed = {
            record.track_name(o): o for o in earlier if o.id in mended and written.differs(number, o)[1]
        }
        new = [one for one in new if one.id in drawn or record.track_name(one) not in names]
        persons = {one.id for one in earlier if not written.wrote(number, one)}
        others = [one for one in kept if one.id not in persons]  # of other objects, written by an earlier run
        written.begin(number, [*others, *(one for one in new if one.id not in persons)], deleted)
        for one in new:
            if (called := renamed.get(record.track_name(one))) and one.id not in drawn:
                one.label, one.index = called.label, called.index
        if not kept and not new and label is None and not deleted:
            return None
        label_type = schema.OUTPUT_TYPES[self._output]
        if label_type not in shapes.LABEL_LISTS:
            return (kept or new or [None])[0]
        return label_type(**{shapes.LABEL_LISTS[label_type]: [*kept, *new]})

    def _stays(self, number: int, label: fo.Label, written: record.Written) -> bool:
        if self.tracks is not None and record.track_name(label) not in self.tracks:
            return True
        if self.overwrite or label.id in self.corrections.interpolated.get(number, frozenset()):
            return False
        if not self._origin_is_known:
            return bool(shapes.attribute(label, "keyframe"))
        return not written.wrote(number, label)

    def _present(self, numbers: Collection[int]) -> dict[int, fo.Label | None]:
        """What the field holds now."""
        pull(self.dataset, [self.sample_id], self._name)
        view = self._view.match_frames(F("frame_number").is_in(list(numbers)), omit_empty=False)
        return schema.frame_values(view, self._name)

    def _check_kept(self, present: Collection[int]) -> None:
        """Check that the written frames still have labels; frames without are to be tracked again."""
        written = self.record.written
        assert written is not None
        if cleared := self._labeled.difference(present):
            self._done -= cleared
            for number in cleared:  # else they would count as deleted by a person, and stay empty
                written.begin(number, [])
            written.end()
            self._note_done(self._done)
            self._save()
            raise ColorTrackError(
                f"somebody cleared {schema.frame_path(self._name)} during the run, in {len(cleared)} frames from frame "
                f"{min(cleared)} on; run again to track them (skip_existing)"
            )

    def _check(self) -> None:
        self.lock.check()
        schema.check_fields(self.dataset, self._name, self.sample_id)

    def _note_done(self, done: Collection[int] | None) -> None:
        part = self.record.parts[self._scope]
        self.record.parts[self._scope] = replace(part, done=done if done is None else frozenset(done))

    def _save(self) -> None:
        self._set(schema.record_field(self._name), self.record.to_dict())

    def _set(self, path: str, value: Any) -> None:
        schema.whole(self.dataset).set_values(path, {self.sample_id: value}, key_field="id")
        push(self.dataset, self.sample_id, path, value)


def default_output(video: SeededVideo) -> schema.OutputKind:
    """What tracks are written as by default: as the seeds are."""
    labels = [label for of_frame in video.drawn.values() for _, label in of_frame]
    return "polylines" if isinstance(labels[0], fo.Polyline) else video.kind


def frame_label(
    frame: TrackedFrame, video: SeededVideo, output: schema.OutputKind, *, in_place: bool = False
) -> fo.Label:
    """The label of a tracked frame: see `TrackWriter`."""
    drawn = video.drawn.get(frame.frame, [])
    if output == "segmentation":
        assert isinstance(frame.labels, np.ndarray)
        return _segmentation(frame.labels, video, keyframe=bool(drawn))
    labels = [_copy(label, video.objects[id], output, video.canvas, in_place) for id, label in drawn]
    copied = {id for id, _ in drawn}
    lengths = {
        id: [len(part) for part in label.points]
        for of_frame in video.drawn.values()
        for id, label in of_frame
        if isinstance(label, fo.Polyline)
    }
    found: Iterable[tuple[int, Any]]
    found = frame.labels.items() if isinstance(frame.labels, dict) else shapes.regions(frame.labels)
    for id, shape in found:
        if id not in copied and id in video.objects:
            about = (video.objects[id], output, video.canvas, frame.confidence[id])
            labels.append(_label(shape, *about, lengths=lengths.get(id, ())))
    label_type = schema.OUTPUT_TYPES[output]
    return label_type(**{shapes.LABEL_LISTS[label_type]: labels})


def _label(
    shape: Any,
    obj: TrackedObject,
    output: schema.OutputKind,
    canvas: Size,
    confidence: Any,
    keyframe: bool = False,
    lengths: Sequence[int] = (),
) -> fo.Label:
    """A label of a region, or of points or corners `[P, 2]` in pixels; `lengths` are those of a polyline's shapes."""
    shared = {"label": obj.label, "tags": list(obj.tags), "index": obj.index, "instance": obj.instance}
    shared |= {"keyframe": keyframe, **obj.attributes}
    if output == "polylines":
        closed = isinstance(shape, Region)
        if closed:
            points = shapes.polygons(shape, canvas)
        else:
            parts = np.split(shape.reshape(-1, 2), np.cumsum(lengths)[:-1])
            points = [_relative(part[np.isfinite(part).all(1)], canvas) for part in parts]
            points = [part for part in points if part]
        sure = float(np.nanmean(np.nan_to_num(confidence)))
        return fo.Polyline(points=points, closed=closed, filled=closed, confidence=sure, **shared)
    if isinstance(shape, Region):
        mask = shape.mask if output == "masks" else None
        box = shapes.relative_box(shape, canvas)
        return fo.Detection(bounding_box=box, mask=mask, confidence=float(confidence), **shared)
    if output == "boxes":
        (x0, y0), (x1, y1) = _relative(shape, canvas)
        return fo.Detection(bounding_box=[x0, y0, x1 - x0, y1 - y0], confidence=float(confidence), **shared)
    per_point = np.nan_to_num(confidence).tolist()
    return fo.Keypoint(points=_relative(shape, canvas), confidence=per_point, **shared)


def _relative(pixels: np.ndarray, canvas: Size) -> list[tuple[float, float]]:
    return [tuple(point) for point in (pixels.reshape(-1, 2) / [canvas[1], canvas[0]]).tolist()]


def _copy(
    label: fo.Label, obj: TrackedObject, output: schema.OutputKind, canvas: Size, in_place: bool
) -> fo.Label:
    """A label as drawn, with its object's index and instance; in place it stays the same label.

    It keeps its confidence, unless it is a keyframe: then a tracker's confidence in it no longer counts.
    """
    left_out = {"mask_path"} if in_place else {"mask_path", "id"}
    left_out |= {"confidence"} if shapes.attribute(label, "keyframe") else set()
    values = {name: value for name, value in label.iter_fields() if name not in left_out}
    index = label.index if in_place and label.index is not None else obj.index
    values |= {"index": index, "instance": obj.instance, "keyframe": True}
    if isinstance(label, fo.Keypoint):
        if not values.get("confidence"):
            values["confidence"] = np.isfinite(np.array(label.points, float)).all(1).astype(float).tolist()
        return fo.Keypoint(**values)
    if values.get("confidence") is None:
        values["confidence"] = 1.0
    if isinstance(label, fo.Polyline) and output == "polylines":
        return fo.Polyline(**values)
    if (
        isinstance(label, fo.Polyline)
        or output == "polylines"
        or (output == "masks" and not shapes.has_area(label))
    ):
        region, box = shapes.region_in_pixels(label, canvas), shapes.box_in_pixels(label, canvas)
        shape = shapes.points_in_pixels(label, canvas) if region is None else _tight(region)
        shape = box if output == "boxes" and box is not None else shape
        return _label(shape, obj, output, canvas, values["confidence"], keyframe=True)
    mask = shapes.stored_mask(label) if output == "masks" else None
    values["mask"] = shapes.threshold(mask) if mask is not None and mask.dtype.kind == "f" else mask
    return fo.Detection(**values)


def _tight(region: Region) -> Region:
    """The region in the smallest rectangle that holds it."""
    ((_, found),) = shapes.regions(region.mask.astype(np.uint8))
    rows, columns = (
        slice(outer.start + part.start, outer.start + part.stop)
        for outer, part in zip(region[:2], found[:2], strict=True)
    )
    return Region(rows, columns, found.mask)


def _segmentation(id_map: np.ndarray, video: SeededVideo, keyframe: bool) -> fo.Segmentation:
    """Object IDs become class numbers again, which are the indexes of the objects."""
    numbers = np.zeros(max(video.objects) + 1, np.int64)
    for id, obj in video.objects.items():
        numbers[id] = obj.index or 0
    padding = [(0, all_ - part) for all_, part in zip(video.canvas, id_map.shape, strict=True)]
    mask = np.pad(numbers[id_map], padding, mode="edge")
    return fo.Segmentation(mask=mask.astype(np.min_scalar_type(mask.max())), keyframe=keyframe)


def read_written(
    view: SampleCollection, path: str, video: SeededVideo, frames: Collection[int]
) -> list[Seed]:
    """The labels that an interrupted run wrote to some frames (from 0), so that the tracker can continue.

    Args:
        view: the video alone
        path: the field of the tracks
        video: that the run tracked
        frames: those wanted; frames without labels of its objects are left out
    """
    ids = {obj.instance.id: id for id, obj in video.objects.items() if obj.instance}
    present = view.match_frames(F("frame_number").is_in([frame + 1 for frame in frames]))
    seeds = []
    for number, container in schema.frame_values(present, path).items():
        pairs = [(ids[one.instance_id], one) for one in record.labels_of(container) if one.instance_id in ids]
        if not pairs:
            continue
        size = (video.frames.height, video.frames.width)
        seeds.append(
            Seed(number - 1, seed_labels(pairs, video.kind, video.canvas, size, shapes.points_in_pixels))
        )
    return seeds
