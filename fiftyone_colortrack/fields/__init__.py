"""FiftyOne labels <-> tracking: reading what a person labeled, writing what the tracker found.

FiftyOne counts frames from 1 and gives coordinates as shares of the image; everywhere else in this package
frames count from 0 and coordinates are pixels. Only this room and the loaders in `datasets` convert.
"""

from fiftyone_colortrack.fields.lock import Lock
from fiftyone_colortrack.fields.objects import ObjectTable, TrackedObject
from fiftyone_colortrack.fields.record import (
    NO_CORRECTIONS,
    Corrections,
    Part,
    TrackRecord,
    Written,
    digest,
    labels_of,
    track_name,
)
from fiftyone_colortrack.fields.schema import (
    OUTPUT_TYPES,
    SEED_FRAMES,
    OutputKind,
    SeedFrames,
    check_label_field,
    check_seed_field,
    check_videos,
    clip_ranges,
    color_by_instance,
    confidence_field,
    create_tracks_field,
    failed_tag,
    field_name,
    find_skeleton,
    frame_path,
    is_tracks,
    labeled_frames,
    record_field,
    rename_companions,
    run_field,
    seed_fields,
    select_frames,
    set_skeleton,
    tracks_type,
    whole,
)
from fiftyone_colortrack.fields.seeds import (
    DrawnLabels,
    SeededVideo,
    SeedRules,
    find_corrections,
    find_renamed,
    open_video,
    read_drawn,
    read_seeds,
    seed_frames,
)
from fiftyone_colortrack.fields.tracks import TrackWriter, default_output, frame_label, read_written
