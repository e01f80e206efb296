"""Writing what the tracker found."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import bson
import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from fiftyone_colortrack.fields.lock import Lock
from fiftyone_colortrack.fields.objects import TrackedObject
from fiftyone_colortrack.fields.record import TrackRecord
from fiftyone_colortrack.fields.schema import (
    OUTPUT_TYPES,
    OutputKind,
    confidence_field,
    failed_tag,
    field_name,
    record_field,
    run_field,
)
from fiftyone_colortrack.fields.seeds import SeededVideo
from fiftyone_colortrack.fields.shapes import Region, Size, attribute, paint, regions, relative_box
from fiftyone_colortrack.tracking.labels import TrackedFrame

FRAMES_PER_WRITE = 200


class TrackWriter:
    """Writes one video's labels, all at once, and then the mark that the video is finished.

    Nothing is written before `commit`, which replaces earlier labels of the field. The seeds are copied as
    they were drawn, with `keyframe=True`; all labels of an object share its index and instance, and those
    that are not drawn its class, tags and attributes.

    Args:
        sample: the video, in a dataset
        path: a frame field made by `create_tracks_field`
        video: what `read_seeds` returned
        output: `masks`, `boxes` or `segmentation` for seeds that are masks; None keeps the seeds' kind
        in_place: whether the seeds are the keyframes of this very field: they stay the labels that they are
    """

    def __init__(
        self,
        sample: fo.Sample,
        path: str,
        video: SeededVideo,
        output: OutputKind | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        self._dataset: fo.Dataset = sample.dataset
        self._sample_id: str = sample.id
        self._name = field_name(path)
        self._video = video
        self._output: OutputKind = output or video.kind
        self._in_place = in_place
        self._packed = _Documents()
        self._confidence: dict[int, float | None] = {}

    def add(self, frame: TrackedFrame) -> None:
        """Take a frame's labels, of the kind of the seeds; the frames may come in any order."""
        number = frame.frame + 1
        label = frame_label(frame, self._video, self._output, in_place=self._in_place)
        self._packed.add(number, label.to_dict())
        self._confidence[number] = frame.lowest_confidence

    def commit(self, run_key: str, record: TrackRecord | None = None, kept: Collection[int] = ()) -> int:
        """Write the labels; returns the number of frames.

        Of several runs that write the same labels at once, each writes the whole video, one after the other.

        Args:
            run_key: written to `run_field(path)` when everything else is written
            record: of the tracks, written to `record_field(path)`
            kept: frames (from 0) whose earlier labels stay as they are; those of all others are replaced
        """
        with Lock(self._dataset, self._sample_id, self._name) as lock:
            self._commit(lock, run_key, record, kept)
        return len(self._packed)

    def _commit(self, lock: Lock, run_key: str, record: TrackRecord | None, kept: Collection[int]) -> None:
        mark, label_type = run_field(self._name), OUTPUT_TYPES[self._output]
        self._set(mark, None)
        earlier = set(_frames_with_field(self._dataset, self._sample_id, self._name))
        numbers = sorted((earlier - {frame + 1 for frame in kept}) | set(self._packed))
        for start in range(0, len(numbers), FRAMES_PER_WRITE):
            lock.renew()
            batch = numbers[start : start + FRAMES_PER_WRITE]
            labels = {n: label_type.from_dict(self._packed[n]) if n in self._packed else None for n in batch}
            self._set(f"frames.{self._name}", labels)
            confidence = {number: self._confidence.get(number) for number in batch}
            self._set(f"frames.{confidence_field(self._name)}", confidence)
        self._set(confidence_field(self._name), self._mean_confidence())
        self._set(record_field(self._name), record and record.to_dict())
        self._dataset.select(self._sample_id).untag_samples(failed_tag(self._name))
        lock.renew()
        self._set(mark, run_key)

    def _mean_confidence(self) -> float | None:
        return self._dataset.select(self._sample_id).mean(f"frames.{confidence_field(self._name)}")

    def _set(self, path: str, value: Any) -> None:
        self._dataset.set_values(path, {self._sample_id: value}, key_field="id")


