"""Datasets: DAVIS, JHMDB, BADJA, Kinetics and rendered scenes, as lists of files and as FiftyOne datasets.

The ``read_*`` functions never import FiftyOne, the ``load_*`` functions do when they are called.
"""

from pathlib import Path

from fiftyone_colortrack.errors import ColorTrackError

ENCODED = "colortrack-videos"
"""The folder, beside a dataset's own, with the videos that loaders encode."""


def find_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files below a folder, to any depth, in order, but for the videos that loaders have encoded there."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in found if ENCODED not in path.relative_to(folder).parts)


def numbered_images(folder: Path, suffix: str, first: int) -> list[Path]:
    """The images of a video that are named by five digits; a ColorTrackError if there is a gap."""
    images = sorted(folder.glob(f"*{suffix}"))
    for number, image in enumerate(images, start=first):
        name = f"{number:05}{suffix}"
        if image.name != name:
            raise ColorTrackError(f"{folder / name} is missing: the frames of {folder.name} have a gap")
    return images


def read_text(path: Path) -> str:
    """The text of a file; a ColorTrackError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ColorTrackError(f"{path} cannot be read: {error}") from error
