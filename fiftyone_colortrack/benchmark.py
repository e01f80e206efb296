"""Scoring trackers on labelled datasets, without a database. Scores are in percent."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fiftyone_colortrack.datasets.davis import VOID, DavisSequence, read_davis
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.metrics import Measure, ObjectScore, score_sequence
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.tracking import BASELINES, Tracker, TrackerConfig

Scores = dict[str, float]


@dataclass(frozen=True)
class Result:
    """Scores of one model on one dataset.

    Attributes:
        dataset: its name
        model: its name
        sequences: {sequence: {measure: value}}, shares in percent
        mean: {measure: value} over the whole dataset, with frames per second and peak memory
    """

    dataset: str
    model: str
    sequences: dict[str, Scores]
    mean: Scores

    def save(self, path: str | Path) -> None:
        """Write the scores as JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n")


class Stopwatch:
    """Frames per second of tracking: decoding, network, propagation and label maps, without the scoring."""

    def __init__(self) -> None:
        self.frames = 0
        self.seconds = 0.0

    @contextmanager
    def running(self, frames: int) -> Iterator[None]:
        """Count the time of a block that tracks this many frames."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
        self.frames += frames

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


def davis(
    root: str | Path,
    *,
    split: str | None = None,
    sequences: Sequence[str] | None = None,
    model: str | Embedder = "fast",
    max_frames: int | None = None,
    config: TrackerConfig | None = None,
    device: str | None = None,
    on_sequence: Callable[[str, Scores], None] | None = None,
) -> Result:
    """Track every object of DAVIS sequences from its first mask, and score J and F as DAVIS 2017 does.

    Args:
        root: a DAVIS 2016 or 2017 folder
        split: a list of `ImageSets`, like "val"; all sequences by default
        sequences: names, to take only these
        model: name or file of a model, a loaded one, "identity" or "flow"
        max_frames: cut sequences after this many frames, at least 3 (the first and the last are not scored)
        config: settings of the tracker
        device: torch device
        on_sequence: called with name and scores after each sequence

    Raises:
        ColorTrackError: if the folder is no DAVIS, or has no annotated sequence of these
    """
    if max_frames is not None and max_frames < 3:
        raise ColorTrackError(
            f"max_frames is {max_frames}; the first and last frame are not scored, so take 3"
        )
    network, name = _load(model, device)
    total = Stopwatch()
    scores: dict[str, Scores] = {}
    objects: list[ObjectScore] = []
    for sequence in read_davis(root, split, sequences):
        stopwatch = Stopwatch()
        found = _score_davis(sequence, max_frames, network, config, stopwatch)
        objects += found
        scores[sequence.name] = {**_summary(found), "fps": stopwatch.fps}
        total.frames += stopwatch.frames
        total.seconds += stopwatch.seconds
        if on_sequence:
            on_sequence(sequence.name, scores[sequence.name])
    return Result("davis", name, scores, {**_summary(objects), **_cost(total)})


def _score_davis(
    sequence: DavisSequence,
    max_frames: int | None,
    model: str | Embedder,
    config: TrackerConfig | None,
    stopwatch: Stopwatch,
) -> list[ObjectScore]:
    frames = sequence.frames[:max_frames]
    masks = [sequence.read_mask(index) for index in range(len(frames))]
    truth = np.stack([mask for mask in masks if mask is not None])
    if len(truth) < len(frames):
        raise ColorTrackError(
            f"{sequence.name} has {len(truth)} masks for {len(frames)} frames; choose another split"
        )
    void = truth == VOID if sequence.year == 2017 else None
    first = truth[0] if void is None else np.where(void[0], 0, truth[0])
    with stopwatch.running(len(frames)):
        tracked = Tracker(list(frames), first, model=model, config=config)
        predicted = np.stack([np.asarray(frame.labels) for frame in tracked])
    return list(score_sequence(predicted, truth, void).values())


def _summary(objects: Sequence[ObjectScore]) -> Scores:
    """Mean over objects of J, F, their recall and decay, in percent."""

    def mean(measure: str, statistic: str) -> float:
        values: list[Measure] = [getattr(score, measure) for score in objects]
        return 100 * float(np.mean([getattr(value, statistic) for value in values]))

    columns = {
        f"{measure}{suffix}": mean(measure, statistic)
        for measure in ("J", "F")
        for suffix, statistic in (("", "mean"), ("_recall", "recall"), ("_decay", "decay"))
    }
    return {"J&F": (columns["J"] + columns["F"]) / 2, **columns}


def _load(model: str | Embedder, device: str | None) -> tuple[str | Embedder, str]:
    """Load a model once for all sequences; with its name."""
    if isinstance(model, Embedder):
        return model, model.name
    return (model if model in BASELINES else load_model(model, device)), str(model)


def _cost(stopwatch: Stopwatch) -> Scores:
    """Frames per second, and the most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"fps": stopwatch.fps, "peak_rss_mb": peak / (2**20 if sys.platform == "darwin" else 2**10)}
