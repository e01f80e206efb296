"""Does the tracker know when it is wrong? Rank correlation of signals with the true J, on DAVIS.

    python benchmarks/confidence.py --root DAVIS [--model fast] [--max-frames 40] [--sequences a,b]

Signals, all per object and frame, in [0, 1], high where the tracker should be right:
  label     mean soft label of the object's pixels: what `TrackedFrame.confidence` gives
  certain   1 - entropy of the soft labels within the object, over its maximum
  color     exp(-e / 0.05), e the mean distance in Lab of the colours copied along the same affinity
  cycle     share of the first mask's cells whose best matches in this frame lie in the predicted mask
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

from fiftyone_colortrack.datasets.davis import DavisSequence, read_davis
from fiftyone_colortrack.metrics import jaccard
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.color import rgb_to_lab
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.tracking import Seed, TrackerConfig
from fiftyone_colortrack.tracking.affinity import copy_labels, top_k_matches
from fiftyone_colortrack.tracking.codecs import MaskCodec
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.memory import Memory
from fiftyone_colortrack.tracking.propagator import ColorPropagator
from fiftyone_colortrack.video import open_frames

SIGNALS = ("label", "certain", "color", "cycle", "label x cycle", "label x color", "all four")
COLOR_SCALE = 0.05
CYCLE_CELLS = 1024
FAILURE = 0.5


def cell_colors(frame: np.ndarray, grid: Grid) -> Tensor:
    """Mean Lab of each cell, [h, w, 3]."""
    small = cv2.resize(frame, grid.cells[::-1], interpolation=cv2.INTER_AREA)
    return rgb_to_lab(torch.from_numpy(small).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0)


def measure(sequence: DavisSequence, embedder: Embedder, frames: int) -> Iterator[tuple[float, list[float]]]:
    """The true J and the signals of every object in every frame after the first."""
    config = TrackerConfig()
    temperature = config.temperature or embedder.temperature
    propagator = ColorPropagator(embedder, config)
    video = open_frames(list(sequence.frames[:frames]))
    grid = propagator.grid((video.height, video.width))
    first_mask = sequence.read_mask(0)
    assert first_mask is not None
    codec = MaskCodec.create([Seed(0, first_mask)], grid, propagator.device)
    depth = codec.depth
    for index, frame in enumerate(video.read(range(len(video)))):
        features, colors = propagator.prepare(frame, grid), cell_colors(frame, grid)
        if index == 0:
            first, soft = features, codec.encode(first_mask)
            first_soft = soft
            memory = Memory([(features, torch.cat([soft, colors], -1))], config.memory)
            continue
        matches = top_k_matches(features, memory.features, config.top_k, config.radius)
        copied = copy_labels(matches, memory.labels, temperature).view(*grid.cells, -1)
        soft, error = copied[..., :depth], (copied[..., depth:] - colors).norm(dim=-1)
        memory.add(features, torch.cat([soft, colors], -1))
        labels, confidence = codec.decode(soft)
        truth = sequence.read_mask(index)
        for object_id, channels in codec.channels.items():
            inside = soft[..., channels.start]
            weight = inside / inside.sum().clamp(min=1e-6)
            entropy = -(soft * soft.clamp(min=1e-9).log()).sum(-1) / math.log(depth)
            label = confidence.get(object_id, 0.0)
            certain = 1 - float((weight * entropy).sum())
            color = math.exp(-float((weight * error).sum()) / COLOR_SCALE)
            cycle = cycle_agreement(first, first_soft[..., channels.start], features, inside, temperature)
            signals = [label, certain, color, cycle]
            combined = [label * cycle, label * color, math.prod(signals)]
            yield jaccard(np.asarray(labels) == object_id, truth == object_id), signals + combined


def cycle_agreement(
    first: Tensor, first_label: Tensor, features: Tensor, label: Tensor, temperature: float
) -> float:
    """Mean label that the first mask's cells find in this frame, looking everywhere."""
    cells = (first_label.flatten() > 0.5).nonzero()[:, 0]
    if not len(cells):
        return 0.0
    cells = cells[torch.linspace(0, len(cells) - 1, min(len(cells), CYCLE_CELLS)).long()]
    similarity, place = (first.flatten(0, 1)[cells] @ features.flatten(0, 1).T).topk(5, 1)
    return float(((similarity / temperature).softmax(1) * label.flatten()[place]).sum(1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--max-frames", type=int, default=40)
    parser.add_argument("--sequences", help="only these, separated by commas")
    arguments = parser.parse_args()

    embedder = load_model(arguments.model)
    names = arguments.sequences.split(",") if arguments.sequences else None
    found = [
        pair
        for sequence in read_davis(arguments.root, sequences=names)
        for pair in measure(sequence, embedder, arguments.max_frames)
    ]
    scores = np.array([score for score, _ in found])
    table = Table("signal", "Spearman with J", f"share of J < {FAILURE} among the 20 % least confident")
    for name, values in zip(SIGNALS, np.array([signals for _, signals in found]).T, strict=True):
        least = np.argsort(values)[: len(values) // 5]
        failures = (scores[least] < FAILURE).mean()
        table.add_row(name, f"{spearmanr(values, scores)[0]:.3f}", f"{failures:.0%}")
    table.caption = f"{len(scores)} frames, {(scores < FAILURE).mean():.0%} of them with J < {FAILURE}"
    Console().print(table)


if __name__ == "__main__":
    main()
