"""Frames in, frames out: video files, image sequences and arrays as one streaming interface.

A frame is ``uint8`` RGB ``[H, W, 3]``; frame indices count from 0, in the order of display.
"""

from __future__ import annotations

import os
import uuid
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from fiftyone_colortrack.errors import ColorTrackError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"})
REVERSE_BUFFER_BYTES = 128 * 2**20
"""Reading backwards holds at most this many bytes of decoded frames (but at least one frame)."""
KEY_FRAME_INTERVAL = 12
# swscale: AREA | ACCURATE_RND | FULL_CHR_H_INT; without the last two, colours come out a level too dark
SCALING = 0x20 | 0x40000 | 0x2000


@dataclass(frozen=True)
class VideoInfo:
    """What a video is. Width and height are as displayed: rotation in the file's metadata is applied."""

    width: int
    height: int
    frame_count: int
    frame_rate: float
    duration: float
    codec: str


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width of a frame whose short side is brought down to ``short_side`` pixels.

    Frames are never enlarged: a short side that is already small enough keeps the size. The long side is
    rounded to the nearest pixel (half up), so odd sizes occur.
    """
    short = min(height, width)
    if short_side is None or short <= short_side:
        return height, width
    if short_side < 1:
        raise ColorTrackError(f"short_side must be at least 1, not {short_side}")
    long = (2 * max(height, width) * short_side + short) // (2 * short)
    return (short_side, long) if height <= width else (long, short_side)


class Frames(ABC):
    """A video as the tracker sees it: a length, a size, and frames read in either direction."""

    height: int
    width: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _read(self, indices: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield the frames at ``indices`` (inside the video), scaled to ``size`` (height, width)."""

    def read(self, indices: range, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames in the order of ``indices``; ``range(9, -1, -1)`` reads backwards at bounded memory.

        Args:
            indices: frame indices, counted from 0
            short_side: scale frames down (never up) to this short side, see `scaled_size`

        Raises:
            ColorTrackError: if a frame lies outside the video or cannot be decoded
        """
        if not indices:
            return
        low, high = sorted((indices[0], indices[-1]))
        if low < 0 or high >= len(self):
            missing = low if low < 0 else high
            raise ColorTrackError(f"frame {missing} of {self} does not exist: it has {len(self)} frames")
        yield from self._read(indices, scaled_size(self.height, self.width, short_side))


@dataclass(frozen=True)
class _Index:
    """Where the frames of a video file are, by time stamp, in the order of display."""

    count: int
    numbers: dict[int, int]  # time stamp -> frame index; empty where time stamps are missing or repeated
    keys: dict[int, int]  # frame index -> time stamp of the key frames; ascending

    def key_before(self, frame: int) -> int:
        keys = list(self.keys)
        return keys[bisect_right(keys, frame) - 1]


class VideoFile(Frames):
    """A video file, decoded as it is read. Every decodable frame counts once, whatever its time stamp says.

    Packets are counted, not believed from the container's header: one pass over the file without decoding.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._info, self._turns = _inspect(self.path)
        self.height, self.width = self._info.height, self._info.width

    def __len__(self) -> int:
        return self._index.count

    def __str__(self) -> str:
        return str(self.path)

    @property
    def info(self) -> VideoInfo:
        """As `probe` gives it, with the frames that the file holds, not those that its header promises."""
        return replace(self._info, frame_count=len(self))

    @property
    def promised(self) -> int:
        """The number of frames that the file's header promises; 0 if it does not say."""
        return self._info.frame_count

    @cached_property
    def _index(self) -> _Index:
        with _open(self.path) as (container, stream):
            packets = [(p.pts, p.is_keyframe) for p in _packets(container, stream) if not p.is_discard]
        times = {time for time, _ in packets if time is not None}
        keys = sorted(time for time, is_key in packets if is_key and time is not None)
        if not keys or len(times) < len(packets):
            with _open(self.path) as (container, stream):
                return _Index(sum(1 for _ in _decoded(container, stream)), {}, {0: 0})
        # What comes before the first key frame cannot be decoded.
        numbers = {time: i for i, time in enumerate(sorted(t for t in times if t >= keys[0]))}
        return _Index(len(numbers), numbers, {numbers[time]: time for time in keys})

    def _read(self, indices: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        if indices.step > 0:
            yield from self._decode(indices, size)
            return
        capacity = max(1, REVERSE_BUFFER_BYTES // (size[0] * size[1] * 3))
        while indices:
            since_key = (indices[0] - self._index.key_before(indices[0])) // -indices.step + 1
            chunk = indices[: min(capacity, since_key)]
            yield from reversed(list(self._decode(chunk[::-1], size)))
            indices = indices[len(chunk) :]

    def _decode(self, wanted: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Decode the ascending frames `wanted`, from the key frame before the first of them on."""
        done = 0
        with closing(self._numbered(wanted[0])) as frames:
            for number, frame in frames:
                if number > wanted[done]:
                    break
                if number == wanted[done]:
                    yield _to_rgb(frame, size, self._turns)
                    done += 1
                    if done == len(wanted):
                        return
        raise ColorTrackError(
            f"frame {wanted[done]} of {self.path} cannot be decoded: the file is damaged or cut short; "
            "re-encode it, or use the frames before"
        )

    def _numbered(self, target: int) -> Generator[tuple[int, av.VideoFrame], None, None]:
        """Decoded frames with their indices, from a key frame at or before `target` on."""
        index = self._index
        if not index.numbers:
            with _open(self.path) as (container, stream):
                yield from enumerate(_decoded(container, stream))
            return
        # Some demuxers land behind the time they were asked for: try one key frame earlier, then the start.
        key = index.key_before(target)
        times = [index.keys[key], index.keys[index.key_before(max(key - 1, 0))]]
        for time in (*times, None):
            with _open(self.path) as (container, stream):
                if time is not None:
                    container.seek(time, stream=stream)
                decoded = _decoded(container, stream)
                frames = ((index.numbers[f.pts], f) for f in decoded if f.pts in index.numbers)
                first = next(frames, None)
                if first is not None and (time is None or first[0] <= target):
                    yield from chain((first,), frames)
                    return


class ImageSequence(Frames):
    """A video kept as images, one file a frame, all of one size; frames are read without any loss."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self.paths = [Path(path) for path in paths]
        if not self.paths:
            raise ColorTrackError("an image sequence needs at least one image")
        self.height, self.width = _read_image(self.paths[0]).shape[:2]

    def __len__(self) -> int:
        return len(self.paths)

    def __str__(self) -> str:
        return f"the {len(self)} images in {self.paths[0].parent}"

    def _read(self, indices: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        for i in indices:
            image = _read_image(self.paths[i])
            if image.shape[:2] != (self.height, self.width):
                height, width = image.shape[:2]
                raise ColorTrackError(
                    f"{self.paths[i]} is {width} x {height}, but {self.paths[0]} is "
                    f"{self.width} x {self.height}: all frames of a video must have one size"
                )
            yield _shrink(image, size)


class ArrayFrames(Frames):
    """A video in memory: ``uint8`` RGB, an array ``[T, H, W, 3]`` or a sequence of ``[H, W, 3]``."""

    def __init__(self, arrays: np.ndarray | Sequence[np.ndarray]) -> None:
        self.arrays = arrays
        if len(arrays) == 0:
            raise ColorTrackError("a video needs at least one frame")
        for i, frame in enumerate(arrays):
            _check_frame(frame, i, arrays[0].shape)
        self.height, self.width = arrays[0].shape[:2]

    def __len__(self) -> int:
        return len(self.arrays)

    def __str__(self) -> str:
        return "the array of frames"

    def _read(self, indices: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        for i in indices:
            yield _shrink(self.arrays[i], size)


def open_frames(
    source: Frames | str | Path | np.ndarray | Sequence[str | Path] | Sequence[np.ndarray],
) -> Frames:
    """Open a video file, a folder or list of images (a folder is read in order of names), or arrays."""
    if isinstance(source, Frames):
        return source
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            return ImageSequence(sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES))
        return VideoFile(path)
    if isinstance(source, np.ndarray):
        return ArrayFrames(source)
    if source and all(isinstance(item, (str, Path)) for item in source):
        return ImageSequence(source)  # type: ignore[arg-type]
    return ArrayFrames(source)  # type: ignore[arg-type]


def probe(path: str | Path, count_frames: bool = False) -> VideoInfo:
    """Read what a video file says about itself.

    Args:
        path: the file
        count_frames: decode everything and count, instead of believing the header (which may be wrong)

    Raises:
        ColorTrackError: if the file cannot be opened, has no video, or not one frame decodes
    """
    info, _ = _inspect(Path(path))
    if not count_frames:
        return info if info.frame_count else VideoFile(path).info  # some containers do not say
    with _open(Path(path)) as (container, stream):
        return replace(info, frame_count=sum(1 for _ in _decoded(container, stream)))


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], frame_rate: float, crf: int = 16
) -> VideoInfo:
    """Write H.264 (yuv420p, playable in browsers); the file appears under its name only when complete.

    Args:
        path: an .mp4 file; its folder is made where it is missing
        frames: ``uint8`` RGB ``[H, W, 3]``, all of one size. H.264 needs even sizes: an odd one is padded by
            repeating the last row or column
        frame_rate: frames per second
        crf: x264's quality, 0 (lossless) to 51

    Returns:
        What was written, at the encoded size

    Raises:
        ColorTrackError: if there is no frame, or one has another size or type
    """
    with VideoWriter(path, frame_rate, crf) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.info


class VideoWriter:
    """`write_video` for frames that come one by one: a context manager.

        with VideoWriter(path, 25) as writer:
            writer.write(frame)

    An error inside the block, or a block without a frame, leaves no file.

    Args:
        path, frame_rate, crf: see `write_video`
    """

    info: VideoInfo  # what was written; after the block

    def __init__(self, path: str | Path, frame_rate: float, crf: int = 16) -> None:
        self.path = Path(path)
        if not frame_rate > 0:
            raise ColorTrackError(f"the frame rate of {self.path} must be positive, not {frame_rate}")
        self._rate = Fraction(frame_rate).limit_denominator(1001)
        self._crf = crf
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __enter__(self) -> VideoWriter:
        self._unfinished = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex}.mp4")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container: Any = av.open(str(self._unfinished), "w", options={"movflags": "+faststart"})
        except OSError as error:
            raise ColorTrackError(
                f"cannot write {self.path}: {error.strerror}; choose a folder that you may write to"
            ) from error
        return self

    def write(self, frame: np.ndarray) -> None:
        """Add a frame."""
        if not self._count:
            _check_frame(frame, 0, frame.shape)
            self._open_stream(frame.shape)
        _check_frame(frame, self._count, self._shape)
        padded = np.pad(frame, self._pad, mode="edge") if any(sum(self._pad, ())) else frame
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), "rgb24")
        self._container.mux(self._stream.encode(picture))
        self._count += 1

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._container.close()
            self._unfinished.unlink(missing_ok=True)

    def _finish(self) -> None:
        if not self._count:
            raise ColorTrackError(f"no frames to write to {self.path}: a video needs at least one")
        self._container.mux(self._stream.encode())
        self._container.close()
        os.replace(self._unfinished, self.path)
        duration = float(self._count / self._rate)
        size = self._stream.width, self._stream.height
        self.info = VideoInfo(*size, self._count, float(self._rate), duration, "h264")

    def _open_stream(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._pad = ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0))
        stream = self._stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
        stream.pix_fmt = "yuv420p"
        # veryfast takes 40 % of the default's time here, at the same size and quality
        stream.options = {"crf": str(self._crf), "g": str(KEY_FRAME_INTERVAL), "preset": "veryfast"}
        # what the conversion from RGB uses; players guess
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG


