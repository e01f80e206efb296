"""Kinetics: clips of human actions, from a folder in any common layout, or from FiftyOne's zoo."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fiftyone_colortrack.datasets import find_files, some
from fiftyone_colortrack.errors import ColorTrackError, OnError
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.video import MAX_FRAME_RATE, VIDEO_SUFFIXES, VideoFile, is_hidden, plays_in_browser

if TYPE_CHECKING:
    import fiftyone as fo

ZOO_NAMES = ("kinetics-400", "kinetics-600", "kinetics-700", "kinetics-700-2020")
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_COLUMNS = frozenset({"label", "youtube_id"})
# Such as id_000010_000020: seconds 10 to 20
_CLIP = re.compile(r"(?P<id>.+?)(?:_(?P<start>\d{6})_\d{6})?", re.DOTALL)

_Key = tuple[str, int | None]  # id and start; no start: any
_Row = tuple[str | None, str | None]  # label and split


@dataclass(frozen=True)
class KineticsClip:
    """One clip of Kinetics.

    Attributes:
        path: the video file
        label: the class; None if neither a folder nor a list names it
        split: ``train``, ``val``, or ``test``; None if unknown
    """

    path: Path
    label: str | None
    split: str | None


def read_kinetics(
    root: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    max_samples: int | None = None,
) -> list[KineticsClip]:
    """List the videos of a folder, without opening them.

    Classes and splits come from the lists ``*.csv`` in the folder or in its ``annotations``. A list has the columns
    ``label``, ``youtube_id``, ``time_start``, ``time_end``, and ``split``, and its files are named ``<id>`` or
    ``<id>_<start>_<end>``. For other files they come from the folders: ``<split>/<label>/``, ``<label>/``, or
    ``<split>/``.

    Args:
        root: folder of videos
        split: list only this split
        classes: list only these classes
        max_samples: list at most this many videos

    Raises:
        ColorTrackError: if no video is left, or a list cannot be read
    """
    root = Path(root)
    if not root.is_dir():
        raise ColorTrackError(
            f"{root} is neither a folder nor one of the zoo's datasets: {', '.join(ZOO_NAMES)}"
        )
    rows: dict[_Key, _Row] = {}
    for path in sorted([*root.glob("*.csv"), *root.glob("annotations/*.csv")]):
        if not is_hidden(path):
            rows.update(_read_rows(path))
    clips = [_clip(root, path, rows) for path in find_files(root, VIDEO_SUFFIXES)]
    if not clips:
        raise ColorTrackError(f"{root} has no videos")
    splits, labels = (some({getattr(clip, name) for clip in clips}) for name in ("split", "label"))
    if split is not None:
        clips = [clip for clip in clips if clip.split == SPLITS.get(split, split)]
    if classes is not None:
        clips = [clip for clip in clips if clip.label in classes]
    if not clips:
        of_split = f" of split {split!r}" if split is not None else ""
        of_classes = f" of the classes {', '.join(classes)}" if classes is not None else ""
        raise ColorTrackError(
            f"{root} has no videos{of_split}{of_classes}; its splits: {splits}; its classes: {labels}"
        )
    return clips[:max_samples]


def load_kinetics(
    source: str | Path,
    name: str | None = None,
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    max_samples: int | None = None,
    video_dir: str | Path | None = None,
    overwrite: bool = False,
    on_error: OnError = "raise",
    persistent: bool = False,
    progress: bool | ProgressCallback | None = None,
) -> fo.Dataset:
    """Load Kinetics, or any folder of videos, as a FiftyOne video dataset.

        dataset = load_kinetics("videos", on_error="skip")

    Samples have the class in ``action`` and the split as a tag, if these are known.

    Args:
        source: folder of videos; or a dataset of FiftyOne's zoo, such as ``kinetics-400``, which is downloaded:
            limit it with ``classes`` and ``max_samples``
        name: name of the dataset. Default: ``kinetics``, with a number if that is taken
        split: load only this split
        classes: load only these classes
        max_samples: load at most this many videos
        video_dir: folder for copies of videos that browsers cannot play. Default: ``colortrack-videos`` in
            ``source``, or FiftyOne's folder of datasets if ``source`` is read-only
        overwrite: replace the dataset with this name once the new one is complete
        on_error: ``raise`` the error of a video, or ``skip`` it and save the error in ``dataset.info["skipped"]``
        persistent: keep the dataset when the database shuts down
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        the dataset

    Raises:
        ColorTrackError: if the name is taken, or something cannot be loaded; no dataset is left
    """
    from fiftyone_colortrack.datasets import video_dataset

    name = name or video_dataset.unused_name("kinetics")
    with video_dataset.build_dataset(name, persistent, overwrite) as dataset:
        if str(source) in ZOO_NAMES:
            root, clips = _download(str(source), split, classes, max_samples)
        else:
            root, clips = Path(source), read_kinetics(source, split, classes, max_samples)
        videos = video_dataset.video_folder(root, video_dir)
        named = {str(clip.path.relative_to(root)): clip for clip in clips}
        dataset.info |= {"source": "Kinetics", "root": str(root.resolve())}
        video_dataset.add_videos(
            dataset, list(named), lambda name: _sample(named[name], videos), on_error, progress
        )
    return dataset


def _sample(clip: KineticsClip, videos: Path) -> fo.Sample:
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import encode_once, video_sample

    frames = VideoFile(clip.path)
    path, info = clip.path, frames.info
    if not 0 < info.frame_rate <= MAX_FRAME_RATE:
        raise ColorTrackError(
            f"{path} claims {info.frame_rate:g} frames per second; set a rate from 1 to {MAX_FRAME_RATE}, "
            "for example: ffmpeg -r 25 -i INPUT OUTPUT.mp4"
        )
    if not plays_in_browser(info):
        path, info = encode_once(videos, path.stem, [path], frames, info.frame_rate)
    sample = video_sample(path, info, tags=[clip.split] if clip.split else [])
    if clip.label is not None:
        sample["action"] = fo.Classification(label=clip.label)
    return sample


def _download(
    zoo_name: str, split: str | None, classes: Sequence[str] | None, max_samples: int | None
) -> tuple[Path, list[KineticsClip]]:
    """Let FiftyOne's zoo download clips; returns their common folder, and the clips."""
    import fiftyone.zoo as foz

    from fiftyone_colortrack.datasets.video_dataset import unused_name

    try:
        downloaded = foz.load_zoo_dataset(
            zoo_name,
            split=split,
            classes=list(classes) if classes else None,
            max_samples=max_samples,
            dataset_name=unused_name(f"{zoo_name}-download"),
        )
    except Exception as error:  # no network, no yt-dlp, unknown classes: the zoo raises many kinds
        raise ColorTrackError(
            f"{zoo_name} cannot be downloaded ({error}); without a network, "
            "put videos into folders named by class, and load their parent folder"
        ) from error
    try:
        clips = []
        for sample in downloaded:
            label = sample.ground_truth.label if sample.ground_truth else None
            found = next((SPLITS[tag] for tag in sample.tags if tag in SPLITS), None)
            clips.append(KineticsClip(Path(sample.filepath), label, found))
    finally:
        downloaded.delete()
    if not clips:
        raise ColorTrackError(f"{zoo_name} has no clips of these classes and this split; choose others")
    return Path(os.path.commonpath([clip.path.parent for clip in clips])), clips


