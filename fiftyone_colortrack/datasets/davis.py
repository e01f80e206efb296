"""DAVIS 2016 and 2017, and folders in their layout.

A mask either numbers the objects of a frame or shows one object in white; see `DavisSequence.read_mask`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import cv2
import numpy as np
import yaml
from PIL import Image

from fiftyone_colortrack.datasets import list_frames, read_text, select, some
from fiftyone_colortrack.errors import ColorTrackError, OnError
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.video import ImageSequence, is_hidden, list_images, open_image

if TYPE_CHECKING:
    import fiftyone as fo

VOID = 255
"""The value of mask pixels that are not scored."""
RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
"""Names of the folders with frames and masks; a sequence is read from the first one that has it."""
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff"})
MOST_OBJECTS = 100
"""More numbers than this in one mask are levels of gray."""
MOST_VOID_IDS = 20
"""White beside gray levels above this may be one more object, scaled like them to be seen, and not `VOID`."""
FRAME_RATE = 24
WEB_PALETTE = Image.new("RGB", (1, 1)).convert("P").getpalette("RGB") or []
"""The palette of images that Pillow has converted from colors."""
DAVIS_COLORS = {
    sum(
        (id >> (3 * bit + channel) & 1) << (23 - 8 * channel - bit)
        for bit in range(8)
        for channel in range(3)
    ): id
    for id in range(256)
}
"""Object ids by the colors of DAVIS's palette, which is that of PASCAL VOC, as 24-bit numbers."""
ATTRIBUTES = {
    "AC": "appearance change",
    "BC": "background clutter",
    "CS": "camera shake",
    "DB": "dynamic background",
    "DEF": "deformation",
    "EA": "edge ambiguity",
    "FM": "fast motion",
    "HO": "heterogeneous object",
    "IO": "interacting objects",
    "LR": "low resolution",
    "MB": "motion blur",
    "OCC": "occlusion",
    "OV": "out of view",
    "ROT": "rotation",
    "SC": "shape complexity",
    "SV": "scale variation",
}
"""Difficulties of videos, by the codes that the dataset uses (Perazzi et al., CVPR 2016)."""
_INFO_FILES = ("Annotations/db_info.yml", "db_info.yml", "db_info.yaml", "data/db_info.yaml")
_WHITES = {255, 65535}  # of 8 and 16 bits


