"""Export tracks."""

from __future__ import annotations

import os
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.exports import export_tracks
from fiftyone_colortrack.fields import check_videos, frame_path, is_tracks
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, show, work_config
from fiftyone_colortrack.settings import check_allowed, check_space

FORMATS: list[forms.Choice] = [
    ("mot", "MOT Challenge", "Boxes, as text"),
    ("youtube-vis", "YouTube-VIS", "Masks and boxes, as COCO JSON for videos"),
    ("davis", "DAVIS", "Masks, as PNG images with a palette"),
]


class ExportTracks(WorkOperator):
    """Writes tracks and their videos to a folder, in a format that other programs read."""

    @property
    def config(self) -> foo.OperatorConfig:
        return work_config(
            "export_tracks", "Export tracks", "Write tracks to a folder that other programs read", "load"
        )

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view_prop = inputs.view_target(ctx, action_description="Export")
        view = ctx.target_view()
        if not forms.validate(view_prop, lambda: check_videos(view, whole_videos=True)):
            return forms.form(self, inputs)
        videos = check_videos(view)
        choices = forms.field_choices(videos, fo.Detections, empty=False)
        if not choices:
            text = "Export needs a frame field of detections that has labels. Propagate labels first."
            forms.message(inputs, "no_fields", text, severity="error", title="Nothing to export")
            return forms.form(self, inputs)
        tracks = [name for name, _, _ in choices if is_tracks(videos, name)]
        default = tracks[-1] if tracks else None
        forms.choose(inputs, "label_field", choices, default=default, label="Tracks")
        forms.choose(inputs, "format", FORMATS, radio=True, label="Format")
        picker = types.FileExplorerView(button_label="Choose a folder", choose_dir=True)
        prop = inputs.file(
            "folder",
            required=True,
            label="Parent folder",
            description="The export becomes a new folder in it",
            view=picker,
        )
        name = ctx.params.get("name") or _default_name(ctx)
        name_prop = inputs.str("name", default=name, required=True, label="Name of the new folder")
        if forms.validate(prop, lambda: _parent(ctx)):
            forms.validate(name_prop, lambda: _target(ctx))
            size = sum(os.path.getsize(path) for path in videos.values("filepath") if os.path.isfile(path))
            forms.validate(prop, lambda: check_space(_parent(ctx), size))
        return forms.form(self, inputs)

    def resolve_run_name(self, ctx: ExecutionContext) -> str:
        return f"Export {ctx.params.get('label_field')}"

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        params, view, target = ctx.params, ctx.target_view(), _target(ctx)
        folder = yield from show(
            ctx,
            self.config.label,
            lambda progress, stop: export_tracks(
                view,
                params["label_field"],
                target,
                format=params.get("format", FORMATS[0][0]),
                progress=progress,
            ),
        )
        videos = forms.plural(check_videos(view).count(), "video")
        summary = f"Exported {frame_path(params['label_field'])} of {videos} to {folder}"
        return {"summary": forms.escape(summary), "folder": str(folder)}

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield from ()


def _parent(ctx: ExecutionContext) -> Path:
    """The folder that was chosen in FiftyOne's file explorer, or that a script names.

    Raises:
        ColorTrackError: if there is none, or this server does not allow it
    """
    folder = ctx.params.get("folder")
    path = folder.get("absolute_path") if isinstance(folder, dict) else folder
    if not path:
        raise ColorTrackError("no folder is chosen; choose one")
    return check_allowed(path)


def _target(ctx: ExecutionContext) -> Path:
    """The folder of the export.

    Raises:
        ColorTrackError: if its name is a path, or it has content already
    """
    name = ctx.params.get("name") or _default_name(ctx)
    if name in (".", "..") or Path(name).name != name:
        raise ColorTrackError(f"{name!r} cannot name a folder; use a name without slashes")
    target = _parent(ctx) / name
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ColorTrackError(f"{target} exists; choose another name")
    return target


def _default_name(ctx: ExecutionContext) -> str:
    return f"{ctx.dataset.name}-tracks".replace(os.sep, "-")
