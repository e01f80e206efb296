"""Shared parts of the operators' forms."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext
from fiftyone.operators.store import ExecutionStore

from fiftyone_colortrack.api.report import duration as duration
from fiftyone_colortrack.api.report import plural as plural
from fiftyone_colortrack.api.stop import dataset_store
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    frame_path,
    is_image_groups,
    labeled_frames,
    members_of_groups,
    name_images,
    seed_fields,
)
from fiftyone_colortrack.fields import whole as all_videos
from fiftyone_colortrack.plugin import params

Choice = tuple[str, str, str]
"""Value, label and description."""

NOUNS = {
    fo.Detections: "detections",
    fo.Keypoints: "keypoints",
    fo.Polylines: "polylines",
    fo.Segmentation: "segmentation",
}


def store(ctx: ExecutionContext) -> ExecutionStore:
    """What this plugin remembers about a dataset."""
    return dataset_store(ctx.dataset)


def remember(ctx: ExecutionContext, operator: str, *names: str) -> None:
    """Keep what was chosen in an operator's form for the next time, in this dataset."""
    store(ctx).set(operator, {name: ctx.params[name] for name in names or ctx.params if name in ctx.params})


def remembered(ctx: ExecutionContext, operator: str) -> dict[str, Any]:
    """The choices of the last time; empty if the operator was never executed."""
    return params.fitting(store(ctx).get(operator) or {})


def form(operator: foo.Operator, inputs: types.Object) -> types.Property:
    """A form under its operator's name and description."""
    config = operator.config
    return types.Property(inputs, view=types.View(label=config.label, description=config.description))


def choose(
    inputs: types.Object,
    name: str,
    choices: Iterable[Choice],
    *,
    default: str | None = None,
    radio: bool = False,
    **kwargs: Any,
) -> types.Property:
    """Add a choice of one of several values; the first one is the default."""
    choices = list(choices)
    view = types.RadioGroup(orientation="vertical") if radio else types.Dropdown()
    for value, label, description in choices:
        view.add_choice(value, label=label, description=description)
    values = [value for value, _, _ in choices]
    default = default if default in values else values[0]
    return inputs.enum(name, values, view=view, default=default, **kwargs)


def whole(inputs: types.Object, name: str, **kwargs: Any) -> types.Property:
    """Add a whole number, within its limits."""
    low, high = params.WHOLE_NUMBERS[name]
    return inputs.int(name, min=low, max=high, **kwargs)


def message(inputs: types.Object, name: str, text: str, *, severity: str = "info", title: str = "") -> None:
    """Add a box with a text of severity `info`, `warning`, or `error`; an error disables the form."""
    view = types.AlertView(severity=severity, label=title or text, description=text if title else None)
    prop = inputs.view(name, view)
    if severity == "error":
        prop.invalid = True
        prop.error_message = text


def name_fields_of_images(inputs: types.Object) -> None:
    """Give the fields in a form's texts the names that they have in images, see `as_videos`."""
    for prop in inputs.properties.values():
        prop.error_message = prop.error_message and name_images(prop.error_message)
        for name in ("label", "description"):
            if text := getattr(prop.view, name, None):
                setattr(prop.view, name, name_images(text))


def open_sample(ctx: ExecutionContext) -> SampleCollection:
    """What is open in the App's window: a video, a clip of one, or a group of images.

    Raises:
        ColorTrackError: if nothing is open
    """
    if not ctx.current_sample:
        raise ColorTrackError("Open a video first")
    if is_image_groups(ctx.view):
        groups = [ids for ids in members_of_groups(ctx.view) if ctx.current_sample in ids]
        return ctx.view.select([id for ids in groups for id in ids])
    parts = ctx.view._is_clips or ctx.view._is_frames
    return (ctx.view if parts else all_videos(ctx.dataset)).select(ctx.current_sample)


def validate(prop: types.Property, check: Callable[[], object]) -> bool:
    """If the check raises a ColorTrackError, mark an input with the reason; return whether it is valid.

    Names of Python's parameters in parentheses are removed: the form has a switch or a choice for them.
    """
    try:
        check()
    except ColorTrackError as error:
        prop.invalid = True
        prop.error_message = re.sub(r" \((objects|overwrite|skip_existing|resume)\)", "", str(error))
        return False
    return True


def check_writable(inputs: types.Object, folder: Path, setting: str) -> None:
    """Show an error if a folder, which need not exist yet, is not writable; `setting` is the variable that sets it."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        text = f"Cannot write to {there}. Set {setting} to another folder, and restart FiftyOne"
        message(inputs, "unwritable", text, severity="error")


def field_choices(view: SampleCollection, *kinds: type[fo.Label], empty: bool = True) -> list[Choice]:
    """Frame fields of labels, by default of all types; fewest labels first, empty fields last."""
    labeled = {
        name: [len(numbers) for numbers in labeled_frames(view, name).values()]
        for name, kind in seed_fields(view).items()
        if not kinds or kind in kinds
    }
    types = seed_fields(view)
    return [
        (frame_path(name), frame_path(name), f"{NOUNS[types[name]]} in {frames_of_videos(counts)}")
        for name, counts in sorted(labeled.items(), key=lambda item: sum(item[1]) or inf)
        if empty or any(counts)
    ]


def escape(text: str) -> str:
    """Text that people chose, such as names of labels and files, for use in Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", text)


def unescape(text: str) -> str:
    """The text that `escape` got."""
    return re.sub(r"\\([\\`*_\[\]<>#|~$&])", r"\1", text)


def frames_of_videos(counts: list[int]) -> str:
    """Text such as "3 frames of 2 videos", from the number of frames in each video."""
    return f"{plural(sum(counts), 'frame')} of {plural(sum(map(bool, counts)), 'video')}"


def unused_name(stem: str, used: Iterable[str]) -> str:
    """A name that is not used yet: the stem, with a number if necessary."""
    used, name, number = set(used), stem, 2
    while name in used:
        name, number = f"{stem}_{number}", number + 1
    return name