class _Documents(Mapping[int, dict[str, Any]]):
    """Documents by number, in a temporary file: memory does not grow with the length of the video."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="colortrack-")  # noqa: SIM115, it lasts as long as this
        self._places: dict[int, tuple[int, int]] = {}  # offset and size

    def add(self, number: int, document: dict[str, Any]) -> None:
        data = bson.encode(document)
        self._places[number] = self._file.seek(0, os.SEEK_END), len(data)
        self._file.write(data)

    def __getitem__(self, number: int) -> dict[str, Any]:
        offset, size = self._places[number]
        self._file.seek(offset)
        return bson.decode(self._file.read(size))

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _frames_with_field(dataset: fo.Dataset, sample_id: str, name: str) -> list[int]:
    view = dataset.select(sample_id).match_frames(F(name).exists())
    return view.values("frames.frame_number", unwind=True)  # one query: other runs may be adding frames


def frame_label(
    frame: TrackedFrame, video: SeededVideo, output: OutputKind, *, in_place: bool = False
) -> fo.Label:
    """The label of a tracked frame: see `TrackWriter`."""
    drawn = video.drawn.get(frame.frame, [])
    if output == "segmentation":
        assert isinstance(frame.labels, np.ndarray)
        return _segmentation(frame.labels, video, keyframe=bool(drawn))
    labels = [_copy(label, video.objects[id], output, video.canvas, in_place) for id, label in drawn]
    copied = {id for id, _ in drawn}
    for id, shape in _shapes(frame.labels):
        if id not in copied:
            labels.append(_label(shape, video.objects[id], output, video.canvas, frame.confidence[id]))
    return fo.Keypoints(keypoints=labels) if output == "points" else fo.Detections(detections=labels)


def _shapes(labels: np.ndarray | dict[int, np.ndarray]) -> Iterable[tuple[int, Any]]:
    return labels.items() if isinstance(labels, dict) else regions(labels)


def _label(
    shape: Region | np.ndarray,
    obj: TrackedObject,
    output: OutputKind,
    canvas: Size,
    confidence: float | np.ndarray,
) -> fo.Label:
    shared = {"label": obj.label, "tags": list(obj.tags), "index": obj.index, "instance": obj.instance}
    shared |= {"keyframe": False, **obj.attributes}
    if isinstance(shape, Region):
        mask = shape.mask if output == "masks" else None
        box = relative_box(shape, canvas)
        return fo.Detection(bounding_box=box, mask=mask, confidence=float(confidence), **shared)
    relative = shape / np.tile([canvas[1], canvas[0]], shape.shape[-1] // 2)
    if output == "boxes":
        x0, y0, x1, y1 = relative.tolist()
        return fo.Detection(bounding_box=[x0, y0, x1 - x0, y1 - y0], confidence=float(confidence), **shared)
    per_point = np.nan_to_num(confidence).tolist()
    return fo.Keypoint(points=[tuple(point) for point in relative.tolist()], confidence=per_point, **shared)


def _copy(label: fo.Label, obj: TrackedObject, output: OutputKind, canvas: Size, in_place: bool) -> fo.Label:
    """A label as drawn, with its object's index and instance; in place it stays the same label.

    It is as sure as it was, but for a keyframe: what a tracker thought of it is history.
    """
    left_out = {"mask_path"} if in_place else {"mask_path", "id"}
    left_out |= {"confidence"} if attribute(label, "keyframe") else set()
    values = {name: value for name, value in label.iter_fields() if name not in left_out}
    values |= {"index": obj.index, "instance": obj.instance, "keyframe": True}
    if isinstance(label, fo.Keypoint):
        if not values.get("confidence"):
            values["confidence"] = np.isfinite(np.array(label.points, float)).all(1).astype(float).tolist()
        return fo.Keypoint(**values)
    if values.get("confidence") is None:
        values["confidence"] = 1.0
    values["mask"] = label.get_mask() if output == "masks" else None
    if output == "masks" and values["mask"] is None:  # a box that was tracked as a filled mask
        (region,) = (region for _, region in regions(paint([label], [1], canvas)))
        values |= {"mask": region.mask, "bounding_box": relative_box(region, canvas)}
    return fo.Detection(**values)


def _segmentation(id_map: np.ndarray, video: SeededVideo, keyframe: bool) -> fo.Segmentation:
    """Ids become the classes' numbers again, which the objects have as index."""
    numbers = np.zeros(max(video.objects) + 1, np.int64)
    for id, obj in video.objects.items():
        numbers[id] = obj.index or 0
    padding = [(0, whole - part) for whole, part in zip(video.canvas, id_map.shape, strict=True)]
    mask = np.pad(numbers[id_map], padding, mode="edge")
    return fo.Segmentation(mask=mask.astype(np.min_scalar_type(mask.max())), keyframe=keyframe)
