"""Images that form videos: dynamic groups of FiftyOne, such as `group_by("scene", order_by="number")`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    check_label_field,
    confidence_field,
    create_tracks_field,
    field_name,
    record_field,
    run_field,
)
from fiftyone_colortrack.fields.schema import POSSIBLE_OUTPUTS


def is_image_groups(samples: Any) -> bool:
    """Whether a collection holds images that are grouped into videos."""
    groups = isinstance(samples, SampleCollection) and samples._is_dynamic_groups
    return bool(groups and not samples._is_frames)


@contextmanager
def images_as_videos(groups: SampleCollection, seed_field: str, label_field: str) -> Iterator[fo.Dataset]:
    """A temporary dataset of videos whose frames are the images of groups.

    When it is left, whether or not by an error, the tracks are written to the images, and the record of each
    video to its first image.

    Args:
        groups: a view of ordered dynamic groups of images
        seed_field: field of the images to start from
        label_field: field of the images to write

    Raises:
        ColorTrackError: if a field of the images cannot be used
    """
    seed, name = field_name(seed_field), field_name(label_field)
    images: fo.Dataset = groups._root_dataset
    schema = images.get_field_schema(ftype=fo.EmbeddedDocumentField)
    types = {field: schema[field].document_type for field in {seed, name} if field in schema}
    if types.get(seed) not in POSSIBLE_OUTPUTS:
        raise ColorTrackError(f"{seed} of the images does not hold detections, keypoints, or segmentations")
    per_video = [run_field(name), record_field(name), confidence_field(name)]
    videos = fo.Dataset()
    videos.media_type = "video"
    try:
        for field, label_type in types.items():
            videos.add_frame_field(field, fo.EmbeddedDocumentField, embedded_doc_type=label_type)
        if record_field(name) in images.get_field_schema() and name in types:
            create_tracks_field(videos, name, seed, None)
        else:
            check_label_field(videos, name, types.get(name) or fo.Label, overwrite=True)
            if taken := [field for field in per_video if images.has_sample_field(field)]:
                raise ColorTrackError(f"{', '.join(taken)} are fields of the images; choose another name")
        ids: dict[int, list[str]] = {}
        for number, group in enumerate(groups.iter_dynamic_groups(), 1):
            sample = fo.Sample(filepath=f"/{groups.name} group {number}.mp4")
            fields = [*types, *_present(images, per_video)]
            for frame_number, image in enumerate(group.select_fields(fields), 1):
                labels = {field: image[field] for field in types}
                sample.frames[frame_number] = fo.Frame(filepath=image.filepath, **labels)
                ids.setdefault(number, []).append(image.id)
                if frame_number == 1:
                    for field in _present(videos, per_video):
                        sample[field] = image[field]
            sample.metadata = fo.VideoMetadata(total_frame_count=len(ids[number]))
            videos.add_sample(sample)
        groups_of = {of_group[0]: of_group for of_group in ids.values()}
        _set_ids(videos, list(groups_of))
        try:
            yield videos
        finally:
            _write_back(videos, images, groups_of, name, per_video)
    finally:
        videos.delete()


def _set_ids(videos: fo.Dataset, ids: list[str]) -> None:
    """Give videos the ids of their first images, so that they have the same ids every time."""
    samples, frames = videos._sample_collection, videos._frame_collection
    for old, new in zip(map(ObjectId, videos.values("id")), map(ObjectId, ids), strict=True):
        samples.insert_one({**samples.find_one({"_id": old}), "_id": new})
        samples.delete_one({"_id": old})
        frames.update_many({"_sample_id": old}, {"$set": {"_sample_id": new}})
    videos.reload()


def _present(dataset: fo.Dataset, names: list[str]) -> list[str]:
    return [name for name in names if dataset.has_sample_field(name)]


def _write_back(
    videos: fo.Dataset, images: fo.Dataset, groups: dict[str, list[str]], name: str, per_video: list[str]
) -> None:
    videos.reload()
    frame_schema = videos.get_frame_field_schema()
    if confidence_field(name) not in frame_schema:
        return  # nothing was tracked
    label_type = frame_schema[name].document_type
    for field, ftype in zip(per_video, (fo.StringField, fo.DictField, fo.FloatField), strict=True):
        info = videos.get_field_schema()[field].info
        images.add_sample_field(field, ftype, info=info)
    images.add_sample_field(name, fo.EmbeddedDocumentField, embedded_doc_type=label_type)
    values: dict[str, dict[str, Any]] = {field: {} for field in (name, *per_video)}
    for sample in videos:
        for number, id in enumerate(groups[sample.id], 1):
            for field in (name, confidence_field(name)):
                values[field][id] = sample.frames[number][field]
        for field in per_video[:2]:
            values[field][groups[sample.id][0]] = sample[field]
    for field, of_images in values.items():
        images.set_values(field, of_images, key_field="id")
    for key in videos.list_runs():
        images.register_run(key, videos.get_run_info(key).config)
