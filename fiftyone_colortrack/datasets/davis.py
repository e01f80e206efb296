"""DAVIS 2016 and 2017, in the layout of the official archives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import yaml
from PIL import Image

from fiftyone_colortrack.datasets import numbered_images, read_text
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import ImageSequence

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import OnError, Progress

VOID = 255
"""The value, in masks of DAVIS 2017, of pixels that are not to be scored."""
RESOLUTION = "480p"
FRAME_RATE = 24
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
"""What is hard about a video, by the codes that the dataset uses (Perazzi et al., CVPR 2016)."""
_INFO_FILES = ("Annotations/db_info.yml", "db_info.yml", "db_info.yaml", "data/db_info.yaml")


@dataclass(frozen=True)
class DavisSequence:
    """One video of DAVIS.

    Args:
        name: like ``bear``
        frames: the JPEG files
        masks: the PNG file of every frame, None where the dataset has no annotation
        split: ``train``, ``val``, ``test-dev`` or ``test-challenge``
        year: 2016 (one object, id 1) or 2017 (ids as in the palette, `VOID`)
        attributes: where the dataset has them, codes of what is hard about it, like ``OCC`` for occlusion
        categories: where the dataset has them, object id -> class
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    split: str
    year: int
    attributes: tuple[str, ...] = ()
    categories: Mapping[int, str] = field(default_factory=dict)

    def read_mask(self, index: int) -> np.ndarray | None:
        """Object ids of a frame, ``uint8`` ``[H, W]``, `VOID` where not known; None without annotation.

        Raises:
            ColorTrackError: if the file cannot be read, or is not of its frame's size
        """
        path = self.masks[index]
        if path is None:
            return None
        ids = read_mask(path, self.year)
        with open_image(self.frames[index]) as frame:
            width, height = frame.size
        if ids.shape != (height, width):
            raise ColorTrackError(
                f"{path} is {ids.shape[1]} x {ids.shape[0]}, "
                f"but its frame {self.frames[index]} is {width} x {height}"
            )
        return ids


