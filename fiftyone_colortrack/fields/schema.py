"""Which videos a collection holds, and which of its fields hold seeds and tracks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, get_args

import fiftyone as fo
import fiftyone.core.odm as foo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.expressions import ViewExpression

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.shapes import LABEL_LISTS
from fiftyone_colortrack.pictures import COLORS

SeedFrames = Literal["first", "all", "keyframes"]
OutputKind = Literal["masks", "boxes", "points", "polylines", "segmentation"]
SEED_FRAMES: tuple[SeedFrames, ...] = get_args(SeedFrames)
OUTPUT_TYPES: dict[OutputKind, type[fo.Label]] = {
    "masks": fo.Detections,
    "boxes": fo.Detections,
    "points": fo.Keypoints,
    "polylines": fo.Polylines,
    "segmentation": fo.Segmentation,
}
POSSIBLE_OUTPUTS: dict[type[fo.Label], tuple[OutputKind, ...]] = {
    fo.Detections: ("masks", "boxes", "polylines"),
    fo.Segmentation: ("masks", "boxes", "polylines", "segmentation"),
    fo.Keypoints: ("points",),
    fo.Polylines: ("polylines", "masks", "boxes"),
}
"""Per type of seeds, what their tracks can be written as; the default comes first."""
CONVERSIONS: dict[type[fo.Label], str] = {
    fo.Detection: "put each label in a list: fo.Detections(detections=[label])",
    fo.Keypoint: "put each label in a list: fo.Keypoints(keypoints=[label])",
    fo.Polyline: "put each label in a list: fo.Polylines(polylines=[label])",
    fo.Heatmap: "turn the maps into masks: fo.Segmentation(mask=(heatmap.map > threshold).astype('uint8'))",
    fo.Classification: "classifications have no place in the image; draw boxes or masks",
    fo.Classifications: "classifications have no place in the image; draw boxes or masks",
}
_RESERVED = {"filepath", "frame_number", "frames", "id", "metadata", "sample_id", "support", "tags"}
_MARK = {"colortrack": "made by Propagate labels"}


def field_name(path: str) -> str:
    """The name of a frame field that is given with or without FiftyOne's prefix `frames.`.

    Raises:
        ColorTrackError: if the path is not a string
    """
    if not isinstance(path, str):
        raise ColorTrackError(f"a field is named by a string such as 'frames.tracks', not by {path!r}")
    return path.strip().removeprefix("frames.")


def frame_path(path: str) -> str:
    """The same field with the prefix: `frames.tracks`."""
    return f"frames.{field_name(path)}"


def run_field(label_field: str) -> str:
    """The sample field that names the run that finished a video's labels in `label_field`."""
    return f"{field_name(label_field)}_run"


def record_field(label_field: str) -> str:
    """The sample field that holds the `TrackRecord` of a video's labels in `label_field`."""
    return f"{field_name(label_field)}_record"


def failed_tag(label_field: str) -> str:
    """The tag of videos that could not be tracked. A later run that tracks them removes it."""
    return f"{field_name(label_field)}_failed"


def confidence_field(label_field: str) -> str:
    """The field of frames, and of videos, that tells how confident the tracker is in `label_field`.

    In a frame, it is the confidence in the least certain object; in a video, the mean over its frames.
    """
    return f"{field_name(label_field)}_confidence"


def check_videos(samples: SampleCollection | str) -> SampleCollection:
    """The videos of a collection, as a collection of videos.

    Of a grouped dataset these are all slices that are videos; of clips or frames, the videos that they come
    from (see `clip_ranges`).

    Args:
        samples: a dataset, a view, or the name of a dataset

    Raises:
        ColorTrackError: if there is no such dataset, or it does not hold videos
    """
    if isinstance(samples, str):
        if not fo.dataset_exists(samples):
            raise ColorTrackError(
                f"there is no dataset {samples!r}; `fiftyone datasets list` shows all names"
            )
        samples = fo.load_dataset(samples)
    if not isinstance(samples, SampleCollection):
        raise ColorTrackError(
            f"samples must be a dataset, a view, or the name of a dataset, not {type(samples).__name__}"
        )
    if samples._is_clips or samples._is_frames:
        ids = list(dict.fromkeys(samples.values("sample_id")))
        samples = whole(samples._root_dataset).select(ids, ordered=True)
    elif samples.media_type == "group" and "video" in (samples.group_media_types or {}).values():
        samples = samples.select_group_slices(media_type="video")
    if samples._is_dynamic_groups:
        raise ColorTrackError("these are groups of images, which only `propagate` reads as videos")
    if samples.media_type != "video":
        kind = f"{samples.media_type}s" if samples.media_type else "nothing yet"
        raise ColorTrackError(f"choose a dataset or view of videos; this one holds {kind}")
    return samples


