"""What the loaders share: create a FiftyOne video dataset completely, or not at all.

This module imports FiftyOne. The readers import it only when they load a dataset.
"""

from __future__ import annotations

import errno
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import fiftyone as fo
import fiftyone.core.utils as fou
import numpy as np
from fiftyone.core.odm import get_db_conn
from mongoengine.errors import NotUniqueError
from pymongo.errors import PyMongoError

from fiftyone_colortrack.datasets import ENCODED
from fiftyone_colortrack.errors import ColorTrackError, OnError
from fiftyone_colortrack.fields import color_by_object, digest
from fiftyone_colortrack.fields.shapes import regions, relative_box
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.settings import check_allowed
from fiftyone_colortrack.video import Frames, VideoInfo, probe, write_video

logger = logging.getLogger(__name__)

LOADING = "loading"
"""Key in the info of a dataset that is still being loaded, or whose loading was killed."""
LONGEST_STEM = 60
"""Characters of an encoded file's name; file systems take 255 bytes, also for temporary names."""
_ELSEWHERE = "choose another folder for videos (video_dir)"
REMEDIES = {
    errno.ENOSPC: f"free disk space, or {_ELSEWHERE}",
    errno.EDQUOT: f"free disk space, or {_ELSEWHERE}",
    errno.EACCES: f"change its permissions, or {_ELSEWHERE}",
    errno.EROFS: _ELSEWHERE,
    errno.ENAMETOOLONG: "give it a shorter name",
}


@contextmanager
def build_dataset(name: str, persistent: bool = False, overwrite: bool = False) -> Iterator[fo.Dataset]:
    """Create a video dataset, and remove it if the block fails.

    The dataset has its name from the beginning, so nobody else can take it. If it replaces a dataset, the old
    one keeps the name until the block ends.

    Args:
        name: the dataset's name
        persistent: whether to keep the dataset when the database shuts down
        overwrite: whether to replace a dataset of this name

    Raises:
        ColorTrackError: if the name is invalid or taken, now or when the block ends
    """
    check_name(name, overwrite)
    old = fo.load_dataset(name) if fo.dataset_exists(name) else None
    unique = f"{name}-loading-{uuid.uuid4().hex[:8]}"
    try:
        dataset = fo.Dataset(unique)
    except BaseException:  # a signal may come after it was created
        if fo.dataset_exists(unique):
            fo.delete_dataset(unique)
        raise
    try:
        if old is None:
            _take_name(dataset, name)
        dataset.media_type = fo.core.media.VIDEO
        dataset.info[LOADING] = True
        dataset.save()
        yield dataset
        _check_exists(dataset)
        color_by_object(dataset)
        del dataset.info[LOADING]
        dataset.persistent = persistent
        if old is not None:
            _replace(old, dataset, name)
    except BaseException:
        # Samples that are left under the name belong to somebody else: `add_videos` removes its own.
        if _exists(dataset) and (old is not None or len(dataset) == 0):
            dataset.delete()
        raise


def _exists(dataset: fo.Dataset) -> bool:
    """Whether a dataset is in the database, under any name; another process may have deleted it."""
    return not dataset.deleted and get_db_conn().datasets.count_documents({"_id": dataset._doc.id}) > 0


def _check_exists(dataset: fo.Dataset) -> None:
    if not _exists(dataset):
        raise ColorTrackError(
            f"somebody deleted the dataset {dataset.name!r} while it was loading; load it again"
        )


def _replace(old: fo.Dataset, new: fo.Dataset, name: str) -> None:
    """Give a dataset the name of another one, and delete that; the other one stays if the name is lost."""
    replaces = _exists(old)
    if replaces:
        old.name = f"{name}-replaced-{uuid.uuid4().hex[:8]}"
    try:
        _take_name(new, name)
    except ColorTrackError:
        if replaces:
            old.name = name
        raise
    if replaces:
        old.delete()


