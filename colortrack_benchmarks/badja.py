"""BADJA: joints of animals in about every fifth frame of some DAVIS videos (Biggs et al., ACCV 2018)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fiftyone_colortrack.datasets.davis import DavisFolder, DavisSequence
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import open_image

FULL_SIZE = (1080, 1920)
"""Height and width of the annotated images, if the full-resolution DAVIS is not available."""


@dataclass(frozen=True)
class BadjaSequence:
    """Joints of the animal in one video.

    Args:
        davis: the video's frames and masks
        points: (x, y) in pixels of these frames, ``[T, J, 2]``; NaN for joints and frames without annotation
        visible: whether a joint is visible, bool ``[T, J]``; some hidden joints have a position
    """

    davis: DavisSequence
    points: np.ndarray
    visible: np.ndarray

    @property
    def annotated(self) -> list[int]:
        """Indices of the frames with joints, in ascending order."""
        return np.flatnonzero(np.isfinite(self.points).any((1, 2))).tolist()

    def reference_lengths(self) -> np.ndarray:
        """The reference lengths of BADJA's PCK, ``[T]``: the square root of the animal's area in pixels.

        NaN for frames without joints or without a mask.
        """
        lengths = np.full(len(self.points), np.nan)
        for t in self.annotated:
            mask = self.davis.read_mask(t)
            if mask is not None:
                lengths[t] = np.sqrt(np.count_nonzero(mask))
        return lengths


def read_badja(
    annotations: str | Path, davis_root: str | Path, sequences: Sequence[str] | None = None
) -> list[BadjaSequence]:
    """Read the joints of all annotated videos in a DAVIS folder.

    Args:
        annotations: the folder with ``<sequence>.json`` (``joint_annotations`` of the official repository)
        davis_root: DAVIS folder with the videos
        sequences: names of sequences. Default: all that both folders have

    Raises:
        ColorTrackError: if there is no such sequence, or a file is missing or cannot be read
    """
    files = {path.stem: path for path in sorted(Path(annotations).glob("*.json"))}
    folder = DavisFolder(davis_root)
    names = (
        [name for name in files if name in folder.names] if sequences is None else folder.select(sequences)
    )
    missing = [name for name in names if name not in files]
    if missing or not names:
        raise ColorTrackError(
            f"{annotations} has no {', '.join(missing) or 'sequence'}.json of {davis_root}; "
            f"there are: {', '.join(files) or 'no JSON files'}"
        )
    return [_sequence(files[name], folder.sequence(name)) for name in names]


def _sequence(path: Path, davis: DavisSequence) -> BadjaSequence:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        stems = [Path(entry["image_path"]).stem for entry in entries]
        joints = np.array([entry["joints"] for entry in entries], float)  # N x J x 2 (y, x)
        visible = np.array([entry["visibility"] for entry in entries], bool)  # N x J
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ColorTrackError(f"{path} is not a list of BADJA annotations: {error!r}") from error
    if joints.ndim != 3 or joints.shape[2] != 2 or visible.shape != joints.shape[:2]:
        raise ColorTrackError(f"{path}: joints must be [N, J, 2] and visibility [N, J], not {joints.shape}")
    frames = {frame.stem: t for t, frame in enumerate(davis.frames)}
    if not set(stems) <= set(frames):
        raise ColorTrackError(
            f"{path} has joints of frame {min(set(stems) - set(frames))}, which is not in DAVIS"
        )
    points = np.full((len(frames), joints.shape[1], 2), np.nan)
    seen = np.zeros(points.shape[:2], bool)
    scale = _scale(davis)
    for stem, positions, flags in zip(stems, joints, visible, strict=True):
        known = positions.any(1)  # (0, 0): not annotated
        points[frames[stem], known] = (positions[known, ::-1] + 0.5) * scale
        seen[frames[stem]] = flags & known
    return BadjaSequence(davis, points, seen)


def _scale(davis: DavisSequence) -> np.ndarray:
    """Size of the frames divided by the size of the annotated images, (x, y)."""
    frame = davis.frames[0]
    full = frame.parents[2] / "Full-Resolution" / frame.parent.name / frame.name
    size = _size(full) if full.is_file() else FULL_SIZE[::-1]
    return np.array(_size(frame)) / size


def _size(path: Path) -> tuple[int, int]:
    with open_image(path) as image:
        return image.size
