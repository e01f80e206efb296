"""Which fields of a dataset hold seeds and tracks."""

from __future__ import annotations

from typing import Literal, get_args

import fiftyone as fo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.expressions import ViewExpression
from fiftyone.core.view import DatasetView

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.pictures import COLORS
from fiftyone_colortrack.fields.shapes import LABEL_LISTS

SeedFrames = Literal["first", "all", "keyframes"]
OutputKind = Literal["masks", "boxes", "points", "segmentation"]
SEED_FRAMES: tuple[SeedFrames, ...] = get_args(SeedFrames)
OUTPUT_TYPES: dict[OutputKind, type[fo.Label]] = {
    "masks": fo.Detections,
    "boxes": fo.Detections,
    "points": fo.Keypoints,
    "segmentation": fo.Segmentation,
}


def field_name(path: str) -> str:
    """The name of a frame field, given with or without FiftyOne's prefix `frames.`."""
    return path.removeprefix("frames.")


def run_field(out_field: str) -> str:
    """The sample field that names the run which finished a video's labels in `out_field`."""
    return f"{field_name(out_field)}_run"


def record_field(out_field: str) -> str:
    """The sample field that holds the `TrackRecord` of a video's labels in `out_field`."""
    return f"{field_name(out_field)}_record"


def failed_tag(out_field: str) -> str:
    """The tag of videos that could not be tracked for `out_field`; it goes when they are."""
    return f"{field_name(out_field)}_failed"


def confidence_field(out_field: str) -> str:
    """The field of frames, and of videos, that tells how confident the tracker is in `out_field`.

    In a frame it is the confidence in the object that is least certain, in a video the mean over its frames.
    """
    return f"{field_name(out_field)}_confidence"


def seed_fields(samples: SampleCollection) -> dict[str, type[fo.Label]]:
    """Frame fields that labels can be propagated from, and their types."""
    schema = samples.get_frame_field_schema(ftype=fo.EmbeddedDocumentField) or {}
    types = (*LABEL_LISTS, fo.Segmentation)
    return {name: f.document_type for name, f in schema.items() if f.document_type in types}


def labelled_frames(samples: SampleCollection, path: str, which: SeedFrames = "all") -> dict[str, list[int]]:
    """Numbers (from 1) of the frames of each video that have labels in a frame field, without loading them.

    Args:
        samples: videos
        path: one of `seed_fields`
        which: `keyframes` counts only labels with `keyframe=True`, `first` keeps one frame per video

    Returns:
        {sample id: frame numbers, ascending}; every video is listed
    """
    return {id: sorted(frames) for id, frames in _labelled(samples, path, which).items()}


def select_labelled(samples: SampleCollection, path: str, which: SeedFrames) -> DatasetView:
    """The videos with nothing but this field, in the frames that have labels in it."""
    frames = _labelled(samples, path, which).values()
    ids = [frame_id for of_video in frames for frame_id in of_video.values()]
    return samples.select_fields(f"frames.{field_name(path)}").select_frames(ids, omit_empty=False)


def _labelled(samples: SampleCollection, path: str, which: SeedFrames) -> dict[str, dict[int, str]]:
    """{sample id: {frame number: frame id}} of the labelled frames, see `labelled_frames`."""
    name = field_name(path)
    label_list = LABEL_LISTS.get(seed_fields(samples)[name])
    if label_list is None:
        found = F(f"{name}.{'keyframe' if which == 'keyframes' else '_id'}")
    elif which == "keyframes":
        found = F(f"{name}.{label_list}").filter(F("keyframe") == True).length()  # noqa: E712
    else:
        found = F(f"{name}.{label_list}").length()
    labelled = {}
    facts = F("frames").map(ViewExpression([F("frame_number"), F("_id"), found]))  # one query: see `tracks`
    for id, frames in zip(*samples.values(["id", facts]), strict=True):
        by_number = sorted(frames or [], key=lambda frame: frame[0])
        with_labels = {number: str(frame_id) for number, frame_id, count in by_number if count}
        labelled[id] = dict(list(with_labels.items())[:1]) if which == "first" else with_labels
    return labelled


def tracks_type(seed_type: type[fo.Label], output: OutputKind | None = None) -> type[fo.Label]:
    """The type of the field that tracks of seeds of a type are written to.

    Args:
        seed_type: detections, key points or segmentation
        output: see `TrackWriter`

    Raises:
        ColorTrackError: if such seeds cannot be written so
    """
    possible: dict[type[fo.Label], tuple[OutputKind, ...]] = {
        fo.Detections: ("masks", "boxes"),
        fo.Segmentation: ("masks", "boxes", "segmentation"),
        fo.Keypoints: ("points",),
    }
    if output is not None and output not in possible[seed_type]:
        raise ColorTrackError(
            f"{seed_type.__name__} cannot be written as {output}; choose {' or '.join(possible[seed_type])}"
        )
    return OUTPUT_TYPES[output or possible[seed_type][0]]


def create_tracks_field(
    dataset: fo.Dataset, out_field: str, seed_field: str, output: OutputKind | None
) -> None:
    """Add the frame field for tracks, and the fields beside it, where they are missing."""
    name, seed = field_name(out_field), field_name(seed_field)
    label_type = tracks_type(seed_fields(dataset)[seed], output)
    # First what tells, should the process end here, that the field holds tracks, and that none is finished.
    dataset.add_sample_field(run_field(name), fo.StringField)
    dataset.add_sample_field(record_field(name), fo.DictField)
    dataset.add_frame_field(name, fo.EmbeddedDocumentField, embedded_doc_type=label_type)
    labels = f"{name}.{LABEL_LISTS[label_type]}" if label_type in LABEL_LISTS else name
    dataset.add_frame_field(f"{labels}.keyframe", fo.BooleanField)
    for samples_or_frames in (dataset.add_sample_field, dataset.add_frame_field):
        samples_or_frames(confidence_field(name), fo.FloatField)
    if label_type is fo.Segmentation:
        targets = dataset.get_mask_targets(f"frames.{seed}")
        if targets:
            dataset.mask_targets = {**dataset.mask_targets, f"frames.{name}": targets}
            dataset.save()
    skeleton = find_skeleton(dataset, seed)
    if label_type is fo.Keypoints and skeleton:
        set_skeleton(dataset, name, skeleton)


def set_skeleton(dataset: fo.Dataset, field: str, skeleton: fo.KeypointSkeleton) -> None:
    """Give a frame field its skeleton. FiftyOne looks for it by the path, its App by its last name."""
    name = field_name(field)
    dataset.skeletons = {**dataset.skeletons, f"frames.{name}": skeleton, name: skeleton}
    dataset.save()


def find_skeleton(dataset: fo.Dataset, field: str) -> fo.KeypointSkeleton | None:
    """The skeleton of a frame field, or else the dataset's default one."""
    name = field_name(field)
    of_field = dataset.skeletons.get(f"frames.{name}") or dataset.skeletons.get(name)
    return of_field or dataset.default_skeleton


def color_by_instance(dataset: fo.Dataset) -> None:
    """Make the App color labels by object instead of by field, in the colors of `pictures`."""
    pool = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in COLORS]
    dataset.app_config.color_scheme = fo.ColorScheme(color_by="instance", color_pool=pool)
    dataset.save()
