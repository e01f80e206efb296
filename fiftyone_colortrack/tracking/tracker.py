"""Track from labels in some frames of a video to labels in all frames."""

from __future__ import annotations

import tempfile
import zlib
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.model.weights import load_model
from fiftyone_colortrack.shots import find_cuts
from fiftyone_colortrack.tracking.baselines import DisPropagator, IdentityPropagator, RaftPropagator
from fiftyone_colortrack.tracking.codecs import CODECS, Codec
from fiftyone_colortrack.tracking.config import DIRECTIONS, Direction, TrackerConfig
from fiftyone_colortrack.tracking.labels import LABEL_KINDS, LabelKind, Labels, Seed, TrackedFrame
from fiftyone_colortrack.tracking.outlines import STEP, Outlines
from fiftyone_colortrack.tracking.propagator import ColorPropagator, Labeled, Propagator, resize
from fiftyone_colortrack.tracking.segments import Segment, overlap, plan_segments, shots
from fiftyone_colortrack.video import Frames, open_frames

T = TypeVar("T")

FEATURE_CACHE_BYTES = 2**30
"""Between two labeled frames, features up to this size are kept for the second pass."""


def make_propagator(
    model: str | Embedder,
    config: TrackerConfig,
    device: str | torch.device | None = None,
    kind: LabelKind = "masks",
) -> Propagator[Any]:
    """The propagator for labels of a kind.

    Args:
        model: name of a model, a weights file, a loaded model, or a baseline: `identity`, `flow`, or `raft`
        config: settings of the tracker
        device: PyTorch device. Default: the best one
        kind: kind of labels: `masks`, `boxes`, or `points`

    Raises:
        ColorTrackError: if the model does not exist
    """
    if model == "identity":
        return IdentityPropagator()
    if model == "flow":
        return DisPropagator(config.input_size or 480)
    if model == "raft":
        return RaftPropagator(config.input_size or 480, device)
    if not isinstance(model, Embedder):
        model = load_model(model, device)
    return ColorPropagator(model.for_points() if kind == "points" else model, config, kind)


class _Engine:
    """What tracks labels of one kind through frames of one size: propagator and codec."""

    def __init__(
        self,
        frames: Frames,
        seeds: Sequence[Seed],
        kind: LabelKind,
        model: str | Embedder,
        config: TrackerConfig,
        device: str | torch.device | None,
    ) -> None:
        if kind not in LABEL_KINDS:
            raise ColorTrackError(f"kind is {kind!r}; choose one of {', '.join(LABEL_KINDS)}")
        self.propagator = make_propagator(model, config, device, kind)
        self.grid = self.propagator.grid((frames.height, frames.width))
        self.codec: Codec = CODECS[kind].create(seeds, self.grid, self.propagator.device)
        self.codec.min_confidence = config.min_confidence
        self.outlined = config.outlines and kind == "masks" and self.grid.stride % STEP == 0
        self._clean = config.clean_masks

    def read(self, frames: Frames, indices: range) -> Iterator[np.ndarray]:
        """Frames, scaled down to what the network needs while they are decoded."""
        return frames.read(indices, short_side=min(self.grid.input_size))

    def prepare(self, image: np.ndarray) -> Any:
        return self.propagator.prepare(image, self.grid)

    def labeled(self, frames: Frames, seed: Seed) -> Labeled:
        """The frame of a seed, ready to track from."""
        (image,) = self.read(frames, range(seed.frame, seed.frame + 1))
        return Labeled(self.prepare(image), self.codec.encode(seed.labels))

    def start(self, labeled: Sequence[Labeled], recent: Sequence[Labeled] = ()) -> None:
        """Begin at the first of some labeled frames, or go on after the recent frames."""
        self.propagator.start(labeled, recent)
        self._last = recent[-1].labels if recent else labeled[0].labels

    def step(self, prepared: Any) -> Tensor:
        """Soft labels [h, w, L] of the next frame."""
        soft = self.propagator.step(prepared)
        self._last = self.codec.clean(soft, self._last, self.propagator.origin) if self._clean else soft
        return self._last

    def decode(
        self, index: int, soft: Tensor, image: np.ndarray | None, objects: frozenset[int]
    ) -> TrackedFrame:
        """Soft labels as labels; without the image, masks do not follow its outlines."""
        outlines = None
        if self.outlined and image is not None:
            outlines = Outlines(resize(image, self.grid.input_size), self.grid, self.propagator.device)
        return TrackedFrame(index, *self.codec.decode(soft, outlines, objects), objects=objects)


