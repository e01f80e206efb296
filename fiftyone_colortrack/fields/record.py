"""What a video's tracks were made from, so that a later run can tell what has changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fiftyone_colortrack.tracking.segments import Segment


def digest(*values: object) -> str:
    """40 hexadecimal digits that change with any of some values that print as what they are."""
    return hashlib.sha1(repr(values).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class TrackRecord:
    """Digests of what the tracks of one video were made from.

    Attributes:
        settings: of the model and everything else but the seeds
        seeds: of all that was drawn
        segments: of what each segment follows from
    """

    settings: str
    seeds: str
    segments: tuple[str, ...]

    @classmethod
    def of(cls, settings: str, drawn: Mapping[int, str], segments: Sequence[Segment]) -> TrackRecord:
        """The record of tracks, from digests of what was `drawn` in each labelled frame."""
        followed = [(s.frames, [(frame, drawn[frame]) for frame in sorted(s.seeds)]) for s in segments]
        return cls(settings, cls.digest_of(drawn), tuple(digest(*segment) for segment in followed))

    @staticmethod
    def digest_of(drawn: Mapping[int, str]) -> str:
        """The attribute `seeds`, from digests of what was drawn in each labelled frame."""
        return digest(sorted(drawn.items()))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrackRecord:
        return cls(values["settings"], values["seeds"], tuple(values["segments"]))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "segments": list(self.segments)}

    def changed(self, segments: Sequence[Segment], earlier: TrackRecord | None) -> list[Segment]:
        """Those of this record's segments that the tracks of an earlier record do not have."""
        if earlier is None or earlier.settings != self.settings:
            return list(segments)
        return [s for s, made in zip(segments, self.segments, strict=True) if made not in earlier.segments]