@dataclass(frozen=True)
class DavisSequence:
    """One video of DAVIS.

    Attributes:
        name: such as ``bear``
        frames: the image files
        masks: the mask file of each frame; None for frames without annotation
        split: the list with the sequence, such as ``train`` or ``val``; None if there are no lists
        year: 2016 (one object) or 2017
        attributes: codes of difficulties, such as ``OCC`` for occlusion, if the dataset has them
        categories: object id -> class, if the dataset has them
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    split: str | None
    year: int
    attributes: tuple[str, ...] = ()
    categories: Mapping[int, str] = field(default_factory=dict)

    def read_mask(self, index: int) -> np.ndarray | None:
        """Read the object ids of a frame.

        A palette image has ids as its indices, other images as levels of gray; 255 is `VOID`. But white is
        object 1 if all masks of the sequence are black and white, or if it is DAVIS 2016 and they have no
        palette.

        Args:
            index: the frame, counted from 0

        Returns:
            ``uint8`` ``[H, W]``, or ``int32`` if ids exceed 255; None for frames without annotation

        Raises:
            ColorTrackError: if the file cannot be read, differs from its frame in size, or its ids are lost
        """
        path = self.masks[index]
        if path is None:
            return None
        with open_image(self.frames[index]) as frame, open_image(path) as mask:
            if mask.size != frame.size:
                raise ColorTrackError(
                    f"{path} is {mask.width} x {mask.height}, but its frame {self.frames[index]} is "
                    f"{frame.width} x {frame.height}; save masks at the size of the frames"
                )
        return _object_ids(path, *_read_numbers(path), self._shows_white)

    @cached_property
    def _shows_white(self) -> bool:
        return _show_white((_read_numbers(path) for path in self.masks if path is not None), self.year)


def read_davis(
    root: str | Path, split: str | None = None, sequences: Sequence[str] | None = None
) -> list[DavisSequence]:
    """List the sequences of a DAVIS folder without reading their files.

    Args:
        root: folder with ``JPEGImages``, ``Annotations``, and optionally ``ImageSets``
        split: name of a list in ``ImageSets``, such as ``val``. Default: all sequences
        sequences: names of sequences. Default: all

    Raises:
        ColorTrackError: if the folder is not DAVIS, or a split, sequence, or file is missing
    """
    folder = DavisFolder(root, split)
    return [folder.sequence(name) for name in folder.select(sequences)]


def load_davis(
    root: str | Path,
    name: str | None = None,
    *,
    split: str | None = None,
    sequences: Sequence[str] | None = None,
    video_dir: str | Path | None = None,
    overwrite: bool = False,
    on_error: OnError = "raise",
    persistent: bool = False,
    progress: bool | ProgressCallback | None = None,
) -> fo.Dataset:
    """Load a DAVIS folder as a FiftyOne video dataset.

        dataset = load_davis("DAVIS", split="val", sequences=["bear"])

    Each frame has its image in ``filepath`` and its masks as detections in ``ground_truth``. The detections of an
    object share ``index`` (the object's ID) and ``instance``. Samples have their split as a tag, their name in
    ``sequence``, and, if the dataset has them, the video's difficulties in ``attributes``.

    Args:
        root: folder with ``JPEGImages``, ``Annotations``, and optionally ``ImageSets``
        name: name of the dataset. Default: ``davis-2016`` or ``davis-2017``, with a number if that is taken
        split: name of a list in ``ImageSets``, such as ``val``. Default: all sequences
        sequences: names of sequences. Default: all
        video_dir: folder for encoded videos, which are reused the next time. Default: ``colortrack-videos`` in
            ``root``, or FiftyOne's folder of datasets if ``root`` is read-only
        overwrite: replace the dataset with this name once the new one is complete
        on_error: ``raise`` the error of a sequence, or ``skip`` it and save the error in ``dataset.info["skipped"]``
        persistent: keep the dataset when the database shuts down
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        the dataset

    Raises:
        ColorTrackError: if the name is taken, or something is missing or cannot be read; no dataset is left
    """
    from fiftyone_colortrack.datasets import video_dataset

    folder = DavisFolder(root, split)
    names, videos = folder.select(sequences), video_dataset.video_folder(folder.root, video_dir)
    name = name or video_dataset.unused_name(f"davis-{folder.year}")
    with video_dataset.build_dataset(name, persistent, overwrite) as dataset:
        dataset.info |= {"source": f"DAVIS {folder.year}", "root": str(folder.root.resolve())}
        video_dataset.add_videos(
            dataset, names, lambda name: _sample(folder.sequence(name), videos), on_error, progress
        )
    return dataset


def _sample(sequence: DavisSequence, videos: Path) -> fo.Sample:
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import Instances, encode_once, video_sample

    frames = ImageSequence(sequence.frames)
    path, info = encode_once(videos, sequence.name, sequence.frames, frames, FRAME_RATE)
    tags = [sequence.split] if sequence.split else []
    sample = video_sample(path, info, tags=tags, sequence=sequence.name)
    if sequence.attributes:
        sample["attributes"] = list(sequence.attributes)
    instances = Instances(sequence.categories)
    labels = 0
    for number, image in enumerate(sequence.frames, start=1):
        frame = fo.Frame(filepath=str(image.resolve()))
        ids = sequence.read_mask(number - 1)
        if ids is not None:
            frame["ground_truth"] = instances.detections(np.where(ids == VOID, 0, ids), info)
            labels += len(frame["ground_truth"].detections)
        sample.frames[number] = frame
    if not labels and any(sequence.masks):
        raise ColorTrackError(
            f"no mask of sequence {sequence.name} has an object, for example "
            f"{next(filter(None, sequence.masks))}; save the objects as numbers from 1, or remove the masks"
        )
    return sample


def _show_white(masks: Iterable[tuple[np.ndarray, bool]], year: int) -> bool:
    """Whether masks show one object in white instead of numbering objects."""
    for numbers, has_palette in masks:
        used = set(np.unique(numbers).tolist()) - {0}
        if year == 2016 and not has_palette and used & _WHITES:
            return True  # the edges may be gray
        if used - _WHITES:
            return False
    return True


def _object_ids(path: Path, numbers: np.ndarray, has_palette: bool, shows_white: bool) -> np.ndarray:
    largest = int(numbers.max(initial=0))
    if shows_white:
        return (numbers > (127 if largest <= 255 else 32767)).astype(np.uint8)
    levels = np.unique(numbers)
    if len(levels) > MOST_OBJECTS or (not has_palette and _are_edges(numbers, levels)):
        raise ColorTrackError(
            f"{path} has {len(levels)} different numbers, so it is a photo or has smooth edges; "
            "save object ids without smoothing, or one object in black and white"
        )
    ids = [level for level in levels.tolist() if level not in (0, *_WHITES)]
    if not has_palette and largest in _WHITES and min(ids, default=largest) > MOST_VOID_IDS:
        raise ColorTrackError(
            f"{path}: white may mean an object or void pixels, because other pixels have smaller numbers; "
            "save object ids as numbers from 1"
        )
    return np.where(numbers == 65535, VOID, numbers).astype(np.uint8 if largest in range(256) else np.int32)


def _are_edges(numbers: np.ndarray, levels: np.ndarray) -> bool:
    """Whether most levels of gray are lines at most a pixel wide, as in the smooth edges of a drawing."""
    if len(levels) < 5:
        return False
    thin = [not cv2.erode((numbers == level).astype(np.uint8), np.ones((2, 2))).any() for level in levels]
    return 2 * sum(thin) > len(levels)


def _read_numbers(path: Path) -> tuple[np.ndarray, bool]:
    """The numbers in a mask, integers ``[H, W]``, 0 for the background; and whether they index a palette."""
    with open_image(path) as image:
        mode = image.mode
        numbers = np.array(image.convert("L") if mode == "1" else image)
        if mode == "P":
            _check_palette(path, numbers, image.getpalette("RGB") or [])
    if (mode in ("RGB", "RGBA") and (numbers[..., :3] == numbers[..., :1]).all()) or mode == "LA":
        numbers = numbers[..., 0]
    elif mode in ("RGB", "RGBA"):
        packed = numbers[..., :3].astype(np.int64) @ [65536, 256, 1]
        if set(np.unique(packed).tolist()) <= DAVIS_COLORS.keys():
            return np.vectorize(DAVIS_COLORS.get, otypes=[np.uint8])(packed), True
    if numbers.ndim != 2 or mode == "F":
        raise ColorTrackError(
            f"{path} is a color image without a palette, and not in the colors of DAVIS, so the object ids "
            "are lost; save masks with a palette, or object ids as levels of gray"
        )
    return numbers, mode == "P"


def _check_palette(path: Path, numbers: np.ndarray, palette: list[int]) -> None:
    """Raise a ColorTrackError if the palette was made from colors, so that its indices are not object ids."""
    used = np.unique(numbers).tolist()
    colors, web = ([p[3 * i : 3 * i + 3] for i in used] for p in (palette, WEB_PALETTE))
    is_moved = used[0] == 0 and any(colors[0]) and [0, 0, 0] in colors
    is_dithered = len(used) > 2 and colors == web
    if is_moved or is_dithered:
        raise ColorTrackError(
            f"{path} was converted from colors to a palette, so the object ids are lost; "
            "save object ids as palette indices, with 0 for the background"
        )


class DavisFolder:
    """The lists of a DAVIS folder, read once; its sequences are looked up one by one.

    It is DAVIS 2017 unless its lists are in ``ImageSets/480p`` or ``ImageSets/1080p``. Without lists, every
    folder of images is a sequence.

    Args:
        root: see `read_davis`
        split: see `read_davis`

    Raises:
        ColorTrackError: if the folder is not DAVIS, or has no such list
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        self.root = Path(root)
        self.year, lists = _find_lists(self.root)
        self.splits = list(lists)
        if split is not None and split not in lists:
            raise ColorTrackError(f"{self.root} has no split {split!r} in ImageSets; it has: {some(lists)}")
        # A sequence belongs to the first list that names it, and trainval comes after train and val.
        self._entries: dict[str, tuple[str | None, list[str]]] = {}
        for name, path in sorted(lists.items(), key=lambda item: (item[0] == "trainval", item[0])):
            for sequence, frames in self._read_list(path).items():
                self._entries.setdefault(sequence, (name, frames))
        if not lists:
            folders = (
                p for place in RESOLUTIONS for p in sorted((self.root / "JPEGImages" / place).glob("*"))
            )
            self._entries = {path.name: (None, []) for path in folders if list_images(path)}
        self.names = list(self._entries if split is None else self._read_list(lists[split]))
        self._attributes = _read_attributes(self.root)
        self._categories = _read_categories(self.root)

    def select(self, sequences: Sequence[str] | None) -> list[str]:
        """The given names, or all; a name that is not in the lists raises a ColorTrackError."""
        return select(sequences, self.names, self.root, "sequence")

    def sequence(self, name: str) -> DavisSequence:
        """Look up the files of a sequence.

        Raises:
            ColorTrackError: if frames or all masks are missing
        """
        split, listed = self._entries[name]
        places = [self.root / "JPEGImages" / resolution / name for resolution in RESOLUTIONS]
        images = next((place for place in places if place.is_dir()), places[0])
        frames = {frame.stem: frame for frame in list_frames(images)}
        missing = [stem for stem in listed if stem not in frames]
        if missing or not frames:
            raise ColorTrackError(
                f"{images / missing[0] if missing else images} is missing or empty: restore the frames of "
                f"sequence {name}, or remove it from the lists of {self.root}"
            )
        annotations = self.root / "Annotations" / images.parent.name / name
        masks = {path.stem: path for path in list_images(annotations)}
        for stem, path in masks.items():
            if path.suffix.lower() not in MASK_SUFFIXES:
                raise ColorTrackError(f"{path}: {path.suffix} files lose object ids; save masks as PNG")
            if stem not in frames:
                raise ColorTrackError(f"{path} has no frame {images / stem}; give masks the names of frames")
        if not masks and not (split or "").startswith("test") and (self.root / "Annotations").is_dir():
            raise ColorTrackError(
                f"sequence {name} has no masks in {annotations}; restore them, or remove it from the lists"
            )
        attributes, categories = self._attributes.get(name, ()), self._categories.get(name, {})
        found = tuple(frames.values()), tuple(map(masks.get, frames))
        return DavisSequence(name, *found, split, self.year, attributes, categories)

    def _read_list(self, path: Path) -> dict[str, list[str]]:
        """Sequence -> names of its frames (2016), or nothing (2017, whose lists have only sequences)."""
        entries: dict[str, list[str]] = {}
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            parts = PurePosixPath(words[0].lstrip("/")).parts
            is_valid = len(words) == len(parts) == 1 if self.year == 2017 else len(parts) > 2 >= len(words)
            if not is_valid or ".." in parts or any(len(part.encode()) > 255 for part in parts):
                raise ColorTrackError(
                    f"{path}, line {number}: {line[:200]!r} is not a line of DAVIS {self.year}"
                )
            if self.year == 2017:
                entries[parts[0]] = []
            else:
                entries.setdefault(parts[-2], []).append(PurePosixPath(parts[-1]).stem)
        return entries


def _find_lists(root: Path) -> tuple[int, dict[str, Path]]:
    for folder in ("2017", *RESOLUTIONS):
        found = sorted((root / "ImageSets" / folder).glob("*.txt"))
        lists = {path.stem: path for path in found if not is_hidden(path)}
        if lists:
            return 2017 if folder == "2017" else 2016, lists
    if any((root / "JPEGImages" / resolution).is_dir() for resolution in RESOLUTIONS):
        return 2017, {}
    hint = f"; use {root / 'DAVIS'}" if (root / "DAVIS" / "JPEGImages").is_dir() else ""
    raise ColorTrackError(
        f"{root} is not a DAVIS folder: it has neither lists in ImageSets/2017 or ImageSets/480p nor frames "
        f"in JPEGImages/480p{hint}"
    )


def _read_attributes(root: Path) -> dict[str, tuple[str, ...]]:
    for path in (root / name for name in _INFO_FILES):
        if not path.is_file():
            continue
        try:
            listed = yaml.safe_load(read_text(path))["sequences"]
            return {entry["name"]: tuple(map(str, entry.get("attributes") or ())) for entry in listed}
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise ColorTrackError(f"{path} is not a list of sequences and attributes: {error}") from error
    return {}


def _read_categories(root: Path) -> dict[str, dict[int, str]]:
    path = root / "davis_semantics.json"
    if not path.is_file():
        return {}
    try:
        listed = json.loads(read_text(path))
        return {name: {int(i): str(label) for i, label in ids.items()} for name, ids in listed.items()}
    except (ValueError, AttributeError) as error:
        raise ColorTrackError(f"{path} is not a list of object classes: {error}") from error