@dataclass
class _Anchor:
    """A labeled frame, completed with the objects that were tracked into it."""

    frame: int
    prepared: Any
    soft: Tensor  # [h, w, L]
    labels: Labels
    drawn: frozenset[int]
    active: frozenset[int]  # tracked from here on

    @property
    def labeled(self) -> Labeled:
        return Labeled(self.prepared, self.soft)


class _Step(NamedTuple):
    """A frame that was tracked; `image` is None where its features came from the cache."""

    frame: int
    image: np.ndarray | None
    prepared: Any
    soft: Tensor  # [h, w, L]


@dataclass(frozen=True)
class _Stretch:
    """The frames between two labeled frames, or between one and the end of a shot.

    Attributes:
        end: the labeled frame after them; None after the last one
        frames: of the stretch, the labeled frames not included
        wanted: the part that is labeled
        ahead: the frames that are tracked from the labeled frame before them; ends with the labeled frame
            after them, if that has to be completed
        back: the frames that are tracked from the labeled frame after them, descending
        active: the objects that are tracked
        missing: the objects that are tracked through the labeled frame at the end, which leaves them out
    """

    end: Seed | None
    frames: range
    wanted: range
    ahead: range
    back: range
    active: frozenset[int]
    missing: frozenset[int] = frozenset()

    @property
    def passes(self) -> int:
        """How many frames are only gone through, to be labeled later or not at all."""
        tracked = len(overlap(self.ahead, self.frames))
        return tracked + len(self.back) if self.back else tracked - len(overlap(self.ahead, self.wanted))


