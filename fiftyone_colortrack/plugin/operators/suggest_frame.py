"""Suggest frame to label."""

from __future__ import annotations

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.suggestion import Suggestion, suggest
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.forms import Choice

LABEL = "Suggest frame to label"


class SuggestFrame(foo.Operator):
    """Names the frame of the open video whose labelling should help its tracks most, and goes there."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="suggest_frame",
            label=LABEL,
            description="Go to the frame whose labelling should help the tracks most",
            icon="/assets/icons/suggest.svg",
            dynamic=True,
            risk_level=types.RiskLevel.LOW,
        )

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement:
        return types.Placement(types.Places.SAMPLES_VIEWER_ACTIONS, types.Button(label=LABEL, prompt=True))

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        choices = _tracks(ctx)
        if not ctx.current_sample:
            forms.message(inputs, "no_video", "Open a video first", severity="error")
        elif not choices:
            forms.message(
                inputs, "no_tracks", "Propagate labels first: there are no tracks", severity="error"
            )
        else:
            forms.choose(inputs, "tracks", choices, label="Tracks")
        return types.Property(inputs, view=types.View(label=LABEL))

    def resolve_output(self, ctx: ExecutionContext) -> types.Property:
        outputs = types.Object()
        outputs.str("summary", label="Suggestion")
        return types.Property(outputs, view=types.View(label=LABEL))

    def execute(self, ctx: ExecutionContext) -> dict[str, object]:
        tracks = ctx.params["tracks"]
        try:
            (suggestions,) = suggest(ctx.dataset.select(ctx.current_sample), tracks).values()
        except ColorTrackError as error:
            return {"summary": str(error)}
        if not suggestions:
            return {"summary": f"{tracks} has no tracks of this video, or all its frames are labelled"}
        (suggestion,) = suggestions
        # The App's own operator; it moves the playhead of the open video.
        ctx.trigger("set_frame_number", {"frame_number": suggestion.frame_number})
        ctx.ops.notify(_text(suggestion), variant="info")
        return {"summary": _text(suggestion), "frame_number": suggestion.frame_number}


def _tracks(ctx: ExecutionContext) -> list[Choice]:
    choices = forms.field_choices(ctx.dataset, fo.Detections, fo.Keypoints)
    return [choice for choice in choices if forms.is_tracks(ctx.dataset, choice[0])]


def _text(suggestion: Suggestion) -> str:
    return (
        f"Label frame {suggestion.frame_number} next (the tracker's confidence in it is "
        f"{suggestion.confidence:.0%}), set keyframe on the labels you draw, and propagate again"
    )
