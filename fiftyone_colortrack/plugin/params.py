"""The parameters of all operators: their types and limits, and what the reference says about them.

A value of the wrong type or outside its limits counts as not given, and the form marks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fiftyone.operators import types

from fiftyone_colortrack.tracking.config import LIMITS

WHOLE_NUMBERS: dict[str, tuple[int, int]] = {
    "count": (1, 100),
    "first_frame": (1, 10_000_000),
    "frame_number": (1, 10_000_000),
    "last_frame": (1, 10_000_000),
    "max_samples": (1, 1_000_000),
    "next_frames": (1, 10_000_000),
    "shards": (1, 64),
    "steps": (1, 10_000_000),
    **{
        name: (int(LIMITS[name][0]), int(LIMITS[name][1]))
        for name in ("input_size", "memory", "radius", "top_k")
    },
}
"""Limits of whole numbers, those of the tracker's settings included."""
SHARES = {"min_confidence"}
SWITCHES = {"advanced", "clean_masks", "complete", "end_at_cuts", "only_selected", "overwrite", "replace"}
SWITCHES |= {"confidence", "cuts", "zero"}
TEXTS = {"basis", "difficulty", "direction", "eval_key", "existing", "gt_field", "init", "label", "model"}
TEXTS |= {"name", "objects", "on_error", "label_field", "output", "pred_field", "run", "seed_field", "seeds"}
TEXTS |= {"edit", "format", "split", "span", "tracks", "unfinished", "view_target"}

_MODEL = "a model that `colortrack models` lists"
_VIEW = {
    "view_target": (
        "the current view",
        "samples to process: `DATASET`, `CURRENT_VIEW`, or `SELECTED_SAMPLES`",
    )
}
_FOLDER = {
    "folder": ("required", "folder of the data"),
    "name": ("a new name", "name of the dataset"),
    "on_error": (
        "`raise`",
        "if a video cannot be read: `raise` creates no dataset, `skip` leaves the video out",
    ),
}
_SPLITS = {**_FOLDER, "split": ("`all`", "split to load; `all` loads every split")}
_RENDER = {
    "model": ("`fast`", _MODEL),
    "overwrite": ("`False`", "render videos again that already exist"),
    **_VIEW,
}
_PROPAGATE = {
    "seed_field": ("required", "frame field with detections, keypoints, polylines, or segmentations"),
    "seeds": (
        "`first`",
        "frames to start from: the `first` labeled frame, `all` labeled frames, or `keyframes`",
    ),
    "label_field": ("required", "frame field for the tracks, new or from an earlier run"),
    "existing": (
        "`skip_existing`",
        "if that field already has tracks: `skip_existing` continues them, `overwrite` replaces them",
    ),
    "replace": ("`False`", "if that field has labels that are not tracks: replace them"),
    "objects": ("all objects", "classes, indexes, or IDs of the objects to track, separated by commas"),
    "only_selected": ("`True`", "if labels are selected in the App: track only those"),
    "span": (
        "`all`",
        "frames to label: `all`, the `range` from `first_frame` to `last_frame`, or the `next` frames",
    ),
    "first_frame": ("the frame that is shown, that of the selected label, or `1`", "first frame of the span"),
    "last_frame": ("`first_frame`", "last frame of a `range`"),
    "next_frames": ("`50`", "number of frames to label after `first_frame`, if `span` is `next`"),
    "direction": ("`both`", "direction in time: `both`, `forward`, or `backward`"),
    "model": ("`fast`", f"{_MODEL}, or a baseline: `identity`, `flow`, or `raft`"),
    "output": (
        "`same`",
        "labels to write: the `same` type as the seeds, `masks`, `boxes`, `polylines`, or a `segmentation`",
    ),
    "complete": (
        "`False`",
        "labeled frames show every object: a track ends at a labeled frame that omits its object",
    ),
    "end_at_cuts": ("`True`", "end tracks at shot changes"),
    "clean_masks": ("`True`", "remove specks from masks"),
    "cuts": ("`False`", "keep the shots as temporal detections in the field `<label_field>_shots`"),
    "min_confidence": ("`0.0`", "discard labels below this confidence"),
    "memory": ("`7`", "number of recent frames to search for matches"),
    "radius": (
        "`128`",
        "farthest that anything moves from one frame to the next, in pixels of the scaled frame",
    ),
    "top_k": ("`10`", "number of best matches to copy labels from"),
    "input_size": ("the model's own", "short side that frames are scaled to, in pixels"),
    "shards": ("`1`", "number of delegated operations that share the videos"),
}
PARAMETERS: dict[str, dict[str, tuple[str, str]]] = {
    "propagate_labels": {**_PROPAGATE, **_VIEW},
    "propagate_labels_in_video": _PROPAGATE,
    "edit_track": {
        "edit": (
            "`rename`, or `merge` if two labels are selected",
            "`rename` the track, `end` or `begin` it at a frame, `split` it there, or `merge` "
            "the two selected tracks",
        ),
        "frame_number": ("the frame that is shown, or that of the selected label", "where to edit the track"),
        "label": ("required to rename", "new class of the track"),
    },
    "stop_tracking": {"run": ("required", "ID of the run to stop")},
    "evaluate_tracks": {
        "pred_field": ("required", "frame field of the tracks"),
        "gt_field": ("required", "frame field of the ground truth"),
        "eval_key": ("required", "name of the evaluation"),
        "zero": ("`False`", "score videos without tracks as zero instead of leaving them out"),
        "overwrite": ("`False`", "replace an evaluation with this name"),
        **_VIEW,
    },
    "export_tracks": {
        "label_field": ("required", "frame field of the tracks"),
        "format": (
            "`mot`",
            "`mot` for boxes, `youtube-vis` for masks and boxes, or `davis` for masks",
        ),
        "folder": ("required", "parent of the new folder"),
        "name": ("`<dataset>-tracks`", "name of the new folder"),
        **_VIEW,
    },
    "import_tracks": _FOLDER,
    "load_davis": {**_SPLITS, "sequences": ("all sequences", "names of the sequences to load")},
    "load_jhmdb": _SPLITS,
    "load_kinetics": {**_SPLITS, "max_samples": ("no limit", "largest number of videos to load")},
    "load_scenes": {
        "count": ("`4`", "number of videos"),
        "difficulty": (
            "`easy`",
            "`easy` for slow, distinct objects; `hard` for fast, similar, occluding ones",
        ),
        "name": ("a new name", "name of the dataset"),
    },
    "colorize_videos": _RENDER,
    "embed_videos": {
        "basis": ("`video`", "false colors for each `video`, or for the whole `dataset`"),
        **_RENDER,
    },
    "film_videos": {
        "label_field": ("none", "frame field of the tracks to show"),
        "confidence": ("`False`", "show the tracker's confidence"),
        **_RENDER,
    },
    "suggest_frame": {"label_field": ("the first field of tracks", "frame field of the tracks to improve")},
    "train_tracker": {
        "name": ("required", "name of the model: letters, digits, `-`, and `_`"),
        "init": ("`fast`", "model to start from, or `random` for random weights"),
        "steps": ("`1000`", "number of steps, including those of a run that you resume"),
        "unfinished": (
            "`resume`",
            "if a run with this name was stopped: `resume` it, or `overwrite` it",
        ),
        "overwrite": ("`False`", "replace a model with this name"),
        **_VIEW,
    },
}
"""For the reference, by operator and parameter: the default and the meaning, in Markdown."""


