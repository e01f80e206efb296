"""Track videos with Ray workers: one for each GPU, or for each CPU if there is no GPU."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.api.job import Job
from fiftyone_colortrack.api.plan import PlannedVideo
from fiftyone_colortrack.api.report import Clock, VideoResult
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.progress import ProgressCallback

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # at a video whose workers are lost
SECONDS_BETWEEN_POLLS = 0.2
SECONDS_OF_PATIENCE = 20.0  # with a cluster that has no room for a first worker, before a warning
SECONDS_TO_STOP = 30.0  # after which workers that do not answer, or never started, are left behind


class Worker:
    """An actor that tracks one video at a time in one thread, and reports its progress in another."""

    def __init__(self, job: dict[str, Any], run_key: str) -> None:
        self._values, self._run_key = job, run_key
        self._job: Job | None = None
        self._stop = threading.Event()
        self._at: tuple[Any, ...] = ()  # the arguments of `Clock.step` after the video, while it tracks

    def at(self, stop: bool = False) -> tuple[Any, ...]:
        """Its progress. It answers once Ray has found room for it, and only then gets a video."""
        if stop:
            self._stop.set()
        return self._at

    def track(self, video: PlannedVideo) -> VideoResult | None:
        """Track a video, unless an earlier worker did and was only lost before it could say so."""
        self._job = self._job or Job.from_dict(self._values)
        self._job.loaded_model  # noqa: B018  # where it cannot be loaded, no video can be tracked
        if written := self._job.finished([video], self._run_key):
            return written[0]
        try:
            return self._job.track(
                video, self._run_key, lambda *at: setattr(self, "_at", at), self._stop.is_set
            )
        finally:
            self._at = ()


def check_ray() -> None:
    """Raise a ColorTrackError if Ray is not installed."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise ColorTrackError(
            "executor 'ray' needs Ray, which is not installed: pip install 'fiftyone-colortrack[ray]'"
        ) from error


def track_with_ray(
    job: Job,
    videos: Sequence[PlannedVideo],
    run_key: str,
    update: ProgressCallback,
    stop: Callable[[], bool],
) -> list[VideoResult]:
    """Track videos with the workers of a Ray cluster.

    The cluster is the one that this process is connected to, else the one in RAY_ADDRESS, else this machine for the
    duration of the run.

    Raises:
        ColorTrackError: if Ray is not installed, or its cluster cannot be joined
    """
    check_ray()
    import ray

    connected = ray.is_initialized()
    if not connected:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(logging_level=logging.WARNING)
        except ConnectionError as error:
            raise ColorTrackError(
                f"Ray's cluster at {os.environ.get('RAY_ADDRESS')} cannot be joined: {error}; check that it "
                "runs (`ray status`) and has the same token as this machine"
            ) from error
    try:
        return _Run(job, videos, run_key, update).track(stop)
    finally:
        if not connected:
            ray.shutdown()


class _Run:
    def __init__(
        self, job: Job, videos: Sequence[PlannedVideo], run_key: str, update: ProgressCallback
    ) -> None:
        import ray

        self._job, self._videos = job, videos
        there = ray.cluster_resources()
        on_gpu = there.get("GPU", 0) >= 1 and str(job.device or "cuda").startswith("cuda")
        self._slots = max(int(there.get("GPU" if on_gpu else "CPU", 1)), 1)
        takes = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
        worker: Any = ray.remote(Worker).options(**takes, max_concurrency=2)
        self._make_worker = partial(worker.remote, job.to_dict(), run_key)
        self._clock = Clock(videos, update)
        self._waiting = deque(range(len(videos)))
        self._lost = [0] * len(videos)  # workers, while they tracked each video
        self._starting: dict[ObjectRef, ActorHandle] = {}
        self._busy: dict[ObjectRef, tuple[ActorHandle, int]] = {}  # with the index of the video
        self._results: list[VideoResult] = []

    def track(self, stop: Callable[[], bool]) -> list[VideoResult]:
        import ray

        try:
            for _ in range(min(self._slots, len(self._videos))):
                self._hire()
            end, stopped, patience = math.inf, False, time.monotonic() + SECONDS_OF_PATIENCE
            while (self._busy or (self._waiting and not stopped)) and time.monotonic() < end:
                ended, _ = ray.wait([*self._starting, *self._busy], timeout=SECONDS_BETWEEN_POLLS)
                patience = math.inf if self._busy else patience
                if time.monotonic() > patience:
                    logger.warning("Ray's cluster has no room for a worker yet; `ray status` shows why")
                    patience = math.inf
                stopped = stopped or stop()
                end = min(end, time.monotonic() + SECONDS_TO_STOP) if stopped else end
                for ref in ended:
                    self._end(ref, stopped)
                self._ask(stopped)
        finally:
            self._ask(stop=True)
            if self._busy:  # any of them may be writing
                ray.wait(list(self._busy), num_returns=len(self._busy), timeout=SECONDS_TO_STOP)
            for actor in (*self._starting.values(), *(actor for actor, _ in self._busy.values())):
                ray.kill(actor)
        return self._results

    def _hire(self) -> None:
        """Ask for a worker, for which there may be no room before others end."""
        actor = self._make_worker()
        self._starting[actor.at.remote()] = actor

    def _ask(self, stop: bool) -> None:
        """Ask the busy workers for their progress; also ask them to stop, if wanted."""
        import ray

        for actor, video in self._busy.values():
            with suppress(ray.exceptions.RayError):  # it is lost
                at: Any = ray.get(actor.at.remote(stop), timeout=1)
                if at and not stop:  # a callback that fails must not keep others from being stopped
                    self._clock.step(video, *at)

    def _end(self, ref: ObjectRef, stopped: bool) -> None:
        """A worker has started or has tracked a video, or was lost: go on with the next video."""
        import ray

        actor, video = self._busy.pop(ref) if ref in self._busy else (self._starting.pop(ref), None)
        try:
            result = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            ray.kill(actor)  # where it is only out of reach
            if video is None and self._waiting:
                video = self._waiting.popleft()  # that it would have got: workers that never start end, too
            if video is not None:
                self._lose(video, error)
            if self._waiting and not stopped:
                self._hire()
            return
        if video is not None and result is not None:
            self._finish(video, result)
        if self._waiting and not stopped:  # else the worker ends, as nothing refers to it
            index = self._waiting.popleft()
            self._busy[actor.track.remote(self._videos[index])] = actor, index

    def _finish(self, video: int, result: VideoResult) -> None:
        self._results.append(result)
        self._clock.finish(video)

    def _lose(self, index: int, error: Exception) -> None:
        """See that a video whose worker was lost is tracked again, up to some times."""
        video = self._videos[index]
        self._lost[index] += 1
        if self._lost[index] < ATTEMPTS:
            logger.warning("The worker that tracked %s was lost; tracking the video again", video.filepath)
            self._waiting.appendleft(index)
            return
        reason = f"{ATTEMPTS} workers were lost while tracking it: {error}"
        if self._job.on_error == "raise":
            raise ColorTrackError(f"{video.filepath}: {reason}") from error
        self._finish(index, self._job.fail(video, reason))