def _clip(root: Path, path: Path, rows: dict[_Key, _Row]) -> KineticsClip:
    match = _CLIP.fullmatch(path.stem)
    assert match is not None  # the id takes what the rest leaves
    start = int(match["start"]) if match["start"] else None
    for key in ((match["id"], start), (match["id"], None), (path.stem, None)):
        if key in rows:
            return KineticsClip(path, *rows[key])
    folders = list(path.relative_to(root).parts[:-1])
    split = SPLITS[folders.pop(0)] if folders and folders[0] in SPLITS else None
    return KineticsClip(path, folders[-1] if folders else None, split)


def _read_rows(path: Path) -> Iterator[tuple[_Key, _Row]]:
    """Each row twice, with its start and without, to find both kinds of file names."""
    line = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not _COLUMNS.issubset(reader.fieldnames or ()):
                raise ValueError(f"it must have the columns label and youtube_id, not {reader.fieldnames}")
            for row in reader:
                line = reader.line_num
                if not row["youtube_id"]:
                    raise ValueError("there is no youtube_id")
                split = row.get("split") or ""
                values = row["label"] or None, SPLITS.get(split, split) or None
                if start := row.get("time_start"):
                    yield (row["youtube_id"], int(float(start))), values
                yield (row["youtube_id"], None), values
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        place = f"{path}, line {line}," if line else path
        raise ColorTrackError(f"{place} cannot be read as a list of videos: {error}") from error
