"""Decoded frames, small and in uint8: each file is decoded once, whatever the number of steps."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.training.data import IMAGE_SEQUENCE_RATE, MAX_RATE, SHORT_SIDE, TrainingData
from fiftyone_colortrack.video import IMAGE_SUFFIXES, Frames, ImageSequence, VideoFile

logger = logging.getLogger(__name__)

OnFile = Callable[[int, int, str], None]

_CUT_DIFFERENCE = 28.0  # mean absolute difference of two frames' thumbnails, in grey levels
_CUT_OVERLAP = 0.6  # share of two frames' colour histograms that overlaps


@dataclass(frozen=True)
class Clip:
    """A stretch of video without a shot change, in the cache; a photograph is a clip of one frame.

    Attributes:
        first: index in the cache of its first frame.
        length: number of frames.
        rate: frames per second as cached.
        weight: how much it is worth, in (0, 1]: near-grey and static clips teach little.
    """

    source: str
    first: int
    length: int
    rate: float
    weight: float


@dataclass
class FrameCache:
    """Decoded frames with a short side of 256 pixels in one flat uint8 tensor, memory-mapped or on a device.

    Attributes:
        sizes: int `[F, 2]`, height and width of every frame.
        offsets: int `[F]`, where each frame begins in `pixels`.
        unreadable: files that could not be decoded, with the reason.
    """

    pixels: Tensor
    sizes: np.ndarray
    offsets: np.ndarray
    clips: list[Clip]
    unreadable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, data: TrainingData, folder: Path, budget: float = 8.0, on_file: OnFile | None = None
    ) -> FrameCache:
        """Decodes `data` into `folder`, or opens what an earlier call has decoded there from the same files.

        Args:
            budget: size in GiB that the cache may have. Long videos are cut to their first frames to keep it.
            on_file: called after every file with the number done, the number of all, and the file's name;
                what it raises ends the decoding, and nothing of it stays.

        Raises:
            ColorTrackError: if no file could be decoded.
        """
        index = folder / f"{cache_key(data, budget)}.json"
        if int(os.environ.get("LOCAL_RANK", 0)) > 0:  # under torchrun one process of a machine decodes
            while not index.exists():
                time.sleep(0.5)
                if on_file:
                    on_file(0, len(data), "")
        elif not index.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _decode(data, index, int(budget * 2**30), on_file)
        table = json.loads(index.read_text())
        pixels = torch.from_file(str(index.with_suffix(".u8")), size=table["bytes"], dtype=torch.uint8)
        clips = [Clip(**clip) for clip in table["clips"]]
        return cls(pixels, np.array(table["sizes"]), np.array(table["offsets"]), clips, table["unreadable"])

    def windows(self, frames: np.ndarray, corners: np.ndarray) -> Tensor:
        """Cuts 256 x 256 pixels: `frames` `[N]`, `corners` `[N, 2]` (y, x) -> uint8 `[N, 3, 256, 256]`."""
        cut = torch.empty(
            len(frames), SHORT_SIDE, SHORT_SIDE, 3, dtype=torch.uint8, device=self.pixels.device
        )
        for i, (frame, (y, x)) in enumerate(zip(frames, corners, strict=True)):
            height, width = self.sizes[frame]
            start = int(self.offsets[frame])
            image = self.pixels[start : start + int(height * width * 3)].view(int(height), int(width), 3)
            cut[i] = image[y : y + SHORT_SIDE, x : x + SHORT_SIDE]
        return cut.permute(0, 3, 1, 2)

    def to(self, device: torch.device) -> FrameCache:
        """The cache with its pixels on a device."""
        return FrameCache(self.pixels.to(device), self.sizes, self.offsets, self.clips, self.unreadable)


def cache_key(data: TrainingData, budget: float) -> str:
    """Names a cache by the files that are in it: their paths, sizes and times of change."""
    digest = hashlib.sha256(f"2 {SHORT_SIDE} {MAX_RATE} {budget}".encode())
    for entry in (*data.videos, *data.images):
        for path in (entry,) if isinstance(entry, Path) else entry:
            stat = path.stat() if path.exists() else None
            digest.update(f"{path.resolve()} {stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:16]


def _decode(data: TrainingData, index: Path, budget: int, on_file: OnFile | None) -> None:
    """Writes the frames, then the index: a cache without index is one that was interrupted."""
    sources = [_Source(entry) for entry in (*data.videos, *data.images)]
    limit = _frame_limit([source for source in sources if not source.error], budget)
    temporary = index.with_suffix(f".{os.getpid()}")
    try:
        table = _write_frames(sources, limit, temporary, on_file)
        os.replace(temporary, index.with_suffix(".u8"))
        temporary.write_text(json.dumps(table))
        os.replace(temporary, index)
    except OSError as error:
        raise ColorTrackError(f"cannot write decoded frames to {index.parent}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_frames(sources: list[_Source], limit: int, path: Path, on_file: OnFile | None) -> dict[str, Any]:
    """Writes the pixels of all frames one after the other; returns where they are, for the index."""
    sizes: list[tuple[int, int]] = []
    offsets: list[int] = []
    clips: list[Clip] = []
    with path.open("wb") as file:
        for done, source in enumerate(sources, 1):
            before, thumbnails = file.tell(), []
            for frame in source.read(limit):
                offsets.append(file.tell())
                sizes.append((frame.shape[0], frame.shape[1]))
                thumbnails.append(cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA))
                file.write(frame.tobytes())
            first = len(sizes) - len(thumbnails)
            if source.error:
                logger.info("left out: %s", source.error)
                del sizes[first:], offsets[first:]
                file.seek(before)
                file.truncate()
            elif thumbnails:
                clips += _split(source.name, np.stack(thumbnails), first, source.rate)
            if on_file:
                on_file(done, len(sources), Path(source.name).name)
        size = file.tell()
    unreadable = {source.name: source.error for source in sources if source.error}
    if not clips:
        raise ColorTrackError(
            f"none of the {len(sources)} files to train on can be read: {_first(unreadable)}"
        )
    table = {"bytes": size, "sizes": sizes, "offsets": offsets, "unreadable": unreadable}
    return {**table, "clips": [asdict(clip) for clip in clips]}


def _first(unreadable: dict[str, str], count: int = 3) -> str:
    """The first reasons: of a thousand offline files, one says as much as all."""
    more = "; ..." if len(unreadable) > count else ""
    return "; ".join(list(unreadable.values())[:count]) + more


class _Source:
    """One file, or one list of images, to be decoded; `error` says why it cannot be."""

    def __init__(self, entry: Path | tuple[Path, ...]) -> None:
        self.name = str(entry if isinstance(entry, Path) else entry[0].parent)
        self.rate, self.step, self.error = IMAGE_SEQUENCE_RATE, 1, ""
        try:
            if isinstance(entry, Path) and entry.suffix.lower() not in IMAGE_SUFFIXES:
                self.frames: Frames = VideoFile(entry)
                self.rate = self.frames.info.frame_rate or IMAGE_SEQUENCE_RATE
            else:
                self.frames = ImageSequence([entry] if isinstance(entry, Path) else entry)
            self.step = max(1, round(self.rate / MAX_RATE))
            self.rate /= self.step
            self.count = len(range(0, len(self.frames), self.step))
        except (ColorTrackError, OSError) as error:
            self.error = str(error)

    @property
    def frame_bytes(self) -> int:
        """Estimated size of a decoded frame."""
        short, long = sorted((self.frames.height, self.frames.width))
        return round(3 * SHORT_SIDE**2 * long / short)

    def read(self, limit: int) -> Iterator[np.ndarray]:
        """The first `limit` frames with a short side of 256 pixels; of no use if `error` is set then."""
        if self.error:
            return
        try:
            for frame in self.frames.read(range(0, len(self.frames), self.step)[:limit], SHORT_SIDE):
                yield _enlarge(frame)
        except (ColorTrackError, OSError) as error:
            self.error = str(error)


def _frame_limit(sources: list[_Source], budget: int) -> int:
    """How many frames a video may have so that all of them together keep the budget."""
    low, high = 1, max((source.count for source in sources), default=1)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(s.count, middle) * s.frame_bytes for s in sources) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _enlarge(frame: np.ndarray) -> np.ndarray:
    """Brings a frame that is smaller than 256 pixels up to it."""
    short = min(frame.shape[:2])
    if short >= SHORT_SIDE:
        return frame
    height, width = (max(SHORT_SIDE, round(side * SHORT_SIDE / short)) for side in frame.shape[:2])
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)


def _split(source: str, thumbnails: np.ndarray, first: int, rate: float) -> list[Clip]:
    """Splits a video at its shot changes into weighted clips."""
    cuts = (t for t in range(1, len(thumbnails)) if is_cut(thumbnails[t - 1], thumbnails[t]))
    return [
        Clip(source, first + start, stop - start, rate, clip_weight(thumbnails[start:stop], rate))
        for start, stop in pairwise([0, *cuts, len(thumbnails)])
    ]


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a shot changes between two thumbnails, uint8 `[32, 32, 3]`: places and colours both differ."""
    difference = np.abs(before.astype(np.float32) - after).mean()
    return bool(difference > _CUT_DIFFERENCE and _histogram_overlap(before, after) < _CUT_OVERLAP)


def _histogram_overlap(one: np.ndarray, other: np.ndarray) -> float:
    def histogram(image: np.ndarray) -> np.ndarray:
        bins = (image // 64).reshape(-1, 3) @ np.array([16, 4, 1])
        return np.bincount(bins, minlength=64) / len(bins)

    return float(np.minimum(histogram(one), histogram(other)).sum())


def clip_weight(thumbnails: np.ndarray, rate: float) -> float:
    """What a clip can teach, in [0.1, 1]: little if nothing has a colour or nothing moves in half a second.

    Args:
        thumbnails: uint8 `[T, 32, 32, 3]`, RGB.
        rate: frames per second.
    """
    lab = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2Lab) for frame in thumbnails]).astype(np.float32)
    chroma = np.hypot(lab[..., 1] - 128, lab[..., 2] - 128).mean()
    weight = np.clip(chroma / 6, 0.1, 1)
    gap = min(max(1, round(rate / 2)), len(lab) - 1)
    if gap:
        motion = np.abs(lab[gap:] - lab[:-gap]).mean()
        weight *= np.clip(motion / 2, 0.1, 1)
    return float(max(weight, 0.1))
