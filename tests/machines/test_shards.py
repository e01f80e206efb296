"""Shards, and FiftyOne's delegated workers that take them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionContext, Executor
from fiftyone.operators.registry import OperatorRegistry

import fiftyone_colortrack as ct
from fiftyone_colortrack.api.job import Job
from fiftyone_colortrack.api.plan import PlannedVideo
from fiftyone_colortrack.api.shards import OPERATOR, split
from fiftyone_colortrack.cli import app
from fiftyone_colortrack.fields import TrackWriter

PROPAGATE = "@colortrack/fiftyone-colortrack/propagate_labels"
WORKER = """
import sys, gate
from fiftyone.core.cli import main

gate.install()
sys.argv = ["fiftyone", "delegated", "launch"]
main()
"""


@pytest.fixture(autouse=True)
def empty_queue(database):
    yield
    for operation in DelegatedOperationService().list_operations():
        DelegatedOperationService().delete_operation(operation.id)


class Run:
    """A run with delegated workers, in a thread."""

    def __init__(self, view, shards=2, **options):
        options = {"model": "identity", "executor": "delegated", "shards": shards, **options}
        self.seen = []
        options["progress"] = lambda *step: self.seen.append(step)
        run = ThreadPoolExecutor(1).submit
        self._report = run(ct.propagate, view, "frames.seed", "frames.tracks", **options)
        self.wait(0)

    def wait(self, count):
        """Until it has polled its shards so many times more."""
        count += len(self.seen)
        while len(self.seen) <= count and not self._report.done():
            time.sleep(0.05)

    def finish(self):
        return self._report.result()


def work(dataset, limit=None):
    """What `fiftyone delegated launch` does, in this process; returns the operations' errors."""
    service = DelegatedOperationService()
    results = service.execute_queued_operations(operator=OPERATOR, dataset_name=dataset.name, limit=limit)
    return [result.error for result in results]


def states(dataset):
    operations = DelegatedOperationService().list_operations(dataset_name=dataset.name)
    return [operation.run_state for operation in operations]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_shards_are_disjoint_complete_balanced_and_always_the_same(count):
    lengths = [5, 900, 30, 31, 0, 400, 29, 5, 64, 300, 12]
    videos = [PlannedVideo(str(i), f"{i}.mp4", length) for i, length in enumerate(lengths)]
    shards = split(videos, count)
    assert len(shards) == min(count, len(videos))
    assert all(shards)
    assert sorted((v for shard in shards for v in shard), key=videos.index) == videos
    assert all(shard == sorted(shard, key=videos.index) for shard in shards)
    assert split(videos, count) == shards
    loads = sorted(sum(video.frames for video in shard) for shard in shards)
    assert loads[-1] <= max(max(lengths), 4 / 3 * sum(lengths) / len(shards))


def test_two_delegated_workers_one_of_which_is_killed(videos, gate, monkeypatch):
    monkeypatch.setattr("fiftyone_colortrack.api.shards.SECONDS_WITHOUT_BEAT", 15)
    end = time.monotonic() + 240
    seen = []
    with ExitStack() as stack:
        for _ in range(2):
            worker = stack.enter_context(subprocess.Popen([sys.executable, "-c", WORKER]))
            stack.callback(worker.send_signal, signal.SIGKILL)
        report = ct.propagate(
            videos,
            "frames.seed",
            "frames.tracks",
            model="identity",
            executor="delegated",
            shards=2,
            progress=lambda *step: seen.append(step),
            stop=lambda: time.monotonic() > end,
        )
    gate.check(videos, report)
    assert sorted(states(videos)) == ["completed", "completed", "failed"]
    assert "2 waiting for a worker" in str(seen[0])
    assert "2 of 2 shards finished" in str(seen[-1])
    assert seen[-1][0] == seen[-1][1]


def test_the_report_is_that_of_one_run(videos, tmp_path):
    (tmp_path / "video3.mp4").unlink()
    run = Run(videos, shards=3, objects=range(1, 3))
    assert "3 waiting for a worker" in run.seen[0][2]
    assert work(videos) == [None] * 3
    report = run.finish()
    assert [video.status for video in report.videos] == ["done"] * 3 + ["failed"] + ["done"] * 2
    assert "video3.mp4 is not a file" in report.videos[3].reason
    assert videos.values("tracks_run").count(report.run_key) == 5
    assert len(videos.list_runs()) == 1
    stored = videos.load_run_results(report.run_key).report
    assert [video["status"] for video in stored["videos"]] == [video.status for video in report.videos]


def test_a_run_is_continued_and_errors_are_raised_if_asked_for(videos, tmp_path):
    ct.propagate(videos[:2], "frames.seed", "frames.tracks", model="identity")
    (tmp_path / "video3.mp4").unlink()
    run = Run(videos, skip_existing=True, on_error="raise")
    assert len([error for error in work(videos) if error]) == 1
    with pytest.raises(ct.ColorTrackError, match=r"video3\.mp4 is not a file"):
        run.finish()
    assert videos.count_sample_tags() == {}  # those behind video 3 in its shard were not tried


