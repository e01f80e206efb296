"""The videos of a collection, and its fields of seeds and tracks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

import fiftyone as fo
import fiftyone.core.odm as foo
import fiftyone.core.stages as fos
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.expressions import ViewExpression
from fiftyone.core.frame import Frames
from fiftyone.core.odm import DatasetFrameDocument, DatasetSampleDocument

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.record import runs
from fiftyone_colortrack.fields.shapes import LABEL_LISTS
from fiftyone_colortrack.pictures import COLORS

SeedFrames = Literal["first", "all", "keyframes"]
OutputKind = Literal["masks", "boxes", "points", "polylines", "segmentation"]
Ranges = tuple[tuple[int, int], ...]
"""First and last frames (from 1), ascending."""
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
_RESERVED = {"frames", "support"}
_KINDS = (
    fo.Sample,
    fo.Frame,
    Frames,
    fo.Dataset,
    fo.DatasetView,
    DatasetSampleDocument,
    DatasetFrameDocument,
)
"""What has fields, or makes them: a field with the name of an attribute of one of these may break a dataset."""
IMAGES = "colortrack_images"
"""Where the info of a temporary dataset of videos holds the id of the dataset of its images, see `as_videos`."""
_FILTERS = fos.FilterLabels | fos.SelectLabels | fos.ExcludeLabels | fos.FilterKeypoints | fos.MatchFrames
_MARK = {"colortrack": "made by Propagate labels"}
_NAME = "colortrack_name"


def field_name(path: str) -> str:
    """The name of a frame field, without FiftyOne's prefix `frames.`.

    Raises:
        ColorTrackError: if the path is not a string, or has the prefix twice
    """
    name = path.strip().removeprefix("frames.") if isinstance(path, str) else None
    if name is None or name.startswith("frames."):
        raise ColorTrackError(f"the name of a field must be a string such as 'frames.tracks', not {path!r}")
    return name


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


def check_videos(samples: SampleCollection | str, *, whole_videos: bool = False) -> SampleCollection:
    """The videos of a collection, as a collection of videos.

    Of a grouped dataset these are all slices that are videos; of clips or frames, the videos that they come
    from (see `viewed_ranges`).

    Args:
        samples: a dataset, a view, or the name of a dataset
        whole_videos: whether views of clips or frames are refused, since whole videos would be read

    Raises:
        ColorTrackError: if there is no such dataset, or it does not hold videos
    """
    if isinstance(samples, str):
        if not fo.dataset_exists(samples):
            files = "make a dataset of the files: fo.Dataset.from_videos([...])"
            way_out = files if os.path.exists(samples) else "`fiftyone datasets list` lists all datasets"
            raise ColorTrackError(f"there is no dataset {samples!r}; {way_out}")
        samples = fo.load_dataset(samples)
    if isinstance(samples, fo.Sample):
        way_out = "dataset.select(sample.id)" if samples.in_dataset else "a dataset with it"
        raise ColorTrackError(f"samples must be a dataset or a view, not one sample; pass {way_out}")
    if not isinstance(samples, SampleCollection):
        raise ColorTrackError(
            f"samples must be a dataset, a view, or a dataset's name, not {type(samples).__name__}; "
            "make a dataset of video files: fo.Dataset.from_videos([...])"
        )
    if samples._is_clips or samples._is_frames:
        if whole_videos:
            raise ColorTrackError(
                "this needs whole videos, not a view of their clips or frames; choose the videos: "
                "dataset.select(view.distinct('sample_id'))"
            )
        try:
            ids = list(dict.fromkeys(_flat(samples).values("sample_id")))
        except ValueError as error:  # from FiftyOne, for trajectories, once the dataset has a new field
            raise ColorTrackError(
                f"FiftyOne can no longer read the view ({error}), because the fields of its dataset changed; "
                "call view.reload() first"
            ) from error
        samples = show_labels_of(samples, whole(samples._root_dataset).select(ids, ordered=True))
    elif samples.media_type == "group" and "video" in (samples.group_media_types or {}).values():
        samples = _all_slices(samples)
    if samples._is_dynamic_groups:
        raise ColorTrackError(
            "only `propagate`, `evaluate_tracks`, `suggest`, and `train` read groups of images as videos; "
            "choose a dataset or view of videos"
        )
    if samples.media_type != "video":
        kind = f"has {samples.media_type}s" if samples.media_type else "is empty"
        way_out = (
            "; group images that form videos: group_by(..., order_by=...)"
            if samples.media_type == "image"
            else ""
        )
        raise ColorTrackError(f"choose a dataset or view of videos; this one {kind}{way_out}")
    return samples


def whole(dataset: fo.Dataset) -> SampleCollection:
    """All videos of a dataset, those of every group slice included."""
    return dataset.select_group_slices(media_type="video") if dataset.media_type == "group" else dataset


def _all_slices(groups: SampleCollection) -> SampleCollection:
    """The videos of all slices. FiftyOne cannot load samples from a view that selects groups, and then slices."""
    videos = groups.select_group_slices(media_type="video")
    if any(isinstance(stage, fos.SelectGroups | fos.ExcludeGroups) for stage in groups.view()._stages):
        return show_labels_of(groups, whole(groups._root_dataset).select(videos.values("id"), ordered=True))
    return videos


def show_labels_of(view: SampleCollection, samples: SampleCollection) -> SampleCollection:
    """Samples with those labels alone that a view of the same dataset shows, or of its clips, frames, or groups."""
    own, stages = view.view()._stages, view.view()._all_stages
    for stage in stages:
        if isinstance(stage, _FILTERS):
            options = dict(stage._kwargs())
            options |= {name: False for name in ("only_matches", "omit_empty") if name in options}
            if view._is_frames and stage in own and options.get("field"):
                options["field"] = frame_path(options["field"])
            samples = samples.add_stage(type(stage)(**options))
    return samples


def members_of_groups(groups: SampleCollection) -> list[list[str]]:
    """The IDs of the samples of each dynamic group, in order, in one pass: `flatten` takes one for each group."""
    group, _, samples, order = groups._parse_dynamic_groups()
    steps = [{"$sort": dict(order)}] if order else []
    found = groups._dataset._sample_collection.aggregate(
        [*samples._pipeline(), *steps, {"$project": {"group": group}}], allowDiskUse=True
    )
    members: dict[str, list[str]] = {}
    for document in found:
        members.setdefault(repr(document.get("group")), []).append(str(document["_id"]))
    shown = set(groups.values("id"))
    return [ids for ids in members.values() if not shown.isdisjoint(ids)]


def _flat(samples: SampleCollection) -> SampleCollection:
    if not samples._is_dynamic_groups:
        return samples
    members = [id for ids in members_of_groups(samples) for id in ids]
    return samples._parse_dynamic_groups()[2].select(members)


def viewed_ranges(samples: SampleCollection) -> tuple[tuple[str, Ranges], ...]:
    """The frames that a view of clips or frames shows of each video, by its id.

    Videos that are shown whole are left out: all, where the view is one of videos.
    """
    if not (samples._is_clips or samples._is_frames):
        return ()
    shown: dict[str, set[int]] = {}
    frames = "support" if samples._is_clips else "frame_number"
    for id, of_sample in zip(*_flat(samples).values(["sample_id", frames]), strict=True):
        first, last = of_sample if samples._is_clips else (of_sample, of_sample)
        shown.setdefault(id, set()).update(range(first, last + 1))
    videos = whole(samples._root_dataset).select(list(shown))
    lengths = zip(*videos.values(["id", "metadata.total_frame_count"]), strict=True)
    ranges = {
        id: tuple((a, b) for a, b in runs(shown[id])) for id, length in lengths if len(shown[id]) != length
    }
    return tuple(ranges.items())


def viewed_frames(samples: SampleCollection | str) -> SampleCollection:
    """The videos of a collection (see `check_videos`), with those frames alone that a view of clips or frames shows."""
    videos = check_videos(samples)
    ranges = {} if isinstance(samples, str) else dict(viewed_ranges(samples))
    if not ranges:
        return videos
    facts = zip(*videos.values(["id", "frames.frame_number", "frames.id"]), strict=True)
    shown = [
        frame
        for id, numbers, frames in facts
        for number, frame in zip(numbers, frames, strict=True)
        if id not in ranges or any(first <= number <= last for first, last in ranges[id])
    ]
    return videos.select_frames(shown, omit_empty=False)


def seed_fields(samples: SampleCollection) -> dict[str, type[fo.Label]]:
    """Frame fields that labels can be propagated from, and their types."""
    schema = samples.get_frame_field_schema(ftype=fo.EmbeddedDocumentField) or {}
    return {name: f.document_type for name, f in schema.items() if f.document_type in POSSIBLE_OUTPUTS}


def check_seed_field(samples: SampleCollection, seed_field: str) -> type[fo.Label]:
    """The type of the labels in a seed field.

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
        reason = f"does not exist: {name!r} is a field of the videos; choose a field of the frames"
    else:
        known = ", ".join(map(frame_path, types)) or "none yet; label a frame first"
        reason = (
            "has no detections, keypoints, polylines, or segmentations; "
            f"fields that can be propagated: {known}"
        )
    raise ColorTrackError(f"{frame_path(name)} {reason}")


