"""Datasets: DAVIS, JHMDB, BADJA, Kinetics and rendered scenes, as lists of files and as FiftyOne datasets.

The ``read_*`` functions never import FiftyOne, the ``load_*`` functions do when they are called.
"""

from pathlib import Path

ENCODED = "colortrack-videos"
"""The folder, beside a dataset's own, with the videos that loaders encode."""


def find_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files below a folder, to any depth, in order, but for the videos that loaders have encoded there."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in found if ENCODED not in path.relative_to(folder).parts)