def _check_frame(frame: np.ndarray, number: int, shape: tuple[int, ...]) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ColorTrackError(
            f"frame {number} must be uint8 RGB [H, W, 3], not {frame.dtype} {list(frame.shape)}"
        )
    if frame.shape != shape:
        raise ColorTrackError(f"frame {number} is {list(frame.shape)}, but frame 0 is {list(shape)}")


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file's container and first video stream; FFmpeg's errors become errors that name the file."""
    if not path.is_file():
        raise ColorTrackError(f"{path} is not a file: it is missing, or was moved")
    try:
        with av.open(str(path), metadata_errors="replace") as container:  # titles in any encoding
            if not container.streams.video:
                raise ColorTrackError(f"{path} has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.FFmpegError as error:
        raise ColorTrackError(
            f"{path} cannot be decoded as a video ({error.strerror}); re-encode it, or leave it out"
        ) from error


def _decoded(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """All frames that decode, in the order of display: a damaged packet costs its frame, not the rest."""
    for packet in _packets(container, stream):
        with suppress(av.error.InvalidDataError):
            yield from packet.decode()
    with suppress(av.error.InvalidDataError):
        yield from stream.decode(None)


def _packets(container: Any, stream: Any) -> Iterator[av.Packet]:
    """The stream's packets without those that the container knows to be incomplete."""
    return (packet for packet in container.demux(stream) if packet.size and not packet.is_corrupt)


def _inspect(path: Path) -> tuple[VideoInfo, int]:
    """The header's information, and how many quarter turns counter-clockwise bring a frame upright."""
    with _open(path) as (container, stream):
        frame = next(_decoded(container, stream), None)
        if frame is None:
            raise ColorTrackError(f"{path} has no frame that can be decoded; re-encode it, or leave it out")
        turns = round(frame.rotation / 90) % 4
        width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        count = stream.frames
        if stream.duration:
            duration = float(stream.duration * stream.time_base)
        elif container.duration:
            duration = container.duration / av.time_base
        else:
            duration = count / rate if rate else 0.0
        return VideoInfo(width, height, count, rate, duration, stream.codec_context.name), turns


def _to_rgb(frame: av.VideoFrame, size: tuple[int, int], turns: int) -> np.ndarray:
    height, width = size[::-1] if turns % 2 else size
    rgb = frame.reformat(width=width, height=height, format="rgb24", interpolation=SCALING)
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turns))


def _read_image(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ColorTrackError(f"{path} is missing")
    data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every path on every system
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ColorTrackError(f"{path} cannot be read as an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
