"""FiftyOne labels <-> tracking: reading what a person labelled, writing what the tracker found.

FiftyOne counts frames from 1 and gives coordinates as shares of the picture; everywhere else in this package
frames count from 0 and coordinates are pixels. Only this room and the loaders in `datasets` convert.
"""

from fiftyone_colortrack.fields.objects import ObjectTable, TrackedObject
from fiftyone_colortrack.fields.schema import (
    OUTPUT_TYPES,
    SEED_FRAMES,
    OutputKind,
    SeedFrames,
    create_tracks_field,
    field_name,
    labelled_frames,
    run_field,
    seed_fields,
    tracks_type,
)
from fiftyone_colortrack.fields.seeds import SeededVideo, open_video, read_seeds
from fiftyone_colortrack.fields.tracks import TrackWriter, frame_label

__all__ = [
    "OUTPUT_TYPES",
    "SEED_FRAMES",
    "ObjectTable",
    "OutputKind",
    "SeedFrames",
    "SeededVideo",
    "TrackWriter",
    "TrackedObject",
    "create_tracks_field",
    "field_name",
    "frame_label",
    "labelled_frames",
    "open_video",
    "read_seeds",
    "run_field",
    "seed_fields",
    "tracks_type",
]
