"""Ray's workers, on this machine."""

from __future__ import annotations

import sys
import time

import pytest

import fiftyone_colortrack as ct


@pytest.fixture
def cluster(monkeypatch):
    """Starts Ray with some slots; ends it."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")

    def start(slots, **options):
        ray.init(num_cpus=slots, num_gpus=0, log_to_driver=False, **options)

    yield start
    ray.shutdown()


def propagate(view, **options):
    return ct.propagate(view, "frames.seed", "frames.tracks", model="identity", executor="ray", **options)


def occupy_a_slot():
    """Some other actor of the cluster's users."""
    import ray

    @ray.remote(num_cpus=1)
    class Other:
        def ready(self):
            return True

    other = Other.remote()
    assert ray.get(other.ready.remote())
    return other


def test_a_killed_worker_s_video_is_done_again_and_each_is_written_once(videos, gate, cluster):
    cluster(2, runtime_env={"worker_process_setup_hook": "gate.install"})
    steps = []
    report = propagate(videos, progress=lambda *step: steps.append(step))
    gate.check(videos, report)
    assert all(0 <= done <= total == 48 for done, total, _ in steps)


def test_a_video_has_its_own_attempts(videos, gate, cluster):
    (gate.folder / "open").touch()
    cluster(1, runtime_env={"worker_process_setup_hook": "gate.install_death"})
    assert len(propagate(videos[:4]).with_status("done")) == 4  # although 4 workers were lost


def test_bad_videos_and_stopping_are_as_in_one_process(videos, tmp_path, cluster):
    cluster(1)
    (tmp_path / "video1.mp4").unlink()
    report = propagate(videos)
    assert [video.status for video in report.videos] == ["done", "failed", "done", "done", "done", "done"]
    assert "video1.mp4 is not a file" in report.videos[1].reason
    with pytest.raises(ct.ColorTrackError, match=r"video1\.mp4 is not a file"):
        propagate(videos, skip_existing=True, on_error="raise")
    last = videos[3:]
    report = propagate(last, overwrite=True, stop=lambda: True)
    assert report.stopped
    assert last.count("frames.tracks") == 24  # whole videos, of this run or of the first one
    assert not any(run is None for run in last.values("tracks_run"))


def test_a_cluster_that_is_out_of_reach_is_named(videos, cluster, monkeypatch):
    def refuse(**_):
        raise ConnectionError("no answer")

    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(ct.ColorTrackError, match=r"head:6379 cannot be joined: no answer"):
        propagate(videos)


def test_without_ray_the_extra_is_named(videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ct.ColorTrackError, match=r"fiftyone-colortrack\[ray\]"):
        propagate(videos)
    assert not videos.has_frame_field("tracks")


def test_workers_that_wait_for_room_get_no_video(videos, cluster):
    cluster(2)
    other = occupy_a_slot()  # noqa: F841, until nothing refers to it
    assert len(propagate(videos).with_status("done")) == 6


def test_a_cluster_without_room_is_said(videos, cluster, monkeypatch, caplog):
    cluster(1)
    other = occupy_a_slot()  # noqa: F841, until nothing refers to it
    monkeypatch.setattr("fiftyone_colortrack.api.ray_workers.SECONDS_OF_PATIENCE", 0.5)
    began = time.monotonic()
    report = propagate(videos, stop=lambda: time.monotonic() > began + 2)
    assert report.stopped
    assert [record.message for record in caplog.records if "no room for a worker yet" in record.message]
