"""Datasets: DAVIS, JHMDB, Kinetics, and rendered scenes, as lists of files and as FiftyOne datasets.

The `read_*` functions need no FiftyOne; the `load_*` functions import it when you call them.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import is_hidden, list_images

ENCODED = "colortrack-videos"
"""The folder, inside a dataset's own, for videos that loaders encode."""


def find_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files with these suffixes below a folder, sorted.

    Hidden files and the videos that loaders have encoded are left out.
    """
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(
        folder / path
        for path in found
        if ENCODED not in path.parts and not any(is_hidden(Path(part)) for part in path.parts)
    )


def list_frames(folder: Path) -> list[Path]:
    """List the frames of a video: the images of a folder, numbered without a gap.

    Numbers may start anywhere and may have a constant step.

    Raises:
        ColorTrackError: if the folder cannot be read, or a frame is missing or there twice
    """
    images = list_images(folder)
    found = [re.search(r"\d+$", path.stem) for path in images]
    numbers = [int(match[0]) for match in found if match]
    if len(numbers) < 3 or len(numbers) < len(images):
        return images
    step = min(after - before for before, after in pairwise(numbers))
    for (before, after), path in zip(pairwise(numbers), images[1:], strict=True):
        if after == before:
            raise ColorTrackError(
                f"{folder} has two images for frame {after}; remove one, such as {path.name}"
            )
        if step > 0 and after != before + step:
            raise ColorTrackError(
                f"{folder} has a gap: frame {before + step} is missing before {path.name}; "
                "restore it, or number the frames without gaps"
            )
    return images


def select(wanted: Sequence[str] | None, names: Sequence[str], root: Path, what: str) -> list[str]:
    """The wanted names, or all; a ColorTrackError if one of them is not there."""
    for name in wanted or ():
        if name not in names:
            raise ColorTrackError(f"{root} has no {what} {name!r}; it has: {some(names)}")
    return list(names if wanted is None else wanted)


def some(names: Iterable[str | None]) -> str:
    """The first of possibly hundreds of names, for an error message."""
    known = sorted(name for name in names if name is not None)
    return ", ".join([*known[:20], *(["..."] if len(known) > 20 else [])]) or "none"


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; a ColorTrackError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ColorTrackError(f"{path} cannot be read: {error}") from error
