"""Benchmarks of the field: track labeled datasets from their first labels, and score the tracks.

Needs no database. Scores are percentages.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from colortrack_benchmarks.badja import BadjaSequence, read_badja
from fiftyone_colortrack.datasets.davis import VOID, DavisSequence, read_davis
from fiftyone_colortrack.datasets.jhmdb import JhmdbClip, read_jhmdb
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.metrics import Measure, ObjectScore, PCKScore, point_errors, score_sequence
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.settings import atomic, check_allowed
from fiftyone_colortrack.tracking import BASELINES, Seed, Tracker, TrackerConfig
from fiftyone_colortrack.video import Frames, open_frames

Scores = dict[str, float]
PointErrors = dict[str, np.ndarray]  # how lost points count -> errors [T, P]

SHOWN = {
    "davis": {
        "J&F": "J&F",
        "J mean": "J",
        "J recall": "J_recall",
        "J decay": "J_decay",
        "F mean": "F",
        "F recall": "F_recall",
        "F decay": "F_decay",
    },
    "jhmdb": {
        "PCK@0.1 (legacy)": "PCK@0.1",
        "PCK@0.2 (legacy)": "PCK@0.2",
        "PCK@0.1 (strict)": "strict PCK@0.1",
        "PCK@0.2 (strict)": "strict PCK@0.2",
    },
    "badja": {"PCK@0.1 (strict)": "PCK@0.1", "PCK@0.2 (strict)": "PCK@0.2"},
}
"""The main measures of each dataset: names in tables, which the App also uses -> names in `Result`."""


@dataclass(frozen=True)
class Result:
    """Scores of one model on one dataset.

    Attributes:
        dataset: "davis", "jhmdb", or "badja"
        model: the model's name
        sequences: {sequence: {measure: percentage}}
        mean: {measure: percentage} over the whole dataset, with frames per second ("fps") and peak memory
            ("peak_rss_mb")
    """

    dataset: str
    model: str
    sequences: dict[str, Scores]
    mean: Scores

    def table(self) -> dict[str, Scores]:
        """One row of main scores for each sequence, and one for their mean."""
        rows = {**self.sequences, "mean": self.mean}
        return {name: main_scores(self.dataset, scores) for name, scores in rows.items()}

    def save(self, path: str | Path) -> None:
        """Write all scores to a JSON file.

        Raises:
            ColorTrackError: if it cannot be written
        """
        with atomic(check_allowed(path)) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n")


def main_scores(dataset: str, scores: Scores) -> Scores:
    """The dataset's scores that are `SHOWN`, under their names in tables, and frames per second."""
    shown = {name: scores[measure] for name, measure in SHOWN[dataset].items()}
    return {**shown, "fps": scores["fps"]}


class Stopwatch:
    """Frames per second of tracking: decoding, network, propagation, and label maps, without scoring."""

    def __init__(self) -> None:
        self.frames = 0
        self.seconds = 0.0

    @contextmanager
    def running(self, frames: int) -> Iterator[None]:
        """Add the time of a block that tracks this many frames."""
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
    protocol: Literal["field", "paper"] = "field",
    config: TrackerConfig | Mapping[str, Any] | None = None,
    device: str | None = None,
    progress: bool | ProgressCallback | None = None,
) -> Result:
    """Track each object of DAVIS sequences from its first mask, and score J and F as DAVIS 2017 does.

    Args:
        root: DAVIS 2016 or 2017 folder
        split: name of a list in `ImageSets`, such as `val`. Default: all sequences
        sequences: names of sequences. Default: all
        model: name of a model, a weights file, a loaded model, or a baseline: `identity`, `flow`, or `raft`
        max_frames: cut sequences after this many frames, at least 3. The first and last frame are not scored
        protocol: `field` tracks at full size, as label-free trackers do today; `paper` tracks like Vondrick et al.
            2018: at 256 x 256 pixels, with a softmax over all cells of the last three frames
        config: settings of the tracker, which override the protocol's
        device: PyTorch device, such as `cpu` or `cuda`. Default: the best one
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Raises:
        ColorTrackError: if the folder is not DAVIS, or a sequence is missing or not fully annotated
    """
    if max_frames is not None and max_frames < 3:
        raise ColorTrackError(
            f"max_frames is {max_frames}; use at least 3, because the first and last frame are not scored"
        )

    chosen = TrackerConfig.from_value(config)
    if protocol == "paper":
        chosen = chosen.with_defaults(asdict(TrackerConfig.paper()))

    def score(sequence: DavisSequence, network: str | Embedder, stopwatch: Stopwatch) -> list[ObjectScore]:
        return _score_davis(sequence, max_frames, network, chosen, stopwatch)

    found = {sequence.name: sequence for sequence in read_davis(root, split, sequences)}
    return _run("davis", found, score, _summary, model, device, progress)


