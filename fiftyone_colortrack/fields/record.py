"""Records of how a video's tracks were made and what was written, so that a later run knows what changed."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import fiftyone as fo
import numpy as np

from fiftyone_colortrack.fields.shapes import LABEL_LISTS, attribute, attributes, outline, stored_mask
from fiftyone_colortrack.tracking.segments import Segment


def digest(*values: object) -> str:
    """A hash of some values, 40 hexadecimal digits. Their `repr` must describe them completely."""
    return hashlib.sha1(repr(values).encode(), usedforsecurity=False).hexdigest()


def labels_of(container: fo.Label | None) -> list[fo.Label]:
    """The labels in a frame's field; a segmentation counts as one label."""
    if container is None:
        return []
    name = LABEL_LISTS.get(type(container))
    return list(container[name]) if name else [container]


def track_name(label: fo.Label) -> str:
    """The name of a label's track, which all its labels share."""
    if isinstance(label, fo.Segmentation):
        return "segmentation"
    return label.instance_id or f"{label.label}/{label.index}"


class Checks(NamedTuple):
    """Checksums of a label: of its place (box, points, or corners), its name, and everything else."""

    place: int
    name: int
    rest: int

    @classmethod
    def of(cls, label: fo.Label, ignore: Collection[str] = ()) -> Checks:
        marked, last = bool(attribute(label, "keyframe")), bool(attribute(label, "last"))
        shape = outline(label)
        box = 4 if isinstance(label, fo.Detection) else len(shape)
        name = () if isinstance(label, fo.Segmentation) else (label.label, label.index)
        rest = shape[box:], last, sorted(attributes(label, ignore).items())
        return cls(*(zlib.crc32(repr(part).encode()) for part in (shape[:box], (*name, marked), rest)))


class Corrections(NamedTuple):
    """Differences from what a run wrote, by frame number (from 1).

    Attributes:
        drawn: ids of labels that a person drew, changed, or marked as keyframes, with the names of their tracks
        deleted: names of tracks whose labels a person deleted
        interpolated: ids of labels whose boxes FiftyOne's App interpolated between keyframes: see `compare`
        renamed: ids of those in `drawn` that are where a run drew them: their class or index changed, or they are
            the new track after a split
    """

    drawn: dict[int, dict[str, str]]
    deleted: dict[int, frozenset[str]]
    interpolated: dict[int, frozenset[str]]
    renamed: dict[int, frozenset[str]]

    def seeds(self, number: int) -> set[str]:
        """IDs of a frame's labels that tracks can start from: those in `drawn` that were not only renamed."""
        return set(self.drawn.get(number, ())).difference(self.renamed.get(number, ()))

    def __len__(self) -> int:
        """Number of labels that a person drew, changed, or deleted."""
        return sum(map(len, self.drawn.values())) + sum(map(len, self.deleted.values()))

    def outside(self, ranges: Sequence[range], tracks: Collection[str] | None) -> Corrections:
        """Those of other frames (from 0) and tracks than a run is limited to."""

        def stays(number: int, name: str) -> bool:
            elsewhere = bool(ranges) and not any(number - 1 in frames for frames in ranges)
            return elsewhere or (tracks is not None and name not in tracks)

        drawn = {n: {id: t for id, t in ids.items() if stays(n, t)} for n, ids in self.drawn.items()}
        deleted = {n: frozenset(t for t in names if stays(n, t)) for n, names in self.deleted.items()}
        return Corrections(drawn, deleted, self.interpolated, self.renamed)


NO_CORRECTIONS = Corrections({}, {}, {}, {})


