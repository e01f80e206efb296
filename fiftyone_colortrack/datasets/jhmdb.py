"""JHMDB: people with 15 joints in every frame, in the layout of the official archives."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_colortrack.datasets import list_frames, read_text, select, some
from fiftyone_colortrack.errors import ColorTrackError, OnError
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.video import IMAGE_SUFFIXES, is_hidden, open_frames

if TYPE_CHECKING:
    import fiftyone as fo

JOINTS = (
    *("neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow"),
    *("left elbow", "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle"),
)
LIMBS = ((2, 0, 1), (0, 3, 7, 11), (0, 4, 8, 12), (1, 5, 9, 13), (1, 6, 10, 14))
"""The skeleton: chains of joints, as indices into `JOINTS`."""
FRAME_RATE = 30
COMPRESSED = 15
"""The type of a compressed element of a MATLAB file."""
CHUNK = 2**20
MOST_BYTES = 2**28
"""A MATLAB file that has, claims, or unpacks to more is refused unread; a clip's masks have 2**22 pixels."""


@dataclass(frozen=True)
class JhmdbClip:
    """One clip of JHMDB.

    Attributes:
        name: the clip's name
        action: its class
        frames: its images in ``Rename_Images``, or its one file in ``ReCompress_Videos``
        joints: the file with its joints
        mask: the file with its puppet masks; None if the dataset has none
        splits: such as ``split1-train``; empty if the dataset has no lists
    """

    name: str
    action: str
    frames: tuple[Path, ...]
    joints: Path
    mask: Path | None
    splits: tuple[str, ...]

    @property
    def source(self) -> Path | list[Path]:
        """The images or the video file, for `video.open_frames`."""
        return list(self.frames) if self.has_images else self.frames[0]

    @property
    def has_images(self) -> bool:
        return self.frames[0].suffix.lower() in IMAGE_SUFFIXES

    def read_joints(self) -> np.ndarray:
        """Read the (x, y) of `JOINTS` in pixels, ``[T, 15, 2]``.

        The center of the first pixel is (1, 1) in the file, and (0.5, 0.5) here.

        Raises:
            ColorTrackError: if the file cannot be read, or does not hold 15 joints
        """
        positions = _read_matrix(self.joints, "pos_img")
        is_number = positions.dtype.kind in "fiu"
        if positions.ndim != 3 or positions.shape[:2] != (2, len(JOINTS)) or not is_number:
            raise ColorTrackError(
                f"{self.joints}: pos_img must be [2, {len(JOINTS)}, frames], not {list(positions.shape)}"
            )
        return positions.transpose(2, 1, 0).astype(float) - 0.5  # T x 15 x 2

    def read_masks(self) -> np.ndarray | None:
        """Read the puppet masks, bool ``[T, H, W]``; None if the dataset has none.

        Raises:
            ColorTrackError: if the file cannot be read, or does not hold masks
        """
        if self.mask is None:
            return None
        masks = _read_matrix(self.mask, "part_mask")
        if masks.ndim != 3 or masks.dtype.kind not in "fiub":
            raise ColorTrackError(f"{self.mask}: part_mask must be [H, W, frames], not {list(masks.shape)}")
        return masks.transpose(2, 0, 1) > 0


def read_jhmdb(
    root: str | Path, split: str | None = None, clips: Sequence[str] | None = None
) -> list[JhmdbClip]:
    """List the clips of a JHMDB folder without reading their files.

    Args:
        root: folder with ``joint_positions``, ``splits``, ``Rename_Images`` or ``ReCompress_Videos``, and
            optionally ``puppet_mask``
        split: ``split1-train``, ``split1-test``, and so on to 3. Default: all clips
        clips: names of clips. Default: all

    Raises:
        ColorTrackError: if the folder is not JHMDB, or a split, clip, or file is missing
    """
    folder = JhmdbFolder(root, split)
    return [folder.clip(name) for name in folder.select(clips)]