def read_davis(
    root: str | Path, split: str | None = None, sequences: Sequence[str] | None = None
) -> list[DavisSequence]:
    """List the sequences of a DAVIS folder; their files exist, but are not opened yet.

    Args:
        root: the folder with ``JPEGImages``, ``Annotations`` and ``ImageSets``
        split: the name of a list in ``ImageSets``, like ``val``; all if not given
        sequences: names; all if not given

    Raises:
        ColorTrackError: if the folder is not DAVIS, or a split, sequence or file is missing
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
    on_error: OnError = "raise",
    persistent: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> fo.Dataset:
    """Load a DAVIS folder as a FiftyOne video dataset.

    Every frame has the path of its JPEG in ``filepath`` and its masks as detections in ``ground_truth``, with
    the object's id as ``index`` and one ``instance`` for all detections of an object. Samples are tagged with
    their split; ``attributes`` lists what is hard about a video, where the dataset says so.

    Args:
        root: see `read_davis`
        name: of the dataset; ``davis-2016`` or ``davis-2017`` if not given, with a number where that exists
        split: see `read_davis`
        sequences: see `read_davis`
        video_dir: where the encoded videos go, which are used again the next time; if not given,
            ``root/colortrack-videos``, or FiftyOne's folder for datasets where ``root`` cannot be written
        on_error: ``raise``, or ``skip`` sequences with missing or bad files: ``dataset.info["skipped"]`` then
            says which and why
        persistent: keep the dataset when the database shuts down
        overwrite: replace a dataset of that name once this one is complete
        progress: called with the number of videos done, of all, and the last one's name

    Raises:
        ColorTrackError: if something is missing or cannot be read; no dataset is left behind
    """
    from fiftyone_colortrack.datasets.video_dataset import build_dataset, unused_name

    folder = DavisFolder(root, split)
    name = name or unused_name(f"davis-{folder.year}")
    with build_dataset(name, persistent, overwrite) as dataset:
        add_davis(dataset, folder, sequences, video_dir, on_error, progress)
    return dataset


def add_davis(
    dataset: fo.Dataset,
    folder: DavisFolder,
    sequences: Sequence[str] | None = None,
    video_dir: str | Path | None = None,
    on_error: OnError = "raise",
    progress: Progress | None = None,
) -> None:
    """Add sequences to a dataset; for the arguments see `load_davis`."""
    from fiftyone_colortrack.datasets.video_dataset import add_videos, video_folder

    videos = video_folder(folder.root, video_dir)
    dataset.info |= {"source": f"DAVIS {folder.year}", "root": str(folder.root.resolve())}
    dataset.save()
    names = folder.select(sequences)
    add_videos(dataset, names, lambda name: _sample(folder.sequence(name), videos), on_error, progress)


def _sample(sequence: DavisSequence, videos: Path) -> fo.Sample:
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import Instances, encode_once, video_sample

    path = videos / f"{sequence.name}.mp4"
    info = encode_once(path, ImageSequence(sequence.frames), FRAME_RATE)
    sample = video_sample(path, info, tags=[sequence.split], sequence=sequence.name)
    if sequence.attributes:
        sample["attributes"] = list(sequence.attributes)
    instances = Instances(sequence.categories)
    for number, image in enumerate(sequence.frames, start=1):
        frame = fo.Frame(filepath=str(image.resolve()))
        ids = sequence.read_mask(number - 1)
        if ids is not None:
            frame["ground_truth"] = instances.detections(np.where(ids == VOID, 0, ids), info)
        sample.frames[number] = frame
    return sample


def read_mask(path: Path, year: int) -> np.ndarray:
    """Object ids in an annotation, ``uint8`` ``[H, W]``.

    In DAVIS 2016 all that is white is object 1 (some files have an alpha channel, which means nothing); in
    DAVIS 2017 the ids are the indices into the palette.

    Raises:
        ColorTrackError: if the file cannot be read, or has colours without a palette
    """
    with open_image(path) as image:
        indexed = image.mode == "P"
        if year == 2017 and image.mode not in ("P", "L"):
            raise ColorTrackError(
                f"{path} has no palette (its mode is {image.mode}): the object ids are lost; unpack it again"
            )
        values = np.asarray(image if image.mode != "1" else image.convert("L"))
    if year == 2017:
        return values
    band = values if values.ndim == 2 else values[..., 0]
    return (band > (0 if indexed else 127)).astype(np.uint8)


class DavisFolder:
    """The lists in a DAVIS folder, read once; its sequences are looked up one by one.

    It is DAVIS 2017 if it has ``ImageSets/2017``, DAVIS 2016 if it has ``ImageSets/480p``.

    Args:
        root: the folder with ``JPEGImages``, ``Annotations`` and ``ImageSets``
        split: the name of a list; all if not given

    Raises:
        ColorTrackError: if the folder is not DAVIS, or has no such list
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        self.root = Path(root)
        self.year, lists = _find_lists(self.root)
        self.splits = list(lists)
        if split is not None and split not in lists:
            raise ColorTrackError(f"{self.root} has no split {split!r}; there are: {', '.join(lists)}")
        # A sequence belongs to the first list that names it, and trainval comes behind train and val.
        self._entries: dict[str, tuple[str, list[tuple[Path, Path | None]]]] = {}
        for name, path in sorted(lists.items(), key=lambda item: (item[0] == "trainval", item[0])):
            for sequence, pairs in self._read_list(path).items():
                self._entries.setdefault(sequence, (name, pairs))
        self.names = list(self._entries if split is None else self._read_list(lists[split]))
        self._attributes = _read_attributes(self.root)
        self._categories = _read_categories(self.root)

    def select(self, sequences: Sequence[str] | None) -> list[str]:
        """The given names, or all; a name that is not in the lists is an error."""
        for name in sequences or ():
            if name not in self.names:
                raise ColorTrackError(
                    f"{self.root} has no sequence {name!r}; there are: {', '.join(self.names)}"
                )
        return self.names if sequences is None else list(sequences)

    def sequence(self, name: str) -> DavisSequence:
        """Look up the files of a sequence.

        Raises:
            ColorTrackError: if files are missing
        """
        split, pairs = self._entries[name]
        pairs = pairs or self._find_pairs(name, annotated=not split.startswith("test"))
        for path in (path for pair in pairs for path in pair if path is not None):
            if not path.is_file():
                raise ColorTrackError(f"{path} is missing: sequence {name} of {self.root} is not complete")
        frames, masks = zip(*pairs, strict=True)
        return DavisSequence(
            name,
            frames,
            masks,
            split,
            self.year,
            self._attributes.get(name, ()),
            self._categories.get(name, {}),
        )

    def _read_list(self, path: Path) -> dict[str, list[tuple[Path, Path | None]]]:
        """Sequence -> pairs of frame and mask (2016), or nothing (2017: the list has names only)."""
        entries: dict[str, list[tuple[Path, Path | None]]] = {}
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            if self.year == 2017:
                valid = len(words) == 1 and PurePosixPath(words[0]).name == words[0] != ".."
            else:
                valid = len(words) <= 2 and all(_is_inside(word) for word in words)
            if not valid:
                raise ColorTrackError(
                    f"{path}, line {number}: {line[:200]!r} is not a line of DAVIS {self.year}"
                )
            if self.year == 2017:
                entries[words[0]] = []
            else:
                frame, *mask = (self.root / word.lstrip("/") for word in words)
                entries.setdefault(frame.parent.name, []).append((frame, mask[0] if mask else None))
        return entries

    def _find_pairs(self, name: str, annotated: bool) -> list[tuple[Path, Path | None]]:
        images = self.root / "JPEGImages" / RESOLUTION / name
        annotations = self.root / "Annotations" / RESOLUTION / name
        frames = numbered_images(images, ".jpg", first=0)
        if not frames:
            raise ColorTrackError(f"{images} has no frames: sequence {name} of {self.root} is not complete")
        masks = [annotations / f"{frame.stem}.png" for frame in frames]
        # Test sets have a mask for the first frame only.
        return [(f, m if annotated or m.is_file() else None) for f, m in zip(frames, masks, strict=True)]