def check_name(name: str) -> None:
    """Raise a ColorTrackError if no new field can have this name."""
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise ColorTrackError(f"{name!r} cannot be the name of a field; use letters, digits, and underscores")
    if any(hasattr(kind, name) for kind in _KINDS) or name in _RESERVED:
        raise ColorTrackError(f"{name!r} is a name that FiftyOne itself uses; choose another name")


def check_cuts_field(samples: SampleCollection, cuts_field: str, label_field: str) -> None:
    """Raise a ColorTrackError if the shots found with some tracks cannot be written to a field of the videos."""
    check_name(cuts_field)
    present = samples.get_field_schema().get(cuts_field)
    beside = {name(label_field) for name in (field_name, run_field, record_field, confidence_field)}
    if cuts_field in beside or (present is not None and "colortrack" not in (present.info or {})):
        raise ColorTrackError(f"{cuts_field} exists, and was not made for shots; choose another name")


def is_tracks(samples: SampleCollection, label_field: str) -> bool:
    """Whether `propagate` wrote a field."""
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
    """Check that tracks of a type may be written to a frame field.

    Raises:
        ColorTrackError: if the name is not possible, or the field belongs to somebody else
    """
    name = field_name(label_field)
    for one in (name, run_field(name), record_field(name), confidence_field(name)):
        check_name(one)
    frame_schema, schema = samples.get_frame_field_schema(), samples.get_field_schema()
    tracks = is_tracks(samples, name)
    if not tracks:
        companions = [(field, schema, "") for field in (run_field(name), record_field(name))]
        companions += [(confidence_field(name), s, p) for s, p in ((schema, ""), (frame_schema, "frames."))]
        taken = [
            prefix + field
            for field, where, prefix in companions
            if field in where and "colortrack" not in (where[field].info or {})
        ]
        taken += [f"the tag {tag}" for tag in [failed_tag(name)] if samples.match_tags(tag).limit(1).count()]
        if taken:
            raise ColorTrackError(
                f"the tracks in {frame_path(name)} need {' and '.join(taken)}, which you already use; "
                "choose another name for the tracks"
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
        way_out = "continue the earlier run (skip_existing), replace its labels (overwrite),"
        raise ColorTrackError(
            f"{frame_path(name)} exists; {way_out if tracks else 'replace its labels (overwrite),'} "
            "or choose another name"
        )


def tracks_type(seed_type: type[fo.Label], output: OutputKind | None = None) -> type[fo.Label]:
    """The type of field to which tracks are written.

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
    dataset: fo.Dataset,
    label_field: str,
    seed_field: str,
    output: OutputKind | None,
    cuts_field: str | None = None,
) -> None:
    """Add the frame field for tracks, its companions, and a field for shots, if they are missing."""
    name, seed = field_name(label_field), field_name(seed_field)
    label_type = tracks_type(check_seed_field(whole(dataset), seed), output)
    # The record comes first: if the process ends here, it shows that the field holds tracks, all unfinished.
    dataset.add_sample_field(record_field(name), fo.DictField, info=_MARK)
    dataset.add_sample_field(run_field(name), fo.StringField, info=_MARK)
    mark = {_NAME: name}
    dataset.add_frame_field(name, fo.EmbeddedDocumentField, embedded_doc_type=label_type, info=mark)
    mark_tracks(dataset, name)  # a field that was there already
    labels = f"{name}.{LABEL_LISTS[label_type]}" if label_type in LABEL_LISTS else name
    dataset.add_frame_field(f"{labels}.keyframe", fo.BooleanField)
    for add_field in (dataset.add_sample_field, dataset.add_frame_field):
        add_field(confidence_field(name), fo.FloatField, info=_MARK)
    if cuts_field is not None:
        shots = fo.TemporalDetections
        dataset.add_sample_field(cuts_field, fo.EmbeddedDocumentField, embedded_doc_type=shots, info=_MARK)
    if label_type is fo.Segmentation:
        targets = dataset.get_mask_targets(frame_path(seed))
        if targets:
            dataset.mask_targets = {**dataset.mask_targets, frame_path(name): targets}
            dataset.save()
    skeleton = find_skeleton(dataset, seed)
    if label_type is fo.Keypoints and skeleton:
        set_skeleton(dataset, name, skeleton)


def mark_tracks(dataset: fo.Dataset, label_field: str) -> None:
    """Mark a frame field of tracks with its name, which tells whether it is renamed later."""
    field = dataset.get_field(frame_path(label_field))
    if marked_name(field) != field_name(label_field):
        field.info = {**(field.info or {}), _NAME: field_name(label_field)}
        field.save()


def marked_name(field: fo.Field) -> str | None:
    """The name that `mark_tracks` gave a frame field; None if it did not."""
    return (field.info or {}).get(_NAME)


def set_up_annotation(dataset: fo.Dataset, label_field: str) -> None:
    """Let people edit tracks in the App's Annotate mode, which otherwise asks for a label schema first.

    A schema that is there already gets the classes that the labels have and it lacks.

    FiftyOne 1.22 annotates detections and polylines in videos. It cannot rename or delete a frame field that
    has a schema without an error at the end, so only runs in the App set one up.
    """
    path = frame_path(label_field)
    kind = seed_fields(whole(dataset)).get(field_name(path))
    if not kind or kind not in (fo.Detections, fo.Polylines):
        return
    classes = whole(dataset).distinct(f"{path}.{LABEL_LISTS[kind]}.label")
    present = dataset.label_schemas.get(path)
    if present is None:
        schema = {"type": kind.__name__.lower(), "component": "dropdown", "classes": sorted(classes)}
        dataset.update_label_schema(path, schema | {"attributes": []})
        dataset.activate_label_schemas(path)
    elif present.get("classes") and (new := sorted({*classes} - {*present["classes"]})):
        dataset.update_label_schema(path, {**present, "classes": [*present["classes"], *new]})


def check_fields(
    dataset: fo.Dataset, label_field: str, sample_id: str, cuts_field: str | None = None
) -> None:
    """Check that labels can be written: during a run, others may rename and delete things.

    FiftyOne remembers a dataset's fields in each process. This asks the database.

    Raises:
        ColorTrackError: if the dataset, the video, or a field is gone
    """
    names = {"frame_fields.name": 1, "sample_fields.name": 1}
    id = ObjectId(dataset.info.get(IMAGES, dataset._doc.id))
    document = foo.get_db_conn().datasets.find_one({"_id": id}, names)
    if document is None:
        raise ColorTrackError(f"the dataset {dataset.name!r} was deleted during the run")
    found = {f"frames.{f['name']}" for f in document.get("frame_fields") or ()}
    found |= {f["name"] for f in document.get("sample_fields") or ()}
    name = field_name(label_field)
    needed = [frame_path(name), frame_path(confidence_field(name)), run_field(name), record_field(name)]
    if IMAGES in dataset.info:
        needed = [field_name(path) for path in needed]
    needed += [confidence_field(name), *([cuts_field] if cuts_field else [])]
    if missing := [path for path in needed if path not in found]:
        raise ColorTrackError(
            f"{missing[0]} was renamed or deleted during the run; start it again with a field that exists"
        )
    if whole(dataset).select(sample_id).count() == 0:
        raise ColorTrackError("the video was removed from the dataset during the run")


def set_skeleton(dataset: fo.Dataset, field: str, skeleton: fo.KeypointSkeleton) -> None:
    """Give a frame field its skeleton. FiftyOne looks for it by the path, its App by the last name."""
    name = field_name(field)
    dataset.skeletons = {**dataset.skeletons, frame_path(name): skeleton, name: skeleton}
    dataset.save()


def find_skeleton(dataset: fo.Dataset, field: str) -> fo.KeypointSkeleton | None:
    """The skeleton of a frame field, or the dataset's default skeleton."""
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


def frame_values(video: SampleCollection, path: str) -> dict[int, Any]:
    """The values of a frame field in a view of one video, by frame number (from 1), ascending."""
    # One query, because others may add frames at the same time: `unwind=True` would make it two.
    columns = zip(*video.values(["frames.frame_number", frame_path(path)]), strict=True)
    pairs = [pair for column in columns for pair in zip(*(part or [] for part in column), strict=True)]
    return dict(sorted(pairs, key=lambda pair: pair[0]))


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


def color_by_object(dataset: fo.Dataset, label_field: str | None = None) -> bool:
    """Make the App color labels by object: tracks in the colors of `pictures`, other labels in pale ones.

    A color scheme that somebody chose stays as it is, and so do the colors of a field that has some already.

    Args:
        dataset: whose fields get colors
        label_field: path of a field of tracks that need not exist yet

    Returns:
        Whether anything changed
    """
    vivid, pale = (
        ["#{:02x}{:02x}{:02x}".format(*color) for color in colors.tolist()]
        for colors in (COLORS, 255 - (255 - COLORS.astype(int)) * 2 // 5)
    )
    scheme = dataset.app_config.color_scheme or fo.ColorScheme(color_by="value", color_pool=pale, fields=[])
    if scheme.color_pool != pale:
        return False
    schemas = [("", dataset.get_field_schema()), ("frames.", dataset.get_frame_field_schema() or {})]
    paths = {
        prefix + name: vivid if is_tracks(dataset, name) else pale
        for prefix, schema in schemas
        for name, field in schema.items()
        if getattr(field, "document_type", None) in POSSIBLE_OUTPUTS
    } | ({label_field: vivid} if label_field else {})
    colored = {field["path"] for field in scheme.fields or []}
    new = [_colors_by_index(path, paths[path]) for path in paths if path not in colored]
    if new or dataset.app_config.color_scheme is None:
        scheme.fields = [*(scheme.fields or []), *new]
        dataset.app_config.color_scheme = scheme
        dataset.save()
        return True
    return False


def _colors_by_index(path: str, colors: list[str]) -> dict[str, Any]:
    """Colors of the objects of a field; one with a higher index gets a color of the whole dataset's."""
    by_index = dict(enumerate(colors * 10, 1))
    return {
        "path": path,
        "colorByAttribute": "index",
        "valueColors": [{"value": str(index), "color": color} for index, color in by_index.items()],
        "maskTargetsColors": [{"intTarget": index, "color": color} for index, color in by_index.items()],
    }
