"""What the parameters of all operators may be: anything else counts as not given, and is marked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fiftyone.operators import types

LIMITS: dict[str, tuple[int, int]] = {
    "count": (1, 100),
    "input_size": (128, 1440),
    "max_samples": (1, 1_000_000),
    "memory": (1, 20),
    "radius": (1, 60),
    "shards": (1, 64),
    "steps": (1, 10_000_000),
    "top_k": (1, 100),
}
"""Of whole numbers."""
SWITCHES = {"advanced", "only_selected", "overwrite", "replace"}
TEXTS = {"basis", "difficulty", "direction", "eval_key", "existing", "gt_field", "init", "model", "name"}
TEXTS |= {"on_error", "out_field", "output", "pred_field", "run", "seed_field", "seeds", "split", "tracks"}
TEXTS |= {"unfinished", "view_target"}


def fitting(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without those that are of a wrong type, or out of their limits."""
    return {name: value for name, value in params.items() if value is not None and not _fault(name, value)}


def mark(form: types.Property, params: Mapping[str, Any]) -> None:
    """Mark the inputs of a form whose parameters do not fit, with the reason."""
    for name, prop in form.type.properties.items():
        value = params.get(name)
        fault = "" if value is None else _fault(name, value)
        if not fault and isinstance(prop.type, types.Enum) and value not in [None, *prop.type.values]:
            fault = f"There is no choice {value!r:.40} here"
        if fault:
            prop.invalid, prop.error_message = True, fault


def _fault(name: str, value: Any) -> str:
    """Why a value does not fit; empty if it does."""
    if name in LIMITS:
        low, high = LIMITS[name]
        good = type(value) is int and low <= value <= high  # True is no number here
        return "" if good else f"A whole number from {low:,} to {high:,}"
    if name in SWITCHES:
        return "" if isinstance(value, bool) else "Yes or no: true or false"
    if name in TEXTS:
        return "" if _is_text(value) else "A text"
    if name == "sequences":
        return "" if isinstance(value, list) and all(map(_is_text, value)) else "A list of names"
    if name == "folder":
        path = value.get("absolute_path") if isinstance(value, dict) else value
        return "" if path is None or _is_text(path) else "The path of a folder"
    return ""


def _is_text(value: Any) -> bool:
    """Whether it is text that paths and the database take: neither NUL nor half a character."""
    return isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value)
