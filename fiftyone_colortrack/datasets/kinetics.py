"""Kinetics, clips of human actions: from a folder in any of the usual layouts, or through FiftyOne's zoo."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fiftyone_colortrack.datasets import find_files
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import VIDEO_SUFFIXES, VideoFile

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import OnError, Progress

ZOO_NAMES = ("kinetics-400", "kinetics-600", "kinetics-700", "kinetics-700-2020")
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_COLUMNS = frozenset({"label", "youtube_id"})
_CLIP = re.compile(
    r"(?P<id>.+?)(?:_(?P<start>\d{6})_\d{6})?", re.DOTALL
)  # id_000010_000020: seconds 10 to 20

_Key = tuple[str, int | None]  # id and start; no start: any
_Row = tuple[str | None, str | None]  # label and split


@dataclass(frozen=True)
class KineticsClip:
    """One clip of Kinetics.

    Args:
        path: the video file
        label: the action, None where neither a folder nor a list tells
        split: ``train``, ``val`` or ``test``, None where nothing tells
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

    Labels and splits come from lists (``*.csv`` in the folder or in its ``annotations``, with the columns
    ``label``, ``youtube_id``, ``time_start``, ``time_end`` and ``split``; a file is called after the id, or
    after id, start and end), or else from folders: ``<split>/<label>/``, ``<label>/``, ``<split>/`` or none.

    Args:
        root: the folder
        split: only videos of this split
        classes: only videos with these labels
        max_samples: at most so many videos

    Raises:
        ColorTrackError: if no video is left, or a list cannot be read
    """
    root = Path(root)
    if not root.is_dir():
        raise ColorTrackError(
            f"{root} is not a folder, nor one of the zoo's datasets: {', '.join(ZOO_NAMES)}"
        )
    rows: dict[_Key, _Row] = {}
    for path in sorted([*root.glob("*.csv"), *root.glob("annotations/*.csv")]):
        rows.update(_read_rows(path))
    clips = [_clip(root, path, rows) for path in find_files(root, VIDEO_SUFFIXES)]
    if not clips:
        raise ColorTrackError(f"{root} has no videos")
    splits, labels = (_some({getattr(clip, name) for clip in clips}) for name in ("split", "label"))
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


def _some(names: set[str | None]) -> str:
    """Names for an error message: not hundreds of them."""
    known = sorted(name for name in names if name is not None)
    return ", ".join([*known[:20], *(["..."] if len(known) > 20 else [])]) or "none"


def load_kinetics(
    source: str | Path,
    name: str | None = None,
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    max_samples: int | None = None,
    video_dir: str | Path | None = None,
    on_error: OnError = "skip",
    persistent: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> fo.Dataset:
    """Load Kinetics as a FiftyOne video dataset.

    Samples have the ``action`` as a classification and their split as a tag, where they are known.

    Args:
        source: a folder, see `read_kinetics`; or the name of one of FiftyOne's zoo datasets, like
            ``kinetics-400``, which FiftyOne downloads in its own way (limit them with ``classes`` and
            ``max_samples``; ``video_dir``, ``on_error`` and ``progress`` are for folders alone)
        name: of the dataset; ``kinetics`` if not given, with a number where that exists
        split, classes, max_samples: see `read_kinetics`
        video_dir: where videos go that browsers cannot play and that are therefore encoded anew; if not
            given, ``source/colortrack-videos``, or FiftyOne's folder for datasets where ``source`` cannot be
            written
        on_error: ``skip`` videos that cannot be decoded (``dataset.info["skipped"]`` then says which and
            why), or ``raise``
        persistent: keep the dataset when the database shuts down
        overwrite: replace a dataset of that name once this one is complete
        progress: called with the number of videos done, of all, and the last one's name

    Raises:
        ColorTrackError: if nothing can be loaded; no dataset is left behind
    """
    from fiftyone_colortrack.datasets.video_dataset import (
        add_videos,
        build_dataset,
        unused_name,
        video_folder,
    )

    with build_dataset(name or unused_name("kinetics"), persistent, overwrite) as dataset:
        if str(source) in ZOO_NAMES:
            _add_zoo(dataset, str(source), split, classes, max_samples)
            return dataset
        root = Path(source)
        clips = {str(c.path.relative_to(root)): c for c in read_kinetics(root, split, classes, max_samples)}
        videos = video_folder(root, video_dir)
        dataset.info |= {"source": "Kinetics", "root": str(root.resolve())}
        dataset.save()
        add_videos(
            dataset,
            list(clips),
            lambda key: _sample(clips[key], (videos / key).with_suffix(".mp4")),
            on_error,
            progress,
        )
    return dataset


def _sample(clip: KineticsClip, encoded: Path) -> fo.Sample:
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import encode_once, is_playable, video_sample

    frames = VideoFile(clip.path)
    path, info = clip.path, frames.info
    if not is_playable(path, info):
        path, info = encoded, encode_once(encoded, frames, info.frame_rate)
    sample = video_sample(path, info, tags=[clip.split] if clip.split else [])
    if clip.label is not None:
        sample["action"] = fo.Classification(label=clip.label)
    return sample


def _add_zoo(
    dataset: fo.Dataset,
    zoo_name: str,
    split: str | None,
    classes: Sequence[str] | None,
    max_samples: int | None,
) -> None:
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
    except Exception as error:  # no network, no yt-dlp, unknown classes: the zoo raises what it likes
        raise ColorTrackError(
            f"{zoo_name} cannot be downloaded ({error}); without a network, "
            "put videos into folders named by class, and load the folder around them"
        ) from error
    try:
        dataset.merge_samples(downloaded)
        dataset.rename_sample_field("ground_truth", "action")
    finally:
        downloaded.delete()


def _clip(root: Path, path: Path, rows: dict[_Key, _Row]) -> KineticsClip:
    match = _CLIP.fullmatch(path.stem)
    assert match is not None  # the id takes whatever the rest leaves
    start = int(match["start"]) if match["start"] else None
    for key in ((match["id"], start), (match["id"], None), (path.stem, None)):
        if key in rows:
            return KineticsClip(path, *rows[key])
    folders = list(path.relative_to(root).parts[:-1])
    split = SPLITS[folders.pop(0)] if folders and folders[0] in SPLITS else None
    return KineticsClip(path, folders[-1] if folders else None, split)


def _read_rows(path: Path) -> Iterator[tuple[_Key, _Row]]:
    """Every row twice, with its start and without, so that both kinds of file names are found."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not _COLUMNS.issubset(reader.fieldnames or ()):
                raise ColorTrackError(
                    f"{path} must have the columns label and youtube_id, not {reader.fieldnames}"
                )
            for row in reader:
                split = row.get("split") or ""
                values = row["label"] or None, SPLITS.get(split, split) or None
                if not row["youtube_id"]:
                    raise ColorTrackError(f"{path}, line {reader.line_num}: there is no youtube_id")
                start = row.get("time_start") or ""
                if start:
                    yield (row["youtube_id"], _seconds(start, path, reader.line_num)), values
                yield (row["youtube_id"], None), values
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ColorTrackError(f"{path} cannot be read as a list of videos: {error}") from error


def _seconds(text: str, path: Path, line: int) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError) as error:
        raise ColorTrackError(f"{path}, line {line}: time_start is {text[:50]!r}, not a number") from error
