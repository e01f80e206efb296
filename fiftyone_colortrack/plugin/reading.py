"""What forms read from a dataset, cached while it does not change: every keystroke builds a form again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bson import json_util
from fiftyone.core.collections import SampleCollection


@dataclass(frozen=True)
class _State:
    """A view at a time; equal to that of another time if nothing has changed in between."""

    view: SampleCollection = field(compare=False)
    key: tuple[object, ...]


def reader(view: SampleCollection) -> Callable[..., Any]:
    """Calls functions of a view of videos, `read(function, ...)` for `function(view, ...)`, but only once
    while the dataset stays as it is. What they return is shared: it must not be changed.

    Changes are told by the times that FiftyOne keeps, by the clocks of whatever machines: good enough for
    what a form says, not for what a run does.
    """
    dataset = view._root_dataset
    key = (
        json_util.dumps(view.view()._serialize()),
        dataset._doc.id,
        dataset.last_modified_at,
        *(dataset._max(f"{of}last_modified_at") for of in ("", "frames.")),  # both have an index
        *(of.estimated_document_count() for of in (dataset._sample_collection, dataset._frame_collection)),
    )
    return lambda function, *args, **options: _read(function, _State(view, key), *args, **options)


@lru_cache(maxsize=64)
def _read(function: Callable[..., Any], state: _State, *args: Any, **options: Any) -> Any:
    return function(state.view, *args, **options)
