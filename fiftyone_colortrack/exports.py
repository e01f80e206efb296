"""Export and import tracks as FiftyOne dataset types: MOT Challenge, YouTube-VIS, and DAVIS."""

from __future__ import annotations

import configparser
import csv
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import fiftyone as fo
import fiftyone.utils.data as foud
import numpy as np
from fiftyone.core.collections import SampleCollection
from PIL import Image

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import check_videos, field_name, frame_path, seed_fields
from fiftyone_colortrack.fields.objects import ObjectTable
from fiftyone_colortrack.fields.shapes import paint, region_in_pixels, regions, relative_box
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.settings import check_allowed
from fiftyone_colortrack.video import VIDEO_SUFFIXES, VideoFile

Format = Literal["mot", "youtube-vis", "davis"]
VIDEOS = "videos"
"""The folder of an export that holds the videos."""
PALETTE = [channel for color in np.random.default_rng(3).integers(64, 256, (256, 3)) for channel in color]
PALETTE[:3] = 0, 0, 0
"""Of DAVIS masks: black for the background, and colors that are easy to tell apart."""


def export_tracks(
    samples: SampleCollection | str,
    label_field: str,
    export_dir: str | os.PathLike[str],
    *,
    format: Format = "mot",
    progress: bool | ProgressCallback | None = None,
) -> Path:
    """Export tracks and their videos to a folder, in a format that other programs read.

        export_tracks(dataset, "frames.tracks", "exported", format="youtube-vis")

    Args:
        samples: dataset or view of videos, or a dataset's name
        label_field: frame field with detections
        export_dir: folder to write to; it must be new or empty
        format: `mot` for boxes, `youtube-vis` for masks and boxes, or `davis` for masks
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        the folder

    Raises:
        ColorTrackError: if the field has no detections, the folder is not empty, or it cannot be written to
    """
    if format not in get_args(Format):
        raise ColorTrackError(f"format is {format!r}; choose one of {', '.join(get_args(Format))}")
    videos = check_videos(samples, whole_videos=True)
    folder = check_allowed(export_dir)
    if seed_fields(videos).get(field_name(label_field)) is not fo.Detections:
        raise ColorTrackError(f"{frame_path(label_field)} has no detections to export; choose another field")
    types: dict[str, type[_TracksDataset]] = {
        "mot": MOTChallengeDataset,
        "youtube-vis": YouTubeVISDataset,
        "davis": DAVISDataset,
    }
    with progress_bar(progress, "Exporting") as update:
        videos.export(
            export_dir=str(folder),
            dataset_type=types[format],
            label_field=frame_path(label_field),
            progress=lambda bar: update(bar.iteration, bar.total or 0, "Exporting"),
        )
    return folder


class _TracksDataset(fo.types.LabeledVideoDataset):
    exporter: ClassVar[type[_Exporter]]
    importer: ClassVar[type[_Importer]]

    def get_dataset_exporter_cls(self) -> type[_Exporter]:
        return self.exporter

    def get_dataset_importer_cls(self) -> type[_Importer]:
        return self.importer


class _Exporter(foud.LabeledVideoDatasetExporter):
    """Writes to a hidden folder beside the export's, which takes its place when everything is written.

    Args:
        export_dir: must not exist yet, or be empty
    """

    requires_video_metadata = False
    label_cls = None
    frame_labels_cls = fo.Detections

    def __init__(self, export_dir: str) -> None:
        super().__init__(export_dir=export_dir)
        self._target = Path(export_dir).absolute()

    def setup(self) -> None:
        if self._target.exists() and any(self._target.iterdir()):
            raise ColorTrackError(f"{self._target} is not empty; export to a new folder")
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self._target.name}-", dir=self._target.parent))
            (self._folder / VIDEOS).mkdir()
        except OSError as error:
            raise ColorTrackError(f"cannot write to {self._target.parent}: {error.strerror}") from error

    def export_sample(self, video_path: str, label: None, frames: Any, metadata: Any = None) -> None:
        stem, name, number = Path(video_path).stem, Path(video_path).stem, 2
        while any((self._folder / VIDEOS).glob(f"{name}.*")):
            name, number = f"{stem}-{number}", number + 1
        video = VideoFile(video_path)
        tracks = _Tracks(frames or {}, (video.height, video.width))
        try:
            shutil.copyfile(video_path, self._folder / VIDEOS / (name + Path(video_path).suffix))
            self._write(name, video, tracks)
        except OSError as error:
            raise ColorTrackError(f"cannot write {name} to {self._target}: {error.strerror}") from error

    def close(self, *arguments: Any) -> None:
        try:
            if not any(arguments):  # arguments: of the error that ended the export
                self._finish()
                if self._target.exists():
                    self._target.rmdir()
                self._folder.chmod(0o755)
                self._folder.rename(self._target)
        except OSError as error:
            raise ColorTrackError(f"cannot write to {self._target}: {error.strerror}") from error
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name: str, video: VideoFile, tracks: _Tracks) -> None:
        """Write the labels of one video."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Write what concerns all videos."""


