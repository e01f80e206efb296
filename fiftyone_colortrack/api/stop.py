"""Runs that people can stop, from wherever the run's dataset is open."""

from __future__ import annotations

import secrets
import time

import fiftyone as fo
from fiftyone.operators.store import ExecutionStore

SECONDS_BETWEEN_POLLS = 0.5
RUN_EXPIRES = 24 * 3600


def dataset_store(dataset: fo.Dataset) -> ExecutionStore:
    """What this program remembers about a dataset, beside its samples."""
    return ExecutionStore.create("colortrack", dataset._doc.id)


class StopSignal:
    """Whether a person asked a run to stop; while the run lasts it is listed by `running`.

    Args:
        store: the dataset's store of this plugin
        title: of the run, as people read it
        id: of the run; by default a new one
    """

    def __init__(self, store: ExecutionStore, title: str, id: str | None = None) -> None:
        self._store = store
        self.id = id or secrets.token_hex(4)
        self._stopped = False
        self._polled = time.monotonic()
        store.set(f"running:{self.id}", title, ttl=RUN_EXPIRES)

    def __call__(self) -> bool:
        if not self._stopped and time.monotonic() - self._polled > SECONDS_BETWEEN_POLLS:
            self._polled = time.monotonic()
            self._stopped = self._store.get(f"stop:{self.id}") is not None
        return self._stopped

    def request(self) -> None:
        """Stop at the next opportunity."""
        self._stopped = True

    def __enter__(self) -> StopSignal:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.delete(f"running:{self.id}")
        self._store.delete(f"stop:{self.id}")


def running(store: ExecutionStore) -> dict[str, str]:
    """The runs on a dataset that can be stopped, and their titles."""
    keys = [key for key in store.list_keys() if key.startswith("running:")]
    return {key.removeprefix("running:"): store.get(key) for key in keys}


def request_stop(store: ExecutionStore, id: str) -> None:
    """Ask a run of `running` to stop; it does so after the frame in hand."""
    store.set(f"stop:{id}", True, ttl=RUN_EXPIRES)
