"""Ctrl-C and SIGTERM at any moment of any command: a sentence and no traceback, and nothing half written."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import fiftyone_colortrack as ct

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 40
SOAK = bool(os.environ.get("COLORTRACK_SOAK"))
MOMENTS = 2
"""Random ones, for each kind of signal."""
SERVER = """
import json, os, sys
import fiftyone, torch
from fiftyone_colortrack import api, cli
from fiftyone_colortrack.__main__ import main
from fiftyone_colortrack.api import analysis, edits, evaluation, films, propagation, suggestion, training
from fiftyone_colortrack.datasets import davis, download, jhmdb, kinetics, video_dataset
from colortrack_benchmarks import demo, protocols, scenes
input()
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if not asked:
        print(os.wait()[1], flush=True)
        continue
    child = os.fork()
    if not child:
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT)
        for number in (1, 2):
            os.dup2(log, number)
        sys.argv = ["colortrack", *asked["command"]]
        exec(asked["code"])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        sys.stdout.flush()
        os._exit(status or 0)
    print(child, flush=True)
"""
DOWNLOAD = """
import http.server, threading, time
from fiftyone_colortrack.datasets import download
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4000000")
        self.end_headers()
        for _ in range(400):
            self.wfile.write(bytes(10000))
            time.sleep(0.01)
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/D.zip"
archive = download.Archive(address, ("md5:" + "0" * 32,))
download.SOURCES["davis-2017"] = download.Source((archive,), "DAVIS", "https://example.org")
"""
TRAIN = """
from dataclasses import replace
from fiftyone_colortrack.training import RECIPES
RECIPES["fast"] = replace(RECIPES["fast"], frame_pairs=1, view_pairs=1, crops=(64,))
"""
COMMANDS = {
    "load davis": "load davis {davis} --name {name} --video-dir {out}",
    "load jhmdb": "load jhmdb {jhmdb} --name {name} --video-dir {out}",
    "load kinetics": "load kinetics {videos} --name {name} --video-dir {out}",
    "load scenes": "load scenes --name {name} --count 2 --frames 20 --video-dir {out}",
    "download": "download davis-2017 {out}",
    "propagate": "propagate {dataset} seed {name} --model lab --input-size 64",
    "suggest": "suggest {dataset} tracks",
    "evaluate": "evaluate {dataset} tracks seed {name}",
    "report": "report {dataset} scored --out {out}/report.html",
    "export mot": "export {dataset} tracks {out}/exported",
    "export davis": "export {dataset} tracks {out}/exported --format davis",
    "export youtube-vis": "export {dataset} tracks {out}/exported --format youtube-vis",
    "delete-tracks": "delete-tracks {dataset} tracks",
    "train": "train --videos {videos} --out {out}/run --steps 10 --device cpu",
    "colorize": "colorize {dataset} --model lab --input-size 64 --out {out}",
    "embed": "embed {dataset} --model lab --out {out}",
    "film": "film {dataset} --model lab --input-size 64 --out {out}",
    "models": "models",
    "benchmark davis": "benchmark davis {davis} --model lab --input-size 64 --json {out}/scores.json",
    "benchmark jhmdb": "benchmark jhmdb {jhmdb} --model lab --input-size 64 --json {out}/scores.json",
    "demo": "demo --out {out} --davis {davis} --model lab --no-app",
}
CODE = {"download": DOWNLOAD, "train": TRAIN}
QUICK = ("load davis", "export mot")


@pytest.fixture
def world(
    dataset: fo.Dataset,
    scene: Callable[..., np.ndarray],
    square: Callable[..., fo.Detection],
    film: Callable[..., Path],
    labeled: Callable[..., fo.Sample],
    propagate: Callable,
    tmp_path: Path,
) -> dict[str, str]:
    """What the commands are about: a dataset with tracks and an evaluation, a DAVIS and a JHMDB folder, videos."""
    frames = scene(length=LENGTH)
    truth = {n: fo.Detections(detections=[square(index=1)]) for n in range(1, LENGTH + 1)}
    for i in range(3):
        (tmp_path / "videos").mkdir(exist_ok=True)
        dataset.add_sample(labeled(film(tmp_path / "videos" / f"v{i}.mp4", frames), truth))
    propagate(dataset, model="identity")
    ct.evaluate_tracks(dataset, "tracks", "seed", "scored")
    davis, jhmdb = tmp_path / "DAVIS", tmp_path / "JHMDB"
    mask = np.zeros(frames.shape[1:3], np.uint8)
    mask[16:32, 24:48] = 1
    for name in ("a", "b"):
        joints = jhmdb / "joint_positions" / "walk" / name
        joints.mkdir(parents=True)
        points = np.random.default_rng(0).uniform(5, 40, (2, 15, LENGTH))
        savemat(joints / "joint_positions.mat", {"pos_img": points, "scale": 1})
        folders = [davis / kind / "480p" / name for kind in ("JPEGImages", "Annotations")]
        folders.append(jhmdb / "Rename_Images" / "walk" / name)
        for folder, picture, suffix in zip(
            folders, ("frame", "mask", "frame"), ("jpg", "png", "png"), strict=True
        ):
            folder.mkdir(parents=True)
            for t, frame in enumerate(frames):
                image = Image.fromarray(frame if picture == "frame" else mask)
                image.save(folder / f"{t + (suffix == 'png' and picture == 'frame'):05}.{suffix}")
    places = {"davis": davis, "jhmdb": jhmdb, "videos": tmp_path / "videos", "dataset": dataset.name}
    return {name: str(place) for name, place in places.items()}


class Server:
    """A process that has imported everything, and forks one for each command: importing takes longer than the work."""

    def __init__(self, home: Path) -> None:
        environment = {"PYTHONPATH": str(ROOT), "FIFTYONE_COLORTRACK_HOME": str(home / "home")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment | {"TMPDIR": str(home)},
        )
        assert self._ask({}) == "ready"

    def start(self, command: str, code: str, log: Path) -> int:
        return int(self._ask({"command": command.split(), "code": code, "log": str(log)}))

    def wait(self) -> int:
        """The exit status of the command."""
        return os.waitstatus_to_exitcode(int(self._ask({})))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, message: dict[str, object]) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def server(database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    home = tmp_path_factory.mktemp("server")
    server = Server(home)
    yield server, home
    server.close()


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[] if c in QUICK else pytest.mark.soak) for c in COMMANDS]
)
def test_at_any_moment(
    world: dict[str, str], server: tuple[Server, Path], propagate: Callable, tmp_path: Path, command: str
) -> None:
    moments, dataset = random.Random(), fo.load_dataset(world["dataset"])
    run, home = server
    longest, done = 0.0, 2 if command == "download" else 0  # the archive has another checksum
    kinds = [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 2]
    rounds = [[], *kinds * (MOMENTS if SOAK else 1)]
    for number, signals in enumerate(rounds):
        out = tmp_path / f"out{number}"
        out.mkdir()
        if not dataset.has_frame_field("tracks"):
            propagate(dataset, model="identity")
        names = fo.list_datasets()
        log, name, began = tmp_path / f"log{number}", f"signals_{number}_{os.getpid()}", time.monotonic()
        process = run.start(COMMANDS[command].format(**world, out=out, name=name), CODE.get(command, ""), log)
        moment = moments.uniform(0, 0.8 * longest)
        for pause, one in zip((moment, moments.uniform(0, 0.3)), signals, strict=False):
            time.sleep(pause)
            os.kill(process, one)
            asked = time.monotonic()
        status, seconds = run.wait(), time.monotonic() - began
        told = f"{command}, {signals} after {moment:.1f} of {longest:.1f} s: {status}\n{log.read_text()}"
        print(told)
        assert "Traceback" not in told
        assert "Exception ignored" not in told
        if not signals:
            assert status == done, told
            longest = seconds
        elif status != done:
            assert status == 128 + signals[0], told
            assert signals[0] == signal.SIGTERM or "Stopped" in told, told
            assert len(signals) == 1 or time.monotonic() - asked < 5, told
        left = [p for p in [*out.rglob("*"), *home.iterdir()] if p.name.startswith((".", "tmp"))]
        assert [p.name for p in left if p.name != ".download.lock"] == [], told
        if command.startswith("load") and name not in log.read_text():  # else it was finished
            assert fo.list_datasets() == names, told
        if command.startswith("export") and str(out) not in log.read_text():
            assert [*out.iterdir()] == [], told
        dataset.reload()
        assert len([*dataset]) == 3  # every sample can be loaded
        for found in {*fo.list_datasets()} - {*names}:
            fo.delete_dataset(found)