def _take_name(dataset: fo.Dataset, name: str) -> None:
    try:
        dataset.name = name
    except (ValueError, NotUniqueError) as error:
        raise ColorTrackError(f"somebody else created a dataset {name!r}; choose another name") from error


def check_name(name: str, overwrite: bool = False) -> None:
    """Raise a ColorTrackError if a new dataset cannot have this name.

    Args:
        name: the dataset's name
        overwrite: whether the new dataset may replace one of exactly this name
    """
    try:
        slug = fou.to_slug(name)
    except ValueError as error:
        raise ColorTrackError(f"{name!r} is not a valid dataset name; use letters and digits") from error
    taken = _names_by_slug().get(slug)
    if taken and not (overwrite and taken == name):
        loading = fo.dataset_exists(taken) and fo.load_dataset(taken).info.get(LOADING)
        state = "is still loading, or its loading was killed" if loading else "exists"
        raise ColorTrackError(
            f"the dataset {taken!r} {state}; replace it (overwrite), or choose another name"
        )


def unused_name(name: str) -> str:
    """The name, with a number appended if a dataset has it already."""
    taken = _names_by_slug()
    candidates = (name, *(f"{name}-{i}" for i in range(2, 1000)))
    return next(candidate for candidate in candidates if fou.to_slug(candidate) not in taken)


def _names_by_slug() -> dict[str, str]:
    """FiftyOne considers names equal that differ only in case and punctuation."""
    return {fou.to_slug(name): name for name in fo.list_datasets()}


