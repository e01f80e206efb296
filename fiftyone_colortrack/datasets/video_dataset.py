"""What the loaders share: building a FiftyOne video dataset whole or not at all.

This module imports FiftyOne; the readers beside it do not, and import it only where they load.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import fiftyone as fo
import fiftyone.core.utils as fou
import numpy as np

from fiftyone_colortrack.datasets import ENCODED
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.shapes import regions, relative_box
from fiftyone_colortrack.pictures import COLORS
from fiftyone_colortrack.video import Frames, VideoInfo, probe, write_video

logger = logging.getLogger(__name__)

PLAYABLE_CODECS = frozenset({"h264", "vp8", "vp9", "av1"})
PLAYABLE_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm"})

OnError = Literal["skip", "raise"]
Progress = Callable[[int, int, str], None]
"""Called after every video with the number done, the number of all, and the name of the one just done."""


@contextmanager
def build_dataset(name: str, persistent: bool = False, overwrite: bool = False) -> Iterator[fo.Dataset]:
    """A new video dataset that gets its name when the block ends, and is deleted if the block fails.

    Args:
        name: of the dataset
        persistent: keep it when the database shuts down
        overwrite: replace a dataset of that name; the old one stays until the new one is complete

    Raises:
        ColorTrackError: if the name cannot be used, see `check_name`
    """
    check_name(name, overwrite)
    dataset = fo.Dataset(f"{name}-loading-{uuid.uuid4().hex[:8]}")
    try:
        dataset.media_type = fo.core.media.VIDEO
        color_by_instance(dataset)
        yield dataset
        if fo.dataset_exists(name):
            fo.delete_dataset(name)
        dataset.name = name
        dataset.persistent = persistent
    except BaseException:
        dataset.delete()
        raise


def check_name(name: str, overwrite: bool = False) -> None:
    """Raise a ColorTrackError if a new dataset cannot have this name.

    Args:
        name: of the dataset
        overwrite: whether it may replace a dataset of exactly this name
    """
    try:
        slug = fou.to_slug(name)
    except ValueError as error:
        raise ColorTrackError(f"{name!r} is no name for a dataset; use letters and digits") from error
    taken = _taken().get(slug)
    if taken and not (overwrite and taken == name):
        raise ColorTrackError(f"a dataset {taken!r} exists; replace it (overwrite), or choose another name")


def color_by_instance(dataset: fo.Dataset) -> None:
    """Make the App give every object a colour of its own, as in `pictures`, instead of one to each field."""
    pool = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in COLORS]
    dataset.app_config.color_scheme = fo.ColorScheme(color_by="instance", color_pool=pool)
    dataset.save()


def unused_name(name: str) -> str:
    """The name, with a number behind it if a dataset has it already."""
    taken = _taken()
    candidates = (name, *(f"{name}-{i}" for i in range(2, 1000)))
    return next(candidate for candidate in candidates if fou.to_slug(candidate) not in taken)


def _taken() -> dict[str, str]:
    """Slug -> name of the datasets; FiftyOne takes for one name what differs in capitals and punctuation."""
    return {fou.to_slug(name): name for name in fo.list_datasets()}


def add_videos(
    dataset: fo.Dataset,
    names: Sequence[str],
    make_sample: Callable[[str], fo.Sample],
    on_error: OnError = "raise",
    progress: Progress | None = None,
) -> None:
    """Add one sample after the other.

    Args:
        dataset: where to
        names: of the videos
        make_sample: builds the sample of a name, not yet in any dataset
        on_error: whether a video with bad files ends it all, or is left out, with its error in
            ``dataset.info["skipped"]``
        progress: see `Progress`

    Raises:
        ColorTrackError: the first error, or, where videos are left out, if none remains
    """
    skipped: dict[str, str] = {}
    for done, name in enumerate(names, start=1):
        try:
            sample = make_sample(name)
        except ColorTrackError as error:
            if on_error == "raise":
                raise
            skipped[name] = str(error)
        else:
            dataset.add_sample(sample)
        if progress:
            progress(done, len(names), name)
    if len(skipped) == len(names):
        reason = next(iter(skipped.values()), "there is none")
        raise ColorTrackError(f"none of {len(names)} videos could be loaded: {reason}")
    if skipped:
        logger.warning(
            "%d of %d videos were left out: %s", len(skipped), len(names), "; ".join(skipped.values())
        )
        dataset.info["skipped"] = skipped
        dataset.save()


def video_folder(root: Path, video_dir: str | Path | None) -> Path:
    """Where encoded videos go: the given folder, else one beside the data, else one of FiftyOne's."""
    if video_dir is not None:
        return Path(video_dir)
    if os.access(root, os.W_OK):
        return root / ENCODED
    digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
    return Path(fo.config.default_dataset_dir) / "colortrack" / f"{root.name}-{digest}"


def encode_once(path: Path, frames: Frames, frame_rate: float) -> VideoInfo:
    """Write the video, unless the file is there with the right number of frames of the right size."""
    even = (frames.width + frames.width % 2, frames.height + frames.height % 2)
    if path.is_file():
        try:
            info = probe(path)
        except ColorTrackError:
            pass
        else:
            if info.frame_count == len(frames) and (info.width, info.height) == even:
                return info
    return write_video(path, frames.read(range(len(frames))), frame_rate)


def is_playable(path: Path, info: VideoInfo) -> bool:
    """Whether today's browsers, and so the App, can show the file."""
    return info.codec in PLAYABLE_CODECS and path.suffix.lower() in PLAYABLE_SUFFIXES


def video_sample(path: Path, info: VideoInfo, **fields: object) -> fo.Sample:
    """A sample with its metadata, so that FiftyOne needs no ffprobe."""
    metadata = fo.VideoMetadata(
        size_bytes=path.stat().st_size,
        mime_type=f"video/{path.suffix.lstrip('.').lower()}",
        frame_width=info.width,
        frame_height=info.height,
        frame_rate=info.frame_rate,
        total_frame_count=info.frame_count,
        duration=info.duration,
        encoding_str="avc1" if info.codec == "h264" else info.codec,
    )
    return fo.Sample(filepath=str(path.resolve()), metadata=metadata, **fields)


def relative_points(points: np.ndarray, info: VideoInfo) -> list[tuple[float, float]]:
    """Points ``[P, 2]`` in pixels as FiftyOne has them: shares of the video's size; NaN stays NaN."""
    return [(float(x) / info.width, float(y) / info.height) for x, y in points]


class Instances:
    """The objects of one video: every label of an object shares one `fiftyone.Instance`."""

    def __init__(self, labels: Mapping[int, str] | None = None, default_label: str = "object") -> None:
        self._labels = labels or {}
        self._default = default_label
        self._instances: dict[int, fo.Instance] = {}

    def common(self, index: int) -> dict[str, object]:
        """The fields that all labels of an object have in common."""
        instance = self._instances.setdefault(index, fo.Instance())
        return {"label": self._labels.get(index, self._default), "index": index, "instance": instance}

    def detections(self, ids: np.ndarray, info: VideoInfo) -> fo.Detections:
        """Object ids ``[H, W]`` of a frame as detections with instance masks, at the video's encoded size."""
        canvas = (info.height, info.width)
        found: Iterable = regions(ids)
        return fo.Detections(
            detections=[
                fo.Detection(bounding_box=relative_box(region, canvas), mask=region.mask, **self.common(i))
                for i, region in found
            ]
        )
