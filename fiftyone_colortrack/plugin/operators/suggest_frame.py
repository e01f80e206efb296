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
    """Names the frame of the open video whose labelling should help its tracks most."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="suggest_frame",
            label=LABEL,
            description="Find the frame of the open video whose labelling should help the tracks most",
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
        metadata = ctx.dataset[ctx.current_sample].metadata
        summary = _text(suggestion, metadata.frame_rate if metadata else None)
        return {"summary": summary, "frame_number": suggestion.frame_number}


def _tracks(ctx: ExecutionContext) -> list[Choice]:
    choices = forms.field_choices(ctx.dataset, fo.Detections, fo.Keypoints)
    return [choice for choice in choices if forms.is_tracks(ctx.dataset, choice[0])]


def _text(suggestion: Suggestion, frame_rate: float | None) -> str:
    # FiftyOne 1.22 cannot move the playhead of a video: `set_frame_number` reaches grouped images only.
    number = suggestion.frame_number
    place = f"frame {number}, at {(number - 1) / frame_rate:.2f} s" if frame_rate else f"frame {number}"
    return (
        f"Label {place}: the tracker's confidence in it is {suggestion.confidence:.0%}. Set keyframe on the "
        "labels you draw, and propagate again."
    )
