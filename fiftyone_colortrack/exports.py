"""Export and import tracks as FiftyOne dataset types: MOT Challenge, YouTube-VIS, and DAVIS."""

from __future__ import annotations

import csv
import itertools
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

from fiftyone_colortrack.datasets.video_dataset import add_videos, build_dataset, unused_name, video_sample
from fiftyone_colortrack.errors import ColorTrackError, OnError, check_choice
from fiftyone_colortrack.fields import check_videos, field_name, frame_path, seed_fields
from fiftyone_colortrack.fields.objects import ObjectTable
from fiftyone_colortrack.fields.schema import check_name
from fiftyone_colortrack.fields.shapes import paint, region_in_pixels, regions, relative_box
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.settings import check_allowed, check_space
from fiftyone_colortrack.video import VIDEO_SUFFIXES, VideoFile, is_hidden, probe

Format = Literal["mot", "youtube-vis", "davis"]
Tracks = dict[int, dict[int, fo.Detection]]
"""Labels by frame number (from 1) and track number."""
VIDEOS = "videos"
"""The folder of an export that holds the videos."""
PALETTE = [0, 0, 0, *np.random.default_rng(3).integers(64, 256, (256, 3)).ravel().tolist()[3:]]
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
    check_choice("format", format, get_args(Format))
    videos = check_videos(samples, whole_videos=True)
    folder = check_allowed(export_dir)
    if seed_fields(videos).get(field_name(label_field)) is not fo.Detections:
        raise ColorTrackError(f"{frame_path(label_field)} has no detections to export; choose another field")
    with progress_bar(progress, "Exporting") as update:
        videos.export(
            export_dir=str(folder),
            dataset_type=DATASET_TYPES[format],
            label_field=frame_path(label_field),
            progress=lambda bar: update(bar.iteration, bar.total or 0, "Exporting"),
        )
    return folder


def import_tracks(
    import_dir: str | os.PathLike[str],
    name: str | None = None,
    *,
    label_field: str = "frames.tracks",
    format: Format | None = None,
    overwrite: bool = False,
    on_error: OnError = "raise",
    persistent: bool = False,
    progress: bool | ProgressCallback | None = None,
) -> fo.Dataset:
    """Create a dataset from a folder that `export_tracks` wrote, with labels that another program may have edited.

        dataset = import_tracks("exported", "corrected")

    Args:
        import_dir: folder to read; its videos stay where they are
        name: name of the dataset. Default: the folder's name, with a number if that is taken
        label_field: new frame field for the labels
        format: `mot`, `youtube-vis`, or `davis`. Default: as the folder's files tell
        overwrite: replace the dataset with this name once the new one is complete
        on_error: `raise` the error of a video, or `skip` it and save the error in `dataset.info["skipped"]`
        persistent: keep the dataset when the database shuts down
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        the dataset

    Raises:
        ColorTrackError: if the name is taken, or something cannot be read; no dataset is left
    """
    importer = read_export(import_dir, format)
    field = field_name(label_field)
    check_name(field)

    def sample(video: str) -> fo.Sample:
        made = video_sample(importer.videos[video], probe(importer.videos[video]))
        for number, labels in importer.labels(video).items():
            made.frames[number] = fo.Frame(**{field: labels})
        return made

    folder = Path(importer.dataset_dir)
    with build_dataset(name or unused_name(folder.name), persistent, overwrite) as dataset:
        dataset.info |= {"source": "tracks", "root": str(folder)}
        add_videos(dataset, list(importer.videos), sample, on_error, progress)
    return dataset


def read_export(import_dir: str | os.PathLike[str], format: Format | None = None) -> _Importer:
    """What reads a folder that `export_tracks` wrote.

    Raises:
        ColorTrackError: if it has no videos or no labels of the format, or of any
    """
    folder = check_allowed(import_dir)
    if format is None:
        signs = {known: kind.importer.sign for known, kind in DATASET_TYPES.items()}
        format = next((known for known, sign in signs.items() if any(folder.glob(sign))), None)
        if format is None:
            raise ColorTrackError(
                f"{folder} has no {', '.join(signs.values())}; choose a folder of exported tracks"
            )
    check_choice("format", format, get_args(Format))
    importer = DATASET_TYPES[format].importer(dataset_dir=str(folder))
    importer.setup()
    return importer


class _TracksDataset(fo.types.LabeledVideoDataset):
    exporter: ClassVar[type[_Exporter]]
    importer: ClassVar[type[_Importer]]

    def get_dataset_exporter_cls(self) -> type[_Exporter]:
        return self.exporter

    def get_dataset_importer_cls(self) -> type[_Importer]:
        return self.importer


class _Exporter(foud.LabeledVideoDatasetExporter):
    """Writes to a hidden folder, which is renamed to the folder of the export when everything is written.

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
        tracks, classes = _tracks(frames or {})
        try:
            check_space(self._target.parent, os.path.getsize(video_path))
            shutil.copyfile(video_path, self._folder / VIDEOS / (name + Path(video_path).suffix))
            self._write(name, video, tracks, classes)
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

    def _write(self, name: str, video: VideoFile, tracks: Tracks, classes: dict[int, str]) -> None:
        """Write the labels of one video, with the classes of its tracks."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Write what concerns all videos."""


