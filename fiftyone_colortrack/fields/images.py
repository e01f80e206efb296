"""Images that form videos: dynamic groups of FiftyOne, such as `group_by("scene", order_by="number")`.

They are tracked in a temporary dataset of videos. Its frames have the IDs of the images, and its videos have the IDs
of their first images. Everything written there is written to the images at once, and everything that others change in
the images is read again before a write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as foo
from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import schema


def is_image_groups(samples: Any) -> bool:
    """Whether a collection holds images that are grouped into videos."""
    groups = isinstance(samples, SampleCollection) and samples._is_dynamic_groups
    return bool(groups and not samples._is_frames)


@contextmanager
def as_videos(
    samples: SampleCollection | str, read: Callable[..., SampleCollection] = schema.check_videos
) -> Iterator[SampleCollection]:
    """The videos of a collection; groups of images become videos while the block runs.

    Args:
        samples: a dataset, a view, or the name of a dataset
        read: reads any other collection, see `check_videos` and `viewed_frames`

    Raises:
        ColorTrackError: see `check_videos`; if nothing orders the images of a group. Errors in the block name
            the fields of the images
    """
    if isinstance(samples, str) or not is_image_groups(samples):
        yield read(samples)
        return
    if not any(stage.outputs_dynamic_groups and stage.order_by for stage in samples._stages):
        raise ColorTrackError(
            "the groups of images have no order; name the field that numbers the frames: "
            "group_by(..., order_by=...)"
        )
    images: fo.Dataset = samples._root_dataset
    videos = fo.Dataset()
    try:
        videos.media_type = "video"
        videos.info[schema.IMAGES] = str(images._doc.id)
        _copy_schema(images, videos)
        _copy_images(samples, videos)
        yield videos
    except ColorTrackError as error:
        raise ColorTrackError(name_images(str(error))) from error
    finally:
        videos.delete()


def name_images(text: str) -> str:
    """A text about frame fields of the videos, with the names that the fields have in the images."""
    return re.sub(r"(?<![\w/.])frames\.(?=\w)", "", text)


def images_of(videos: fo.Dataset) -> fo.Dataset | None:
    """The dataset of the images that are the frames of a temporary dataset; None for any other dataset."""
    if schema.IMAGES not in videos.info:
        return None
    document = foo.get_db_conn().datasets.find_one({"_id": ObjectId(videos.info[schema.IMAGES])}, {"name": 1})
    if document is None:
        raise ColorTrackError("the dataset of the images was deleted during the run")
    return fo.load_dataset(document["name"])


def pull(videos: fo.Dataset, ids: list[str], name: str) -> None:
    """Read a field of tracks from the images again. Without images, this does nothing."""
    images = images_of(videos)
    if images is None:
        return
    frames = videos._frame_collection.find({"_sample_id": {"$in": list(map(ObjectId, ids))}}, {"_id": 1})
    of_frames = [name, schema.confidence_field(name)]
    _merge(
        images,
        [{"$match": {"_id": {"$in": [f["_id"] for f in frames]}}}],
        of_frames,
        videos._frame_collection,
    )
    first = [{"$match": {"_id": {"$in": list(map(ObjectId, ids))}}}]
    _merge(images, first, [schema.record_field(name), schema.run_field(name)], videos._sample_collection)


def push(videos: fo.Dataset, id: str, path: str, value: Any) -> None:
    """Write to the images what was written to a video. Without images, this does nothing.

    Raises:
        ColorTrackError: if an image was removed
    """
    images = images_of(videos)
    if images is None:
        return
    values = {id: value}
    if path != schema.field_name(path):
        found = videos._frame_collection.find({"_sample_id": ObjectId(id)}, {"frame_number": 1})
        of_number = {frame["frame_number"]: str(frame["_id"]) for frame in found}
        values = {of_number[number]: one for number, one in value.items()}
    elif videos.has_frame_field(path):
        return  # the confidence in a video: each image has its own
    if images.select(list(values)).count() < len(values):  # FiftyOne would leave it out without a word
        raise ColorTrackError("an image was removed from the dataset during the run")
    images.set_values(schema.field_name(path), values, key_field="id")


def push_schema(videos: fo.Dataset, name: str) -> None:
    """Give the images the fields that `create_tracks_field` made. Without images, this does nothing."""
    images = images_of(videos)
    if images is None:
        return
    for field in (schema.record_field(name), schema.run_field(name)):
        images.add_sample_field(field, **_kind(videos.get_field(field)))
    for field in (name, schema.confidence_field(name)):
        images.add_sample_field(field, **_kind(videos.get_field(schema.frame_path(field))))
    for attribute in ("mask_targets", "skeletons"):
        known = getattr(videos, attribute)
        if schema.frame_path(name) in known:
            setattr(images, attribute, {**getattr(images, attribute), name: known[schema.frame_path(name)]})
            images.save()


def push_runs(videos: fo.Dataset, name: str) -> None:
    """Copy the records of runs and the tags of failed videos to the images."""
    images = images_of(videos)
    if images is None:
        return
    for key in videos.list_runs():
        images.register_run(key, videos.get_run_info(key).config)
        results = videos.load_run_results(key)
        if results is not None:
            images.save_run_results(key, results)
    tag = schema.failed_tag(name)
    images.select(videos.values("id")).untag_samples(tag)
    images.select(videos.match_tags(tag).values("id")).tag_samples(tag)


def _kind(field: fo.Field) -> dict[str, Any]:
    kind = foo.get_field_kwargs(field)
    return {
        name: kind[name]
        for name in ("ftype", "embedded_doc_type", "subfield", "fields", "info")
        if name in kind
    }


def _copy_schema(images: fo.Dataset, videos: fo.Dataset) -> None:
    """Labels become labels of frames. All other fields are there, too, so that no name is taken twice."""
    present, known = images.get_field_schema(), videos.get_field_schema()
    tracks = [name for name in present if schema.is_tracks(images, name)]
    facts = {field for name in tracks for field in (schema.record_field(name), schema.run_field(name))}
    videos.add_frame_field("filepath", fo.StringField)
    for name, field in present.items():
        is_label = issubclass(getattr(field, "document_type", None) or object, fo.Label)
        if name not in known and name not in facts:
            videos.add_frame_field(name, **_kind(field))
        if name not in known and not is_label:
            videos.add_sample_field(name, **_kind(field))
    for attribute in ("mask_targets", "skeletons"):
        setattr(videos, attribute, {schema.frame_path(n): v for n, v in getattr(images, attribute).items()})
    videos.default_mask_targets = images.default_mask_targets
    videos.default_skeleton = images.default_skeleton
    videos.save()


def _copy_images(groups: SampleCollection, videos: fo.Dataset) -> None:
    images, of_group = groups._root_dataset, schema.members_of_groups(groups)
    paths = dict(zip(*images.values(["id", "filepath"]), strict=True))
    videos.add_samples(
        [
            fo.Sample(
                filepath=f"{paths[ids[0]]} and following.mp4",
                metadata=fo.VideoMetadata(total_frame_count=len(ids)),
            )
            for ids in of_group
        ]
    )
    documents = list(videos._sample_collection.find({}).sort("_id", 1))
    now, shared = datetime.now(timezone.utc), {"_dataset_id": videos._doc.id}
    frames: list[dict[str, Any]] = []
    for document, ids in zip(documents, of_group, strict=True):
        document["_id"] = ObjectId(ids[0])
        stamps = {"_sample_id": document["_id"], "created_at": now, "last_modified_at": now, **shared}
        frames += [
            {"_id": ObjectId(id), "frame_number": number, "filepath": paths[id], **stamps}
            for number, id in enumerate(ids, 1)
        ]
    videos._sample_collection.delete_many({})
    videos._sample_collection.insert_many(documents)
    videos._frame_collection.insert_many(frames)
    labels = [name for name in videos.get_frame_field_schema() if name in images.get_field_schema()]
    labels = [name for name in labels if name not in videos.get_field_schema()]
    _merge(images, schema.show_labels_of(groups, images.view())._pipeline(), labels, videos._frame_collection)
    first = {"$match": {"_id": {"$in": [document["_id"] for document in documents]}}}
    _merge(images, [first], ["tags"], videos._sample_collection)  # which mark failed videos
    for name in labels:
        if schema.is_tracks(images, name):
            pull(videos, [ids[0] for ids in of_group], name)
    videos.reload()


def _merge(images: fo.Dataset, pipeline: list[Any], fields: list[str], target: Any) -> None:
    """Copy fields of images to the documents with the same ids, inside the database."""
    steps = [
        {"$match": {"$or": [{field: {"$nin": [None, []]}} for field in fields]}},
        {"$project": dict.fromkeys(fields, 1)},
        {"$merge": {"into": target.name, "whenNotMatched": "discard"}},
    ]
    images._sample_collection.aggregate([*pipeline, *steps], allowDiskUse=True)
