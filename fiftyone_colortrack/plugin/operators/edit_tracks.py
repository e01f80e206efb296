"""Edit the track of the selected label: end, split, merge, or rename it."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.edits import end_track, merge_tracks, rename_track, split_track
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import whole
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.forms import Choice

EDITS: list[Choice] = [
    ("end", "End the track here", "Delete its labels after this frame"),
    ("begin", "Begin the track here", "Delete its labels before this frame"),
    ("split", "Split the track here", "Turn its labels from this frame on into a new track"),
    ("merge", "Merge two tracks", "Add the track of the second selected label to that of the first"),
    ("rename", "Rename the track", "Change the class of all its labels"),
]


class EditTrack(foo.Operator):
    """Edit the track of the selected label in a video's window."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="edit_track",
            label="Edit track",
            description="End, split, merge, or rename the track of the selected label",
            icon="/assets/icons/propagate.svg",
            dynamic=True,
            risk_level=types.RiskLevel.MEDIUM,
        )

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement:
        button = types.Button(label="Edit track", prompt=True)
        return types.Placement(types.Places.SAMPLES_VIEWER_ACTIONS, button)

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs, selected = types.Object(), _selected(ctx)
        if not selected:
            text = "Open a video, and select a label of the track"
            forms.message(inputs, "none", text, severity="error", title="No label is selected")
            return forms.form(self, inputs)
        edit = ctx.params.get("edit", EDITS[0][0])
        forms.choose(inputs, "edit", EDITS, default=edit, radio=True, label=f"Frame {_frame(selected)}")
        if edit == "merge" and len(selected) != 2:
            forms.message(inputs, "two", "Select one label of each track", severity="error")
        if edit == "rename":
            inputs.str("label", required=True, label="Class")
        return forms.form(self, inputs)

    def resolve_output(self, ctx: ExecutionContext) -> types.Property:
        outputs = types.Object()
        outputs.str("summary", label="Done", view=types.MarkdownView())
        return types.Property(outputs, view=types.View(label=self.config.label))

    def execute(self, ctx: ExecutionContext) -> dict[str, Any]:
        selected, edit = _selected(ctx), ctx.params.get("edit", EDITS[0][0])
        if not selected:
            raise ColorTrackError("select a label of the track first")
        field, id, frame = selected[0]["field"], selected[0]["label_id"], _frame(selected)
        video: SampleCollection = whole(ctx.dataset).select(selected[0]["sample_id"])
        if edit == "rename":
            count = rename_track(video, field, id, ctx.params.get("label", ""))
        elif edit == "merge":
            if len(selected) != 2 or selected[1]["field"] != field:
                raise ColorTrackError("select one label of each track, in the same field")
            count = merge_tracks(video, field, selected[1]["label_id"], id)
        elif edit == "split":
            count = split_track(video, field, id, frame)
        else:
            count = end_track(video, field, id, frame, before=edit == "begin")
        ctx.ops.reload_dataset()
        return {"summary": f"{forms.plural(count, 'label')} changed"}


def _selected(ctx: ExecutionContext) -> list[dict[str, Any]]:
    """The selected labels of the open video."""
    labels = ctx.selected_labels or []
    return [label for label in labels if ctx.current_sample in (None, label["sample_id"])]


def _frame(selected: list[dict[str, Any]]) -> int:
    return int(selected[0].get("frame_number") or 1)
