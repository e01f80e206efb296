"""Edits of whole tracks: end, split, merge, rename, and delete them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fiftyone as fo
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack import fields
from fiftyone_colortrack.api.propagation import METHOD
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.shapes import LABEL_LISTS

Labels = list[fo.Label]


def end_track(
    samples: SampleCollection | str, label_field: str, object: str | int, frame: int, *, before: bool = False
) -> int:
    """Delete the labels of a track after a frame, or before it.

        end_track(dataset, "frames.tracks", object=3, frame=120)

    Later runs do not label the object in these frames unless they overwrite the tracks.

    Args:
        samples: view of one video, or a dataset or its name; several videos if they share the object
        label_field: frame field of the tracks
        object: the track: ID of its instance or of one of its labels, its index, or its class if unique
        frame: number (from 1) of the last frame that keeps its label; with `before`, of the first one
        before: delete the labels before the frame instead of those after it

    Returns:
        number of labels that were deleted

    Raises:
        ColorTrackError: if there is no such track, or if several tracks match the name
    """

    def cut(number: int, labels: Labels, own: Callable[[fo.Label], bool]) -> Labels:
        beyond = number < frame if before else number > frame
        return [label for label in labels if not (beyond and own(label))]

    return _edit(samples, label_field, object, cut)


def split_track(samples: SampleCollection | str, label_field: str, object: str | int, frame: int) -> int:
    """Split a track in two: the labels from a frame on become a new track.

    Args:
        samples: as in `end_track`
        label_field: frame field of the tracks
        object: the track, as in `end_track`
        frame: number (from 1) of the first frame of the new track

    Returns:
        number of labels of the new track

    Raises:
        ColorTrackError: if there is no such track, or if several tracks match the name
    """
    instance = fo.Instance()
    index = _largest_index(fields.check_videos(samples), label_field) + 1

    def part(number: int, labels: Labels, own: Callable[[fo.Label], bool]) -> Labels:
        return [
            _with(label, index=index, instance=instance) if number >= frame and own(label) else label
            for label in labels
        ]

    return _edit(samples, label_field, object, part)


def merge_tracks(
    samples: SampleCollection | str, label_field: str, object: str | int, into: str | int
) -> int:
    """Merge two tracks. Where both have a label in a frame, that of `into` stays.

    Args:
        samples: as in `end_track`
        label_field: frame field of the tracks
        object: the track to dissolve, as in `end_track`
        into: the track that gets its labels, as in `end_track`

    Returns:
        number of labels that changed or were deleted

    Raises:
        ColorTrackError: if there is no such track, if several tracks match the name, or if both are the same track
    """
    videos = fields.check_videos(samples)
    target = _find(videos, label_field, into)
    if fields.track_name(_find(videos, label_field, object)) == fields.track_name(target):
        raise ColorTrackError(f"{object} and {into} are the same track; pass two tracks")
    shared = {name: target[name] for name in ("label", "index", "instance")}

    def join(number: int, labels: Labels, own: Callable[[fo.Label], bool]) -> Labels:
        present = any(fields.track_name(label) == fields.track_name(target) for label in labels)
        if present:
            return [one for one in labels if not own(one)]
        return [_with(one, **shared) if own(one) else one for one in labels]

    return _edit(samples, label_field, object, join)


def rename_track(samples: SampleCollection | str, label_field: str, object: str | int, label: str) -> int:
    """Change the class of all labels of a track.

    Args:
        samples: as in `end_track`
        label_field: frame field of the tracks
        object: the track, as in `end_track`
        label: the new class

    Returns:
        number of labels that changed

    Raises:
        ColorTrackError: if there is no such track, or if several tracks match the name
    """
    if not isinstance(label, str) or not label.strip():
        raise ColorTrackError(f"label is {label!r}; pass the name of a class")

    def rename(number: int, labels: Labels, own: Callable[[fo.Label], bool]) -> Labels:
        return [_with(one, label=label) if own(one) else one for one in labels]

    count = _edit(samples, label_field, object, rename)
    dataset = fields.check_videos(samples)._root_dataset
    if fields.frame_path(label_field) in dataset.label_schemas:
        fields.set_up_annotation(dataset, label_field)
    return count


def find_track(samples: SampleCollection, label_field: str, object: str | int) -> tuple[fo.Label, list[int]]:
    """A label of a track, and the numbers of all frames of the track.

    Args:
        samples: view of one video
        label_field: frame field of the tracks
        object: the track, as in `end_track`

    Raises:
        ColorTrackError: if there is no such track, or if several tracks match the name
    """
    videos = fields.check_videos(samples)
    label = _find(videos, label_field, object)
    track, video = fields.track_name(label), fields.whole(videos._root_dataset).select(videos.values("id"))
    frames = fields.frame_values(video, label_field)
    return label, [n for n, one in frames.items() if track in map(fields.track_name, fields.labels_of(one))]


def delete_tracks(samples: SampleCollection | str, label_field: str) -> None:
    """Delete a field of tracks and everything that belongs to it.

        delete_tracks(dataset, "frames.tracks")

    This deletes the field, its confidence, its records and runs, the tag of failed videos, and all evaluations
    of these tracks with their fields.

    Args:
        samples: dataset, any view of it, or its name
        label_field: frame field that `propagate` wrote

    Raises:
        ColorTrackError: if the field does not hold tracks
    """

    videos, name = fields.check_videos(samples), fields.field_name(label_field)
    dataset: fo.Dataset = videos._root_dataset
    path = fields.frame_path(name)
    with fields.Lock(dataset, "fields"):
        dataset.reload()
        renamed = fields.find_renamed(dataset, name)
        if renamed and renamed[0] == name:
            new = fields.frame_path(renamed[1])
            raise ColorTrackError(f"{path} was renamed to {new}; name that field to delete the tracks")
        fields.adopt_renamed(dataset, name)
        if not fields.is_tracks(dataset, name):
            raise ColorTrackError(f"{path} does not hold tracks from ColorTrack; nothing was deleted")
        for key in dataset.list_evaluations():
            if getattr(dataset.get_evaluation_info(key).config, "pred_field", None) == path:
                dataset.delete_evaluation(key)
        for key in dataset.list_runs():
            config = dataset.get_run_info(key).config
            written = getattr(config, "label_field", None) or getattr(config, "out_field", None)
            if getattr(config, "method", None) == METHOD and written == path:
                dataset.delete_run(key)
        fields.whole(dataset).untag_samples(fields.failed_tag(name))
        present = [f for f in (name, fields.confidence_field(name)) if dataset.has_frame_field(f)]
        schemas = {key: schema for key, schema in dataset.label_schemas.items() if key != path}
        dataset.set_label_schemas(schemas)  # FiftyOne cannot delete a frame field that has one
        dataset.delete_frame_fields(present)
        sample_fields = (fields.confidence_field(name), fields.run_field(name), fields.record_field(name))
        dataset.delete_sample_fields([f for f in sample_fields if dataset.has_sample_field(f)])


def _edit(
    samples: SampleCollection | str,
    label_field: str,
    object: str | int,
    change: Callable[[int, Labels, Callable[[fo.Label], bool]], Labels],
) -> int:
    """Change the labels of all frames that show a track; return how many changed or were deleted."""
    videos, name = fields.check_videos(samples), fields.field_name(label_field)
    track = fields.track_name(_find(videos, name, object))
    dataset: fo.Dataset = videos._root_dataset
    count = 0
    for id in videos.values("id"):
        with fields.Lock(dataset, id, name) as lock:
            changed: dict[int, Any] = {}
            for number, container in fields.frame_values(fields.whole(dataset).select(id), name).items():
                labels = fields.labels_of(container)
                if any(fields.track_name(label) == track for label in labels):
                    new = change(number, labels, lambda label: fields.track_name(label) == track)
                    count += sum(one not in new for one in labels)
                    if new != labels:
                        container[LABEL_LISTS[type(container)]] = new
                        changed[number] = container
            lock.check()
            if changed:
                fields.whole(dataset).set_values(fields.frame_path(name), {id: changed}, key_field="id")
    return count


def _find(videos: SampleCollection, label_field: str, object: str | int) -> fo.Label:
    """Find a label of the named track."""
    name = fields.field_name(label_field)
    container = getattr(videos.get_frame_field_schema().get(name), "document_type", None)
    if container not in LABEL_LISTS:
        raise ColorTrackError(
            f"{fields.frame_path(name)} does not hold tracks: detections, keypoints, or polylines"
        )
    tracks: dict[str, fo.Label] = {}
    for of_video in videos.values(fields.frame_path(name)):
        for label in (one for of_frame in of_video or [] for one in fields.labels_of(of_frame)):
            if object in (label.id, label.instance_id):
                return label
            if object in (label.index, label.label):
                tracks.setdefault(fields.track_name(label), label)
    if len(tracks) != 1:
        count = f"{len(tracks)} tracks in" if tracks else "no track in"
        raise ColorTrackError(
            f"{object!r} matches {count} {fields.frame_path(name)}; pass the ID of an instance or of a label"
        )
    return next(iter(tracks.values()))


def _largest_index(videos: SampleCollection, label_field: str) -> int:
    name = fields.field_name(label_field)
    container = getattr(videos.get_frame_field_schema().get(name), "document_type", None)
    path = f"{fields.frame_path(name)}.{LABEL_LISTS.get(container, '')}.index"
    return int(videos.bounds(path)[1] or 0) if container in LABEL_LISTS else 0


def _with(one: fo.Label, **values: Any) -> fo.Label:
    """A changed copy of a label, with the same ID."""
    copy = type(one).from_dict(one.to_dict())
    for name, value in values.items():
        copy[name] = value
    return copy
