"""Measure how time and memory grow with frames, pixels, objects, memory, and videos. Compare ratios only.

    python scripts/with_mongod.py FOLDER python benchmarks/load.py [--model fast] [--quick] [--only videos]
        [--json load.json] [--chart load.png]

One of the five changes at a time, and each load is measured in its own process. Time is CPU time of all
threads, which other programs hardly change. Loads of several videos are one run of `propagate`, which reads
and writes the database in FOLDER; the others are the tracker alone. `growth` is the exponent of a power law
through the first and the last time: 1 is linear, 0 is no growth.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_colortrack.video import VideoInfo


@dataclass(frozen=True)
class Load:
    """What is tracked. `short_side` is the height in pixels of the frames, which are 16:9 and not scaled."""

    frames: int = 24
    short_side: int = 240
    objects: int = 2
    memory: int = 7
    videos: int = 1


@dataclass(frozen=True)
class Cost:
    """The cost of tracking: CPU seconds for a frame after the warm-up, and peak memory."""

    seconds: float
    peak_mb: float


Rows = dict[str, list[tuple[Load, Cost]]]
WARM_UP = 4  # frames
SHORT = {"frames": 8, "short_side": 120}  # or many videos take hours
STEPS = {
    "frames": [24, 48, 96, 192],
    "short_side": [120, 240, 480, 720],
    "objects": [1, 5, 15, 50],
    "memory": [1, 3, 7, 20],
    "videos": [2, 20, 200],
}
TITLES = {
    "frames": "frames",
    "short_side": "thousand pixels",
    "objects": "objects",
    "memory": "frames in memory",
    "videos": "videos",
}


class Meter:
    """Measures the cost of the frames after the first ones."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up, self._process = warm_up, psutil.Process()
        self._count, self._started, self._peak = 0, 0.0, 0

    def count(self, *_: object) -> None:
        """A frame is done. It can be called as a progress callback."""
        self._count += 1
        self._peak = max(self._peak, self._process.memory_info().rss)
        if self._count == self._warm_up:
            self._started = time.process_time()

    def cost(self) -> Cost:
        seconds = (time.process_time() - self._started) / (self._count - self._warm_up)
        return Cost(seconds, self._peak / 2**20)


def measure(load: Load, model: str) -> Cost:
    """Track a window that pans over an image."""
    from fiftyone_colortrack import Tracker, TrackerConfig, propagate
    from fiftyone_colortrack.video import write_video

    height, width = load.short_side, load.short_side * 16 // 9 // 2 * 2
    ids = np.zeros((height, width), np.uint8)
    columns = math.ceil(math.sqrt(load.objects))
    for i in range(load.objects):
        y, x = (i // columns * height // columns, i % columns * width // columns)
        ids[y : y + height // columns * 2 // 3, x : x + width // columns * 2 // 3] = i + 1
    config = TrackerConfig(memory=load.memory, input_size=load.short_side)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        info = write_video(path, _frames(load.frames, height, width), 24)
        if load.videos == 1:
            meter = Meter(WARM_UP)
            for _ in Tracker(path, ids, model=model, config=config):
                meter.count()
        else:
            meter = Meter(load.frames)
            dataset = _dataset(path, info, ids, load.videos)
            propagate(dataset, "seed", "tracks", model=model, config=config, progress=meter.count)
        return meter.cost()


def _dataset(path: Path, info: VideoInfo, ids: np.ndarray, videos: int) -> fo.Dataset:
    """Videos that are labeled in their first frame."""
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import Instances, video_sample

    dataset = fo.Dataset()
    for _ in range(videos):
        sample = video_sample(path, info)
        sample.frames[1] = fo.Frame(seed=Instances().detections(ids, info))
        dataset.add_sample(sample)
    return dataset


def _frames(count: int, height: int, width: int):
    from skimage.data import astronaut

    image = np.pad(astronaut(), ((0, height), (0, width), (0, 0)), "reflect")
    for t in range(count):
        x = abs(t % 96 - 48)
        yield np.ascontiguousarray(image[x : x + height, 3 * x : 3 * x + width])


def run(model: str, steps: dict[str, Sequence[int]]) -> Rows:
    """The cost of all loads; loads that several series share are measured once."""
    known: dict[Load, Cost] = {}
    rows: Rows = {name: [] for name in steps}
    for name, values in steps.items():
        for value in values:
            load = replace(Load(), **{**(SHORT if name == "videos" else {}), name: value})
            if load not in known:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    known[load] = process.submit(measure, load, model).result()
            rows[name].append((load, known[load]))
    return rows


def amount(name: str, load: Load) -> int:
    """The load in its unit: an image of twice the height has four times the pixels."""
    return round(load.short_side**2 * 16 / 9 / 1000) if name == "short_side" else getattr(load, name)


def growth(name: str, row: Sequence[tuple[Load, Cost]]) -> float:
    """The exponent of the time for all frames."""
    (first, cheap), (last, dear) = row[0], row[-1]
    frames_ratio = last.frames * last.videos / (first.frames * first.videos)
    time_ratio = dear.seconds / cheap.seconds * frames_ratio
    return math.log(time_ratio) / math.log(amount(name, last) / amount(name, first))


def table(rows: Rows, model: str) -> Table:
    found = Table("", "", "CPU ms per frame", "peak memory, MB", "growth of time", title=model)
    for name, row in rows.items():
        for i, (load, cost) in enumerate(row):
            exponent = f"{growth(name, row):.2f}" if i == len(row) - 1 else ""
            size = f"{amount(name, load):,}"
            found.add_row(TITLES[name], size, f"{1000 * cost.seconds:.0f}", f"{cost.peak_mb:.0f}", exponent)
        found.add_section()
    return found


def draw(rows: Rows, path: Path) -> None:
    """Plot time and memory against each kind of load."""
    figure = Figure(figsize=(12, 5), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(rows), squeeze=False, sharey="row")
    for column, (name, row) in enumerate(rows.items()):
        x = [amount(name, load) for load, _ in row]
        axes[0, column].plot(x, [1000 * cost.seconds for _, cost in row], "o-", color="#ff6d04")
        axes[1, column].plot(x, [cost.peak_mb for _, cost in row], "o-", color="#2a6fbb")
        axes[1, column].set_xlabel(TITLES[name])
    axes[0, 0].set_ylabel("CPU ms per frame")
    axes[1, 0].set_ylabel("peak memory, MB")
    for panel in axes.flat:
        panel.set_xlim(left=0)
        panel.set_ylim(0, 1.08 * panel.get_ylim()[1])
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--quick", action="store_true", help="only the two smallest of each")
    parser.add_argument("--only", choices=STEPS, help="only this one of the five")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else STEPS
    steps = {name: STEPS[name][: 2 if arguments.quick else None] for name in names}
    rows = run(arguments.model, steps)
    Console().print(table(rows, arguments.model))
    if arguments.json:
        facts = {name: [asdict(load) | asdict(cost) for load, cost in row] for name, row in rows.items()}
        arguments.json.write_text(json.dumps({"model": arguments.model, **facts}, indent=2) + "\n")
    if arguments.chart:
        draw(rows, arguments.chart)


if __name__ == "__main__":
    main()
