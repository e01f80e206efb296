"""Does confidence tell when a track is wrong? Measured on rendered scenes and on pasted DAVIS sequences.

    python benchmarks/confidence.py [--model fast] [--scenes 6] [--root DAVIS]

Rendered objects turn, hide each other, and leave the frame. With `--root`, pairs of DAVIS sequences are
pasted together and tracked across the cut: everything after it is wrong. The table covers all objects that
the tracker labels. It shows the rank correlation of confidence with J, and the area under the ROC curve (AUC)
for telling wrong masks (J < 0.5) and objects that are gone from all others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata, spearmanr

from colortrack_benchmarks.scenes import render_scene
from fiftyone_colortrack.datasets.davis import DavisSequence, read_davis
from fiftyone_colortrack.metrics import jaccard
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.tracking import Tracker, TrackerConfig
from fiftyone_colortrack.video import open_frames

Clip = tuple[np.ndarray, np.ndarray]  # frames [T, H, W, 3] and object ids [T, H, W]
FAILURE = 0.5
FRAMES = 12  # of each pasted sequence


def leaving(seed: int) -> Clip:
    """A scene that is played backward: two of its three objects leave."""
    scene = render_scene((240, 320), 48, 3, difficulty="hard", late=2, seed=seed)
    return scene.frames[::-1], scene.masks[::-1]


def pasted(first: DavisSequence, second: DavisSequence) -> Clip:
    """The frames of two sequences, with the masks of the first one."""
    clips = [
        np.stack(list(open_frames(list(sequence.frames[:FRAMES])).read(range(FRAMES))))
        for sequence in (first, second)
    ]
    width = min(clip.shape[2] for clip in clips)
    masks = np.stack([np.asarray(first.read_mask(index)) for index in range(FRAMES)])[:, :, :width]
    return np.concatenate([clip[:, :, :width] for clip in clips]), np.concatenate([masks, 0 * masks])


def measure(clip: Clip, model: Embedder, input_size: int) -> Iterator[tuple[float, float, bool]]:
    """Confidence, J, and whether the object is gone, for every object that is labeled in a frame."""
    frames, masks = clip
    config = TrackerConfig(input_size=input_size, end_at_cuts=False)
    for tracked in list(Tracker(frames, masks[0], model=model, config=config))[1:]:
        for object_id, confidence in tracked.confidence.items():
            truth = masks[tracked.frame] == object_id
            yield float(confidence), jaccard(np.asarray(tracked.labels) == object_id, truth), not truth.any()


def auc(confidence: np.ndarray, bad: np.ndarray) -> float:
    """How often a bad label has less confidence than a good one: 1 is perfect, 0.5 is chance."""
    ranks = rankdata(-confidence)[bad]
    return float((ranks.sum() - len(ranks) * (len(ranks) + 1) / 2) / (len(ranks) * (~bad).sum()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="fast")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument(
        "--root", type=Path, help="folder of DAVIS; pairs of its sequences are pasted together"
    )
    arguments = parser.parse_args()

    model = load_model(arguments.model)
    clips = {"scenes": [(leaving(seed), 240) for seed in range(arguments.scenes)]}
    if arguments.root:
        sequences = list(read_davis(arguments.root))
        clips["pasted"] = [(pasted(*pair), 480) for pair in list(pairwise(sequences))[::2]]
    table = Table(
        "clips", "masks", "Spearman with J", "AUC wrong", "AUC gone", "mean if right", "if wrong", "if gone"
    )
    for name, group in clips.items():
        found = [row for clip, size in group for row in measure(clip, model, size)]
        confidence, scores, gone = map(np.array, zip(*found, strict=True))
        wrong = scores < FAILURE
        table.add_row(
            name,
            str(len(found)),
            f"{spearmanr(confidence, scores)[0]:.3f}",
            f"{auc(confidence, wrong):.3f}",
            f"{auc(confidence, gone):.3f}",
            *(f"{confidence[part].mean():.2f}" for part in (~wrong, wrong, gone)),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
