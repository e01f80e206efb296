"""Which labels of a video show the same object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import fiftyone as fo

from fiftyone_colortrack.fields.record import digest
from fiftyone_colortrack.fields.shapes import attributes


@dataclass(frozen=True)
class TrackedObject:
    """What all labels of an object share.

    Attributes:
        id: positive, unique within the video; the tracker's name for the object
        label: class
        index: FiftyOne's number of the object among those of its class; None if it has none
        instance: makes FiftyOne show the labels as one object; None if it has none
        tags: of the first label that was drawn
        attributes: of the first label that was drawn, without those of its frame alone
    """

    id: int
    label: str | None
    index: int | None
    instance: fo.Instance | None
    tags: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


class ObjectTable:
    """The objects of a video, found by going through its labeled frames one by one.

    A label shows the object that was seen in an earlier frame and has

    1. the same instance; else
    2. the same index and class (FiftyOne counts indices per class); else
    3. the same class and no other index or instance, in the order drawn.

    Otherwise it is a new object. Masks of one frame that share an instance or an index are parts of one
    object; of boxes and key points the first one is the object, the others are objects of their own.
    """

    def __init__(self, *, parts: bool = False, ignore: frozenset[str] = frozenset()) -> None:
        """
        Args:
            parts: whether several labels of one frame can be one object
            ignore: names of attributes that objects do not have, like those that an evaluation wrote
        """
        self.objects: dict[int, TrackedObject] = {}
        self.warnings: list[str] = []
        self._parts = parts
        self._ignore = ignore

    def match(self, labels: Sequence[fo.Label], frame_number: int) -> list[int]:
        """The IDs of the objects that the labels of a frame show, in order. New objects are added.

        Args:
            labels: detections or key points
            frame_number: of the frame, from 1, for warnings
        """
        known = dict(self.objects)
        found: list[int | None] = [find_identity(label, known) for label in labels]
        if not self._parts:
            found = [id if id not in found[:i] else None for i, id in enumerate(found)]
        for i, label in enumerate(labels):
            if found[i] is None:
                free = {id: obj for id, obj in known.items() if id not in found}
                found[i] = self._by_class(label, free, frame_number)
        return [self._learn(id, label, frame_number, known) for id, label in zip(found, labels, strict=True)]

    def completed(self, sample_id: str) -> dict[int, TrackedObject]:
        """The objects, each with an index (the smallest that is free in the video) and an instance.

        Args:
            sample_id: of the video, in which the same index and class get the same instance every time
        """
        used = {obj.index for obj in self.objects.values()}
        completed = {}
        for id, obj in self.objects.items():
            index = obj.index
            if index is None:
                index = next(n for n in range(1, len(used) + 2) if n not in used)
                used.add(index)
            instance = obj.instance or fo.Instance(id=digest(sample_id, obj.label, index)[:24])
            completed[id] = replace(obj, index=index, instance=instance)
        return completed

    def attributes(self, label: fo.Label) -> dict[str, Any]:
        """What a label says of its object, beyond FiftyOne's own fields."""
        points = len(label.points) if isinstance(label, fo.Keypoint) else None
        return {
            name: value
            for name, value in attributes(label, self._ignore).items()
            if not (points is not None and isinstance(value, list) and len(value) == points)
        }

    def _by_class(self, label: fo.Label, objects: dict[int, TrackedObject], frame_number: int) -> int | None:
        candidates = [
            id
            for id, obj in objects.items()
            if obj.label == label.label
            and (obj.index is None or label.index is None)
            and (obj.instance is None or label.instance_id is None)
        ]
        if len(candidates) > 1:
            self.warnings.append(
                f"frame {frame_number}: '{label.label}' without an index may be any of {len(candidates)} "
                "objects; using the order in which they were drawn"
            )
        return candidates[0] if candidates else None

    def _learn(
        self, id: int | None, label: fo.Label, frame_number: int, known: dict[int, TrackedObject]
    ) -> int:
        """Add a new object, or the index and instance that its earlier labels did not have."""
        if id is None and self._parts:
            id = find_identity(label, {i: obj for i, obj in self.objects.items() if i not in known})
        if id:
            obj = self.objects[id]
        else:
            tags, attributes = tuple(label.tags), self.attributes(label)
            obj = TrackedObject(len(self.objects) + 1, label.label, None, None, tags, attributes)
        others = {i: other for i, other in self.objects.items() if i != obj.id}
        if obj.index is None and label.index is not None:
            if find_identity(fo.Detection(label=obj.label, index=label.index), others):
                self.warnings.append(
                    f"frame {frame_number}: two objects '{label.label}' have index {label.index}; "
                    "the second one gets another index"
                )
            else:
                obj = replace(obj, index=label.index)
        taken = {_instance_id(other) for other in others.values()} | {None}
        if obj.instance is None and label.instance_id not in taken:
            obj = replace(obj, instance=label.instance)
        self.objects[obj.id] = obj
        return obj.id


def find_identity(label: fo.Label, objects: dict[int, TrackedObject]) -> int | None:
    """The object that has the label's instance, else its index and class, if there is one."""
    keys = []
    if label.instance_id is not None:
        keys.append(lambda obj: _instance_id(obj) == label.instance_id)
    if label.index is not None:
        keys.append(lambda obj: (obj.index, obj.label) == (label.index, label.label))
    return next((id for is_same in keys for id, obj in objects.items() if is_same(obj)), None)


def _instance_id(obj: TrackedObject) -> str | None:
    return obj.instance.id if obj.instance is not None else None
