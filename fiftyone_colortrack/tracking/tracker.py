"""From labels on some frames of a video to labels on all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.tracking.config import DIRECTIONS, Direction, TrackerConfig
from fiftyone_colortrack.tracking.engine import Engine
from fiftyone_colortrack.tracking.labels import LabelKind, Labels, Seed, TrackedFrame
from fiftyone_colortrack.tracking.propagator import Labelled
from fiftyone_colortrack.tracking.segments import Segment, plan_segments
from fiftyone_colortrack.video import Frames, open_frames

FEATURE_CACHE_BYTES = 2**30  # between two labelled frames, features up to this size are not computed twice


@dataclass
class _Anchor:
    """A labelled frame, completed with the objects that were tracked into it."""

    frame: int
    prepared: Any
    soft: Tensor  # [h, w, L]
    labels: Labels
    drawn: frozenset[int]
    known: frozenset[int]  # drawn here, or earlier

    @property
    def missing(self) -> frozenset[int]:
        return self.known - self.drawn

    @property
    def labelled(self) -> Labelled:
        return Labelled(self.prepared, self.soft)


class _Step(NamedTuple):
    """A frame that was gone through; `image` is None where a cache had it prepared."""

    frame: int
    image: np.ndarray | None
    prepared: Any
    soft: Tensor  # [h, w, L]


@dataclass(frozen=True)
class _Stretch:
    """A labelled frame that is needed, and the frames between the labelled one before it and itself."""

    seed: Seed
    known: frozenset[int]  # drawn in the labelled frame, or earlier
    frames: range
    wanted: bool  # else they are gone through at most to complete the labelled frame
    passes: int


class Tracker:
    """Tracks the labelled objects of some frames through a video: iterate over it for every frame's labels.

        for tracked in Tracker(frames, first_mask):
            save(tracked.frame, tracked.labels)

    Frames arrive in ascending order, each exactly once, and with `direction="backward"` in descending order.
    `forward` leaves out the frames before the first labelled one, `backward` those after the last one. With
    `both`, frames between two labelled ones are tracked from either side, and the two results are averaged,
    weighted by nearness and certainty. An object that a labelled frame leaves out is tracked on through it;
    one that a later labelled frame is the first to show joins there.

    Memory is bounded whatever the video's length: soft labels that have to wait go to a temporary file.

    Args:
        frames: path of a video, list of image paths, array [T, H, W, 3], list of frames, or `Frames`
        seeds: labels of the first frame, or one or several `Seed`
        kind: of the labels: "masks", "boxes" or "points"
        model: name or file of a model, a loaded one, or a baseline: "identity", "flow", "raft"
        direction: "forward", "backward" or "both"
        config: settings, see `TrackerConfig`
        device: torch device; default: the best one there is

    Attributes:
        segments: the frames that are tracked, by the labelled frames that they follow from

    Raises:
        ColorTrackError: if the seeds do not fit the video, or the model does not exist
    """

    def __init__(
        self,
        frames: Any,
        seeds: Labels | Seed | Sequence[Seed],
        *,
        kind: LabelKind = "masks",
        model: str | Embedder = "fast",
        direction: Direction = "both",
        config: TrackerConfig | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.frames = open_frames(frames)
        self.config = config or TrackerConfig()
        self.kind = kind
        self.direction = direction
        if direction not in DIRECTIONS:
            raise ColorTrackError(f"direction is {direction!r}; choose one of {', '.join(DIRECTIONS)}")
        self.seeds = _sorted_seeds(seeds, len(self.frames))
        self._engine = Engine(self.frames, self.seeds, kind, model, self.config, device)
        self._drawn = {seed.frame: self._engine.codec.ids_in(seed.labels) for seed in self.seeds}
        self.segments = plan_segments(self._drawn, len(self.frames), direction, self.config.labelled)

    def only(self, segments: Collection[Segment]) -> Tracker:
        """A tracker of some of the `segments`: there it gives the same labels, and elsewhere it does no work.

        The exception is a labelled frame that leaves out objects: where it is needed, the frames before it
        are gone through as well, for these objects are tracked into it.
        """
        part = copy(self)
        part.segments = [segment for segment in self.segments if segment in segments]
        return part

    def __len__(self) -> int:
        """Number of frames that tracking gives."""
        return sum(len(segment.frames) for segment in self.segments)

    @property
    def step_count(self) -> int:
        """How many items `steps` gives."""
        if self.direction == "backward":
            return self._mirrored().step_count
        return len(self) + sum(stretch.passes * len(stretch.frames) for stretch in self._stretches())

    def __iter__(self) -> Iterator[TrackedFrame]:
        return (tracked for tracked in self.steps() if tracked is not None)

    def steps(self) -> Iterator[TrackedFrame | None]:
        """The frames, and None after each that was only passed through: for progress and stopping."""
        if self.direction == "backward":
            yield from self._backward()
            return
        wanted = self._wanted
        anchors: list[_Anchor] = []
        for stretch in self._stretches():
            anchor = self._anchor(stretch.seed, stretch.known)
            if stretch.passes:
                yield from self._between(anchors, anchor, stretch.wanted) if anchors else self._before(anchor)
            anchors = [*anchors, anchor][-self._memory :]
            if range(anchor.frame, anchor.frame + 1) in wanted:
                yield self._decode_anchor(anchor)
        rest = range(self.seeds[-1].frame + 1, len(self.frames))
        if rest in wanted:
            yield from (
                self._engine.decode(step.frame, step.soft, step.image, anchors[-1].known)
                for step in self._run(rest, _informed(anchors))
            )

    @property
    def _wanted(self) -> set[range]:
        return {segment.frames for segment in self.segments}

    @property
    def _memory(self) -> int:
        """How many labelled frames are looked at."""
        return max(self.config.labelled, 1)

    def _stretches(self) -> Iterator[_Stretch]:
        wanted = self._wanted
        needed = frozenset().union(*(segment.seeds for segment in self.segments))
        known: frozenset[int] = frozenset()
        start = 0
        for seed in self.seeds:
            missing = known - self._drawn[seed.frame]
            known |= self._drawn[seed.frame]
            if seed.frame in needed:
                frames = range(start, seed.frame)
                fused = self.direction == "both" and seed is not self.seeds[0]
                passes = 1 + fused if frames in wanted else int(bool(missing))
                yield _Stretch(seed, known, frames, frames in wanted, passes)
            start = seed.frame + 1

    def _backward(self) -> Iterator[TrackedFrame | None]:
        last = len(self.frames) - 1
        for tracked in self._mirrored().steps():
            yield tracked and replace(tracked, frame=last - tracked.frame)

    def _mirrored(self) -> Tracker:
        """Backward is forward on the reversed video."""
        length = len(self.frames)
        mirrored = copy(self)
        mirrored.frames = _Reversed(self.frames)
        mirrored.seeds = [Seed(length - 1 - seed.frame, seed.labels) for seed in reversed(self.seeds)]
        mirrored.segments = [segment.mirrored(length) for segment in reversed(self.segments)]
        mirrored._drawn = {length - 1 - frame: ids for frame, ids in self._drawn.items()}
        mirrored.direction = "forward"
        return mirrored

    def _before(self, anchor: _Anchor) -> Iterator[TrackedFrame | None]:
        """The frames before the first labelled one."""
        store = self._store(range(anchor.frame))
        for step in self._run(range(anchor.frame - 1, -1, -1), [anchor]):
            store[step.frame] = step.soft
            yield None
        yield from self._stored(store, anchor.known)

    def _between(self, anchors: list[_Anchor], end: _Anchor, wanted: bool) -> Iterator[TrackedFrame | None]:
        """The frames between the last of the anchors and the next one; completes that one."""
        start = anchors[-1]
        between = range(start.frame + 1, end.frame)
        informed = _informed(anchors)
        # A labelled frame that leaves out objects would tell that they are not there.
        sources = informed if end.missing else [start, end, *informed[1:]]
        fused = wanted and self.direction == "both"
        store = self._store(between if wanted else range(0))
        cache: dict[int, Any] = {end.frame: end.prepared}
        room = FEATURE_CACHE_BYTES if fused else 0
        along = range(between.start, end.frame + bool(end.missing))
        for step in self._run(along, sources, cache):
            if step.frame == end.frame:
                end.soft = self._engine.codec.complete(end.soft, step.soft, end.drawn)
                break
            if wanted:
                store[step.frame] = step.soft
            room -= getattr(step.prepared, "nbytes", 0)
            if room > 0:
                cache[step.frame] = step.prepared
            yield None
        if fused:
            span = end.frame - start.frame
            both_sides = start.known & end.drawn
            for step in self._run(between[::-1], [end, *informed], cache):
                nearness = (end.frame - step.frame) / span  # of the start
                store[step.frame] = self._engine.codec.fuse(
                    store[step.frame], step.soft, nearness, both_sides
                )
                yield None
        yield from self._stored(store, start.known)

    def _run(
        self, indices: range, sources: Sequence[_Anchor], cache: dict[int, Any] | None = None
    ) -> Iterator[_Step]:
        """Propagate from the first of the sources along the indices."""
        if not indices:
            return
        self._engine.propagator.start([anchor.labelled for anchor in sources[: self._memory]])
        cache = cache or {}
        unread = [i for i in indices if i not in cache]
        frames = self._read(range(unread[0], unread[-1] + indices.step, indices.step)) if unread else iter(())
        for index in indices:
            image = None if index in cache else next(frames)
            prepared = cache[index] if image is None else self._engine.prepare(image)
            yield _Step(index, image, prepared, self._engine.propagator.step(prepared))

    def _read(self, indices: range) -> Iterator[np.ndarray]:
        return self._engine.read(self.frames, indices)

    def _anchor(self, seed: Seed, known: frozenset[int]) -> _Anchor:
        labelled = self._engine.labelled(self.frames, seed)
        return _Anchor(seed.frame, *labelled, seed.labels, self._drawn[seed.frame], known)

    def _store(self, indices: range) -> _SoftLabels:
        engine = self._engine
        return _SoftLabels(indices, (*engine.grid.cells, engine.codec.depth), engine.propagator.device)

    def _stored(self, store: _SoftLabels, known: frozenset[int]) -> Iterator[TrackedFrame]:
        """Stored soft labels as labels; for their outlines the frames are read once more."""
        images = self._read(store.indices) if store.indices and self._engine.outlined else repeat(None)
        for index, soft in store.items():
            yield self._engine.decode(index, soft, next(images, None), known)

    def _decode_anchor(self, anchor: _Anchor) -> TrackedFrame:
        labels, confidence = self._engine.codec.decode(anchor.soft)
        labels = self._engine.codec.overlay(labels, anchor.labels)
        certain = {i: np.ones_like(confidence[i]) if self.kind == "points" else 1.0 for i in anchor.drawn}
        return TrackedFrame(anchor.frame, labels, {**confidence, **certain}, anchor.drawn, anchor.known)


class StreamTracker:
    """Tracks from the first frame of a live video, one frame at a time.

    Args:
        first_frame: uint8 RGB [H, W, 3]
        labels: of the first frame, see `Tracker`
        kind, model, config, device: see `Tracker`
    """

    def __init__(
        self,
        first_frame: np.ndarray,
        labels: Labels,
        *,
        kind: LabelKind = "masks",
        model: str | Embedder = "fast",
        config: TrackerConfig | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        frames, seed = open_frames([first_frame]), Seed(0, labels)
        self._engine = Engine(frames, [seed], kind, model, config or TrackerConfig(), device)
        self._engine.propagator.start([self._engine.labelled(frames, seed)])
        self._known = self._engine.codec.ids_in(labels)
        self._size = first_frame.shape
        self._frame = 0

    def step(self, frame: np.ndarray) -> TrackedFrame:
        """Labels of the next frame (uint8 RGB [H, W, 3], of the first one's size)."""
        self._frame += 1
        if frame.shape != self._size:
            raise ColorTrackError(
                f"frame {self._frame} has shape {frame.shape}, the first one has {self._size}"
            )
        soft = self._engine.propagator.step(self._engine.prepare(frame))
        return self._engine.decode(self._frame, soft, frame, self._known)


def _informed(anchors: Sequence[_Anchor]) -> list[_Anchor]:
    """The last of the anchors and those before it that know all of its objects, the nearest first.

    One from before an object was labelled would tell that it is not there.
    """
    return [anchor for anchor in reversed(anchors) if anchor.known >= anchors[-1].known]


class _SoftLabels:
    """Soft label maps of a range of frames, in half precision in a temporary file."""

    def __init__(self, indices: range, shape: tuple[int, ...], device: torch.device) -> None:
        self.indices = indices
        self._device = device
        if indices:
            file = tempfile.TemporaryFile(prefix="colortrack-")  # noqa: SIM115, the array keeps it open
            self._maps = np.memmap(file, np.float16, "w+", shape=(len(indices), *shape))

    def __setitem__(self, index: int, soft: Tensor) -> None:
        self._maps[self.indices.index(index)] = soft.cpu().numpy()

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._maps[self.indices.index(index)].astype(np.float32)).to(self._device)

    def items(self) -> Iterator[tuple[int, Tensor]]:
        for index in self.indices:
            yield index, self[index]


class _Reversed(Frames):
    """A video from its end to its beginning."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.height, self.width = frames.height, frames.width

    def __len__(self) -> int:
        return len(self._frames)

    def _read(self, indices: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        last = len(self) - 1
        return self._frames._read(range(last - indices.start, last - indices.stop, -indices.step), size)


def _sorted_seeds(seeds: Labels | Seed | Sequence[Seed], length: int) -> list[Seed]:
    if isinstance(seeds, np.ndarray | dict):
        seeds = Seed(0, seeds)
    if isinstance(seeds, Seed):
        seeds = [seeds]
    ordered = sorted(seeds, key=lambda seed: seed.frame)
    if not ordered:
        raise ColorTrackError("there is no labelled frame; label at least one")
    frames = [seed.frame for seed in ordered]
    outside = [frame for frame in frames if not 0 <= frame < length]
    if outside:
        raise ColorTrackError(
            f"labelled frame {outside[0]} lies outside the video, which has {length} frames"
        )
    if len(set(frames)) < len(frames):
        raise ColorTrackError(f"a frame is labelled twice; the labelled frames are {frames}")
    return ordered