def load_jhmdb(
    root: str | Path,
    name: str | None = None,
    *,
    split: str | None = None,
    clips: Sequence[str] | None = None,
    video_dir: str | Path | None = None,
    overwrite: bool = False,
    on_error: OnError = "raise",
    persistent: bool = False,
    progress: bool | ProgressCallback | None = None,
) -> fo.Dataset:
    """Load a JHMDB folder as a FiftyOne video dataset.

        dataset = load_jhmdb("JHMDB", split="split1-test")

    Samples have the class in ``action``, their splits as tags, and their name in ``clip``. Frames have
    ``keypoints`` with a skeleton, ``masks`` if the dataset has them, ``boxes`` around the mask (without masks,
    around the joints), and their image in ``filepath``.

    Args:
        root: folder with ``joint_positions``, ``splits``, ``Rename_Images`` or ``ReCompress_Videos``, and
            optionally ``puppet_mask``
        name: name of the dataset. Default: ``jhmdb``, with a number if that is taken
        split: ``split1-train``, ``split1-test``, and so on to 3. Default: all clips
        clips: names of clips. Default: all
        video_dir: folder for encoded videos, which are reused the next time. Default: ``colortrack-videos`` in
            ``root``, or FiftyOne's folder of datasets if ``root`` is read-only
        overwrite: replace the dataset with this name once the new one is complete
        on_error: ``raise`` the error of a clip, or ``skip`` it and save the error in ``dataset.info["skipped"]``
        persistent: keep the dataset when the database shuts down
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        the dataset

    Raises:
        ColorTrackError: if the name is taken, or something is missing or cannot be read; no dataset is left
    """
    import fiftyone as fo

    from fiftyone_colortrack.datasets import video_dataset
    from fiftyone_colortrack.fields import set_skeleton

    folder = JhmdbFolder(root, split)
    names, videos = folder.select(clips), video_dataset.video_folder(folder.root, video_dir)
    skeleton = fo.KeypointSkeleton(labels=list(JOINTS), edges=[list(limb) for limb in LIMBS])
    name = name or video_dataset.unused_name("jhmdb")
    with video_dataset.build_dataset(name, persistent, overwrite) as dataset:
        dataset.info |= {"source": "JHMDB", "root": str(folder.root.resolve())}
        set_skeleton(dataset, "keypoints", skeleton)
        video_dataset.add_videos(
            dataset, names, lambda name: _sample(folder.clip(name), videos), on_error, progress
        )
    return dataset