def jhmdb(
    root: str | Path,
    *,
    split: str | None = None,
    clips: Sequence[str] | None = None,
    model: str | Embedder = "fast",
    config: TrackerConfig | Mapping[str, Any] | None = None,
    device: str | None = None,
    progress: bool | ProgressCallback | None = None,
) -> Result:
    """Track the 15 joints of JHMDB clips from the first frame, and score PCK.

    "PCK@a" is the legacy score, which papers report. "strict PCK@a" counts lost joints as wrong;
    `evaluate_tracks` calls it "PCK@a (strict)".

    Args:
        root: JHMDB folder
        split: a split, such as `split1-test`. Default: all clips
        clips: names of clips. Default: all
        model: name of a model, a weights file, a loaded model, or a baseline: `identity`, `flow`, or `raft`
        config: settings of the tracker
        device: PyTorch device, such as `cpu` or `cuda`. Default: the best one
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Raises:
        ColorTrackError: if the folder is not JHMDB, or a clip is missing
    """

    def score(clip: JhmdbClip, network: str | Embedder, stopwatch: Stopwatch) -> list[PointErrors]:
        truth = clip.read_joints()
        predicted = _track_points(open_frames(clip.source), 0, truth[0], network, config, stopwatch)
        predicted = predicted[: len(truth)]
        return [{mode: point_errors(predicted, truth, mode)[1:] for mode in ("legacy", "strict")}]

    found = {clip.name: clip for clip in read_jhmdb(root, split, clips)}
    return _run("jhmdb", found, score, _pck, model, device, progress)


def badja(
    root: str | Path,
    annotations: str | Path,
    *,
    sequences: Sequence[str] | None = None,
    model: str | Embedder = "fast",
    config: TrackerConfig | Mapping[str, Any] | None = None,
    device: str | None = None,
    progress: bool | ProgressCallback | None = None,
) -> Result:
    """Track the joints of BADJA's animals from their first annotated frame, and score PCK.

    A joint is correct at a within a times the square root of the animal's area (Biggs et al. 2018). Only
    visible joints count, and lost joints are wrong, so "PCK@a" is strict here.

    Args:
        root: DAVIS folder with the videos
        annotations: folder with `<sequence>.json`
        sequences: names of sequences. Default: all
        model: name of a model, a weights file, a loaded model, or a baseline: `identity`, `flow`, or `raft`
        config: settings of the tracker
        device: PyTorch device, such as `cpu` or `cuda`. Default: the best one
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Raises:
        ColorTrackError: if annotations are missing or cannot be read
    """

    def score(sequence: BadjaSequence, network: str | Embedder, stopwatch: Stopwatch) -> list[PointErrors]:
        first, *later = sequence.annotated
        truth = np.where(sequence.visible[..., None], sequence.points, np.nan)
        frames = open_frames(list(sequence.davis.frames))
        predicted = _track_points(frames, first, truth[first], network, config, stopwatch)
        known = np.where(np.isnan(truth[first]), np.nan, truth[later])  # a joint without a start has no track
        lengths = sequence.reference_lengths()[later]
        return [{"strict": point_errors(predicted[later], known, reference=lengths)}]

    found = {sequence.davis.name: sequence for sequence in read_badja(annotations, root, sequences)}
    return _run("badja", found, score, _pck, model, device, progress)


