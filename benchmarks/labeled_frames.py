"""J&F on DAVIS by how many frames of each sequence are labeled: suggested, evenly spaced, or random ones.

    python benchmarks/labeled_frames.py --root DAVIS [--counts 1 2 3 5] [--json FILE] [--chart FILE.png]

The first frame is always labeled, and the truth takes the place of the person. Frames are suggested by
`suggest_frames`: all at once, from the confidences of the tracks from the first frame, or one by one, from
those of the tracks so far. All frames but the first and the
last are scored, as in DAVIS, those that are labeled included. Only what another labeled frame changes is
tracked again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fiftyone_colortrack.datasets.davis import VOID, DavisSequence, read_davis
from fiftyone_colortrack.metrics import boundary_f, jaccard
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.terminal import console, score_table
from fiftyone_colortrack.tracking import Seed, TrackedFrame, Tracker, TrackerConfig
from fiftyone_colortrack.tracking.segments import Segment
from fiftyone_colortrack.tracking.suggest import suggest_frames

Scores = dict[str, dict[int, float]]
COLORS = {
    "suggested": "#ff6d04",
    "suggested one by one": "#ffb27a",
    "evenly spaced": "#4a90d9",
    "random": "#9a9a9a",
}


class Result(NamedTuple):
    """J&F of a frame, in percent, and the tracker's confidence in it."""

    jf: float
    confidence: float


class LabeledSequence:
    """A sequence whose labels are given frame by frame."""

    def __init__(
        self,
        sequence: DavisSequence,
        embedder: Embedder,
        config: TrackerConfig,
        max_frames: int | None = None,
    ) -> None:
        self._frames = list(sequence.frames[:max_frames])
        truth = np.stack([_mask(sequence, index) for index in range(len(self._frames))])
        self._void = truth == VOID if sequence.year == 2017 else np.zeros_like(truth, bool)
        self._truth = np.where(self._void, 0, truth)
        self._ids = [int(id) for id in np.unique(self._truth) if id]
        self._embedder, self._config = embedder, config
        self._tracked: dict[Segment, dict[int, Result]] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def score(self, labeled: Sequence[int]) -> float:
        """Mean J&F over frames and objects, in percent, with these frames labeled."""
        return float(np.mean([result.jf for result in self._track(labeled)[1:-1]]))

    def suggested(self, count: int) -> list[int]:
        """The first frame, and those that are suggested after it, all at once."""
        return [0, *self._suggest([0], count - 1)]

    def suggested_one_by_one(self, count: int) -> list[int]:
        """The first frame, and those that are suggested after it, each after tracking again."""
        labeled = [0]
        while len(labeled) < count:
            labeled += self._suggest(labeled, 1)
        return labeled

    def _suggest(self, labeled: Sequence[int], count: int) -> list[int]:
        confidence = np.array([result.confidence for result in self._track(labeled)])
        return suggest_frames(confidence, labeled, count)

    def _track(self, labeled: Sequence[int]) -> list[Result]:
        """The results in all frames."""
        seeds = [Seed(frame, self._truth[frame]) for frame in labeled]
        tracker = Tracker(self._frames, seeds, model=self._embedder, config=self._config)
        new = [segment for segment in tracker.segments if segment not in self._tracked]
        results = {tracked.frame: self._result(tracked) for tracked in tracker.only(new)}
        for segment in new:
            self._tracked[segment] = {frame: results[frame] for frame in segment.frames}
        return [result for segment in tracker.segments for result in self._tracked[segment].values()]

    def _result(self, tracked: TrackedFrame) -> Result:
        labels = np.where(self._void[tracked.frame], 0, np.asarray(tracked.labels))
        pairs = [(labels == id, self._truth[tracked.frame] == id) for id in self._ids]
        scores = [(jaccard(*pair) + boundary_f(*pair)) / 2 for pair in pairs]
        assert tracked.lowest_confidence is not None
        return Result(100 * float(np.mean(scores)), tracked.lowest_confidence)


def _mask(sequence: DavisSequence, index: int) -> np.ndarray:
    mask = sequence.read_mask(index)
    if mask is None:
        raise SystemExit(f"{sequence.name} has no mask of frame {index}")
    return mask


def evenly_spaced(length: int, count: int) -> list[int]:
    """The first frame and others at equal distances, the last one half as far from the end."""
    return [round(i * length / (count - 0.5)) for i in range(count)]


def random_frames(length: int, count: int, seed: int) -> list[int]:
    """The first frame and random others."""
    rng = np.random.default_rng(seed)
    return [0, *(1 + rng.permutation(length - 1)[: count - 1]).tolist()]


def compare(sequence: LabeledSequence, counts: Sequence[int], seeds: int) -> Scores:
    """J&F by way of choosing and by number of labeled frames."""
    one_by_one = sequence.suggested_one_by_one(max(counts))
    length = len(sequence)
    return {
        "suggested": {n: sequence.score(sequence.suggested(n)) for n in counts},
        "suggested one by one": {n: sequence.score(one_by_one[:n]) for n in counts},
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
    max_frames: int | None = None,
) -> dict[str, Scores]:
    """The scores of every sequence, and their mean under `mean`."""
    embedder = load_model(model)
    results: dict[str, Scores] = {}
    for sequence in read_davis(root, None, sequences):
        labeled = LabeledSequence(sequence, embedder, config or TrackerConfig(), max_frames)
        results[sequence.name] = compare(labeled, counts, seeds)
        scores = results[sequence.name].items()
        rows = {way: {str(n): jf for n, jf in by_count.items()} for way, by_count in scores}
        console.print(score_table(sequence.name, rows))
    results["mean"] = {
        way: {n: float(np.mean([scores[way][n] for scores in results.values()])) for n in counts}
        for way in COLORS
    }
    return results


def markdown(scores: Scores) -> str:
    """A table with a row for each way of choosing."""
    counts = list(next(iter(scores.values())))
    rows = [["labeled frames", *map(str, counts)], ["---", *["---:"] * len(counts)]]
    rows += [[way, *(f"{jf:.1f}" for jf in by_count.values())] for way, by_count in scores.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(scores: Scores, path: Path) -> None:
    """J&F by number of labeled frames, a line for each way of choosing."""
    figure = Figure(figsize=(6, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for way, by_count in scores.items():
        axes.plot(list(by_count), list(by_count.values()), "o-", color=COLORS[way], label=way)
    axes.set(xlabel="labeled frames", ylabel="J&F, %", xticks=list(next(iter(scores.values()))))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--sequences", nargs="+")
    parser.add_argument("--model", default="fast")
    parser.add_argument("--seeds", type=int, default=3, help="how many random choices are averaged")
    parser.add_argument("--max-frames", type=int, help="of each sequence, to be quick")
    parser.add_argument("--input-size", type=int, default=TrackerConfig().input_size, help="of the tracker")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    args = parser.parse_args()
    results = run(
        args.root,
        args.counts,
        sequences=args.sequences,
        model=args.model,
        seeds=args.seeds,
        config=TrackerConfig(input_size=args.input_size),
        max_frames=args.max_frames,
    )
    print(f"\nMean J&F of {len(results) - 1} sequences, in percent\n\n{markdown(results['mean'])}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    if args.chart:
        draw(results["mean"], args.chart)


if __name__ == "__main__":
    main()
