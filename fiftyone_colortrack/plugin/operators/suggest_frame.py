"""Suggest frame to label."""

from __future__ import annotations

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.suggestion import Suggestion, suggest
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import is_tracks
from fiftyone_colortrack.plugin import forms

LABEL = "Suggest frame to label"
GO_TO_FRAME = "@colortrack/fiftyone-colortrack/go_to_frame"
"""An operator of `app.js`."""


class SuggestFrame(foo.Operator):
    """Go to the frame of the open video where labels help the tracker most."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="suggest_frame",
            label=LABEL,
            description="Go to the frame of the open video where labels help the tracker most",
            icon="/assets/icons/suggest.svg",
            dynamic=True,
            risk_level=types.RiskLevel.LOW,
        )

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement:
        button = types.Button(label=LABEL, prompt=len(_tracks(ctx.dataset)) > 1)
        return types.Placement(types.Places.SAMPLES_VIEWER_ACTIONS, button)

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        tracks = _tracks(ctx.dataset)
        if not ctx.current_sample:
            forms.message(inputs, "no_video", "Open a video first", severity="error")
        elif tracks:
            choices = [(name, name, "") for name in tracks]
            forms.choose(inputs, "label_field", choices, label="Tracks to improve")
        else:
            text = "Nothing is tracked yet. You get the frame to label first"
            forms.message(inputs, "no_tracks", text)
        return forms.form(self, inputs)

    def execute(self, ctx: ExecutionContext) -> dict[str, object]:
        label_field = ctx.params.get("label_field") or next(iter(_tracks(ctx.dataset)), None)
        try:
            video = forms.open_sample(ctx)
            (suggestions,) = suggest(video, label_field, progress=False).values()
        except ColorTrackError as error:
            ctx.ops.notify(str(error), variant="error")
            return {}
        if not suggestions:
            ctx.ops.notify("Every frame of this video is already labeled")
            return {}
        ctx.trigger(GO_TO_FRAME, {"frame_numbers": [suggestions[0].frame_number]})
        ctx.ops.notify(_text(suggestions[0], getattr(video.first().metadata, "frame_rate", None)))
        return {"frame_number": suggestions[0].frame_number}


def _tracks(dataset: fo.Dataset | None) -> list[str]:
    if dataset is None:
        return []
    prefix, schema = "", dataset.get_field_schema()
    if dataset._has_frame_fields():
        prefix, schema = "frames.", dataset.get_frame_field_schema()
    return [prefix + name for name in schema if is_tracks(dataset, name)]


def _text(suggestion: Suggestion, frame_rate: float | None) -> str:
    number = suggestion.frame_number
    place = f"frame {number}, at {(number - 1) / frame_rate:.2f} s" if frame_rate else f"frame {number}"
    if suggestion.confidence is None:
        return f"Label {place}, then propagate the labels: {suggestion.reason}."
    return f"Correct {place}: {suggestion.reason}. Then propagate the labels again."
