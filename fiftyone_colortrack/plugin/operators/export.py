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
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, show, until_stopped, work_config
from fiftyone_colortrack.settings import check_allowed, check_space

FORMATS: list[forms.Choice] = [
    ("mot", "MOT Challenge", "Boxes, as text files"),
    ("youtube-vis", "YouTube-VIS", "Masks and boxes, as COCO JSON for videos"),
    ("davis", "DAVIS", "Masks, as PNG images with a palette"),
]


class ExportTracks(WorkOperator):
    """Export tracks and their videos to a folder, in a format that other programs read."""

    @property
    def config(self) -> foo.OperatorConfig:
        return work_config(
            "export_tracks",
            "Export tracks",
            "Export tracks as MOT Challenge, YouTube-VIS, or DAVIS, for use in other programs",
            "load",
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
            text = "There is no frame field with detections. Propagate labels first."
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
            description="The export creates a new folder here",
            view=picker,
        )
        name = ctx.params.get("name") or _default_name(ctx)
        name_prop = inputs.str("name", default=name, required=True, label="New folder")
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
                progress=until_stopped(progress, stop, "Stopped. Nothing was exported."),
            ),
        )
        videos = forms.plural(check_videos(view).count(), "video")
        summary = f"Exported {frame_path(params['label_field'])} of {videos} to {folder}"
        return {"summary": forms.escape(summary), "folder": str(folder)}

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield from ()


def _parent(ctx: ExecutionContext) -> Path:
    """The folder from FiftyOne's file explorer or from a script.

    Raises:
        ColorTrackError: if there is none, or if this server does not allow it
    """
    folder = ctx.params.get("folder")
    path = folder.get("absolute_path") if isinstance(folder, dict) else folder
    if not path:
        raise ColorTrackError("choose a folder")
    return check_allowed(path)


def _target(ctx: ExecutionContext) -> Path:
    """The folder of the export.

    Raises:
        ColorTrackError: if its name is a path, or if it is not empty
    """
    name = ctx.params.get("name") or _default_name(ctx)
    if name in (".", "..") or Path(name).name != name:
        raise ColorTrackError(f"{name!r} cannot be the name of a folder; use a name without slashes")
    target = _parent(ctx) / name
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ColorTrackError(f"{target} exists; choose another name")
    return target


def _default_name(ctx: ExecutionContext) -> str:
    return f"{ctx.dataset.name}-tracks".replace(os.sep, "-")
