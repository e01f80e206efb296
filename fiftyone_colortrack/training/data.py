"""What is trained on: video files, lists of images that make up a video, and photographs. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fiftyone_colortrack.datasets import find_files
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

SHORT_SIDE = 256  # of the frames that are kept, in pixels
MAX_RATE = 15.0  # frames per second that are kept
IMAGE_SEQUENCE_RATE = 24.0  # of videos that are kept as images and do not say

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class TrainingData:
    """The files to train on.

    Attributes:
        videos: video files, or lists of image files that make up a video.
        images: photographs, each of them a video of one frame.
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
        """Gathers files from folders (searched to any depth, as in Kinetics' folder of classes) or lists.

        Folders of videos that this program has written itself are passed over.

        Args:
            videos: a folder of video files, or a list of video files and of lists of images.
            images: a folder of images, or a list of images.
            exclude: names of files, with or without suffix, that are left out.

        Raises:
            ColorTrackError: if a folder does not exist or nothing is left to train on.
        """
        left_out = set(exclude)
        chosen = cls(
            tuple(v for v in _gather(videos, VIDEO_SUFFIXES) if not left_out & _names(v)),
            tuple(
                i for i in _gather(images, IMAGE_SUFFIXES) if isinstance(i, Path) and not left_out & _names(i)
            ),
        )
        if not chosen.videos and not chosen.images:
            raise ColorTrackError(
                f"there is nothing to train on: no videos in {_describe(videos)} and no images in "
                f"{_describe(images)}" + (f", {', '.join(sorted(left_out))} left out" if left_out else "")
            )
        return chosen


def _gather(source: object, suffixes: frozenset[str]) -> Iterator[Path | tuple[Path, ...]]:
    if isinstance(source, (str, os.PathLike)):
        folder = Path(source)
        if not folder.is_dir():
            raise ColorTrackError(f"the folder {folder} does not exist; give a folder or a list of files")
        yield from find_files(folder, suffixes)
        return
    assert isinstance(source, Iterable)
    for item in source:
        yield Path(item) if isinstance(item, (str, os.PathLike)) else tuple(Path(p) for p in item)


def _names(video: Path | tuple[Path, ...]) -> set[str]:
    return {video.name, video.stem} if isinstance(video, Path) else {video[0].parent.name}


def _describe(source: object) -> str:
    return str(source) if isinstance(source, (str, os.PathLike)) else "the list"
