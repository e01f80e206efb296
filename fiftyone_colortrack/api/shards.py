"""Track videos with FiftyOne's delegated workers: each shard of videos is a delegated operation."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.factory.repo_factory import RepositoryFactory
from fiftyone.factory.repos import DelegatedOperationDocument
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionResult, ExecutionRunState

from fiftyone_colortrack.api.job import Job
from fiftyone_colortrack.api.plan import PlannedVideo
from fiftyone_colortrack.api.report import VideoResult
from fiftyone_colortrack.api.stop import request_stop
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import heartbeat
from fiftyone_colortrack.progress import ProgressCallback

logger = logging.getLogger(__name__)

OPERATOR = "@colortrack/fiftyone-colortrack/track_shard"
ATTEMPTS = 3  # at a shard whose workers are lost
SECONDS_BETWEEN_BEATS = 2.0
SECONDS_WITHOUT_BEAT = 60.0  # after which a worker is lost
SECONDS_BETWEEN_POLLS = 0.5


def split(videos: Sequence[PlannedVideo], count: int) -> list[list[PlannedVideo]]:
    """Share videos among at most `count` shards of about as many frames, always in the same way.

    The longest video first, each goes to the shard that has the fewest frames so far (Graham, 1969); within a
    shard the videos keep their order.
    """
    shards: list[list[int]] = [[] for _ in range(min(count, len(videos)))]
    frames = [0] * len(shards)
    for video in sorted(range(len(videos)), key=lambda index: -videos[index].frames):
        lightest = min(range(len(shards)), key=lambda shard: (frames[shard], len(shards[shard])))
        shards[lightest].append(video)
        frames[lightest] += videos[video].frames
    return [[videos[index] for index in sorted(shard)] for shard in shards]


def track_shards(
    job: Job,
    videos: Sequence[PlannedVideo],
    run_key: str,
    update: ProgressCallback,
    stop: Callable[[], bool],
) -> list[VideoResult]:
    """Share videos among at most `job.shards` shards that any `fiftyone delegated launch` takes.

    This follows the shards until they end, and queues a shard again if its worker is lost. If this process ends first,
    the shards continue.
    """
    parts = split(videos, job.shards)
    shards = [_Shard(job, part, run_key, f"{i} of {len(parts)}") for i, part in enumerate(parts, 1)]
    started = time.perf_counter()
    total = sum(video.frames for video in videos)
    while True:
        for shard in shards:
            shard.poll()
        done = round(sum(shard.fraction * shard.frames for shard in shards))
        fps = done / (time.perf_counter() - started)
        waiting = sum(shard.waiting for shard in shards)
        state = f"{sum(shard.ended for shard in shards)} of {len(shards)} shards finished"
        state += f", {waiting} waiting for a worker (fiftyone delegated launch)" if waiting else ""
        update(done, total, f"{state}, {fps:.1f} frames/s")
        results = [result for shard in shards for result in shard.results]
        failed = [result for result in results if result.status == "failed"] * (job.on_error == "raise")
        if all(shard.ended for shard in shards):
            if failed:
                raise ColorTrackError(failed[0].reason)
            return results
        if failed or stop():
            for shard in shards:
                shard.stop()
        time.sleep(SECONDS_BETWEEN_POLLS)


class _Shard:
    """A delegated operation, queued again if its worker is lost."""

    def __init__(self, job: Job, videos: Sequence[PlannedVideo], run_key: str, number: str) -> None:
        self._job, self._videos, self._run_key = job, videos, run_key
        self._service = DelegatedOperationService()
        self.frames = sum(video.frames for video in videos)
        self.results: list[VideoResult] = []
        self.fraction = 0.0
        self.ended = False
        self._lost = 0  # workers
        self._stopping = False
        self._title = title = f"Propagate frames.{job.seed_field} to frames.{job.label_field}, shard {number}"
        planned = [asdict(video) for video in videos]
        params = {"title": title, "job": job.to_dict(), "run_key": run_key, "videos": planned}
        request = {"dataset_name": job.dataset.name, "params": params, "delegated": True}
        self._follow(self._service.queue_operation(OPERATOR, title, context={"request_params": request}))

    def poll(self) -> None:
        """Update the progress and the results."""
        if self.ended:
            return
        try:
            operation = self._service.get(self._id)
        except ValueError:
            self._end(f"its delegated operation {self._id} was deleted")
            return
        self.waiting = operation.run_state == ExecutionRunState.QUEUED
        if operation.status is not None:
            self.fraction = operation.status.progress or 0.0
        if operation.run_state == ExecutionRunState.COMPLETED:
            results = operation.result.result["videos"]
            tuples = [{name: tuple(r[name]) for name in ("warnings", "cuts")} for r in results]
            self._end("", [VideoResult(**{**r, **t}) for r, t in zip(results, tuples, strict=True)])
        elif operation.run_state == ExecutionRunState.FAILED:
            error = operation.result.error if operation.result else "somebody stopped it"
            self._end(f"its delegated operation {self._id} failed: {error.strip().splitlines()[-1]}")
        elif operation.run_state == ExecutionRunState.RUNNING and not self._beats(operation.updated_at):
            self._lose()

    def stop(self) -> None:
        """Ask the worker to stop. Without a worker, the shard ends at once."""
        self._stopping = True
        if self.ended:
            return
        if self._set_failed("stopped", ExecutionRunState.QUEUED):
            self._end("")
        else:
            request_stop(str(self._id))

    def _follow(self, operation: DelegatedOperationDocument) -> None:
        self._id, self.waiting = operation.id, True
        self._beat, self._heard = None, time.monotonic()

    def _beats(self, beat: Any) -> bool:
        """Whether the worker is alive, by this machine's clock alone, because others may differ."""
        if beat != self._beat:
            self._beat, self._heard = beat, time.monotonic()
        return time.monotonic() - self._heard < SECONDS_WITHOUT_BEAT

    def _lose(self) -> None:
        """Take the operation from a worker that is lost, and queue another."""
        reason = f"its worker gave no sign of life for {SECONDS_WITHOUT_BEAT:.0f} s"
        if not self._set_failed(reason, ExecutionRunState.RUNNING):
            return  # it has ended just now
        self._lost += 1
        if self._stopping:
            self._end("")
        elif self._lost < ATTEMPTS:
            logger.warning("%s: %s; returned to the queue", self._title, reason)
            self._follow(self._service.rerun_operation(self._id))
        else:
            self._end(f"{ATTEMPTS} workers of its shard were lost")

    def _set_failed(self, reason: str, state: str) -> bool:
        """Whether the operation was in a state, and no longer is."""
        result = ExecutionResult(error=reason)
        return self._service.set_failed(self._id, result, required_state=state) is not None

    def _end(self, failed: str, results: Sequence[VideoResult] = ()) -> None:
        """End with a worker's results; without them, with the videos that were written, and the others as `failed`."""
        self.ended, self.waiting, self.fraction = True, False, 1.0
        self.results = list(results) or self._job.finished(self._videos, self._run_key)
        if failed and not results:
            done = {result.sample_id for result in self.results}
            rest = [video for video in self._videos if video.id not in done]
            self.results += [self._job.fail(video, failed) for video in rest]


def track_shard(
    dataset: fo.Dataset,
    params: Mapping[str, Any],
    update: ProgressCallback,
    stop: Callable[[], bool],
) -> list[VideoResult]:
    """The work of one delegated operation, on the dataset that it was queued for."""
    videos = [PlannedVideo(**values) for values in params["videos"]]
    return Job.from_dict(params["job"], dataset).track_all(videos, params["run_key"], update, stop)


@contextmanager
def lease(id: ObjectId) -> Iterator[Callable[[], bool]]:
    """Keep a delegated operation alive while a block lasts.

    Yields:
        whether the operation was taken away, so that this worker must not continue it
    """
    operations = RepositoryFactory.delegated_operation_repo()
    lost = threading.Event()

    def beat() -> bool:
        try:
            if operations.get(id).run_state != ExecutionRunState.RUNNING:
                lost.set()
            operations.ping(id)
        except ValueError:  # deleted
            lost.set()
        return True

    with heartbeat(SECONDS_BETWEEN_BEATS, beat):
        yield lost.is_set
