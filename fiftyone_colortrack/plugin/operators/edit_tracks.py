"""Edit the track of the selected label: end, split, merge, or rename it."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.edits import end_track, find_track, merge_tracks, rename_track, split_track
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import check_videos, track_name, whole
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.forms import Choice
from fiftyone_colortrack.plugin.reading import reader

EDITS = ("rename", "end", "begin", "split", "merge")
"""The first one is chosen at first, because it deletes nothing; with two selected labels, the last one."""
DELETING = ("end", "begin")


class EditTrack(foo.Operator):
    """Edit the track of the selected label in a video's window. Its button is in `app.js`."""

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

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        try:
            _, selected, tracks = _selected(ctx)
        except ColorTrackError as error:
            forms.message(inputs, "none", str(error), severity="error")
            return forms.form(self, inputs)
        edit, frame = _edit(ctx, selected), _frame(ctx, selected)
        names = [f"{track.label} {track.index or ''}".strip() for track, _ in tracks]
        for number, (name, (_, numbers)) in enumerate(zip(names, tracks, strict=True)):
            count = forms.plural(len(numbers), "label")
            text = f"{count} in frames {numbers[0]} to {numbers[-1]} of {selected[number]['field']}"
            forms.message(inputs, f"track_{number}", text, title=f"Track {name}")
        after, before = (sum(n > frame for n in tracks[0][1]), sum(n < frame for n in tracks[0][1]))
        merge = "Select one label of each track"
        if len(tracks) == 2:
            merge = f"Add {names[1]} to {names[0]}"
            if shared := len({*tracks[0][1]} & {*tracks[1][1]}):
                merge += f". Delete its {forms.plural(shared, 'label')} in frames that have both"
        choices: list[Choice] = [
            ("rename", "Rename the track", "Change the class of all its labels"),
            ("end", f"End the track at frame {frame}", f"Delete its {forms.plural(after, 'label')} after it"),
            (
                "begin",
                f"Begin the track at frame {frame}",
                f"Delete its {forms.plural(before, 'label')} before it",
            ),
            (
                "split",
                f"Split the track at frame {frame}",
                "Its labels from this frame on become a new track",
            ),
            ("merge", "Merge two tracks", merge),
        ]
        prop = forms.choose(inputs, "edit", choices, default=edit, radio=True, label="Edit")
        forms.validate(prop, lambda: _check_count(edit, selected))
        if edit == "rename":
            inputs.str("label", required=True, label="New class")
        return forms.form(self, inputs)

    def resolve_output(self, ctx: ExecutionContext) -> types.Property:
        outputs = types.Object()
        outputs.str("summary", label="Done", view=types.MarkdownView())
        return types.Property(outputs, view=types.View(label=self.config.label))

    def execute(self, ctx: ExecutionContext) -> dict[str, Any]:
        video, selected, _ = _selected(ctx)
        edit = _edit(ctx, selected)
        _check_count(edit, selected)
        field, id, frame = selected[0]["field"], selected[0]["label_id"], _frame(ctx, selected)
        if edit == "rename":
            count = rename_track(video, field, id, ctx.params.get("label", ""))
        elif edit == "merge":
            count = merge_tracks(video, field, selected[1]["label_id"], id)
        elif edit == "split":
            count = split_track(video, field, id, frame)
        else:
            count = end_track(video, field, id, frame, before=edit == "begin")
        ctx.ops.reload_dataset()
        return {"summary": f"{forms.plural(count, 'label')} {'deleted' if edit in DELETING else 'changed'}"}


def _selected(
    ctx: ExecutionContext,
) -> tuple[SampleCollection, list[dict[str, Any]], list[tuple[fo.Label, list[int]]]]:
    """The open video, in which an open clip lies, the label of each track that was selected last, and the tracks.

    Selected labels of other frames are not seen in the App, and those that were deleted stay selected.
    """
    labels = ctx.selected_labels or []
    if ctx.current_sample:
        video = check_videos(forms.open_sample(ctx))
        open_now = {ctx.current_sample, *video.values("id")}
        labels = [label for label in labels if label["sample_id"] in open_now]
    elif labels:
        video = whole(ctx.dataset).select(labels[0]["sample_id"])
    text = (
        "Click a label of the track" if ctx.current_sample else "Open a video, and click a label of the track"
    )
    reason, found = ColorTrackError(text), {}
    for label in labels:
        try:
            track = reader(video)(find_track, label["field"], label["label_id"])
            found[label["field"], track_name(track[0])] = label, track
        except ColorTrackError as error:
            reason = error
    if not found:
        raise reason
    return video, [label for label, _ in found.values()], [track for _, track in found.values()]


def _edit(ctx: ExecutionContext, selected: list[dict[str, Any]]) -> str:
    return ctx.params.get("edit", EDITS[-1] if len(selected) == 2 else EDITS[0])


def _check_count(edit: str, selected: list[dict[str, Any]]) -> None:
    """Check that as many tracks are selected as an edit takes."""
    if edit == "merge" and (len(selected) != 2 or selected[0]["field"] != selected[1]["field"]):
        raise ColorTrackError("Select two labels, one of each track, in the same field")
    if edit != "merge" and len(selected) != 1:
        raise ColorTrackError("Select one label only")


def _frame(ctx: ExecutionContext, selected: list[dict[str, Any]]) -> int:
    """The frame that is shown, or else that of the selected label."""
    return int(ctx.params.get("frame_number") or selected[0].get("frame_number") or 1)
