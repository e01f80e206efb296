"""One process at a time, on whatever machine."""

from __future__ import annotations

import secrets
import time
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as foo
from pymongo.errors import DuplicateKeyError

from fiftyone_colortrack.errors import ColorTrackError

LEASE = 20
"""Seconds after which a lock is free again whose process was killed."""
SECONDS_BETWEEN_TRIES = 0.05


class Lock:
    """Keeps all processes but one from changing a part of a dataset: a context manager that waits its turn.

        with Lock(dataset, "schema"):
            dataset.reload()
            dataset.add_frame_field(...)

    The lock lies in FiftyOne's database, which all machines share. Who holds it for long has to `renew` it.

    Args:
        dataset: the dataset
        what: names the part
    """

    def __init__(self, dataset: fo.Dataset, *what: str) -> None:
        self._locks = foo.get_db_conn()["colortrack.locks"]
        self._key = "/".join((str(dataset._doc.id), *what))
        self._owner = secrets.token_hex(8)

    def __enter__(self) -> Lock:
        while not self._take():
            time.sleep(SECONDS_BETWEEN_TRIES)
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.delete_one({"_id": self._key, "owner": self._owner})

    def renew(self) -> None:
        """Hold it for another `LEASE` seconds.

        Raises:
            ColorTrackError: if it has expired, and another process has taken it since
        """
        held = self._locks.update_one({"_id": self._key, "owner": self._owner}, _until())
        if not held.matched_count:
            raise ColorTrackError(
                f"this run paused for over {LEASE} seconds, and another one wrote the same labels meanwhile; "
                "run it again"
            )

    def _take(self) -> bool:
        """Insert the lock; False if another one's is there."""
        self._locks.delete_one({"_id": self._key, "$expr": {"$lt": ["$until", "$$NOW"]}})  # expired
        try:
            self._locks.update_one({"_id": self._key, "owner": self._owner}, _until(), upsert=True)
        except DuplicateKeyError:
            return False
        return True


def _until() -> list[dict[str, Any]]:
    """Sets the end of the lease, by the server's clock: those of machines differ."""
    return [{"$set": {"until": {"$add": ["$$NOW", 1000 * LEASE]}}}]
