"""Locks that let one process at a time change something, on any machine."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import fiftyone as fo
import fiftyone.core.odm as foo
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.schema import IMAGES

logger = logging.getLogger(__name__)

LEASE = 10.0
"""Seconds without a sign of life after which a lock is free again."""
SECONDS_BETWEEN_TRIES = 0.05
TAKE = {"upsert": True, "return_document": ReturnDocument.AFTER}


@contextmanager
def heartbeat(seconds: float, beat: Callable[[], bool]) -> Iterator[None]:
    """While a block lasts, call a function every few seconds in a thread, until it returns False."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            try:
                if not beat():
                    return
            except PyMongoError as error:
                logger.warning("Cannot reach the database: %s", error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Lock:
    """Lock a part of a dataset against changes by all other processes: a context manager that waits for its turn.

        with Lock(dataset, "schema"):
            dataset.reload()
            dataset.add_frame_field(...)

    The lock is a document in FiftyOne's database, which all machines share. While it is held, a thread increments
    a counter in it. A waiting process watches the counter by its own clock, so the clocks of servers and other
    machines do not matter. A holder whose counter stands still for `LEASE` seconds loses the lock.

    Args:
        dataset: the dataset
        what: names of the part
        stop: asked while it waits whether to give up; then `held` is False

    Attributes:
        held: whether this process holds the lock
    """

    def __init__(self, dataset: fo.Dataset, *what: str, stop: Callable[[], bool] = lambda: False) -> None:
        self._locks = foo.get_db_conn()["colortrack.locks"]
        self._key = "/".join((dataset.info.get(IMAGES, str(dataset._doc.id)), *what))
        self._owner = secrets.token_hex(8)
        self._stop = stop
        self._beats = ExitStack()
        self.held = False

    def __enter__(self) -> Lock:
        seen, since = None, time.monotonic()
        own = {"$setOnInsert": {"owner": self._owner, "beat": 0}}
        key = {"_id": self._key}
        while (holder := self._locks.find_one_and_update(key, own, **TAKE))["owner"] != self._owner:
            if holder != seen:
                seen, since = holder, time.monotonic()
            elif time.monotonic() - since > LEASE:
                if self._locks.delete_one(holder).deleted_count:
                    part = "/".join(self._key.split("/")[1:])
                    logger.warning(
                        "The holder of %s gave no sign of life for %g s, so its lock was taken over",
                        part,
                        LEASE,
                    )
                continue
            if self._stop():
                return self
            time.sleep(SECONDS_BETWEEN_TRIES)
        self.held = True
        self._beats.enter_context(heartbeat(LEASE / 5, self._renew))
        return self

    def __exit__(self, *_: object) -> None:
        self._beats.close()
        self.held = False
        self._locks.delete_one({"_id": self._key, "owner": self._owner})

    def check(self) -> None:
        """Check that the lock is still held. Call this before every write.

        Raises:
            ColorTrackError: if this process paused for so long that another process took the lock
        """
        if not self._renew():
            raise ColorTrackError(
                f"this run paused for more than {LEASE:g} seconds, and another run took over its work; "
                "run it again"
            )

    def _renew(self) -> bool:
        own = {"_id": self._key, "owner": self._owner}
        return bool(self._locks.update_one(own, {"$inc": {"beat": 1}}).matched_count)
