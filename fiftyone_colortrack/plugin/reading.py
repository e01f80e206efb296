"""A cache for what forms read from a dataset, because FiftyOne builds a form again at every keystroke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bson import json_util
from fiftyone.core.collections import SampleCollection


@dataclass(frozen=True)
class _State:
    """A view at a certain time, equal to the view at another time if nothing changed in between."""

    view: SampleCollection = field(compare=False)
    key: tuple[object, ...]


def reader(view: SampleCollection) -> Callable[..., Any]:
    """A function `read(function, ...)` that calls `function(view, ...)`, but only once as long as the dataset stays as
    it is. Do not change what it returns: the results are shared.

    It detects changes by FiftyOne's timestamps, from the clocks of any machines. That is good enough for forms, but
    not for runs.
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