class Tracker:
    """Track the objects of some labeled frames through a video. Iterate over the tracker to get each frame's labels.

        for tracked in Tracker(frames, first_mask):
            save(tracked.frame, tracked.labels)

    Frames come in ascending order, or in descending order with `direction="backward"`, each exactly once. `forward`
    skips the frames before the first labeled frame, `backward` those after the last one. With `both`, frames between
    two labeled frames are tracked from both sides, and the average of the two results is weighted by distance and
    confidence.

    If a labeled frame omits an object, the object is tracked through it, unless the frame says that it is gone. An
    object may first appear in a later labeled frame. Tracks end at cuts: a shot is labeled only if it contains a
    labeled frame. Frames without tracks are skipped.

    Memory is bounded for videos of any length: soft labels that have to wait go to a temporary file.

    Args:
        frames: path of a video, list of image paths, array [T, H, W, 3], list of frames, or `Frames`
        seeds: labels of the first frame, or one or several `Seed`
        kind: kind of labels: `masks`, `boxes`, or `points`
        model: name of a model, a weights file, a loaded model, or a baseline: `identity`, `flow`, or `raft`
        direction: direction in time, from the seeds: `forward`, `backward`, or `both`
        config: settings of the tracker, see `TrackerConfig`
        device: PyTorch device, such as `cpu` or `cuda:1`. Default: the best one
        spans: indices of the frames to label, ascending. Default: all. Frames outside are tracked only if frames
            inside depend on them; frames between two of them may be labeled, too
        cuts: first frames of new shots, if they are known. Default: found, if `config.end_at_cuts`
        resume: the last frames that an interrupted run labeled, up to `config.memory`: tracking continues after
            them. They may include earlier seeds that omit objects, as the run completed them; then the frames
            before them are not tracked again

    Attributes:
        segments: the tracked frames, by the labeled frames that they depend on
        cuts: first frames of new shots; empty without `config.end_at_cuts`

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
        config: TrackerConfig | Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
        spans: Sequence[range] = (),
        cuts: Sequence[int] | None = None,
        resume: Sequence[Seed] = (),
    ) -> None:
        self.frames = open_frames(frames)
        self.config = TrackerConfig.from_value(config)
        self.kind = kind
        self.direction = direction
        if direction not in DIRECTIONS:
            raise ColorTrackError(f"direction is {direction!r}; choose one of {', '.join(DIRECTIONS)}")
        length = len(self.frames)
        for span in spans:
            if span.step != 1 or not 0 <= span.start < span.stop <= length:
                raise ColorTrackError(
                    f"span is {span}; it must be a range of frames within the video, which has {length} frames"
                )
        self.seeds = _sorted_seeds(seeds, length)
        self.resume = _sorted_seeds(resume, length) if resume else []
        self._engine = _Engine(self.frames, self.seeds, kind, model, self.config, device)
        self._drawn = {seed.frame: self._engine.codec.ids_in(seed.labels) for seed in self.seeds}
        if cuts is None:
            cuts = find_cuts(self.frames) if self.config.end_at_cuts else ()
        self.cuts = list(cuts)
        self.segments = plan_segments(
            self._drawn,
            length,
            direction,
            self.config.labeled,
            gone={seed.frame: seed.gone for seed in self.seeds},
            cuts=self.cuts,
            spans=spans,
        )

    def only(self, segments: Collection[Segment]) -> Tracker:
        """A tracker for some of the `segments`. It labels them the same way and does no other work.

        There is one exception: to complete a labeled frame that omits objects, it also tracks the frames before it.
        """
        part = copy(self)
        part.segments = [segment for segment in self.segments if segment in segments]
        return part

    def __len__(self) -> int:
        """Number of frames that tracking yields."""
        return sum(len(frames) for frames in self._wanted)

    @property
    def step_count(self) -> int:
        """Number of items that `steps` yields."""
        tracker = self._mirrored() if self.direction == "backward" else self
        return len(self) + sum(stretch.passes for shot in tracker._shots() for stretch in shot)

    def __iter__(self) -> Iterator[TrackedFrame]:
        return (tracked for tracked in self.steps() if tracked is not None)

    def steps(self) -> Iterator[TrackedFrame | None]:
        """The frames, and None after each frame that is only passed through: for progress and stopping."""
        if self.direction == "backward":
            last = len(self.frames) - 1
            for tracked in self._mirrored().steps():
                yield tracked and replace(tracked, frame=last - tracked.frame)
            return
        for shot in self._shots():
            anchors: list[_Anchor] = []
            for stretch in shot:
                anchor = self._anchor(stretch.end, stretch.missing) if stretch.end else None
                yield from self._track(stretch, anchors, anchor)
                if anchor is not None:
                    anchors = [*anchors, anchor][-self._memory :]
                    if any(anchor.frame in frames for frames in self._wanted):
                        yield self._decode_anchor(anchor)

    @property
    def _wanted(self) -> list[range]:
        """The frames of the segments, without those that an interrupted run labeled."""
        rest = None
        if self.resume:
            first, last = self.resume[0].frame, self.resume[-1].frame
            rest = range(first) if self.direction == "backward" else range(last + 1, len(self.frames))
        return [overlap(segment.frames, rest) for segment in self.segments]

    @property
    def _memory(self) -> int:
        """How many labeled frames are looked at."""
        return max(self.config.labeled, 1)

    def _shots(self) -> Iterator[list[_Stretch]]:
        """What there is to do, shot by shot."""
        wanted = [frames for frames in self._wanted if frames]
        needed = frozenset().union(
            *(s.seeds for s, frames in zip(self.segments, self._wanted, strict=True) if frames)
        )
        for shot in shots(len(self.frames), self.cuts):
            seeds = [seed for seed in self.seeds if seed.frame in shot]
            if needed.intersection(seed.frame for seed in seeds):
                yield list(self._stretches(shot, seeds, wanted, needed))

    def _stretches(
        self, shot: range, seeds: Sequence[Seed], wanted: Sequence[range], needed: frozenset[int]
    ) -> Iterator[_Stretch]:
        resumed = [seed.frame for seed in self.resume]
        active: frozenset[int] = frozenset()
        start = shot.start
        for seed in [*seeds, None]:
            frames = range(start, shot.stop if seed is None else seed.frame)
            labeled = next((part for part in wanted if overlap(frames, part)), range(0))
            drawn = frozenset() if seed is None else self._drawn[seed.frame]
            missing = frozenset() if seed is None else active - drawn - seed.gone
            stop = labeled.stop
            if seed is not None and missing and seed.frame in needed and seed.frame not in resumed:
                stop = seed.frame + 1
            first = max((frame + 1 for frame in resumed if frame in frames), default=start)
            fused = self.direction == "both" and seed is not None
            back = range(0)
            if seed is not None and seed is seeds[0]:
                stop = 0
                back = range(seed.frame - 1, labeled.start - 1, -1) if labeled else back
            elif fused and labeled and active & drawn:
                back = range(frames.stop - 1, labeled.start - 1, -1)
            if seed is None or seed.frame in needed:
                yield _Stretch(seed, frames, labeled, range(first, max(first, stop)), back, active, missing)
            active = missing | drawn
            start = frames.stop + 1

    def _mirrored(self) -> Tracker:
        """Backward is forward on the reversed video."""
        length = len(self.frames)
        reversed_ = copy(self)
        reversed_.frames = _Reversed(self.frames)
        reversed_.seeds, reversed_.resume = (
            [replace(seed, frame=length - 1 - seed.frame) for seed in reversed(seeds)]
            for seeds in (self.seeds, self.resume)
        )
        reversed_.segments = [segment.mirrored(length) for segment in reversed(self.segments)]
        reversed_.cuts = [length - cut for cut in reversed(self.cuts)]
        reversed_._drawn = {length - 1 - frame: ids for frame, ids in self._drawn.items()}
        reversed_.direction = "forward"
        return reversed_

    def _track(
        self, stretch: _Stretch, anchors: Sequence[_Anchor], end: _Anchor | None
    ) -> Iterator[TrackedFrame | None]:
        """Label the wanted frames of a stretch, and complete the labeled frame at its end."""
        engine = self._engine
        informed = self._informed(anchors)
        sources = informed
        if end and anchors and stretch.active <= end.drawn:
            # A labeled frame that leaves out an object would tell that it is not there.
            sources = [informed[0], end.labeled, *informed[1:]]
        waiting = _SoftLabels() if stretch.back else None
        cache: dict[int, Any] = {end.frame: end.prepared} if end else {}
        room = FEATURE_CACHE_BYTES
        for step in self._run(stretch.ahead, sources, cache, self._recent(stretch.frames)):
            if end and step.frame == end.frame:
                end.soft = engine.codec.complete(end.soft, step.soft, stretch.missing)
            elif waiting is None and step.frame in stretch.wanted:
                yield engine.decode(step.frame, step.soft, step.image, stretch.active)
            else:
                if waiting is not None and step.frame in stretch.wanted:
                    waiting[step.frame] = step.soft
                    room -= getattr(step.prepared, "nbytes", 0)
                    if room > 0:
                        cache[step.frame] = step.prepared
                yield None
        if end is None or waiting is None:
            return
        both_sides = stretch.active & end.drawn
        for step in self._run(stretch.back, [end.labeled, *informed], cache):
            if step.frame in stretch.wanted:
                soft = step.soft
                if anchors:
                    nearness = (end.frame - step.frame) / (end.frame - anchors[-1].frame)  # of the start
                    soft = engine.codec.fuse(waiting[step.frame], soft, nearness, both_sides)
                waiting[step.frame] = soft
            yield None
        objects = stretch.active if anchors else end.drawn
        # The frames are read once more for their outlines.
        images = _ahead(engine.read(self.frames, stretch.wanted)) if engine.outlined else repeat(None)
        for index in stretch.wanted:
            yield engine.decode(index, waiting[index], next(images), objects)

    def _informed(self, anchors: Sequence[_Anchor]) -> list[Labeled]:
        """The last anchor and those before it that know all of its objects, the nearest first.

        One from before an object was labeled would tell that it is not there. Objects whose tracks have ended
        are taken out.
        """
        codec = self._engine.codec
        return [
            Labeled(anchor.prepared, codec.without(anchor.soft, anchor.active - anchors[-1].active))
            for anchor in reversed(anchors)
            if anchor.active >= anchors[-1].active
        ]

    def _recent(self, frames: range) -> list[Labeled]:
        """What an interrupted run labeled last within some frames."""
        seeds = [seed for seed in self.resume if seed.frame in frames][-self.config.memory :]
        return [self._engine.labeled(self.frames, seed) for seed in seeds]

    def _run(
        self,
        indices: range,
        sources: Sequence[Labeled],
        cache: dict[int, Any],
        recent: Sequence[Labeled] = (),
    ) -> Iterator[_Step]:
        """Propagate along the indices from the first of the sources, or the last of the recent frames."""
        if not indices:
            return
        self._engine.start(sources[: self._memory], recent)
        for index, image, prepared in _ahead(self._prepared(indices, cache)):
            yield _Step(index, image, prepared, self._engine.step(prepared))

    def _prepared(
        self, indices: range, cache: dict[int, Any]
    ) -> Iterator[tuple[int, np.ndarray | None, Any]]:
        """Frames and their features, which are computed beside the propagator's steps, or cached."""
        unread = [index for index in indices if index not in cache]
        images: Iterator[np.ndarray] = iter(())
        if unread:
            read = range(unread[0], unread[-1] + indices.step, indices.step)
            images = _ahead(self._engine.read(self.frames, read))
        for index in indices:
            image = None if index in cache else next(images)
            yield index, image, cache[index] if image is None else self._engine.prepare(image)

    def _anchor(self, seed: Seed, missing: frozenset[int]) -> _Anchor:
        written = next((resumed for resumed in self.resume if resumed.frame == seed.frame), seed)
        prepared, soft = self._engine.labeled(self.frames, replace(seed, labels=written.labels))
        drawn = self._drawn[seed.frame]
        return _Anchor(seed.frame, prepared, soft, seed.labels, drawn, missing | drawn)

    def _decode_anchor(self, anchor: _Anchor) -> TrackedFrame:
        codec = self._engine.codec
        labels, confidence = codec.decode(anchor.soft, ids=anchor.active)
        labels = codec.overlay(labels, anchor.labels)
        certain = {i: np.ones_like(confidence[i]) if self.kind == "points" else 1.0 for i in anchor.drawn}
        return TrackedFrame(anchor.frame, labels, {**confidence, **certain}, anchor.drawn, anchor.active)


