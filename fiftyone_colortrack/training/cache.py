"""Decoded training frames, small and in uint8: each file is decoded only once."""

from __future__ import annotations

import bisect
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.settings import atomic, check_space
from fiftyone_colortrack.shots import cuts_of
from fiftyone_colortrack.training.data import (
    IMAGE_SEQUENCE_RATE,
    MAX_RATE,
    SHORT_SIDE,
    TrainingData,
    cache_key,
)
from fiftyone_colortrack.video import IMAGE_SUFFIXES, Frames, ImageSequence, VideoFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """A shot of a video in the cache. An image is a clip of one frame.

    Attributes:
        first: index in the cache of its first frame.
        length: number of frames.
        rate: frames per second as cached.
        weight: how much it can teach, in (0, 1]. Nearly gray and static clips teach little.
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
        cls, data: TrainingData, folder: Path, budget: float = 8.0, progress: ProgressCallback | None = None
    ) -> FrameCache:
        """Decode `data` into `folder`, or open what an earlier call decoded there from the same files.

        Args:
            data: the files
            folder: where the decoded frames are kept
            budget: maximum size of the cache, in GiB. Longer videos are cut off to keep it
            progress: called after each file. If it raises an error, decoding ends and leaves nothing behind

        Raises:
            ColorTrackError: if no file can be decoded, or the disk has no room
        """
        index = folder / f"{cache_key(data, budget)}.json"
        if int(os.environ.get("LOCAL_RANK", 0)) > 0:  # under torchrun one process of a machine decodes
            while not index.exists():
                time.sleep(0.5)
                if progress:
                    progress(0, len(data), "")
        elif not index.exists():
            _decode(data, index, int(budget * 2**30), progress)
        table = json.loads(index.read_text())
        pixels = torch.from_file(str(index.with_suffix(".u8")), size=table["bytes"], dtype=torch.uint8)
        clips = [Clip(**clip) for clip in table["clips"]]
        return cls(pixels, np.array(table["sizes"]), np.array(table["offsets"]), clips, table["unreadable"])

    def windows(self, frames: np.ndarray, corners: np.ndarray) -> Tensor:
        """Cut out 256 x 256 pixels: `frames` `[N]`, `corners` `[N, 2]` (y, x) -> uint8 `[N, 3, 256, 256]`."""
        cut = []
        for frame, (y, x) in zip(frames, corners, strict=True):
            shape = (*self.sizes[frame].tolist(), 3)
            image = self.pixels[self.offsets[frame] :][: math.prod(shape)].view(shape)
            cut.append(image[y : y + SHORT_SIDE, x : x + SHORT_SIDE])
        return torch.stack(cut).permute(0, 3, 1, 2)

    def to(self, device: torch.device) -> FrameCache:
        """The cache, with its pixels on a device."""
        return replace(self, pixels=self.pixels.to(device))


def _decode(data: TrainingData, index: Path, budget: int, progress: ProgressCallback | None) -> None:
    """Write the frames, then the index: a cache without an index was interrupted."""
    sources = [_Source(entry) for entry in (*data.videos, *data.images)]
    readable = [source for source in sources if not source.error]

    def size(limit: int) -> int:
        return sum(min(source.count, limit) * source.frame_bytes for source in readable)

    # The most frames of each video that keep all videos together within the budget, but at least one.
    longest = max((source.count for source in readable), default=1)
    limit = max(1, bisect.bisect_right(range(longest + 1), budget, key=size) - 1)
    check_space(index.parent, size(limit))
    with (
        atomic(index) as listed,
        atomic(index.with_suffix(".u8")) as pixels,
    ):  # the index is put in place last
        listed.write_text(json.dumps(_write_frames(sources, limit, pixels, progress)))


def _write_frames(
    sources: list[_Source], limit: int, path: Path, progress: ProgressCallback | None
) -> dict[str, Any]:
    """Write the pixels of all frames one after the other. Returns the index of the cache."""
    sizes: list[tuple[int, int]] = []
    offsets: list[int] = []
    clips: list[Clip] = []
    thumbnails: list[np.ndarray] = []

    def written(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            offsets.append(file.tell())
            sizes.append((frame.shape[0], frame.shape[1]))
            thumbnails.append(cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA))
            file.write(frame.tobytes())
            yield frame

    with path.open("wb") as file:
        for done, source in enumerate(sources, 1):
            begin, first = file.tell(), len(sizes)
            thumbnails.clear()
            cuts = list(cuts_of(written(source.read(limit))))
            if source.error:
                logger.info("Skipped %s", source.error)
                del sizes[first:], offsets[first:]
                file.seek(begin)
                file.truncate()
            elif thumbnails:
                for start, stop in pairwise([0, *cuts, len(thumbnails)]):
                    weight = clip_weight(np.stack(thumbnails[start:stop]), source.rate)
                    clips.append(Clip(source.name, first + start, stop - start, source.rate, weight))
            if progress:
                progress(done, len(sources), Path(source.name).name)
        size = file.tell()
    unreadable = {source.name: source.error for source in sources if source.error}
    if not clips:  # the first reasons: a thousand missing files need not all be listed
        reasons = [*list(unreadable.values())[:3], *(["..."] if len(unreadable) > 3 else [])]
        raise ColorTrackError(
            f"none of the {len(sources)} files to train on can be read: {'; '.join(reasons)}"
        )
    table = {"bytes": size, "sizes": sizes, "offsets": offsets, "unreadable": unreadable}
    return {**table, "clips": [asdict(clip) for clip in clips]}


class _Source:
    """A file, or a list of images, to decode. `error` says why it cannot be decoded."""

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
            short, long = sorted((self.frames.height, self.frames.width))
            self.frame_bytes = round(3 * SHORT_SIDE**2 * long / short)  # about, when decoded
        except (ColorTrackError, OSError) as error:
            self.error = str(error)

    def read(self, limit: int) -> Iterator[np.ndarray]:
        """Yield the first `limit` frames, their short sides 256 pixels. Sets `error` if that fails."""
        if self.error:
            return
        try:
            for frame in self.frames.read(range(0, len(self.frames), self.step)[:limit], SHORT_SIDE):
                short = min(frame.shape[:2])
                if short < SHORT_SIDE:
                    height, width = (max(SHORT_SIDE, round(s * SHORT_SIDE / short)) for s in frame.shape[:2])
                    frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
                yield frame
        except (ColorTrackError, OSError) as error:
            self.error = str(error)


def clip_weight(thumbnails: np.ndarray, rate: float) -> float:
    """How much a clip can teach, in [0.1, 1]: little without colors, or without motion within half a second.

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
