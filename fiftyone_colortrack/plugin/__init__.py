"""The FiftyOne plugin: forms, progress, and buttons. `api` and `datasets` do the work."""

from fiftyone_colortrack.plugin.guard import guarded
from fiftyone_colortrack.plugin.metrics import TrackScores
from fiftyone_colortrack.plugin.operators.edit_tracks import EditTrack
from fiftyone_colortrack.plugin.operators.evaluate import EvaluateTracks
from fiftyone_colortrack.plugin.operators.export import ExportTracks
from fiftyone_colortrack.plugin.operators.films import ColorizeVideos, EmbedVideos, FilmVideos
from fiftyone_colortrack.plugin.operators.load import (
    ImportTracks,
    LoadDavis,
    LoadJhmdb,
    LoadKinetics,
    LoadScenes,
)
from fiftyone_colortrack.plugin.operators.propagate import PropagateLabels, PropagateLabelsInVideo
from fiftyone_colortrack.plugin.operators.stop import ContinueInBackground, StopTracking
from fiftyone_colortrack.plugin.operators.suggest_frame import SuggestFrame
from fiftyone_colortrack.plugin.operators.track_shard import TrackShard
from fiftyone_colortrack.plugin.operators.train import TrainTracker
from fiftyone_colortrack.plugin.panel import ColorTrackPanel

CLASSES = [
    guarded(cls)
    for cls in (
        PropagateLabels,
        PropagateLabelsInVideo,
        EditTrack,
        TrackShard,
        StopTracking,
        ContinueInBackground,
        EvaluateTracks,
        TrackScores,
        ExportTracks,
        ImportTracks,
        LoadDavis,
        LoadJhmdb,
        LoadKinetics,
        LoadScenes,
        ColorizeVideos,
        EmbedVideos,
        FilmVideos,
        SuggestFrame,
        TrainTracker,
        ColorTrackPanel,
    )
]
"""The operators and the panel; `fiftyone.yml` has the same list."""
