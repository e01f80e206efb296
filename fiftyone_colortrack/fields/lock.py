"""Locks that let one process at a time change something, on any machine."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable

import fiftyone as fo
import fiftyone.core.odm as foo
from pymongo.errors import DuplicateKeyError, PyMongoError

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.schema import IMAGES

logger = logging.getLogger(__name__)

LEASE = 10.0
"""Seconds without a sign of life after which a lock is free again."""
SECONDS_BETWEEN_TRIES = 0.05


class Lock:
    """Lock a part of a dataset against changes by all other processes: a context manager that waits for its turn.

        with Lock(dataset, "schema"):
            dataset.reload()
            dataset.add_frame_field(...)

    The lock is a document in FiftyOne's database, which all machines share. While it is held, a thread counts
    up a number in it. Whoever waits watches that number on a clock of its own, so no clock of a server or of
    another machine matters: a holder that shows no sign of life for `LEASE` seconds loses the lock.

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
        self._released = threading.Event()
        self.held = False

    def __enter__(self) -> Lock:
        seen, since = None, time.monotonic()
        while not self._insert():
            holder = self._locks.find_one({"_id": self._key})
            if holder != seen:
                seen, since = holder, time.monotonic()
            elif holder and time.monotonic() - since > LEASE:
                if self._locks.delete_one(holder).deleted_count:
                    part = "/".join(self._key.split("/")[1:])
                    logger.warning(
                        "The holder of %s gave no sign of life for %g s; its lock is taken", part, LEASE
                    )
                continue
            if self._stop():
                return self
            time.sleep(SECONDS_BETWEEN_TRIES)
        self.held = True
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
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

    def _insert(self) -> bool:
        try:
            self._locks.insert_one({"_id": self._key, "owner": self._owner, "beat": 0})
        except DuplicateKeyError:
            return False
        return True

    def _renew(self) -> bool:
        own = {"_id": self._key, "owner": self._owner}
        return bool(self._locks.update_one(own, {"$inc": {"beat": 1}}).matched_count)

    def _beat(self) -> None:
        while not self._released.wait(LEASE / 5):
            try:
                if not self._renew():
                    return
            except PyMongoError as error:
                logger.warning("Cannot reach the database: %s", error)