class _Importer(foud.LabeledVideoDatasetImporter):
    """Reads the videos of an export, each with its labels.

    Attributes:
        sign: pattern of files that only folders of its format have
    """

    sign: ClassVar[str]
    has_dataset_info = False
    has_video_metadata = False
    label_cls = None
    frame_labels_cls = fo.Detections

    def setup(self) -> None:
        folder = Path(self.dataset_dir) / VIDEOS
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in VIDEO_SUFFIXES and not is_hidden(p))
        if not paths:
            raise ColorTrackError(f"{folder} has no videos, so there is nothing to import")
        self.videos = {path.name: path for path in paths}
        self._remaining = iter(paths)

    def __len__(self) -> int:
        return len(self.videos)

    def __next__(self) -> tuple[str, None, None, dict[int, fo.Detections]]:
        path = next(self._remaining)
        return str(path), None, None, self.labels(path.name)

    def labels(self, video: str) -> dict[int, fo.Detections]:
        """The labels of one of the `videos`, by frame number. All labels of a track share an instance."""
        path = self.videos[video]
        frames: dict[int, fo.Detections] = defaultdict(fo.Detections)
        instances: dict[int, fo.Instance] = defaultdict(fo.Instance)
        try:
            for number, detection in self._read(Path(self.dataset_dir), path.stem, VideoFile(path)):
                detection.instance = instances[detection.index]
                frames[number].detections.append(detection)
        except (OSError, KeyError, ValueError) as error:
            raise ColorTrackError(f"the labels of {path} cannot be read: {error}") from error
        return dict(frames)

    def _read(self, folder: Path, name: str, video: VideoFile) -> Iterator[tuple[int, fo.Detection]]:
        """Frame numbers (from 1) and labels of one video."""
        raise NotImplementedError


def _tracks(frames: dict[int, Any]) -> tuple[Tracks, dict[int, str]]:
    """The labels of one video by frame and track, and the class of each track.

    A track keeps its index as its number, unless it has none or another class has a track of this index.
    """
    table, found = ObjectTable(parts=False), {}
    for number, fields in sorted(frames.items()):
        values = fields.values() if isinstance(fields, dict) else [fields]
        labels = [label for detections in values if detections for label in detections.detections]
        found[number] = dict(zip(table.match(labels, number), labels, strict=True))
    reserved = {obj.index for obj in table.objects.values()} | {0}
    numbers: dict[int, int] = {}
    for id, obj in table.objects.items():
        taken = {*numbers.values()}
        free = next(n for n in itertools.count(1) if n not in taken | reserved)
        numbers[id] = obj.index if obj.index and obj.index not in taken else free
    tracks = {number: {numbers[id]: label for id, label in of.items()} for number, of in found.items()}
    return tracks, {numbers[id]: obj.label or "object" for id, obj in table.objects.items()}


class _MOTExporter(_Exporter):
    def _write(self, name: str, video: VideoFile, tracks: Tracks, classes: dict[int, str]) -> None:
        folder = self._folder / name
        (folder / "gt").mkdir(parents=True)
        kinds = sorted(set(classes.values()))
        scale = np.array([video.width, video.height] * 2)
        with (folder / "gt" / "gt.txt").open("w", newline="") as file:
            rows = csv.writer(file)
            for frame, labels in tracks.items():
                for track, label in sorted(labels.items()):
                    box = [round(side, 3) for side in (scale * label.bounding_box).tolist()]
                    rows.writerow([frame, track, *box, 1, kinds.index(classes[track]) + 1, 1])
        (folder / "gt" / "labels.txt").write_text("".join(f"{kind}\n" for kind in kinds))
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nframeRate={video.info.frame_rate:g}\nseqLength={len(video)}\n"
            f"imWidth={video.width}\nimHeight={video.height}\n\n"
        )


class _MOTImporter(_Importer):
    sign = "*/gt/gt.txt"

    def _read(self, folder: Path, name: str, video: VideoFile) -> Iterator[tuple[int, fo.Detection]]:
        labels = folder / name / "gt" / "labels.txt"
        classes = labels.read_text().splitlines() if labels.is_file() else []
        with (folder / name / "gt" / "gt.txt").open(newline="") as file:
            for frame, track, x, y, w, h, _, kind, *_ in csv.reader(file):
                number = int(float(kind))
                box = (np.array([x, y, w, h], float) / ([video.width, video.height] * 2)).tolist()
                label = classes[number - 1] if 0 < number <= len(classes) else "object"
                yield int(frame), fo.Detection(label=label, index=int(track), bounding_box=box)