class _Importer(foud.LabeledVideoDatasetImporter):
    """Reads the videos of an export, each with its labels."""

    has_dataset_info = False
    has_video_metadata = False
    label_cls = None
    frame_labels_cls = fo.Detections

    def setup(self) -> None:
        folder = Path(self.dataset_dir) / VIDEOS
        self._videos = sorted(p for p in folder.glob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        if not self._videos:
            raise ColorTrackError(f"{folder} has no videos, so there is nothing to import")
        self._remaining = iter(self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def __next__(self) -> tuple[str, None, None, dict[int, fo.Detections]]:
        path = next(self._remaining)
        video = VideoFile(path)
        try:
            labels = self._read(Path(self.dataset_dir), path.stem, video)
        except (OSError, KeyError, ValueError, json.JSONDecodeError) as error:
            raise ColorTrackError(f"the labels of {path} cannot be read: {error}") from error
        frames: dict[int, list[fo.Detection]] = defaultdict(list)
        for number, detection in labels:
            frames[number].append(detection)
        return str(path), None, None, {n: fo.Detections(detections=found) for n, found in frames.items()}

    def _read(self, folder: Path, name: str, video: VideoFile) -> Iterator[tuple[int, fo.Detection]]:
        """Frame numbers (from 1) and labels of one video."""
        raise NotImplementedError


class _Tracks:
    """The labels of one video, each with the number of its track.

    Attributes:
        size: (height, width) of the video
        frames: {frame number (from 1): {track number: label}}
        classes: {track number: class}
    """

    def __init__(self, frames: dict[int, Any], size: tuple[int, int]) -> None:
        self.size = size
        table = ObjectTable(parts=False)
        self.frames: dict[int, dict[int, fo.Detection]] = {}
        for number, fields in sorted(frames.items()):
            found = fields.values() if isinstance(fields, dict) else [fields]
            labels = [label for detections in found if detections for label in detections.detections]
            self.frames[number] = dict(zip(table.match(labels, number), labels, strict=True))
        objects = table.objects
        used: set[int] = {obj.index for obj in objects.values() if obj.index}
        self._numbers: dict[int, int] = {}
        for id, obj in objects.items():
            number = obj.index or next(n for n in range(1, len(used) + 2) if n not in used)
            used.add(number)
            self._numbers[id] = number
        self.classes = {self._numbers[id]: obj.label or "object" for id, obj in objects.items()}

    def __iter__(self) -> Iterator[tuple[int, int, fo.Detection]]:
        """Frame number, track number, and label."""
        for number, labels in self.frames.items():
            for id, label in labels.items():
                yield number, self._numbers[id], label


class _MOTExporter(_Exporter):
    def _write(self, name: str, video: VideoFile, tracks: _Tracks) -> None:
        (self._folder / name / "gt").mkdir(parents=True)
        classes = sorted(set(tracks.classes.values()))
        height, width = tracks.size
        with (self._folder / name / "gt" / "gt.txt").open("w", newline="") as file:
            rows = csv.writer(file)
            for frame, track, label in sorted(tracks, key=lambda row: row[:2]):
                x, y, w, h = label.bounding_box
                box = [round(value, 3) for value in (x * width, y * height, w * width, h * height)]
                rows.writerow([frame, track, *box, 1, classes.index(tracks.classes[track]) + 1, 1])
        (self._folder / name / "gt" / "labels.txt").write_text("".join(f"{label}\n" for label in classes))
        info = configparser.ConfigParser()
        info.optionxform = str  # type: ignore[assignment, method-assign]
        facts = {"name": name, "frameRate": f"{video.info.frame_rate:g}", "seqLength": str(len(video))}
        info["Sequence"] = {**facts, "imWidth": str(width), "imHeight": str(height)}
        with (self._folder / name / "seqinfo.ini").open("w") as file:
            info.write(file, space_around_delimiters=False)


class _MOTImporter(_Importer):
    def _read(self, folder: Path, name: str, video: VideoFile) -> Iterator[tuple[int, fo.Detection]]:
        labels = folder / name / "gt" / "labels.txt"
        classes = labels.read_text().splitlines() if labels.is_file() else []
        with (folder / name / "gt" / "gt.txt").open(newline="") as file:
            for frame, track, x, y, w, h, _, kind, *_ in csv.reader(file):
                number = int(float(kind))
                box = [
                    float(x) / video.width,
                    float(y) / video.height,
                    float(w) / video.width,
                    float(h) / video.height,
                ]
                label = classes[number - 1] if 0 < number <= len(classes) else "object"
                yield int(frame), fo.Detection(label=label, index=int(track), bounding_box=box)


class _YouTubeVISExporter(_Exporter):
    def __init__(self, export_dir: str) -> None:
        super().__init__(export_dir)
        self._videos: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def _write(self, name: str, video: VideoFile, tracks: _Tracks) -> None:
        height, width = tracks.size
        length = len(video)
        entry = {"id": len(self._videos) + 1, "height": height, "width": width, "length": length}
        self._videos.append({**entry, "file_names": [f"{name}/{i:05d}.jpg" for i in range(length)]})
        found: dict[int, dict[str, Any]] = {}
        for frame, track, label in tracks:
            if track not in found:
                category = self._categories.setdefault(tracks.classes[track], len(self._categories) + 1)
                empty = {key: [None] * length for key in ("segmentations", "bboxes", "areas")}
                found[track] = {
                    "video_id": entry["id"],
                    "category_id": category,
                    "iscrowd": 0,
                    "track": track,
                    **empty,
                }
            region = region_in_pixels(label, tracks.size)
            if region is None or frame > length:
                continue
            rows, columns, mask = region
            row = found[track]
            box = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
            row["bboxes"][frame - 1] = [int(side) for side in box]
            row["areas"][frame - 1] = int(mask.sum())
            if label.has_mask:
                whole = np.zeros(tracks.size, bool)
                whole[rows, columns] = mask
                row["segmentations"][frame - 1] = {"size": [height, width], "counts": _run_lengths(whole)}
        for row in found.values():
            self._annotations.append(
                {"id": len(self._annotations) + 1, "height": height, "width": width, **row}
            )
        _write_images(self._folder / "JPEGImages" / name, video)

    def _finish(self) -> None:
        categories = [{"id": id, "name": name} for name, id in self._categories.items()]
        table = {"videos": self._videos, "categories": categories, "annotations": self._annotations}
        (self._folder / "instances.json").write_text(json.dumps(table))


class _YouTubeVISImporter(_Importer):
    def setup(self) -> None:
        super().setup()
        path = Path(self.dataset_dir) / "instances.json"
        try:
            self._table = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ColorTrackError(f"{path} cannot be read: {error}") from error

    def _read(self, folder: Path, name: str, video: VideoFile) -> Iterator[tuple[int, fo.Detection]]:
        names = {
            row["id"]: Path(row["file_names"][0]).parts[0]
            for row in self._table["videos"]
            if row["file_names"]
        }
        categories = {row["id"]: row["name"] for row in self._table["categories"]}
        size = video.height, video.width
        for row in self._table["annotations"]:
            if names.get(row["video_id"]) != name:
                continue
            for number, (mask, box) in enumerate(zip(row["segmentations"], row["bboxes"], strict=True), 1):
                if box is None:
                    continue
                shared = {"label": categories[row["category_id"]], "index": row.get("track", row["id"])}
                x, y, w, h = (round(value) for value in box)
                relative = [x / size[1], y / size[0], w / size[1], h / size[0]]
                cut = _from_run_lengths(mask)[y : y + h, x : x + w] if mask else None
                yield number, fo.Detection(bounding_box=relative, mask=cut, **shared)


class _DAVISExporter(_Exporter):
    def __init__(self, export_dir: str) -> None:
        super().__init__(export_dir)
        self._names: list[str] = []
        self._classes: dict[str, dict[str, str]] = {}

    def _write(self, name: str, video: VideoFile, tracks: _Tracks) -> None:
        if tracks.classes and max(tracks.classes) > 254:
            raise ColorTrackError(
                f"{name} has track {max(tracks.classes)}; DAVIS masks hold numbers up to 254"
            )
        folder = self._folder / "Annotations" / "480p" / name
        folder.mkdir(parents=True)
        by_frame: dict[int, list[tuple[int, fo.Detection]]] = defaultdict(list)
        for number, track, label in tracks:
            by_frame[number].append((track, label))
        for number in range(1, len(video) + 1):
            found = by_frame[number]
            ids = paint([label for _, label in found], [track for track, _ in found], tracks.size)
            image = Image.fromarray(ids.astype(np.uint8), "P")
            image.putpalette([int(channel) for channel in PALETTE])
            image.save(folder / f"{number - 1:05d}.png")
        _write_images(self._folder / "JPEGImages" / "480p" / name, video)
        self._names.append(name)
        self._classes[name] = {str(track): label for track, label in tracks.classes.items()}

    def _finish(self) -> None:
        folder = self._folder / "ImageSets" / "2017"
        folder.mkdir(parents=True)
        (folder / "val.txt").write_text("".join(f"{name}\n" for name in self._names))
        (self._folder / "classes.json").write_text(json.dumps(self._classes, indent=1))


class _DAVISImporter(_Importer):
    def _read(self, folder: Path, name: str, video: VideoFile) -> Iterator[tuple[int, fo.Detection]]:
        path = folder / "classes.json"
        classes = json.loads(path.read_text()).get(name, {}) if path.is_file() else {}
        for number, mask in enumerate(sorted((folder / "Annotations" / "480p" / name).glob("*.png")), 1):
            ids = np.array(Image.open(mask))
            for id, region in regions(ids):
                box = relative_box(region, ids.shape)
                label = classes.get(str(id), "object")
                yield number, fo.Detection(label=label, index=id, bounding_box=box, mask=region.mask)


class MOTChallengeDataset(_TracksDataset):
    """Boxes as in the MOT Challenge: `NAME/gt/gt.txt` and `NAME/seqinfo.ini`, with the classes in `labels.txt`."""

    exporter, importer = _MOTExporter, _MOTImporter


class YouTubeVISDataset(_TracksDataset):
    """Masks and boxes as in YouTube-VIS (COCO for videos): `instances.json` and `JPEGImages/NAME/`."""

    exporter, importer = _YouTubeVISExporter, _YouTubeVISImporter


class DAVISDataset(_TracksDataset):
    """Masks as in DAVIS 2017: palette images in `Annotations/480p/NAME/`, frames in `JPEGImages/480p/NAME/`."""

    exporter, importer = _DAVISExporter, _DAVISImporter


def _write_images(folder: Path, video: VideoFile) -> None:
    folder.mkdir(parents=True)
    for index, frame in enumerate(video.read(range(len(video)))):
        Image.fromarray(frame).save(folder / f"{index:05d}.jpg", quality=95)


def _run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths of a mask [H, W], column by column, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [True]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    edges = np.concatenate([[0], changes[changes < mask.size], [mask.size]])
    return np.diff(edges).tolist()


def _from_run_lengths(encoded: dict[str, Any]) -> np.ndarray:
    """The inverse of `_run_lengths`: bool [H, W]."""
    counts = np.asarray(encoded["counts"], int)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(encoded["size"], order="F")
