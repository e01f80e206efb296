"""What the parameters of all operators may be: anything else counts as not given, and is marked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fiftyone.operators import types

from fiftyone_colortrack.tracking.config import LIMITS

WHOLE_NUMBERS: dict[str, tuple[int, int]] = {
    "count": (1, 100),
    "first_frame": (1, 10_000_000),
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
TEXTS |= {"format", "split", "span", "tracks", "unfinished", "view_target"}


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


def _fault(name: str, value: Any) -> str:
    """Why a value does not fit; empty if it does."""
    if name in WHOLE_NUMBERS:
        low, high = WHOLE_NUMBERS[name]
        good = type(value) is int and low <= value <= high  # True is no number here
        return "" if good else f"Must be a whole number from {low:,} to {high:,}"
    if name in SHARES:
        good = type(value) in (int, float) and 0 <= value <= 1
        return "" if good else "Must be a number from 0 to 1"
    if name in SWITCHES:
        return "" if isinstance(value, bool) else "Must be true or false"
    if name in TEXTS:
        return "" if _is_text(value) else "Must be a string"
    if name == "sequences":
        return "" if isinstance(value, list) and all(map(_is_text, value)) else "Must be a list of names"
    if name == "folder":
        path = value.get("absolute_path") if isinstance(value, dict) else value
        return "" if path is None or _is_text(path) else "Must be the path of a folder"
    return ""


def _is_text(value: Any) -> bool:
    """Whether it is text that paths and the database take: neither NUL nor half a character."""
    return isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value)
