"""How time and memory grow with frames, pixels, objects and memory. Compare ratios, not times.

    python benchmarks/load.py [--model fast] [--quick] [--json load.json] [--chart load.png]

One of the four changes at a time, each measured in a process of its own; no database. `growth` is the
exponent of a power law through the first and the last time: 1 is linear, 0 is no growth.
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

import numpy as np
import psutil
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Load:
    """What is tracked: `short_side` is the height of the frames, which are 16:9 and not scaled."""

    frames: int = 24
    short_side: int = 240
    objects: int = 2
    memory: int = 7


@dataclass(frozen=True)
class Cost:
    """What tracking took: seconds for a frame after the first four, which warm up, and the most memory."""

    seconds: float
    peak_mb: float


Rows = dict[str, list[tuple[Load, Cost]]]
WARM_UP = 4
STEPS = {
    "frames": [24, 48, 96, 192],
    "short_side": [120, 240, 480, 720],
    "objects": [1, 5, 15, 50],
    "memory": [1, 3, 7, 20],
}
TITLES = {
    "frames": "frames",
    "short_side": "thousand pixels",
    "objects": "objects",
    "memory": "frames in memory",
}


def measure(load: Load, model: str) -> Cost:
    """Track a window that moves over a photograph."""
    from fiftyone_colortrack.tracking import Tracker, TrackerConfig
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
        write_video(path, _frames(load.frames, height, width), 24)
        process = psutil.Process()
        peak, count, started = 0, 0, 0.0
        for count, _ in enumerate(Tracker(path, ids, model=model, config=config), 1):
            peak = max(peak, process.memory_info().rss)
            if count == WARM_UP:
                started = time.perf_counter()
        seconds = time.perf_counter() - started
    return Cost(seconds / (count - WARM_UP), peak / 2**20)


def _frames(count: int, height: int, width: int):
    from skimage.data import astronaut

    photograph = np.pad(astronaut(), ((0, height), (0, width), (0, 0)), "reflect")
    for t in range(count):
        x = abs(t % 96 - 48)
        yield np.ascontiguousarray(photograph[x : x + height, 3 * x : 3 * x + width])


def run(model: str, steps: dict[str, Sequence[int]]) -> Rows:
    """Cost of all loads; what they share is measured once."""
    known: dict[Load, Cost] = {}
    rows: Rows = {name: [] for name in steps}
    for name, values in steps.items():
        for value in values:
            load = replace(Load(), **{name: value})
            if load not in known:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    known[load] = process.submit(measure, load, model).result()
            rows[name].append((load, known[load]))
    return rows


def amount(name: str, load: Load) -> int:
    """The load in the unit that it grows in: a picture of twice the height has four times the pixels."""
    return round(load.short_side**2 * 16 / 9 / 1000) if name == "short_side" else getattr(load, name)


def growth(name: str, row: Sequence[tuple[Load, Cost]]) -> float:
    """Exponent of the time of a whole video."""
    (first, cheap), (last, dear) = row[0], row[-1]
    time_ratio = dear.seconds * last.frames / (cheap.seconds * first.frames)
    return math.log(time_ratio) / math.log(amount(name, last) / amount(name, first))


def table(rows: Rows, model: str) -> Table:
    found = Table("", "", "ms per frame", "peak memory, MB", "growth of time", title=model)
    for name, row in rows.items():
        for i, (load, cost) in enumerate(row):
            exponent = f"{growth(name, row):.2f}" if i == len(row) - 1 else ""
            size = f"{amount(name, load):,}"
            found.add_row(TITLES[name], size, f"{1000 * cost.seconds:.0f}", f"{cost.peak_mb:.0f}", exponent)
        found.add_section()
    return found


def draw(rows: Rows, path: Path) -> None:
    """Time and memory over each kind of load."""
    figure = Figure(figsize=(11, 5), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(rows), squeeze=False, sharey="row")
    for column, (name, row) in enumerate(rows.items()):
        x = [amount(name, load) for load, _ in row]
        axes[0, column].plot(x, [1000 * cost.seconds for _, cost in row], "o-", color="#ff6d04")
        axes[1, column].plot(x, [cost.peak_mb for _, cost in row], "o-", color="#2a6fbb")
        axes[1, column].set_xlabel(TITLES[name])
    axes[0, 0].set_ylabel("ms per frame")
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
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    arguments = parser.parse_args()
    steps = {name: values[: 2 if arguments.quick else None] for name, values in STEPS.items()}
    rows = run(arguments.model, steps)
    Console().print(table(rows, arguments.model))
    if arguments.json:
        facts = {name: [asdict(load) | asdict(cost) for load, cost in row] for name, row in rows.items()}
        arguments.json.write_text(json.dumps({"model": arguments.model, **facts}, indent=2) + "\n")
    if arguments.chart:
        draw(rows, arguments.chart)


if __name__ == "__main__":
    main()