class JhmdbFolder:
    """The clips of a JHMDB folder; their files are looked up one by one.

    Args:
        root: see `read_jhmdb`
        split: see `read_jhmdb`

    Raises:
        ColorTrackError: if the folder is not JHMDB, or a list cannot be read
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        self.root = Path(root)
        joints = sorted(self.root.glob("joint_positions/*/*/joint_positions.mat"))
        self._joints = {
            path.parent.name: path for path in joints if not any(map(is_hidden, path.parents[:2]))
        }
        if not self._joints:
            raise ColorTrackError(
                f"{self.root} is not a JHMDB folder: "
                "there is no joint_positions/<class>/<clip>/joint_positions.mat"
            )
        self._splits = self._read_splits()
        self.splits = sorted({tag for tags in self._splits.values() for tag in tags})
        if split is not None and split not in self.splits:
            raise ColorTrackError(f"{self.root} has no split {split!r}; it has: {some(self.splits)}")
        self.names = [name for name in self._joints if split is None or split in self._splits.get(name, ())]

    def select(self, clips: Sequence[str] | None) -> list[str]:
        """The given names, or all; a name that is not there raises a ColorTrackError."""
        return select(clips, self.names, self.root, "clip")

    def clip(self, name: str) -> JhmdbClip:
        """Look up the files of a clip.

        Raises:
            ColorTrackError: if frames are missing
        """
        joints = self._joints[name]
        action = joints.parent.parent.name
        images = self.root / "Rename_Images" / action / name
        video = self.root / "ReCompress_Videos" / action / f"{name}.avi"
        mask = self.root / "puppet_mask" / action / name / "puppet_mask.mat"
        frames = tuple(list_frames(images))
        if not frames and not video.is_file():
            raise ColorTrackError(
                f"clip {name} of {self.root} has neither images in {images} nor the video {video}; restore them"
            )
        splits = self._splits.get(name, ())
        return JhmdbClip(name, action, frames or (video,), joints, mask if mask.is_file() else None, splits)

    def _read_splits(self) -> dict[str, tuple[str, ...]]:
        splits: dict[str, tuple[str, ...]] = {}
        for path in sorted(self.root.glob("splits/*_test_split[123].txt")):
            if is_hidden(path):
                continue
            for number, line in enumerate(read_text(path).splitlines(), start=1):
                words = line.split()
                if not words:
                    continue
                if len(words) != 2 or words[1] not in ("0", "1", "2") or not words[0].endswith(".avi"):
                    raise ColorTrackError(f"{path}, line {number}: {line[:200]!r} is not '<clip>.avi 1' or 2")
                if words[1] != "0":  # which is in neither
                    tag = f"split{path.stem[-1]}-{'train' if words[1] == '1' else 'test'}"
                    clip = words[0].removesuffix(".avi")
                    splits[clip] = (*splits.get(clip, ()), tag)
        return splits


def _sample(clip: JhmdbClip, videos: Path) -> fo.Sample:
    import fiftyone as fo

    from fiftyone_colortrack.datasets import video_dataset

    joints, masks, frames = clip.read_joints(), clip.read_masks(), open_frames(clip.source)
    if len(joints) > len(frames):
        raise ColorTrackError(
            f"{clip.joints} has {len(joints)} frames, but there are {len(frames)} in {frames}"
        )
    if masks is not None and masks.shape[1:] != (frames.height, frames.width):
        raise ColorTrackError(
            f"the masks in {clip.mask} are {masks.shape[2]} x {masks.shape[1]}, "
            f"but the frames are {frames.width} x {frames.height}"
        )
    path, info = video_dataset.encode_once(videos, clip.name, clip.frames, frames, FRAME_RATE)
    sample = video_dataset.video_sample(path, info, tags=list(clip.splits), clip=clip.name)
    sample["action"] = fo.Classification(label=clip.action)
    person = video_dataset.Instances({1: "person"})
    for t in range(len(frames)):
        frame = fo.Frame()
        if clip.has_images:
            frame["filepath"] = str(clip.frames[t].resolve())
        if t < len(joints):
            points = video_dataset.relative_points(joints[t], info)
            frame["keypoints"] = fo.Keypoints(keypoints=[fo.Keypoint(points=points, **person.common(1))])
            box = _box(joints[t], masks[t] if masks is not None and t < len(masks) else None)
            (x0, y0), (x1, y1) = video_dataset.relative_points(box, info)
            frame["boxes"] = fo.Detections(
                detections=[fo.Detection(bounding_box=[x0, y0, x1 - x0, y1 - y0], **person.common(1))]
            )
        if masks is not None and t < len(masks):
            frame["masks"] = person.detections(masks[t].astype(np.uint8), info)
        sample.frames[t + 1] = frame
    return sample


def _box(joints: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The corners (x0, y0), (x1, y1) of the box around the mask, or around the joints."""
    if mask is not None and mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        return np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], float)
    return np.stack([np.nanmin(joints, 0), np.nanmax(joints, 0)])


def _read_matrix(path: Path, key: str) -> np.ndarray:
    from scipy.io import loadmat, whosmat

    try:
        sizes = {name: 8 * math.prod(shape) for name, shape, _ in whosmat(path)}
        if max(path.stat().st_size, sizes.get(key, 0), _unpacked_size(path)) > MOST_BYTES:
            raise ColorTrackError(f"{path} is too large for the labels of one clip; remove or replace it")
        matrix = loadmat(path, variable_names=[key])[key]
    except ColorTrackError:
        raise
    except KeyError as error:
        raise ColorTrackError(f"{path} has no matrix {key!r}; replace it with the official file") from error
    except Exception as error:  # SciPy raises many kinds on damaged files
        raise ColorTrackError(f"{path} cannot be read as a MATLAB file: {error}") from error
    return np.asarray(matrix)


def _unpacked_size(path: Path) -> int:
    """Bytes in the compressed parts of a MATLAB file, whatever their headers claim; counted up to `MOST_BYTES`."""
    size = 0
    with path.open("rb") as file:
        order = ">" if file.read(128).endswith(b"MI") else "<"
        while len(tag := file.read(8)) == 8 and size <= MOST_BYTES:
            kind, length = struct.unpack(f"{order}II", tag)
            if kind != COMPRESSED:
                file.seek(length, os.SEEK_CUR)
                continue
            unpacker, packed = zlib.decompressobj(), file.read(length)
            while packed and not unpacker.eof and size <= MOST_BYTES:
                size += len(unpacker.decompress(packed, CHUNK))
                packed = unpacker.unconsumed_tail
    return size
