"""Which frames follow from which labelled ones: what a correction can change, and what it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fiftyone_colortrack.tracking.config import Direction


@dataclass(frozen=True)
class Segment:
    """Frames that are tracked from the same labelled frames.

    Attributes:
        frames: indices, from 0, ascending
        seeds: the labelled frames that the segment's labels follow from; no other one can change them
    """

    frames: range
    seeds: frozenset[int]

    def mirrored(self, length: int) -> Segment:
        """The same segment of the reversed video of `length` frames."""
        first, last = length - self.frames.stop, length - self.frames.start
        return Segment(range(first, last), frozenset(length - 1 - frame for frame in self.seeds))


def plan_segments(
    drawn: Mapping[int, frozenset[int]], length: int, direction: Direction, labelled: int
) -> list[Segment]:
    """Cut a video at its labelled frames, each of which is a segment by itself, as `Tracker` goes through it.

    The frames between two labelled ones follow from these and from as many before as stay in memory. A
    labelled frame that leaves out objects is completed with what was tracked into it, so that what follows
    from it follows from the frames before it, too.

    Args:
        drawn: the objects that are labelled in each labelled frame; at least one frame
        length: of the video, in frames
        direction: of the tracker
        labelled: how many labelled frames stay in memory, see `TrackerConfig`

    Returns:
        the frames that are tracked, in the order of time
    """
    if direction == "backward":
        mirrored = {length - 1 - frame: ids for frame, ids in drawn.items()}
        forward = plan_segments(mirrored, length, "forward", labelled)
        return [segment.mirrored(length) for segment in reversed(forward)]
    memory = max(labelled, 1)
    segments: list[Segment] = []
    completed: list[frozenset[int]] = []  # what each labelled frame follows from
    known: frozenset[int] = frozenset()
    start = 0 if direction == "both" else min(drawn)
    for frame in sorted(drawn):
        missing = known - drawn[frame]
        # The next labelled frame is in memory beside those before, unless it would tell of missing objects.
        before = completed[-memory if missing else -max(memory - 1, 1) :]
        between = frozenset({frame}).union(*before)
        completed.append(between if missing else frozenset({frame}))
        segments.append(Segment(range(start, frame), between))
        segments.append(Segment(range(frame, frame + 1), completed[-1]))
        known |= drawn[frame]
        start = frame + 1
    segments.append(Segment(range(start, length), frozenset().union(*completed[-memory:])))
    return [segment for segment in segments if segment.frames]