@dataclass
class Written:
    """Checksums of each label that runs wrote, by track and frame.

    Confidence and tags do not count, nor do the attributes in `ignore`: evaluations write these.

    While a portion of labels is on its way to the database, the checksums of the labels that it replaces are
    kept as well: a run may be killed in between.
    """

    tracks: list[str] = field(default_factory=list)
    checks: dict[tuple[int, int], Checks] = field(default_factory=dict)
    replaced: dict[tuple[int, int], Checks] = field(default_factory=dict)
    pending: frozenset[int] = frozenset()
    ignore: Collection[str] = ()

    def begin(self, number: int, labels: Iterable[fo.Label], deleted: Collection[str] = ()) -> None:
        """Note the labels that are about to be written to a frame, in place of all earlier ones of a run."""
        for key in [key for key in self.checks if key[0] == number]:
            self.replaced[key] = self.checks[key]
            if self.tracks[key[1]] not in deleted:
                del self.checks[key]
        for label in labels:
            if (name := track_name(label)) not in self.tracks:
                self.tracks.append(name)
            self.checks[number, self.tracks.index(name)] = Checks.of(label, self.ignore)
        self.pending |= {number}

    def end(self) -> None:
        """Everything that was noted has been written."""
        self.pending, self.replaced = frozenset(), {}

    def wrote(self, number: int, label: fo.Label) -> bool:
        """Whether a run wrote a label as it is now."""
        return not any(self.differs(number, label))

    def differs(self, number: int, label: fo.Label) -> tuple[bool, ...]:
        """Which of a label's `Checks` are not those of what a run wrote."""
        name = track_name(label)
        key = number, self.tracks.index(name) if name in self.tracks else -1
        now = Checks.of(label, self.ignore)
        if now == self.replaced.get(key):
            return (False,) * len(now)
        return tuple(a != b for a, b in zip(now, self.checks.get(key) or (None,) * len(now), strict=True))

    def frames(self) -> list[int]:
        """Numbers of the frames with labels of a run, ascending."""
        return sorted({number for number, _ in self.checks})

    def to_dict(self) -> dict[str, Any]:
        packed = {"checks": _pack(self.checks), "replaced": _pack(self.replaced)}
        return {"tracks": self.tracks, **packed, "pending": sorted(self.pending)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], ignore: Collection[str] = ()) -> Written:
        checks, replaced = _unpack(values["checks"]), _unpack(values["replaced"])
        return cls(list(values["tracks"]), checks, replaced, frozenset(values["pending"]), ignore)

    def compare(self, frames: Mapping[int, Sequence[fo.Label]]) -> Corrections:
        """Find what a person changed in the labels of some frames.

        When a person edits a label, FiftyOne 1.22 marks it as a keyframe. It then overwrites the boxes
        between this keyframe and its neighbors with linear interpolation (behind the last keyframe: with
        copies of it), with `keyframe=False`, and leaves their masks. Such labels are not a person's
        work. Their boxes, which lie on this line and differ from what was written, give them away. They are tracked
        again.

        Args:
            frames: all labels of each frame, by its number (from 1): those that changed, and all keyframes
        """
        keyframes: dict[str, dict[int, list[float]]] = {}
        for number, labels in frames.items():
            for label in labels:
                if isinstance(label, fo.Detection) and attribute(label, "keyframe"):
                    keyframes.setdefault(track_name(label), {})[number] = label.bounding_box
        wrote: dict[int, dict[str, Checks]] = defaultdict(dict)
        for (number, track), checks in self.checks.items():
            wrote[number][self.tracks[track]] = checks
        drawn, deleted, interpolated, renamed = {}, {}, {}, {}
        for number, labels in frames.items():
            edited = [label for label in labels if not self.wrote(number, label)]
            moved = frozenset(one.id for one in edited if self._is_interpolated(number, one, keyframes))
            drawn[number] = {label.id: track_name(label) for label in edited if label.id not in moved}
            interpolated[number] = moved
            gone = wrote[number].keys() - {track_name(label) for label in labels}
            deleted[number] = frozenset() if number in self.pending else frozenset(gone)
            renamed[number] = frozenset(
                label.id
                for label in edited
                for name in ({track_name(label)} if track_name(label) in self.tracks else gone)
                if name in wrote[number] and wrote[number][name][::2] == Checks.of(label, self.ignore)[::2]
            )
        return Corrections(
            {n: ids for n, ids in drawn.items() if ids},
            {n: names for n, names in deleted.items() if names},
            {n: ids for n, ids in interpolated.items() if ids},
            {n: ids for n, ids in renamed.items() if ids},
        )

    def _is_interpolated(
        self, number: int, label: fo.Label, keyframes: Mapping[str, Mapping[int, list[float]]]
    ) -> bool:
        boxes = keyframes.get(track_name(label), {})
        before = max((n for n in boxes if n < number), default=None)
        after = min((n for n in boxes if n > number), default=None)
        if not isinstance(label, fo.Detection) or attribute(label, "keyframe") or before is None:
            return False
        place, _, rest = self.differs(number, label)
        bare = label.confidence is None and stored_mask(label) is None
        filled = bare and attribute(label, "keyframe") is False  # as the App fills gaps between keyframes
        if not place or (rest and not filled):
            return False
        share = 0.0 if after is None else (number - before) / (after - before)
        start, end = np.array(boxes[before]), np.array(boxes[before if after is None else after])
        return bool(np.allclose(label.bounding_box, start + share * (end - start), rtol=0, atol=1e-6))


