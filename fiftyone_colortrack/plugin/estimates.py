"""What a run will take, for forms to say before it starts: time on this machine, bytes that it writes."""

from __future__ import annotations

import platform

from fiftyone.core.collections import SampleCollection
from fiftyone.operators.store import ExecutionStore

from fiftyone_colortrack.api.report import duration
from fiftyone_colortrack.fields import SeedFrames
from fiftyone_colortrack.fields.seeds import select_labelled

UNITS = ["bytes", "KB", "MB", "GB", "TB"]


def remember_speed(work: str, frames: int, seconds: float) -> None:
    """Keep the speed of a run for the next one's estimate; `work` names what was done, and with what."""
    if frames and seconds:
        _speeds().set(_key(work), frames / seconds)


def time_needed(work: str, frames: int, seconds_per_frame: float | None = None) -> str:
    """How long some work takes, in words.

    Args:
        work: see `remember_speed`
        frames: how many
        seconds_per_frame: measured elsewhere, on two CPU cores; used until this machine has done such work
    """
    speed = _speeds().get(_key(work))
    if speed:
        return f"about {duration(max(frames / speed, 1))} at the speed of the last run"
    if seconds_per_frame:
        return f"about {duration(max(frames * seconds_per_frame, 1))} on two CPU cores"
    return "how long it takes shows when it runs"


def label_bytes(view: SampleCollection, field: str, which: SeedFrames) -> float:
    """Mean size in the database of a frame's labels, those of labelled frames being counted."""
    labelled = select_labelled(view, field, which)
    count = labelled.count("frames")
    return labelled.stats()["frames_bytes"] / count if count else 0.0


def size(count: float) -> str:
    """`12 KB`, `1.3 GB`."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.{1 if count < 10 and unit > 1 else 0}f} {UNITS[unit]}"


def _speeds() -> ExecutionStore:
    return ExecutionStore.create("colortrack")  # of no dataset


def _key(work: str) -> str:
    return f"frames_per_second:{platform.node()}:{work}"
