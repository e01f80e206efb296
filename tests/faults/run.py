"""Propagates labels as a program of its own, to be killed or to run beside others: `run.py DATASET`.

It says `ready` when everything is imported. For each line `FIELD MODEL` of its input it tracks all videos
into that field, continuing what is there, and says `done`.
"""

from __future__ import annotations

import sys

import fiftyone as fo

import fiftyone_colortrack as ct
from fiftyone_colortrack.fields import tracks
from fiftyone_colortrack.tracking import TrackerConfig

tracks.FRAMES_PER_WRITE = 2  # many writes, between any of which something may happen


def main() -> None:
    dataset = fo.load_dataset(sys.argv[1])
    config = TrackerConfig(input_size=64, memory=2)
    print("ready", flush=True)
    for line in sys.stdin:
        field, model = line.split()
        ct.propagate(dataset, "seed", field, model=model, config=config, skip_existing=True)
        print("done", flush=True)


if __name__ == "__main__":
    main()