def _pack(checks: Mapping[tuple[int, int], Checks]) -> str:
    columns = np.array([(*key, *check) for key, check in checks.items()], "<u4").reshape(-1, 5).T
    return base64.b64encode(zlib.compress(columns.tobytes(), 1)).decode()


def _unpack(text: str) -> dict[tuple[int, int], Checks]:
    columns = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4").reshape(5, -1)
    return {(frame, track): Checks(*check) for frame, track, *check in columns.T.tolist()}


@dataclass(frozen=True)
class Part:
    """What a run did for some objects and frames of a video: for all of them, where it was not limited.

    Attributes:
        run: key of the run
        seed_field: where its seeds came from
        settings: digest of the model and everything else but the seeds
        seeds: digest of everything that was drawn
        segments: digests of the labels that determine each segment
        cuts: first frames (from 0) of new shots
        done: numbers (from 1) of the frames that are written; None when all are
    """

    run: str
    seed_field: str
    settings: str
    seeds: str
    segments: tuple[str, ...]
    cuts: tuple[int, ...] = ()
    done: frozenset[int] | None = None

    @classmethod
    def of(
        cls,
        run: str,
        seed_field: str,
        settings: str,
        drawn: Mapping[int, str],
        segments: Sequence[Segment],
        cuts: Sequence[int] = (),
    ) -> Part:
        """The part of tracks that follow from what was `drawn` (a digest per labeled frame)."""
        followed = [(s.frames, [(frame, drawn.get(frame)) for frame in sorted(s.seeds)]) for s in segments]
        digests = tuple(digest(*segment) for segment in followed)
        return cls(run, seed_field, settings, cls.digest_of(drawn), digests, tuple(cuts))

    @staticmethod
    def digest_of(drawn: Mapping[int, str]) -> str:
        """The attribute `seeds`, from digests of what was drawn in each labeled frame."""
        return digest(sorted(drawn.items()))

    def todo(
        self, segments: Sequence[Segment], earlier: Part | None, damaged: Collection[int] = ()
    ) -> list[Segment]:
        """Those of this part's segments that an earlier one does not have, or did not finish.

        Also those with `damaged` frames (numbers from 1).
        """
        if earlier is None or earlier.settings != self.settings:
            return list(segments)
        done = earlier.done
        return [
            segment
            for segment, made in zip(segments, self.segments, strict=True)
            if made not in earlier.segments
            or any(number - 1 in segment.frames for number in damaged)
            or (done is not None and not done.issuperset(frame + 1 for frame in segment.frames))
        ]

    def to_dict(self) -> dict[str, Any]:
        done = None if self.done is None else runs(self.done)
        return {**vars(self), "segments": list(self.segments), "cuts": list(self.cuts), "done": done}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Part:
        done = values["done"]
        frames = None if done is None else frozenset(n for a, b in done for n in range(a, b + 1))
        listed = {"segments": tuple(values["segments"]), "cuts": tuple(values["cuts"]), "done": frames}
        return cls(**{**values, **listed})


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """First and last of each run of consecutive numbers."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


@dataclass
class TrackRecord:
    """What ColorTrack knows about the tracks of one video, kept in `record_field`.

    Attributes:
        written: what runs wrote; None in records of version 0.1.0, which did not keep it
        parts: what was tracked, by its scope: "all", or a digest of objects and frames
    """

    written: Written | None = field(default_factory=Written)
    parts: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None, ignore: Collection[str] = ()) -> TrackRecord:
        """The record of tracks; a new one if there is none. What to `ignore`: see `Written`."""
        if not values or "parts" not in values:
            return cls(None if values else Written(ignore=ignore))
        parts = {scope: Part.from_dict(part) for scope, part in values["parts"].items()}
        return cls(Written.from_dict(values["written"], ignore), parts)

    def to_dict(self) -> dict[str, Any]:
        parts = {scope: part.to_dict() for scope, part in self.parts.items()}
        return {"written": (self.written or Written()).to_dict(), "parts": parts}

    def begin(self, scope: str, part: Part, done: Collection[int]) -> None:
        """A run starts to write a part, of which some frames stay as they are."""
        self.written = self.written or Written()
        self.parts[scope] = replace(part, done=frozenset(done))