def add_videos(
    dataset: fo.Dataset,
    names: Sequence[str],
    make_sample: Callable[[str], fo.Sample],
    on_error: OnError = "raise",
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Add videos to a dataset one by one; if that fails, the dataset is left as it was.

    Args:
        dataset: the dataset to add to
        names: names of the videos
        make_sample: makes the sample of a name
        on_error: `raise` the error of a video, or `skip` it and save the error in `dataset.info["skipped"]`
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Raises:
        ColorTrackError: if a video fails; with `skip`, if all fail
    """
    added: list[str] = []
    skipped: dict[str, str] = {}
    try:
        with progress_bar(progress, f"Loading {dataset.name}") as update:
            for done, name in enumerate(names, start=1):
                try:
                    sample = _checked(name, make_sample)
                    _check_exists(dataset)
                    added.append(sample.filepath)
                    dataset.add_sample(sample)
                except ColorTrackError as error:
                    if on_error == "raise":
                        raise
                    skipped[_printable(name)] = _printable(str(error))
                update(done, len(names), _printable(name))
        if len(skipped) == len(names):
            reason = next(iter(skipped.values()), "there are no videos")
            raise ColorTrackError(f"none of the {len(names)} videos could be loaded: {reason}")
    except BaseException:
        if _exists(dataset):
            dataset.delete_samples(dataset.select_by("filepath", added))
        raise
    if skipped:
        logger.warning("Skipped %d of %d videos: %s", len(skipped), len(names), "; ".join(skipped.values()))
        dataset.info["skipped"] = skipped
        dataset.save()


def _checked(name: str, make_sample: Callable[[str], fo.Sample]) -> fo.Sample:
    """The sample of a name; any error that one bad file can cause becomes a ColorTrackError."""
    try:
        sample = make_sample(name)
        frames = sample.frames.values() if sample.media_type == "video" else ()
        paths = [sample.filepath, *(f.filepath for f in frames if f.has_field("filepath"))]
        if strange := next((path for path in paths if path and path != _printable(path)), None):
            raise ColorTrackError(f"the name of {_printable(strange)} is not UTF-8; rename the file")
        return sample
    except (ColorTrackError, PyMongoError):
        raise
    except Exception as error:
        problem, remedy = f" cannot be loaded ({type(error).__name__}: {error})", "repair or remove the file"
        if isinstance(error, OSError):
            problem = f": {error.filename or ''} {error.strerror or error}"
            remedy = REMEDIES.get(error.errno or 0, remedy)
        raise ColorTrackError(f"{name}{problem}; {remedy}") from error


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def video_folder(root: Path, video_dir: str | Path | None) -> Path:
    """The folder for encoded videos: `video_dir`, a folder inside the data, or a folder of FiftyOne's own.

    Raises:
        ColorTrackError: if this server does not allow to read the data, or to write to the folder
    """
    check_allowed(root)
    if video_dir is not None:
        folder = Path(video_dir)
    elif os.access(root, os.W_OK):
        folder = root / ENCODED
    else:
        own = Path(fo.config.default_dataset_dir) / "colortrack"
        folder = own / f"{root.name}-{digest(root.resolve())[:12]}"
    check_allowed(folder)
    return folder


def encode_once(
    folder: Path, name: str, sources: Sequence[Path], frames: Frames, frame_rate: float
) -> tuple[Path, VideoInfo]:
    """Encode a video for browsers, unless it was encoded before.

    Each encoded video is in a folder of its own, named after the sources' paths, sizes, and times. So two
    sources never share a file, and a changed source is encoded again.

    Args:
        folder: the folder for encoded videos
        name: the file's name, without a suffix
        sources: the video file or images
        frames: the frames of `sources`
        frame_rate: frames per second

    Returns:
        The file, and its facts at the encoded size, which is even

    Raises:
        ColorTrackError: if the frames cannot be read or the file cannot be written
    """
    status = [(str(path.resolve()), path.stat()) for path in sources]
    source = digest(*((path, found.st_size, found.st_mtime_ns) for path, found in status))
    path = folder / source[:12] / f"{name[:LONGEST_STEM]}.mp4"
    even = (frames.width + frames.width % 2, frames.height + frames.height % 2)
    if path.is_file():
        with suppress(ColorTrackError):
            info = probe(path)
            if info.frame_count == len(frames) and (info.width, info.height) == even:
                return path, info
    return path, write_video(path, frames.read(range(len(frames))), frame_rate, within=folder)


def video_metadata(path: Path, info: VideoInfo) -> fo.VideoMetadata:
    """The metadata of a video file, as FiftyOne computes it, but without FFprobe."""
    return fo.VideoMetadata(
        size_bytes=path.stat().st_size,
        mime_type=f"video/{path.suffix.lstrip('.').lower()}",
        frame_width=info.width,
        frame_height=info.height,
        frame_rate=info.frame_rate,
        total_frame_count=info.frame_count,
        duration=info.duration,
        encoding_str="avc1" if info.codec == "h264" else info.codec,
    )


def video_sample(path: Path, info: VideoInfo, **fields: object) -> fo.Sample:
    """A sample with the metadata that annotation needs.

    Args:
        path: the video file
        info: its facts
        fields: more fields of the sample, such as `tags`
    """
    return fo.Sample(filepath=str(path.resolve()), metadata=video_metadata(path, info), **fields)


def relative_points(points: np.ndarray, info: VideoInfo) -> list[tuple[float, float]]:
    """Points `[P, 2]` in pixels as shares of the video's width and height; NaN stays NaN."""
    return [(float(x) / info.width, float(y) / info.height) for x, y in points]


class Instances:
    """The objects of one video: all labels of an object share its index and `fiftyone.Instance`."""

    def __init__(self, labels: Mapping[int, str] | None = None) -> None:
        self._labels = labels or {}
        self._instances: dict[int, fo.Instance] = {}

    def common(self, index: int) -> dict[str, object]:
        """The fields that all labels of an object share."""
        instance = self._instances.setdefault(index, fo.Instance())
        return {"label": self._labels.get(index, "object"), "index": index, "instance": instance}

    def detections(self, ids: np.ndarray, info: VideoInfo) -> fo.Detections:
        """Object ids `[H, W]` of a frame as detections with instance masks, relative to the encoded size."""
        canvas = (info.height, info.width)
        return fo.Detections(
            detections=[
                fo.Detection(bounding_box=relative_box(region, canvas), mask=region.mask, **self.common(i))
                for i, region in regions(ids)
            ]
        )