class _YouTubeVISExporter(_Exporter):
    def __init__(self, export_dir: str) -> None:
        super().__init__(export_dir)
        self._videos: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def _write(self, name: str, video: VideoFile, tracks: Tracks, classes: dict[int, str]) -> None:
        size, length = {"height": video.height, "width": video.width}, len(video)
        entry = {"id": len(self._videos) + 1, **size, "length": length}
        self._videos.append({**entry, "file_names": [f"{name}/{i:05d}.jpg" for i in range(length)]})
        found: dict[int, dict[str, Any]] = {}
        for frame, track, label in ((n, *pair) for n, labels in tracks.items() for pair in labels.items()):
            category = self._categories.setdefault(classes[track], len(self._categories) + 1)
            facts = {"video_id": entry["id"], "category_id": category, "iscrowd": 0, "track": track}
            empty = {key: [None] * length for key in ("segmentations", "bboxes", "areas")}
            row = found.setdefault(track, {**facts, **empty})
            region = region_in_pixels(label, (video.height, video.width))
            if region is None or frame > length:
                continue
            rows, columns, mask = region
            box = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
            row["bboxes"][frame - 1] = [int(side) for side in box]
            row["areas"][frame - 1] = int(mask.sum())
            if label.has_mask:
                whole = np.zeros((video.height, video.width), bool)
                whole[rows, columns] = mask
                counts = _run_lengths(whole)
                row["segmentations"][frame - 1] = {"size": [video.height, video.width], "counts": counts}
        for row in found.values():
            self._annotations.append({"id": len(self._annotations) + 1, **size, **row})
        _write_images(self._folder / "JPEGImages" / name, video)

    def _finish(self) -> None:
        categories = [{"id": id, "name": name} for name, id in self._categories.items()]
        table = {"videos": self._videos, "categories": categories, "annotations": self._annotations}
        (self._folder / "instances.json").write_text(json.dumps(table))


class _YouTubeVISImporter(_Importer):
    sign = "instances.json"

    def setup(self) -> None:
        super().setup()
        path = Path(self.dataset_dir) / self.sign
        try:
            self._table = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ColorTrackError(f"{path} cannot be read: {error}") from error

    def _read(self, folder: Path, name: str, video: VideoFile) -> Iterator[tuple[int, fo.Detection]]:
        videos = (row for row in self._table["videos"] if row["file_names"])
        names = {row["id"]: Path(row["file_names"][0]).parts[0] for row in videos}
        categories = {row["id"]: row["name"] for row in self._table["categories"]}
        for row in self._table["annotations"]:
            if names.get(row["video_id"]) != name:
                continue
            shared = {"label": categories[row["category_id"]], "index": row.get("track", row["id"])}
            for number, (mask, box) in enumerate(zip(row["segmentations"], row["bboxes"], strict=True), 1):
                if box is None:
                    continue
                x, y, w, h = (round(value) for value in box)
                relative = [x / video.width, y / video.height, w / video.width, h / video.height]
                cut = _from_run_lengths(mask)[y : y + h, x : x + w] if mask else None
                yield number, fo.Detection(bounding_box=relative, mask=cut, **shared)


class _DAVISExporter(_Exporter):
    def __init__(self, export_dir: str) -> None:
        super().__init__(export_dir)
        self._classes: dict[str, dict[int, str]] = {}

    def _write(self, name: str, video: VideoFile, tracks: Tracks, classes: dict[int, str]) -> None:
        if classes and max(classes) > 254:
            raise ColorTrackError(f"{name} has track {max(classes)}; DAVIS masks hold numbers up to 254")
        folder = self._folder / "Annotations" / "480p" / name
        folder.mkdir(parents=True)
        for number in range(1, len(video) + 1):
            found = tracks.get(number, {})
            ids = paint(list(found.values()), list(found), (video.height, video.width))
            image = Image.fromarray(ids.astype(np.uint8), "P")
            image.putpalette(PALETTE)
            image.save(folder / f"{number - 1:05d}.png")
        _write_images(self._folder / "JPEGImages" / "480p" / name, video)
        self._classes[name] = classes

    def _finish(self) -> None:
        folder = self._folder / "ImageSets" / "2017"
        folder.mkdir(parents=True)
        (folder / "val.txt").write_text("".join(f"{name}\n" for name in self._classes))
        (self._folder / "classes.json").write_text(json.dumps(self._classes, indent=1))


class _DAVISImporter(_Importer):
    sign = "Annotations"

    def _read(self, folder: Path, name: str, video: VideoFile) -> Iterator[tuple[int, fo.Detection]]:
        path = folder / "classes.json"
        classes = json.loads(path.read_text()).get(name, {}) if path.is_file() else {}
        for number, mask in enumerate(sorted((folder / "Annotations" / "480p" / name).glob("*.png")), 1):
            ids = np.array(Image.open(mask))
            for id, region in regions(ids):
                label, box = classes.get(str(id), "object"), relative_box(region, ids.shape)
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


DATASET_TYPES: dict[Format, type[_TracksDataset]] = {
    "mot": MOTChallengeDataset,
    "youtube-vis": YouTubeVISDataset,
    "davis": DAVISDataset,
}


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