def whole(dataset: fo.Dataset) -> SampleCollection:
    """All videos of a dataset, those of every group slice included."""
    return dataset.select_group_slices(media_type="video") if dataset.media_type == "group" else dataset


def clip_ranges(samples: SampleCollection) -> tuple[tuple[str, tuple[tuple[int, int], ...]], ...]:
    """First and last frame (from 1) of the clips in a view of clips, by the id of their video."""
    ranges = defaultdict(list)
    if samples._is_clips:
        for id, (first, last) in zip(*samples.values(["sample_id", "support"]), strict=True):
            ranges[id].append((first, last))
    return tuple((id, tuple(sorted(of_video))) for id, of_video in ranges.items())


def seed_fields(samples: SampleCollection) -> dict[str, type[fo.Label]]:
    """Frame fields that labels can be propagated from, and their types."""
    schema = samples.get_frame_field_schema(ftype=fo.EmbeddedDocumentField) or {}
    return {name: f.document_type for name, f in schema.items() if f.document_type in POSSIBLE_OUTPUTS}


def check_seed_field(samples: SampleCollection, seed_field: str) -> type[fo.Label]:
    """The type of the labels in a field that is to be propagated.

    Raises:
        ColorTrackError: if they cannot be propagated; the message says how to convert them
    """
    name, types = field_name(seed_field), seed_fields(samples)
    if name in types:
        return types[name]
    schema = {**(samples.get_field_schema() or {}), **(samples.get_frame_field_schema() or {})}
    found = getattr(schema.get(name), "document_type", None)
    if found in CONVERSIONS:
        reason = f"holds {found.__name__} labels, which cannot be tracked; {CONVERSIONS[found]}"
    elif found in POSSIBLE_OUTPUTS:
        reason = f"does not exist: {name!r} is a field of the videos; labels of single frames can be tracked"
    else:
        known = ", ".join(map(frame_path, types)) or "none yet; label a frame first"
        reason = (
            "does not hold detections, keypoints, polylines, or segmentations; "
            f"fields that can be propagated: {known}"
        )
    raise ColorTrackError(f"{frame_path(name)} {reason}")


def is_tracks(samples: SampleCollection, label_field: str) -> bool:
    """Whether a run of `propagate` wrote a field."""
    name, schema = field_name(label_field), samples.get_field_schema()
    record, run = schema.get(record_field(name)), schema.get(run_field(name))
    marked = "colortrack" in ((record and record.info) or {}) or isinstance(run, fo.StringField)
    return isinstance(record, fo.DictField) and marked


