"""Estimates that forms show before a run: its time on this machine, and the size of what it writes."""

from __future__ import annotations

import platform

from fiftyone.core.collections import SampleCollection
from fiftyone.operators.store import ExecutionStore

from fiftyone_colortrack.api.report import duration
from fiftyone_colortrack.fields import SeedFrames, labeled_frames, select_frames

UNITS = ["bytes", "KB", "MB", "GB", "TB"]


def remember_speed(work: str, amount: float, seconds: float) -> None:
    """Keep the speed of a run for the estimate of the next one. Half of what was known counts as well.

    Args:
        work: name of the work, including its settings
        amount: amount of work, such as a number of frames or megapixels
        seconds: time that it took
    """
    if amount and seconds:
        before = _speeds().get(_key(work)) or (0.0, 0.0)
        _speeds().set(_key(work), [before[0] / 2 + amount, before[1] / 2 + seconds])


def time_needed(work: str, amount: float, seconds_each: float | None = None, start: float = 0.0) -> str:
    """The estimated time of some work, as text.

    Args:
        work: name of the work, as in `remember_speed`
        amount: amount of work, as in `remember_speed`
        seconds_each: measured time on two CPU cores, for machines that have not done such work yet
        start: seconds before the work starts
    """
    if measured := _speeds().get(_key(work)):
        return f"about {duration(max(start + amount * measured[1] / measured[0], 1))} at this machine's speed"
    if seconds_each:
        return f"about {duration(max(start + amount * seconds_each, 1))} on two CPU cores"
    return "the remaining time appears once it runs"


def label_bytes(view: SampleCollection, field: str, which: SeedFrames) -> float:
    """Mean size in the database of a frame's labels, measured on labeled frames."""
    labeled = select_frames(view, field, labeled_frames(view, field, which))
    count = labeled.count("frames")
    return labeled.stats()["frames_bytes"] / count if count else 0.0


def size(count: float) -> str:
    """`12 KB`, `1.3 GB`."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.{1 if count < 10 and unit > 1 else 0}f} {UNITS[unit]}"


def _speeds() -> ExecutionStore:
    return ExecutionStore.create("colortrack")  # of no dataset


def _key(work: str) -> str:
    return f"amount_and_seconds:{platform.node()}:{work}"
