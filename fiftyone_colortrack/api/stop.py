"""Running work on a dataset: list, follow, and stop it from anywhere."""

from __future__ import annotations

import secrets
import threading
from contextlib import ExitStack
from typing import NamedTuple

import fiftyone as fo
import fiftyone.core.odm as foo
from fiftyone.operators.store import ExecutionStore
from pymongo.collection import Collection

from fiftyone_colortrack.fields.lock import heartbeat

SECONDS_BETWEEN_BEATS = 0.5
SECONDS_WITHOUT_BEAT = 15
"""After which work counts as dead: its process was killed."""


def dataset_store(dataset: fo.Dataset) -> ExecutionStore:
    """What ColorTrack remembers about a dataset besides its samples."""
    return ExecutionStore.create("colortrack", dataset._doc.id)


class RunningWork(NamedTuple):
    """Running work.

    Attributes:
        id: see `request_stop`
        title: what is done
        message: where it is, in words
        fraction: share that is done
    """

    id: str
    title: str
    message: str
    fraction: float


class StopSignal:
    """List work as running while it lasts, and say whether a person asked to stop it.

        with StopSignal(dataset, "Training") as stop:
            train(..., stop=stop)

    Args:
        dataset: that is worked on; None for work that makes a new one
        title: of the work, as people read it
        id: of the work; by default a new one
    """

    def __init__(self, dataset: fo.Dataset | None, title: str, id: str | None = None) -> None:
        self.id = id or secrets.token_hex(4)
        self._stopped = threading.Event()
        self.left = threading.Event()
        """Set once `leave` was called."""
        self._progress = {"message": "", "fraction": 0.0}
        facts = {"dataset": None if dataset is None else dataset._doc.id, "title": title, **self._progress}
        _running().replace_one({"_id": self.id}, facts, upsert=True)
        self._beat()
        self._beats = ExitStack()
        self._beats.enter_context(heartbeat(SECONDS_BETWEEN_BEATS, self._beat))

    def __call__(self) -> bool:
        return self._stopped.is_set()

    def request(self) -> None:
        """Stop at the next opportunity."""
        self._stopped.set()

    def update(self, done: int, total: int, message: str) -> None:
        """Report progress: a progress callback."""
        self._progress = {"message": message, "fraction": done / total if total else 0.0}

    def __enter__(self) -> StopSignal:
        return self

    def __exit__(self, *_: object) -> None:
        self._beats.close()
        _running().delete_one({"_id": self.id})

    def _beat(self) -> bool:
        now = {"$set": {"seen": "$$NOW", **{key: {"$literal": v} for key, v in self._progress.items()}}}
        document = _running().find_one_and_update({"_id": self.id}, [now]) or {}
        if document.get("stop"):
            self._stopped.set()
        if document.get("left"):
            self.left.set()
        return True


def running(dataset: fo.Dataset) -> list[RunningWork]:
    """The running work on a dataset, oldest first. Work of killed processes disappears by itself."""
    silence = {"$abs": {"$subtract": ["$$NOW", "$seen"]}}  # or the server's clock was set back
    alive = {"$expr": {"$lt": [silence, 1000 * SECONDS_WITHOUT_BEAT]}}
    found = _running().find({"dataset": dataset._doc.id, **alive})
    return [RunningWork(d["_id"], d["title"], d["message"], d["fraction"]) for d in found]


def request_stop(id: str) -> None:
    """Ask running work to stop; it stops after the current frame or step."""
    _running().update_one({"_id": id}, {"$set": {"stop": True}})


def leave(id: str) -> None:
    """Ask the dialog that shows work in progress to let it go on in the background."""
    _running().update_one({"_id": id}, {"$set": {"left": True}})


def _running() -> Collection:
    return foo.get_db_conn()["colortrack.running"]
