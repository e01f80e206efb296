"""FiftyOne labels <-> tracking: reading what a person labelled, writing what the tracker found.

FiftyOne counts frames from 1 and gives coordinates as shares of the picture; everywhere else in this package
frames count from 0 and coordinates are pixels. Only this room and the loaders in `datasets` convert.
"""

from fiftyone_colortrack.fields.lock import Lock
from fiftyone_colortrack.fields.objects import ObjectTable, TrackedObject
from fiftyone_colortrack.fields.record import TrackRecord, digest
from fiftyone_colortrack.fields.schema import (
    OUTPUT_TYPES,
    SEED_FRAMES,
    OutputKind,
    SeedFrames,
    color_by_instance,
    confidence_field,
    create_tracks_field,
    failed_tag,
    field_name,
    find_skeleton,
    labelled_frames,
    record_field,
    run_field,
    seed_fields,
    select_labelled,
    set_skeleton,
    tracks_type,
)
from fiftyone_colortrack.fields.seeds import DrawnObjects, SeededVideo, open_video, read_drawn, read_seeds
from fiftyone_colortrack.fields.tracks import TrackWriter, frame_label

__all__ = [
    "OUTPUT_TYPES",
    "SEED_FRAMES",
    "DrawnObjects",
    "Lock",
    "ObjectTable",
    "OutputKind",
    "SeedFrames",
    "SeededVideo",
    "TrackRecord",
    "TrackWriter",
    "TrackedObject",
    "color_by_instance",
    "confidence_field",
    "create_tracks_field",
    "digest",
    "failed_tag",
    "field_name",
    "find_skeleton",
    "frame_label",
    "labelled_frames",
    "open_video",
    "read_drawn",
    "read_seeds",
    "record_field",
    "run_field",
    "seed_fields",
    "select_labelled",
    "set_skeleton",
    "tracks_type",
]
