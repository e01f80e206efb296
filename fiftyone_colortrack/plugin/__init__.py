"""The FiftyOne plugin: forms, progress and buttons. The work is in `api` and `datasets`."""

from fiftyone_colortrack.plugin.metrics import TrackScores
from fiftyone_colortrack.plugin.operators.evaluate import EvaluateTracks
from fiftyone_colortrack.plugin.operators.propagate import PropagateLabels, PropagateLabelsInVideo
from fiftyone_colortrack.plugin.operators.stop import StopTracking

CLASSES = [PropagateLabels, PropagateLabelsInVideo, StopTracking, EvaluateTracks, TrackScores]
"""What the plugin registers; `fiftyone.yml` names the same."""
