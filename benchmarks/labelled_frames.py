"""J&F on DAVIS after some frames of each sequence are labelled: suggested, evenly spaced, or random ones.

    python benchmarks/labelled_frames.py --root DAVIS [--counts 1 2 3 5] [--json scores.json]

The first frame is always labelled, and the truth takes the place of the person. Suggested frames are chosen
one by one by `suggest_frames`, from the confidences of the tracks so far. All frames but the first and the
last are scored, as in DAVIS, those that are labelled included.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fiftyone_colortrack.datasets.davis import VOID, DavisSequence, read_davis
from fiftyone_colortrack.metrics import score_sequence
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.terminal import console, score_table
from fiftyone_colortrack.tracking import Seed, Tracker, TrackerConfig
from fiftyone_colortrack.tracking.suggest import LOST, suggest_frames

Scores = dict[str, dict[int, float]]


class LabelledSequence:
    """A sequence whose labels are given frame by frame."""

    def __init__(self, sequence: DavisSequence, embedder: Embedder, config: TrackerConfig) -> None:
        self._frames = list(sequence.frames)
        truth = [sequence.read_mask(index) for index in range(len(self._frames))]
        self._truth = np.stack([mask for mask in truth if mask is not None])
        self._void = self._truth == VOID if sequence.year == 2017 else None
        self._labels = np.where(self._truth == VOID, 0, self._truth) if sequence.year == 2017 else self._truth
        self._embedder, self._config = embedder, config
        self._tracked: dict[tuple[int, ...], tuple[float, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def score(self, labelled: Sequence[int]) -> float:
        """Mean J&F over the objects, in percent, with these frames labelled."""
        return self._track(tuple(sorted(labelled)))[0]

    def suggested(self, count: int) -> list[int]:
        """The first frame, and those that are suggested after it."""
        labelled = [0]
        while len(labelled) < count:
            _, confidence = self._track(tuple(sorted(labelled)))
            labelled += suggest_frames(confidence, labelled)
        return labelled

    def _track(self, labelled: tuple[int, ...]) -> tuple[float, np.ndarray]:
        """J&F and the confidence of every frame."""
        if labelled not in self._tracked:
            seeds = [Seed(frame, self._labels[frame]) for frame in labelled]
            tracker = Tracker(self._frames, seeds, model=self._embedder, config=self._config)
            objects = {int(id) for seed in seeds for id in np.unique(np.asarray(seed.labels))} - {0}
            predicted, confidence = [], []
            for tracked in tracker:
                predicted.append(np.asarray(tracked.labels))
                confidence.append(np.mean([tracked.confidence.get(id, LOST) for id in objects]))
            scores = score_sequence(np.stack(predicted), self._truth, self._void).values()
            jf = 100 * float(np.mean([(score.J.mean + score.F.mean) / 2 for score in scores]))
            self._tracked[labelled] = jf, np.array(confidence)
        return self._tracked[labelled]


def evenly_spaced(length: int, count: int) -> list[int]:
    """The first frame and others at equal distances, the last one half as far from the end."""
    return [round(i * length / (count - 0.5)) for i in range(count)]


def random_frames(length: int, count: int, seed: int) -> list[int]:
    """The first frame and random others."""
    rng = np.random.default_rng(seed)
    return [0, *(1 + rng.permutation(length - 1)[: count - 1]).tolist()]


def compare(sequence: LabelledSequence, counts: Sequence[int], seeds: int) -> Scores:
    """J&F by way of choosing and by number of labelled frames."""
    suggested = sequence.suggested(max(counts))
    length = len(sequence)
    return {
        "suggested": {n: sequence.score(suggested[:n]) for n in counts},
        "evenly spaced": {n: sequence.score(evenly_spaced(length, n)) for n in counts},
        "random": {
            n: float(np.mean([sequence.score(random_frames(length, n, seed)) for seed in range(seeds)]))
            for n in counts
        },
    }


def run(
    root: Path,
    counts: Sequence[int],
    *,
    sequences: Sequence[str] | None = None,
    model: str = "fast",
    seeds: int = 3,
    config: TrackerConfig | None = None,
) -> dict[str, Scores]:
    """The scores of every sequence, and their mean under `mean`."""
    embedder = load_model(model)
    results = {}
    for sequence in read_davis(root, None, sequences):
        labelled = LabelledSequence(sequence, embedder, config or TrackerConfig())
        results[sequence.name] = compare(labelled, counts, seeds)
        console.print(score_table(sequence.name, _rows(results[sequence.name])))
    names = next(iter(results.values()))
    results["mean"] = {
        name: {n: float(np.mean([scores[name][n] for scores in results.values()])) for n in counts}
        for name in names
    }
    return results


def _rows(scores: Scores) -> dict[str, dict[str, float]]:
    return {name: {str(n): value for n, value in by_count.items()} for name, by_count in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--sequences", nargs="+")
    parser.add_argument("--model", default="fast")
    parser.add_argument("--seeds", type=int, default=3, help="how many random choices are averaged")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = run(args.root, args.counts, sequences=args.sequences, model=args.model, seeds=args.seeds)
    console.print(score_table("mean J&F by number of labelled frames", _rows(results["mean"])))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
