"""What to train on: video files, videos kept as images, and images. Imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fiftyone_colortrack.datasets import find_files
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

SHORT_SIDE = 256  # of the frames that are kept, in pixels
MAX_RATE = 15.0  # frames per second that are kept
IMAGE_SEQUENCE_RATE = 24.0  # of videos that are kept as images

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class TrainingData:
    """The files to train on.

    Attributes:
        videos: video files, or the image files of a video.
        images: image files, each a video of one frame.
    """

    videos: tuple[Path | tuple[Path, ...], ...] = ()
    images: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.videos) + len(self.images)

    @classmethod
    def collect(
        cls,
        videos: PathLike | Iterable[PathLike | Sequence[PathLike]] = (),
        images: PathLike | Iterable[PathLike] = (),
        exclude: Iterable[str] = (),
    ) -> TrainingData:
        """Collect files from folders, which are searched to any depth, or lists.

        Folders of videos that this package made are ignored.

        Args:
            videos: a folder of video files, or a list of video files and lists of images.
            images: a folder of images, or a list of images.
            exclude: names of files to skip, with or without suffix.

        Raises:
            ColorTrackError: if a folder does not exist or there is nothing to train on.
        """
        left_out = set(exclude)
        chosen = cls(
            *(
                tuple(entry for entry in _gather(source, suffixes) if not left_out & _names(entry))
                for source, suffixes in ((videos, VIDEO_SUFFIXES), (images, IMAGE_SUFFIXES))
            )
        )
        if not len(chosen):
            places = ("the list" if not isinstance(s, (str, os.PathLike)) else s for s in (videos, images))
            raise ColorTrackError(
                "there is nothing to train on: no videos in {} and no images in {}".format(*places)
                + (f" ({', '.join(sorted(left_out))} skipped)" if left_out else "")
            )
        return chosen

    @staticmethod
    def list_images(folder: PathLike) -> tuple[Path, ...]:
        """The image files in a folder, searched to any depth; raises ColorTrackError if it does not exist."""
        return tuple(_gather(folder, IMAGE_SUFFIXES))


def cache_key(data: TrainingData, budget: float) -> str:
    """The name of a cache: a hash of its files' paths, sizes, and modification times."""
    digest = hashlib.sha256(f"3 {SHORT_SIDE} {MAX_RATE} {budget}".encode())
    for entry in (*data.videos, *data.images):
        for path in (entry,) if isinstance(entry, Path) else entry:
            stat = path.stat() if path.exists() else None
            digest.update(f"{path.resolve()} {stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:16]


def _gather(source: Any, suffixes: frozenset[str]) -> list[Any]:
    """The files in a folder, or those of a list; a list within it becomes a tuple."""
    if not isinstance(source, (str, os.PathLike)):
        return [Path(x) if isinstance(x, (str, os.PathLike)) else tuple(map(Path, x)) for x in source]
    folder = Path(source)
    if not folder.is_dir():
        raise ColorTrackError(f"the folder {folder} does not exist; pass a folder or a list of files")
    return find_files(folder, suffixes)


def _names(video: Path | tuple[Path, ...]) -> set[str]:
    return {video.name, video.stem} if isinstance(video, Path) else {video[0].parent.name}