def fitting(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without those that are of a wrong type, or out of their limits."""
    return {name: value for name, value in params.items() if value is not None and not _fault(name, value)}


def mark(form: types.Property, params: Mapping[str, Any]) -> None:
    """Mark the inputs of a form whose parameters do not fit, with the reason."""
    for name, prop in form.type.properties.items():
        value = params.get(name)
        fault = "" if value is None else _fault(name, value)
        if not fault and isinstance(prop.type, types.Enum) and value not in [None, *prop.type.values]:
            fault = f"{value!r:.40} is not one of the choices"
        if fault:
            prop.invalid, prop.error_message = True, fault


def kind(name: str) -> str:
    """What a parameter must be, such as "a string"; empty if it may be anything."""
    if name in WHOLE_NUMBERS:
        low, high = WHOLE_NUMBERS[name]
        return f"a whole number from {low:,} to {high:,}"
    if name in SHARES:
        return "a number from 0 to 1"
    if name in SWITCHES:
        return "true or false"
    if name in TEXTS:
        return "a string"
    return {"sequences": "a list of names", "folder": "the path of a folder"}.get(name, "")


def _fault(name: str, value: Any) -> str:
    """Why a value does not fit; empty if it does."""
    if name in WHOLE_NUMBERS:
        low, high = WHOLE_NUMBERS[name]
        good = type(value) is int and low <= value <= high  # True is no number here
    elif name in SHARES:
        good = type(value) in (int, float) and 0 <= value <= 1
    elif name in SWITCHES:
        good = isinstance(value, bool)
    elif name in TEXTS:
        good = _is_text(value)
    elif name == "sequences":
        good = isinstance(value, list) and all(map(_is_text, value))
    elif name == "folder":
        path = value.get("absolute_path") if isinstance(value, dict) else value
        good = path is None or _is_text(path)
    else:
        return ""
    return "" if good else f"Must be {kind(name)}"


def _is_text(value: Any) -> bool:
    """Whether it is text that paths and the database take: neither NUL nor half a character."""
    return isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value)