def _run(
    dataset: str,
    sequences: Mapping[str, Any],
    score: Callable[[Any, str | Embedder, Stopwatch], list[Any]],
    summarize: Callable[[Sequence[Any]], Scores],
    model: str | Embedder,
    device: str | None,
    progress: bool | ProgressCallback | None,
) -> Result:
    """Score each sequence, and everything together."""
    name = model.name if isinstance(model, Embedder) else str(model)
    network = load_model(model, device) if isinstance(model, str) and model not in BASELINES else model
    total = Stopwatch()
    everything: list[Any] = []
    scores: dict[str, Scores] = {}
    with progress_bar(progress, f"Scoring {name}") as update:
        for done, (sequence_name, sequence) in enumerate(sequences.items(), 1):
            stopwatch = Stopwatch()
            found = score(sequence, network, stopwatch)
            everything += found
            total.frames += stopwatch.frames
            total.seconds += stopwatch.seconds
            scores[sequence_name] = {**summarize(found), "fps": stopwatch.fps}
            measure, value = next(iter(main_scores(dataset, scores[sequence_name]).items()))
            message = f"{sequence_name}: {measure} {value:.1f}, {stopwatch.fps:.1f} frames/s"
            update(done, len(sequences), message)
    cost = {"fps": total.fps, "peak_rss_mb": _peak_bytes() / 2**20}
    return Result(dataset, name, scores, {**summarize(everything), **cost})


def _score_davis(
    sequence: DavisSequence,
    max_frames: int | None,
    model: str | Embedder,
    config: TrackerConfig | Mapping[str, Any] | None,
    stopwatch: Stopwatch,
) -> list[ObjectScore]:
    frames = sequence.frames[:max_frames]
    masks = [sequence.read_mask(index) for index in range(len(frames))]
    truth = np.array([mask for mask in masks if mask is not None])
    if len(truth) < len(frames):
        raise ColorTrackError(
            f"{sequence.name} has {len(truth)} masks for {len(frames)} frames; "
            "choose sequences with a mask for every frame"
        )
    void = truth == VOID if (truth == VOID).any() else None
    first = truth[0] if void is None else np.where(void[0], 0, truth[0])
    with stopwatch.running(len(frames)):
        tracked = Tracker(list(frames), first, model=model, config=config)
        predicted = np.stack([np.asarray(frame.labels) for frame in tracked])
    return list(score_sequence(predicted, truth, void).values())


def _track_points(
    frames: Frames,
    start: int,
    points: np.ndarray,
    model: str | Embedder,
    config: TrackerConfig | Mapping[str, Any] | None,
    stopwatch: Stopwatch,
) -> np.ndarray:
    """Tracks [T, P, 2] of points [P, 2], NaN before the frame they start from."""
    tracks = np.full((len(frames), *points.shape), np.nan)
    with stopwatch.running(len(frames) - start):
        seed = Seed(start, {1: points})
        for tracked in Tracker(frames, seed, kind="points", model=model, direction="forward", config=config):
            tracks[tracked.frame] = tracked.labels[1]
    return tracks


def _pck(clips: Sequence[PointErrors]) -> Scores:
    """PCK at 0.1 to 0.5 over all clips, in percent."""
    scores: Scores = {}
    for mode in clips[0]:
        pooled = PCKScore.of([clip[mode] for clip in clips])
        name = "strict PCK" if mode == "strict" and "legacy" in clips[0] else "PCK"
        scores |= {f"{name}@{a:g}": 100 * v for a, v in zip(pooled.alphas, pooled.mean, strict=True)}
    return scores


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


def _peak_bytes() -> int:
    """The most memory that this process has used."""
    if sys.platform == "win32":  # it has no `resource`, and only there psutil knows the peak
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 2**10
