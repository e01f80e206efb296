"""Caches for what forms read from a dataset, because FiftyOne builds a form again at every keystroke."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bson import json_util
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.fields import as_videos, check_videos, is_image_groups

SECONDS_KEPT = 30


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
    key = _key(view)
    return lambda function, *args, **options: _read(function, _State(view, key), *args, **options)


def _key(view: SampleCollection) -> tuple[object, ...]:
    """What changes when a view or its dataset changes."""
    dataset, parts = view._root_dataset, [""]
    collections = [dataset._sample_collection]
    if dataset._has_frame_fields():
        parts.append("frames.")
        collections.append(dataset._frame_collection)
    return (
        json_util.dumps(view.view()._serialize()),
        dataset._doc.id,
        dataset.last_modified_at,
        *(dataset._max(f"{of}last_modified_at") for of in parts),  # each has an index
        *(of.estimated_document_count() for of in collections),
    )


@lru_cache(maxsize=64)
def _read(function: Callable[..., Any], state: _State, *args: Any, **options: Any) -> Any:
    return function(state.view, *args, **options)


class _Kept:
    """Groups of images as videos, until something changes, or nobody asks for them any more."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._key: tuple[object, ...] = ()
        self._videos: SampleCollection | None = None
        self._copy = ExitStack()
        self._timer = threading.Timer(0, self.forget)

    @contextmanager
    def read(self, view: SampleCollection) -> Iterator[SampleCollection]:
        with self._lock:
            self._timer.cancel()
            if (key := _key(view)) != self._key:
                self.forget()
                self._videos = self._copy.enter_context(as_videos(view))
                self._key = key
            try:
                yield self._videos
            finally:
                self._timer = threading.Timer(SECONDS_KEPT, self.forget)
                self._timer.daemon = True
                self._timer.start()

    def forget(self) -> None:
        with self._lock:
            self._key = ()
            self._copy.close()


_kept = _Kept()


@contextmanager
def videos_of(
    view: SampleCollection, read: Callable[..., SampleCollection] = check_videos
) -> Iterator[SampleCollection]:
    """`as_videos` for forms: the copy of groups of images is kept for the next keystroke."""
    with _kept.read(view) if is_image_groups(view) else as_videos(view, read) as videos:
        yield videos


def forget() -> None:
    """Delete what `videos_of` keeps."""
    _kept.forget()