def _find_lists(root: Path) -> tuple[int, dict[str, Path]]:
    for year, folder in ((2017, "2017"), (2016, RESOLUTION)):
        lists = {path.stem: path for path in sorted((root / "ImageSets" / folder).glob("*.txt"))}
        if lists:
            return year, lists
    hint = f"; use {root / 'DAVIS'}" if (root / "DAVIS" / "ImageSets").is_dir() else ""
    raise ColorTrackError(
        f"{root} is not a DAVIS folder: there are no lists in ImageSets/2017 or ImageSets/{RESOLUTION}{hint}"
    )


def _is_inside(word: str) -> bool:
    return (
        word.lstrip("/").startswith(("JPEGImages/", "Annotations/")) and ".." not in PurePosixPath(word).parts
    )


def _read_attributes(root: Path) -> dict[str, tuple[str, ...]]:
    for path in (root / name for name in _INFO_FILES):
        if not path.is_file():
            continue
        try:
            listed = yaml.safe_load(read_text(path))["sequences"]
            return {entry["name"]: tuple(map(str, entry.get("attributes") or ())) for entry in listed}
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise ColorTrackError(
                f"{path} is not DAVIS's list of sequences and attributes: {error}"
            ) from error
    return {}


def _read_categories(root: Path) -> dict[str, dict[int, str]]:
    path = root / "davis_semantics.json"
    if not path.is_file():
        return {}
    try:
        listed = json.loads(read_text(path))
        return {name: {int(i): str(label) for i, label in ids.items()} for name, ids in listed.items()}
    except (ValueError, AttributeError) as error:
        raise ColorTrackError(f"{path} is not DAVIS's list of object classes: {error}") from error


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image that is open; what Pillow raises on a bad file becomes an error that names it."""
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ColorTrackError):
            raise
        raise ColorTrackError(f"{path} cannot be read as an image: {error}") from error
