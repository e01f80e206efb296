"""Conversion between FiftyOne labels and tracking: read what a person labeled, write what the tracker found.

FiftyOne counts frames from 1 and uses relative coordinates. Everywhere else in this package, frames count from 0 and
coordinates are pixels. Only this subpackage, the loaders in `datasets`, and `exports` convert.
"""

from fiftyone_colortrack.fields.images import (
    as_videos,
    images_of,
    is_image_groups,
    name_images,
    pull,
    push,
    push_runs,
    push_schema,
)
from fiftyone_colortrack.fields.lock import Lock, heartbeat
from fiftyone_colortrack.fields.objects import ObjectTable, TrackedObject
from fiftyone_colortrack.fields.record import (
    NO_CORRECTIONS,
    Part,
    TrackRecord,
    digest,
    labels_of,
    track_name,
)
from fiftyone_colortrack.fields.schema import (
    SEED_FRAMES,
    OutputKind,
    Ranges,
    SeedFrames,
    check_cuts_field,
    check_fields,
    check_label_field,
    check_name,
    check_seed_field,
    check_videos,
    color_by_object,
    confidence_field,
    create_tracks_field,
    failed_tag,
    field_name,
    find_skeleton,
    frame_path,
    frame_values,
    is_tracks,
    labeled_frames,
    members_of_groups,
    record_field,
    run_field,
    seed_fields,
    select_frames,
    set_skeleton,
    set_up_annotation,
    show_labels_of,
    tracks_type,
    viewed_frames,
    viewed_ranges,
    whole,
)
from fiftyone_colortrack.fields.seeds import (
    DrawnLabels,
    FoundObjects,
    SeededVideo,
    SeedRules,
    adopt_renamed,
    find_corrections,
    find_objects,
    find_renamed,
    open_video,
    read_drawn,
    read_seeds,
    seed_frames,
)
from fiftyone_colortrack.fields.tracks import TrackWriter, default_output, frame_label, read_written
