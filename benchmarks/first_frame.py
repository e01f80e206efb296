"""Which single frame of a video is best labeled? The suggested one against the first, the middle, and the
best.

    python benchmarks/first_frame.py --root DAVIS [--model fast] [--step 3] [--candidates 9]

Every third frame is tracked, at 240 pixels, from each candidate: evenly spaced frames, and the suggested one.
The table shows the mean J of the other frames. `best` is the best of all candidates, which nobody knows
beforehand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from fiftyone_colortrack.datasets.davis import DavisSequence, read_davis
from fiftyone_colortrack.metrics import jaccard
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.tracking import Seed, Tracker, TrackerConfig
from fiftyone_colortrack.tracking.suggest import rank_first_frames
from fiftyone_colortrack.video import Frames, open_frames

SIDE = 240
CHOICES = ("first", "middle", "suggested", "best")


def read(sequence: DavisSequence, step: int) -> tuple[Frames, np.ndarray]:
    """Every few frames of a sequence, and the masks of its objects, [T, H, W]."""
    indices = range(0, len(sequence.frames), step)
    frames = list(
        open_frames([sequence.frames[i] for i in indices]).read(range(len(indices)), short_side=SIDE)
    )
    size = frames[0].shape[1::-1]
    masks = [
        cv2.resize(np.asarray(sequence.read_mask(i), np.uint8), size, interpolation=cv2.INTER_NEAREST)
        for i in indices
    ]
    return open_frames(frames), np.stack(masks)


def score(frames: Frames, masks: np.ndarray, frame: int, model: Embedder) -> float:
    """Mean J of all other frames, tracked from one; 0 if the frame shows no object."""
    if not masks[frame].any():
        return 0.0
    tracker = Tracker(frames, Seed(frame, masks[frame]), model=model, config=TrackerConfig(input_size=SIDE))
    scores = {t.frame: jaccard(np.asarray(t.labels) > 0, masks[t.frame] > 0) for t in tracker}
    return float(np.mean([value for index, value in scores.items() if index != frame]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--step", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=9)
    arguments = parser.parse_args()

    model = load_model(arguments.model)
    table = Table("sequence", *CHOICES)
    rows = []
    for sequence in read_davis(arguments.root):
        frames, masks = read(sequence, arguments.step)
        last = len(frames) - 1
        (suggested,) = rank_first_frames(frames, model)
        spaced = np.linspace(0, last, arguments.candidates).round().astype(int).tolist()
        scores = {frame: score(frames, masks, frame, model) for frame in {*spaced, last // 2, suggested}}
        rows.append([scores[0], scores[last // 2], scores[suggested], max(scores.values())])
        table.add_row(sequence.name, *(f"{value:.3f}" for value in rows[-1]))
    table.add_section()
    table.add_row("mean", *(f"{value:.3f}" for value in np.mean(rows, axis=0)))
    Console().print(table)


if __name__ == "__main__":
    main()
