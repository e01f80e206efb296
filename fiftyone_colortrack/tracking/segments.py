"""Which frames depend on which labeled frames, and therefore on which corrections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fiftyone_colortrack.tracking.config import Direction


@dataclass(frozen=True)
class Segment:
    """Frames that are tracked from the same labeled frames.

    Attributes:
        frames: indices, from 0, ascending
        seeds: the labeled frames that determine the segment's labels; no other frame can change them
    """

    frames: range
    seeds: frozenset[int]

    def mirrored(self, length: int) -> Segment:
        """The same segment in the reversed video of `length` frames."""
        return Segment(mirrored(self.frames, length), frozenset(length - 1 - frame for frame in self.seeds))


def mirrored(frames: range, length: int) -> range:
    """The same ascending range of frames in the reversed video of `length` frames."""
    return range(length - frames.stop, length - frames.start)


def shots(length: int, cuts: Sequence[int]) -> Iterator[range]:
    """The shots of a video of `length` frames; `cuts` are the first frames of all shots but the first."""
    bounds = [0, *cuts, length]
    return map(range, bounds[:-1], bounds[1:])


def plan_segments(
    drawn: Mapping[int, frozenset[int]],
    length: int,
    direction: Direction,
    labeled: int,
    *,
    gone: Mapping[int, frozenset[int]] | None = None,
    cuts: Sequence[int] = (),
    spans: Sequence[range] = (),
) -> list[Segment]:
    """Divide a video at its labeled frames, the way `Tracker` goes through it.

    Each labeled frame is a segment by itself. The frames between two labeled frames depend on both and on as
    many labeled frames before them as stay in memory. A labeled frame that omits an object is completed with
    what was tracked into it, so the frames after it also depend on the frames before it.

    Every shot is planned separately. Frames without tracks belong to no segment: shots without a labeled frame, and
    frames between the end of the last track and the next labeled frame.

    Args:
        drawn: ids of the objects that are labeled in each labeled frame
        length: of the video, in frames
        direction: of the tracker
        labeled: number of labeled frames in memory, see `TrackerConfig`
        gone: IDs of the objects whose tracks end before a labeled frame, see `Seed`
        cuts: first frames of new shots, ascending
        spans: the frames to label, ascending; empty for all. A segment reaches from its first to its last one

    Returns:
        the frames that are tracked, in the order of time
    """
    gone = gone or {}
    if direction == "backward":
        segments = plan_segments(
            {length - 1 - frame: ids for frame, ids in drawn.items()},
            length,
            "forward",
            labeled,
            gone={length - 1 - frame: ids for frame, ids in gone.items()},
            cuts=[length - cut for cut in reversed(cuts)],
            spans=[mirrored(span, length) for span in reversed(spans)],
        )
        return [segment.mirrored(length) for segment in reversed(segments)]
    segments = []
    for shot in shots(length, cuts):
        frames = sorted(frame for frame in drawn if frame in shot)
        if frames:
            start = shot.start if direction == "both" else frames[0]
            segments += _plan_shot(range(start, shot.stop), frames, drawn, gone, max(labeled, 1))
    parts = ([overlap(s.frames, span) for span in spans] if spans else [s.frames] for s in segments)
    found = zip(segments, ([part for part in of_segment if part] for of_segment in parts), strict=True)
    return [replace(s, frames=range(inside[0].start, inside[-1].stop)) for s, inside in found if inside]


def _plan_shot(
    shot: range,
    frames: Sequence[int],
    drawn: Mapping[int, frozenset[int]],
    gone: Mapping[int, frozenset[int]],
    memory: int,
) -> Iterator[Segment]:
    completed: list[frozenset[int]] = []  # the labeled frames that each labeled frame depends on
    active = drawn[frames[0]]  # the objects that are tracked before the next labeled frame
    start = shot.start
    for frame in frames:
        missing = active - drawn[frame] - gone.get(frame, frozenset())
        # The next labeled frame takes a place in memory, unless it would tell that an object is not there.
        absent = bool(active - drawn[frame])
        before = completed[-memory if absent else -max(memory - 1, 1) :]
        between = frozenset({frame}).union(*before)
        completed.append(between if missing else frozenset({frame}))
        if active:
            yield Segment(range(start, frame), between)
        yield Segment(range(frame, frame + 1), completed[-1])
        active = missing | drawn[frame]
        start = frame + 1
    if active:
        yield Segment(range(start, shot.stop), frozenset().union(*completed[-memory:]))


def overlap(frames: range, span: range | None) -> range:
    """The part of ascending frames within a span (None: all of them)."""
    return frames if span is None else range(max(frames.start, span.start), min(frames.stop, span.stop))
