"""Track videos with Ray workers: one for each GPU, or for each CPU if there is no GPU."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
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
SECONDS_A_TURN = 0.5
SECONDS_BETWEEN_POLLS = 0.2
SECONDS_OF_PATIENCE = 20.0  # with a cluster that has no room for a first worker, before it is said
SECONDS_TO_STOP = 30.0  # after which workers that do not answer, or never started, are left behind


class Worker:
    """An actor that tracks one video at a time in a thread, and reports its progress between turns."""

    def __init__(self, job: dict[str, Any], run_key: str) -> None:
        self._values, self._run_key = job, run_key
        self._job: Job | None = None
        self._thread = ThreadPoolExecutor(1)
        self._at: tuple[Any, ...] = 0, 0  # the arguments of `Clock.step` after the video

    def ready(self) -> bool:
        """Answers when Ray has found room for it: only then it gets a video."""
        return True

    def start(self, video: PlannedVideo) -> tuple[Any, ...] | VideoResult | None:
        """Begin a video: the first turn."""
        self._job = self._job or Job.from_dict(self._values)
        self._job.model  # noqa: B018  # where it cannot be loaded, no video can be tracked
        self._at, self._stop = (0, video.frames), threading.Event()
        self._video = self._thread.submit(
            self._job.track, video, self._run_key, lambda *at: setattr(self, "_at", at), self._stop.is_set
        )
        return self.go_on()

    def go_on(self, stop: bool = False) -> tuple[Any, ...] | VideoResult | None:
        """One more turn: where it is, or the result when the video has ended."""
        if stop:
            self._stop.set()
        try:
            return self._video.result(None if stop else SECONDS_A_TURN)
        except FutureTimeoutError:
            return self._at


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
        self._job, self._videos, self._run_key = job, videos, run_key
        self._values = job.to_dict()
        self._takes, self._slots = self._resources()
        names = [os.path.basename(video.filepath) for video in videos]
        self._clock = Clock(names, [video.frames for video in videos], update)
        self._waiting = deque(range(len(videos)))
        self._lost = [0] * len(videos)  # workers, while they tracked each video
        self._turns: dict[ObjectRef, tuple[ActorHandle, int | None]] = {}  # under way: worker and video
        self._results: list[VideoResult] = []

    def track(self, stop: Callable[[], bool]) -> list[VideoResult]:
        import ray

        try:
            for _ in range(min(self._slots, len(self._videos))):
                self._hire()
            end, stopped, patience = math.inf, False, time.monotonic() + SECONDS_OF_PATIENCE
            while (self._in_hand or (self._waiting and not stopped)) and time.monotonic() < end:
                ended, _ = ray.wait(list(self._turns), timeout=SECONDS_BETWEEN_POLLS)
                patience = math.inf if self._in_hand else patience
                if time.monotonic() > patience:
                    logger.warning("Ray's cluster has no room for a worker yet; `ray status` shows why")
                    patience = math.inf
                stopped = stop()
                end = min(end, time.monotonic() + SECONDS_TO_STOP) if stopped else end
                for turn in ended:
                    actor, video = self._turns.pop(turn)
                    step = self._outcome(turn, actor, video)
                    if isinstance(step, tuple) and video is not None:
                        self._clock.step(video, *step)
                        self._turns[actor.go_on.remote(stopped)] = actor, video
                    elif self._waiting and not stopped:
                        self._start(actor) if step else self._hire()
        finally:
            self._end()
        return self._results

    @property
    def _in_hand(self) -> list[ObjectRef]:
        return [turn for turn, (_, video) in self._turns.items() if video is not None]

    def _outcome(
        self, turn: ObjectRef, actor: ActorHandle, video: int | None
    ) -> tuple[Any, ...] | VideoResult | bool | None:
        """What a turn came to; None if its worker was lost."""
        import ray

        try:
            step = ray.get(turn)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            ray.kill(actor)  # where it is only out of reach
            if video is None and self._waiting:
                video = self._waiting.popleft()  # that it would have got: workers that never start end, too
            if video is not None:
                self._lose(video, error)
            return None
        if isinstance(step, VideoResult) and video is not None:
            self._finish(video, step)
        return step

    def _hire(self) -> None:
        """Ask for a worker, for which there may be no room before others end."""
        import ray

        actor: Any = ray.remote(Worker).options(**self._takes).remote(self._values, self._run_key)
        self._turns[actor.ready.remote()] = actor, None

    def _resources(self) -> tuple[dict[str, Any], int]:
        """What one worker takes, and how many of them the cluster has room for."""
        import ray

        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        if gpus and str(self._job.device or "cuda").startswith("cuda"):
            return {"num_gpus": 1}, gpus
        return {"num_cpus": 1}, max(int(there.get("CPU", 1)), 1)

    def _start(self, actor: ActorHandle) -> None:
        """Give a worker the next video; workers that get none end, as nothing refers to them then."""
        video = self._waiting.popleft()
        self._turns[actor.start.remote(self._videos[video])] = actor, video

    def _finish(self, video: int, result: VideoResult) -> None:
        self._results.append(result)
        self._clock.finish(video)

    def _lose(self, index: int, error: Exception) -> None:
        """See that a video whose worker was lost is done, once."""
        video = self._videos[index]
        self._lost[index] += 1
        if written := self._job.finished([video], self._run_key):  # the worker only did not say so any more
            self._finish(index, written[0])
        elif self._lost[index] < ATTEMPTS:
            logger.warning("The worker that tracked %s was lost; tracking the video again", video.filepath)
            self._waiting.appendleft(index)
        else:
            reason = f"{ATTEMPTS} workers were lost while tracking it: {error}"
            if self._job.on_error == "raise":
                raise ColorTrackError(f"{video.filepath}: {reason}") from error
            self._finish(index, self._job.fail(video, reason))

    def _end(self) -> None:
        """Wait for the turns under way, any of which may be writing, and end all workers."""
        import ray

        if turns := self._in_hand:
            ray.wait(turns, num_returns=len(turns), timeout=60)
        for actor, _ in self._turns.values():
            ray.kill(actor)