def check_label_field(
    samples: SampleCollection,
    label_field: str,
    label_type: type[fo.Label],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> None:
    """Make sure that tracks of a type may be written to a frame field.

    Raises:
        ColorTrackError: if the name is not possible, or the field belongs to somebody else
    """
    name = field_name(label_field)
    if not name.isidentifier() or name.startswith("_"):
        raise ColorTrackError(f"{name!r} cannot name a field; use letters, digits and underscores")
    if hasattr(fo.Frame, name) or hasattr(fo.Sample, name) or name in _RESERVED:
        raise ColorTrackError(f"{name!r} is a name that FiftyOne itself uses; choose another name")
    frame_schema, schema = samples.get_frame_field_schema(), samples.get_field_schema()
    tracks = is_tracks(samples, name)
    if not tracks:
        companions = [(field, schema, "") for field in (run_field(name), record_field(name))]
        companions += [(confidence_field(name), s, p) for s, p in ((schema, ""), (frame_schema, "frames."))]
        taken = [prefix + field for field, where, prefix in companions if field in where]
        if taken:
            raise ColorTrackError(
                f"{' and '.join(taken)} would hold facts about {frame_path(name)}, but already exist "
                "as fields of yours; choose another name for the tracks"
            )
    if name not in frame_schema:
        return
    present = getattr(frame_schema[name], "document_type", None)
    if present is not label_type:
        kind = present.__name__ if present else type(frame_schema[name]).__name__
        raise ColorTrackError(
            f"{frame_path(name)} exists as {kind}, but the tracks are {label_type.__name__}; "
            "choose another name"
        )
    if not overwrite and not (skip_existing and tracks):
        way_out = "continue the earlier run (skip_existing), replace its labels (overwrite)"
        raise ColorTrackError(
            f"{frame_path(name)} exists; {way_out if tracks else 'replace its labels (overwrite)'} "
            "or choose another name"
        )


def tracks_type(seed_type: type[fo.Label], output: OutputKind | None = None) -> type[fo.Label]:
    """The type of the field that tracks of seeds of a type are written to.

    Args:
        seed_type: detections, keypoints, polylines, or segmentation
        output: see `propagate`

    Raises:
        ColorTrackError: if such seeds cannot be written so
    """
    possible = POSSIBLE_OUTPUTS[seed_type]
    if output is not None and output not in possible:
        raise ColorTrackError(
            f"{seed_type.__name__} cannot be written as {output}; choose {' or '.join(possible)}"
        )
    return OUTPUT_TYPES[output or possible[0]]


def create_tracks_field(
    dataset: fo.Dataset, label_field: str, seed_field: str, output: OutputKind | None
) -> None:
    """Add the frame field for tracks, and the fields beside it, where they are missing."""
    name, seed = field_name(label_field), field_name(seed_field)
    label_type = tracks_type(check_seed_field(whole(dataset), seed), output)
    # First what tells, should the process end here, that the field holds tracks, and that none is finished.
    dataset.add_sample_field(record_field(name), fo.DictField, info=_MARK)
    dataset.add_sample_field(run_field(name), fo.StringField)
    dataset.add_frame_field(name, fo.EmbeddedDocumentField, embedded_doc_type=label_type)
    labels = f"{name}.{LABEL_LISTS[label_type]}" if label_type in LABEL_LISTS else name
    dataset.add_frame_field(f"{labels}.keyframe", fo.BooleanField)
    for add_field in (dataset.add_sample_field, dataset.add_frame_field):
        add_field(confidence_field(name), fo.FloatField)
    if label_type is fo.Segmentation:
        targets = dataset.get_mask_targets(frame_path(seed))
        if targets:
            dataset.mask_targets = {**dataset.mask_targets, frame_path(name): targets}
            dataset.save()
    skeleton = find_skeleton(dataset, seed)
    if label_type is fo.Keypoints and skeleton:
        set_skeleton(dataset, name, skeleton)


def set_up_annotation(dataset: fo.Dataset, label_field: str) -> None:
    """Let people edit tracks in the App's Annotate mode, which otherwise asks for a label schema first.

    FiftyOne 1.22 annotates detections and polylines in videos. It cannot rename or delete a frame field that
    has a schema without an error at the end, so only runs in the App set one up.
    """
    path = frame_path(label_field)
    kind = seed_fields(whole(dataset)).get(field_name(path))
    if kind and kind in (fo.Detections, fo.Polylines) and path not in dataset.label_schemas:
        classes = sorted(whole(dataset).distinct(f"{path}.{LABEL_LISTS[kind]}.label"))
        schema = {"type": kind.__name__.lower(), "component": "dropdown", "classes": classes}
        dataset.update_label_schema(path, schema | {"attributes": []})
        dataset.activate_label_schemas(path)


def check_fields(dataset: fo.Dataset, label_field: str, sample_id: str) -> None:
    """Make sure that labels can be written: others may rename and delete things while a run goes on.

    FiftyOne remembers a dataset's fields in each process. This asks the database.

    Raises:
        ColorTrackError: if the dataset, the video, or a field is gone
    """
    names = {"frame_fields.name": 1, "sample_fields.name": 1}
    document = foo.get_db_conn().datasets.find_one({"_id": dataset._doc.id}, names)
    if document is None:
        raise ColorTrackError(f"the dataset {dataset.name!r} was deleted during the run")
    found = {f"frames.{f['name']}" for f in document.get("frame_fields") or ()}
    found |= {f["name"] for f in document.get("sample_fields") or ()}
    name = field_name(label_field)
    needed = [frame_path(name), frame_path(confidence_field(name)), run_field(name), record_field(name)]
    if missing := [path for path in (*needed, confidence_field(name)) if path not in found]:
        raise ColorTrackError(
            f"{missing[0]} was renamed or deleted during the run; run it again with a field that exists"
        )
    if whole(dataset).select(sample_id).count() == 0:
        raise ColorTrackError("the video was removed from the dataset during the run")


def rename_companions(dataset: fo.Dataset, old: str, new: str) -> None:
    """Give the fields beside tracks the name that the tracks have now."""
    if frame_path(old) in dataset.label_schemas:  # FiftyOne leaves it behind, and then renames nothing else
        dataset.set_label_schemas({k: v for k, v in dataset.label_schemas.items() if k != frame_path(old)})
        set_up_annotation(dataset, new)
    sample_fields = {name(old): name(new) for name in (record_field, run_field, confidence_field)}
    dataset.rename_sample_fields({a: b for a, b in sample_fields.items() if dataset.has_sample_field(a)})
    if dataset.has_frame_field(confidence_field(old)):
        dataset.rename_frame_field(confidence_field(old), confidence_field(new))


def set_skeleton(dataset: fo.Dataset, field: str, skeleton: fo.KeypointSkeleton) -> None:
    """Give a frame field its skeleton. FiftyOne looks for it by the path, its App by the last name."""
    name = field_name(field)
    dataset.skeletons = {**dataset.skeletons, frame_path(name): skeleton, name: skeleton}
    dataset.save()


def find_skeleton(dataset: fo.Dataset, field: str) -> fo.KeypointSkeleton | None:
    """The skeleton of a frame field, or else the dataset's default one."""
    name = field_name(field)
    of_field = dataset.skeletons.get(frame_path(name)) or dataset.skeletons.get(name)
    return of_field or dataset.default_skeleton


def labeled_frames(samples: SampleCollection, path: str, which: SeedFrames = "all") -> dict[str, list[int]]:
    """Numbers (from 1) of the frames of each video that have labels in a frame field, without loading them.

    Args:
        samples: videos
        path: one of `seed_fields`
        which: `keyframes` counts only labels with `keyframe=True`, `first` keeps one frame per video

    Returns:
        {sample id: frame numbers, ascending}; every video is listed
    """
    name = field_name(path)
    label_list = LABEL_LISTS.get(seed_fields(samples)[name])
    if label_list is None:
        found = F(f"{name}.{'keyframe' if which == 'keyframes' else '_id'}")
    elif which == "keyframes":
        found = F(f"{name}.{label_list}").filter(F("keyframe") == True).length()  # noqa: E712
    else:
        found = F(f"{name}.{label_list}").length()
    labeled = {}
    facts = F("frames").map(ViewExpression([F("frame_number"), found]))  # one query: others may add frames
    for id, frames in zip(*samples.values(["id", facts]), strict=True):
        numbers = sorted(number for number, count in frames or [] if count)
        labeled[id] = numbers[:1] if which == "first" else numbers
    return labeled


def select_frames(samples: SampleCollection, path: str, numbers: Mapping[str, list[int]]) -> SampleCollection:
    """The videos with nothing but a frame field, in some of their frames.

    Args:
        samples: videos
        path: the field
        numbers: of the frames (from 1), by the id of their video
    """
    view = samples.select_fields(frame_path(path))
    ids = {(id, number) for id, of_video in numbers.items() for number in of_video}
    found = zip(*samples.values(["id", "frames.frame_number", "frames.id"]), strict=True)
    chosen = [
        frame_id
        for id, of_video, frame_ids in found
        for number, frame_id in zip(of_video or [], frame_ids or [], strict=True)
        if (id, number) in ids
    ]
    return view.select_frames(chosen, omit_empty=False)


def color_by_instance(dataset: fo.Dataset) -> None:
    """Make the App color labels by object instead of by field, in the colors of `pictures`."""
    pool = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in COLORS]
    dataset.app_config.color_scheme = fo.ColorScheme(color_by="instance", color_pool=pool)
    dataset.save()
