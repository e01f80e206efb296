"""Suggest frame to label."""

from __future__ import annotations

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.suggestion import Suggestion, suggest
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import seed_fields
from fiftyone_colortrack.plugin import forms

LABEL = "Suggest frame to label"
GO_TO_FRAME = "@colortrack/fiftyone-colortrack/go_to_frame"
"""An operator of `app.js`."""


class SuggestFrame(foo.Operator):
    """Goes to the frame of the open video whose labelling should help its tracks most."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="suggest_frame",
            label=LABEL,
            description="Go to the frame of the open video whose labelling should help the tracks most",
            icon="/assets/icons/suggest.svg",
            dynamic=True,
            risk_level=types.RiskLevel.LOW,
        )

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement:
        nothing_to_choose = len(_tracks(ctx.dataset)) == 1
        button = types.Button(label=LABEL, prompt=not nothing_to_choose)
        return types.Placement(types.Places.SAMPLES_VIEWER_ACTIONS, button)

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        tracks = _tracks(ctx.dataset)
        if not ctx.current_sample:
            forms.message(inputs, "no_video", "Open a video first", severity="error")
        elif not tracks:
            forms.message(
                inputs, "no_tracks", "Propagate labels first: there are no tracks", severity="error"
            )
        else:
            forms.choose(inputs, "tracks", [(name, name, "") for name in tracks], label="Tracks")
        return forms.form(self, inputs)

    def execute(self, ctx: ExecutionContext) -> dict[str, object]:
        tracks = ctx.params.get("tracks") or _tracks(ctx.dataset)[0]
        try:
            (suggestions,) = suggest(ctx.dataset.select(ctx.current_sample), tracks).values()
        except ColorTrackError as error:
            ctx.ops.notify(str(error), variant="error")
            return {}
        if not suggestions:
            ctx.ops.notify(f"{tracks} has no tracks of this video, or all its frames are labelled")
            return {}
        (suggestion,) = suggestions
        metadata = ctx.dataset[ctx.current_sample].metadata
        ctx.trigger(GO_TO_FRAME, {"frame_number": suggestion.frame_number})
        ctx.ops.notify(_text(suggestion, metadata.frame_rate if metadata else None))
        return {"frame_number": suggestion.frame_number}


def _tracks(dataset: fo.Dataset | None) -> list[str]:
    fields = seed_fields(dataset) if dataset is not None else ()
    return [f"frames.{name}" for name in fields if forms.is_tracks(dataset, name)]


def _text(suggestion: Suggestion, frame_rate: float | None) -> str:
    number = suggestion.frame_number
    place = f"frame {number}, at {(number - 1) / frame_rate:.2f} s" if frame_rate else f"frame {number}"
    return (
        f"Label {place}: the tracker's confidence in it is {suggestion.confidence:.0%}. Set keyframe on the "
        "labels you draw or correct, and propagate again."
    )
