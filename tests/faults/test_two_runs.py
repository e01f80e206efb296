"""Two processes that track the same videos at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import Lock, lock

RUN = Path(__file__).with_name("run.py")
LENGTH = 9
Runs = Callable[..., None]


@pytest.fixture
def videos(
    dataset: fo.Dataset,
    scene: Callable[..., np.ndarray],
    film: Callable[..., Path],
    labeled: Callable[..., fo.Sample],
    tmp_path: Path,
) -> fo.Dataset:
    path = film(tmp_path / "video.mp4", scene(length=LENGTH))
    for i in range(3):
        (tmp_path / f"video{i}.mp4").symlink_to(path)
        dataset.add_sample(labeled(tmp_path / f"video{i}.mp4"))
    return dataset


@pytest.fixture
def both(videos: fo.Dataset) -> Iterator[Runs]:
    """Two processes, each of which does what it is told to, at the same time; see `run.py`."""
    command = [sys.executable, str(RUN), videos.name]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        assert [run.stdout and run.stdout.readline() for run in runs] == ["ready\n"] * 2

        def tell(*tasks: str) -> None:
            for run, task in zip(runs, tasks, strict=True):
                assert run.stdin
                run.stdin.write(f"{task}\n")
                run.stdin.flush()
            assert [run.stdout and run.stdout.readline() for run in runs] == ["done\n"] * 2
            videos.reload()

        yield tell
        for run in runs:
            assert run.stdin
            run.stdin.close()


def tracked(dataset: fo.Dataset, field: str) -> list[list[tuple[float, ...]]]:
    """Confidence and box of the square in each frame of each video."""
    labels = [f"frames.{field}.detections.{name}" for name in ("confidence", "bounding_box")]
    videos = zip(*dataset.values(labels), strict=True)
    return [[(sure, *box) for (sure,), (box,) in zip(*video, strict=True)] for video in videos]


def test_two_runs_at_once(videos: fo.Dataset, both: Runs) -> None:
    both("first_tracks lab", "second_tracks identity")
    expected = {"lab": tracked(videos, "first_tracks"), "identity": tracked(videos, "second_tracks")}
    for field in ("first_tracks", "second_tracks"):
        (run,) = set(videos.values(f"{field}_run"))
        assert videos.load_run_results(run).report["label_field"] == f"frames.{field}"
    for lab, identity in zip(*expected.values(), strict=True):
        assert len(lab) == len(identity) == LENGTH
        assert not set(lab[1:]) & set(identity[1:])  # by each label it can be told whose it is

    both("same lab", "same identity")
    models = [videos.get_run_info(run).config.model for run in videos.values("same_run")]
    assert tracked(videos, "same") == [expected[model][i] for i, model in enumerate(models)]
    assert sum(run.startswith("same_") for run in videos.list_runs()) == 2


def test_a_lock_is_taken_by_one_at_a_time(dataset: fo.Dataset) -> None:
    inside, seen = 0, []

    def enter() -> None:
        nonlocal inside
        with Lock(dataset, "x"):
            inside += 1
            seen.append(inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 5


def test_a_lock_of_a_dead_process_is_taken(
    dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "LEASE", 0.5)
    dead = Lock(dataset, "x").__enter__()
    dead._beats.close()  # it shows no more signs of life
    time.sleep(0.2)
    started = time.monotonic()
    with Lock(dataset, "x") as other:
        assert 0.4 < time.monotonic() - started < 3
        assert "no sign of life" in caplog.text
        with pytest.raises(ColorTrackError, match="another run took over"):
            dead.check()
        other.check()
        dead.__exit__(None, None, None)
        other.check()
    with pytest.raises(ColorTrackError, match="another run took over"):  # it has come and gone
        dead.check()


def test_a_living_holder_keeps_its_lock(dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE", 0.5)
    with Lock(dataset, "x") as holder:
        end = time.monotonic() + 1.5
        with Lock(dataset, "x", stop=lambda: time.monotonic() > end) as waiting:
            assert not waiting.held
        holder.check()


CLOCK = """
import os, sys, time
import fiftyone as fo
from fiftyone_colortrack.api.stop import StopSignal, running
from fiftyone_colortrack.fields import Lock
dataset, begun = fo.Dataset(), time.monotonic()
print("ready", flush=True)
with Lock(dataset, "kept") as kept, StopSignal(dataset, "work"):
    for line in sys.stdin:  # the clock has just jumped
        began = time.monotonic()
        dead = Lock(dataset, "dead").__enter__()
        dead._beats.close()  # its process was killed
        with Lock(dataset, "dead"):
            waited = time.monotonic() - began
        with Lock(dataset, "kept", stop=lambda: time.monotonic() - began > 25) as other:
            assert not other.held
        kept.check()
        assert [work.title for work in running(dataset)] == ["work"]
        print(waited, flush=True)
dataset.delete()
"""


@pytest.mark.soak
def test_a_servers_clock_that_jumps_blocks_nobody(tmp_path: Path) -> None:
    """A database server of its own, whose clock goes wrong by ten minutes, forward and back."""
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    server = Path(str(fo.__file__)).parent / "db" / "bin" / "mongod"
    if not libraries or not server.is_file():
        pytest.skip("needs Debian's faketime, and a database server to start")
    clock, folder = tmp_path / "clock", tmp_path / "database"
    folder.mkdir()
    clock.write_text("+0")
    fake = {"LD_PRELOAD": str(libraries[0]), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    fake |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [server, "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    own = os.environ | {"FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}"}
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | fake) as database,
        subprocess.Popen(
            [sys.executable, "-c", CLOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            for jump in ("+600", "-600", "+0"):
                clock.write_text(jump)
                process.stdin.write("\n")
                process.stdin.flush()
                assert float(process.stdout.readline()) < 60
            process.stdin.close()
            assert process.wait() == 0
        finally:
            database.kill()