def test_a_lost_worker_s_shard_is_queued_again_but_not_for_ever(videos, monkeypatch):
    service = DelegatedOperationService()
    run = Run(videos, shards=1)
    monkeypatch.setattr("fiftyone_colortrack.api.shards.SECONDS_WITHOUT_BEAT", 0)
    for attempt in range(3):
        (operation,) = service.get_queued_operations(operator=OPERATOR)
        service.set_running(operation.id)  # by a worker of which nothing is heard
        assert states(videos).count("failed") == attempt
        if attempt < 2:
            run.wait(1)
    report = run.finish()
    assert {video.reason for video in report.videos} == {"3 workers of its shard were lost"}


def test_shards_without_a_worker_are_stopped_at_once(videos):
    report = Run(videos, shards=2, stop=lambda: True).finish()
    assert report.stopped
    assert report.videos == []
    assert states(videos) == ["failed", "failed"]
    assert work(videos) == []


def test_a_shard_under_way_is_stopped_after_the_frame_in_hand(videos, monkeypatch):
    monkeypatch.setattr("fiftyone_colortrack.plugin.work.SECONDS_BETWEEN_MESSAGES", 0)
    started, add = threading.Event(), TrackWriter.add

    def slow_add(*arguments):
        started.set()
        time.sleep(0.3)
        add(*arguments)

    monkeypatch.setattr(TrackWriter, "add", slow_add)
    run = Run(videos, shards=1, stop=started.is_set)
    worker = threading.Thread(target=work, args=[videos])
    worker.start()
    report = run.finish()
    worker.join()
    assert report.stopped
    assert len(report.videos) < 2
    assert states(videos) == ["completed"]
    assert videos.count("frames.tracks") == report.frames


def test_a_shard_that_was_taken_away_is_left_alone(videos, monkeypatch):
    monkeypatch.setattr("fiftyone_colortrack.api.shards.SECONDS_BETWEEN_BEATS", 0.01)
    service, add = DelegatedOperationService(), TrackWriter.add

    def take_away(*arguments):
        for operation in service.get_running_operations(operator=OPERATOR):
            service.set_failed(operation.id)  # `fiftyone delegated fail`
        time.sleep(0.5)
        add(*arguments)

    monkeypatch.setattr(TrackWriter, "add", take_away)
    run = Run(videos, shards=1)
    work(videos)
    report = run.finish()
    assert {video.status for video in report.videos} == {"failed"}
    assert "somebody stopped it" in report.videos[0].reason
    assert videos.values("tracks_run") == [None] * 6


def test_what_cannot_be_shared_is_refused(videos):
    with pytest.raises(ct.ColorTrackError, match="shards is 2"):
        Run(videos, executor="local").finish()
    with pytest.raises(ct.ColorTrackError, match="executor is 'cloud'"):
        Run(videos, executor="cloud").finish()
    with pytest.raises(ct.ColorTrackError, match="a model's name"):
        Run(videos, model=ct.load_model("lab")).finish()
    assert not videos.has_frame_field("tracks")


def test_a_worker_with_another_database_says_so(database):
    with pytest.raises(ct.ColorTrackError, match=r"finds no dataset 0.* FIFTYONE_DATABASE_URI"):
        Job.from_dict({"dataset": "0" * 24})


def test_a_shard_works_on_the_dataset_that_it_was_queued_for_alone(videos):
    other = videos.clone()
    with pytest.raises(ct.ColorTrackError, match="another dataset"):
        Job.from_dict({"dataset": str(videos._doc.id)}, other)


@pytest.fixture
def worker(videos):
    """Works in the background, until the test ends."""
    over = threading.Event()

    def run():
        while not over.wait(0.1):
            work(videos)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    over.set()
    thread.join()


def test_on_the_command_line(videos, worker, capsys):
    options = ["--model", "identity", "--executor", "delegated", "--shards", "2"]
    app(["propagate", videos.name, "frames.seed", "frames.tracks", *options], result_action="return_value")
    assert "6 videos (48 frames) tracked" in capsys.readouterr().out
    assert states(videos) == ["completed", "completed"]


def test_in_the_app(videos, worker):
    params = {"seed_field": "frames.seed", "label_field": "tracks", "model": "identity", "advanced": True}

    def context(**more):
        request = {"dataset_name": videos.name, "params": {**params, **more}}
        return ExecutionContext(request_params=request, executor=Executor(), operator_uri=PROPAGATE)

    operator = OperatorRegistry().get_operator(PROPAGATE)
    form = operator.resolve_type(context(), "inputs").to_json()["type"]["properties"]
    assert form["shards"]["default"] == 1
    assert operator.resolve_execution_options(context()).allow_delegated_execution
    assert not operator.resolve_execution_options(context(shards=2)).allow_delegated_execution
    messages = [message.body.to_json() for message in operator.execute(context(shards=2))]
    assert any("of 2 shards finished" in str(m) for m in messages if m["operator_uri"] == "show_output")
    assert any("6 videos (48 frames) tracked" in str(message) for message in messages)
    assert states(videos) == ["completed", "completed"]