class StreamTracker:
    """Track from the first frame of a live video, one frame at a time.

    Args:
        first_frame: uint8 RGB [H, W, 3]
        labels: labels of the first frame, as in `Tracker`
        kind, model, config, device: as in `Tracker`
    """

    def __init__(
        self,
        first_frame: np.ndarray,
        labels: Labels,
        *,
        kind: LabelKind = "masks",
        model: str | Embedder = "fast",
        config: TrackerConfig | Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        frames, seed = open_frames([first_frame]), Seed(0, labels)
        self._engine = _Engine(frames, [seed], kind, model, TrackerConfig.from_value(config), device)
        self._engine.start([self._engine.labeled(frames, seed)])
        self._objects = self._engine.codec.ids_in(labels)
        self._size = first_frame.shape
        self._frame = 0

    def step(self, frame: np.ndarray) -> TrackedFrame:
        """Track to the next frame (uint8 RGB [H, W, 3], of the same size as the first), and return its labels."""
        self._frame += 1
        if frame.shape != self._size:
            raise ColorTrackError(
                f"frame {self._frame} has shape {frame.shape}, but the first frame has {self._size}"
            )
        soft = self._engine.step(self._engine.prepare(frame))
        return self._engine.decode(self._frame, soft, frame, self._objects)


class _SoftLabels:
    """Soft labels that wait in a temporary file: compressed, as most cells belong wholly to one object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="colortrack-")  # noqa: SIM115, closed with the object
        self._places: dict[int, tuple[int, int]] = {}  # index: where its data begins and ends
        self._shape: torch.Size
        self._device: torch.device

    def __setitem__(self, index: int, soft: Tensor) -> None:
        self._shape, self._device = soft.shape, soft.device
        start = self._file.seek(0, 2)
        self._file.write(zlib.compress(soft.half().contiguous().cpu().numpy().data, 1))
        self._places[index] = start, self._file.tell()

    def __getitem__(self, index: int) -> Tensor:
        start, stop = self._places[index]
        self._file.seek(start)
        values = np.frombuffer(zlib.decompress(self._file.read(stop - start)), np.float16)
        return torch.from_numpy(values.astype(np.float32)).view(self._shape).to(self._device)


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
        raise ColorTrackError("there is no labeled frame; label at least one")
    frames = [seed.frame for seed in ordered]
    outside = [frame for frame in frames if not 0 <= frame < length]
    if outside:
        raise ColorTrackError(f"labeled frame {outside[0]} is outside the video, which has {length} frames")
    if len(set(frames)) < len(frames):
        raise ColorTrackError(f"a frame is labeled twice: the labeled frames are {frames}")
    return ordered


def _ahead(items: Iterator[T], count: int = 2) -> Iterator[T]:
    """Make the next items in a thread of their own while the last one is used."""
    end = object()
    with ThreadPoolExecutor(1, "colortrack-ahead") as thread:
        coming = deque(thread.submit(next, items, end) for _ in range(count))
        try:
            while (item := coming.popleft().result()) is not end:
                coming.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(cancel_futures=True)
