"""Read and write frames: video files, image sequences, and arrays with one streaming interface.

A frame is ``uint8`` RGB ``[H, W, 3]``. Frame indices count from 0 in display order: index n-1 is the frame
that FiftyOne, FFmpeg, and browsers show as number n.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from itertools import accumulate, chain, dropwhile, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.settings import atomic, check_space

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"})
BROWSER_CONTAINERS = frozenset({"mp4", "webm"})
BROWSER_CODECS = frozenset({"h264", "vp8", "vp9", "av1"})
BROWSER_PIXELS = frozenset({"yuv420p", "yuvj420p"})
"""What every current browser shows: 10-bit and 4:4:4 H.264 only plays in some."""
MAX_PIXELS = 100_000_000
"""A header that states a larger frame is refused before anything is decoded."""
REVERSE_BUFFER_BYTES = 128 * 2**20
"""Reading backwards holds at most this many bytes of decoded frames (but at least one frame)."""
READ_AHEAD = 4
"""Frames that threads decode or convert while the caller works on an earlier one."""
KEY_FRAME_INTERVAL = 12
FRAMES_BETWEEN_CHECKS = 250
"""Of the space on the disk, while a video is written."""
MAX_FRAME_RATE = 1000
# Packets of these codecs need not show a frame: only decoding tells how many there are.
UNCOUNTABLE_CODECS = frozenset({"vp8", "mpeg4", "msmpeg4v3"})
PICTURE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "tiff", "webp"})
SAMPLED_FRAMES = 6
# swscale: AREA | ACCURATE_RND | FULL_CHR_H_INT; without the last two, colors are one level too dark
SCALING = 0x20 | 0x40000 | 0x2000


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video.

    Attributes:
        width, height: as displayed, in pixels: the rotation in the file's metadata is applied
        frame_count: number of frames that a player shows
        frame_rate: average number of frames per second
        duration: duration in seconds
        codec: FFmpeg's name of the codec, such as "h264"
        pixel_format: FFmpeg's name of the pixel format, such as "yuv420p"
        container: "mp4" (also for .mov and similar), "webm", or FFmpeg's name of the container
    """

    width: int
    height: int
    frame_count: int
    frame_rate: float
    duration: float
    codec: str
    pixel_format: str = "yuv420p"
    container: str = "mp4"


def plays_in_browser(info: VideoInfo) -> bool:
    """Whether all current browsers, and therefore the FiftyOne App, can play a video."""
    return (
        info.container in BROWSER_CONTAINERS
        and info.codec in BROWSER_CODECS
        and info.pixel_format in BROWSER_PIXELS
    )


def natural_key(path: str | Path) -> tuple[list[str | int], str]:
    """A key that sorts numbered files by their numbers: ``frame_2.png`` comes before ``frame_10.png``."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdecimal() else part for part in parts], str(path)


def is_hidden(path: str | Path) -> bool:
    """Whether a file or folder is hidden, or left behind by an operating system.

    True for dot files (``.DS_Store`` and ``._*`` of macOS among them), ``Thumbs.db``, ``desktop.ini``, and
    ``__MACOSX``. Only the last part of the path counts.
    """
    name = Path(path).name
    return name.startswith(".") or name.lower() in {"thumbs.db", "desktop.ini", "__macosx"}


def list_images(folder: Path) -> list[Path]:
    """Images of a folder in the order of their numbers, without hidden files; empty if there is no folder.

    Raises:
        ColorTrackError: if the folder cannot be read
    """
    if not folder.is_dir():
        return []
    try:
        paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise ColorTrackError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted((path for path in paths if not is_hidden(path)), key=natural_key)


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width of a frame after scaling its short side down to ``short_side`` pixels.

    Frames are never enlarged. The long side is rounded to the nearest pixel (half up), so odd sizes occur.

    Raises:
        ColorTrackError: if ``short_side`` is less than 1
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
        """Yield the frames at ``indices``, in their order.

        Memory is bounded in both directions; ``range(9, -1, -1)`` reads backwards.

        Args:
            indices: frame indices, counted from 0
            short_side: scale frames down (never up) to this short side in pixels, see `scaled_size`

        Yields:
            ``uint8`` RGB ``[H, W, 3]``

        Raises:
            ColorTrackError: if a frame does not exist or cannot be decoded
        """
        if not indices:
            return
        low, high = sorted((indices[0], indices[-1]))
        if low < 0 or high >= len(self):
            missing = low if low < 0 else high
            raise ColorTrackError(f"frame {missing} of {self} does not exist: it has {len(self)} frames")
        yield from self._read(indices, scaled_size(self.height, self.width, short_side))


class _Packet(NamedTuple):
    """What the index needs of a packet."""

    time: Any  # when its frame is shown: an int, or None where the container does not say
    size: int  # in bytes
    decoding_time: int | None
    is_key: bool
    is_hidden: bool  # an edit list hides its frame, to which shown frames may refer
    is_corrupt: bool  # according to the container; it may decode all the same


@dataclass(frozen=True)
class _Index:
    """Where the shown frames of a video file are.

    Attributes:
        count: the number of shown frames
        threads: PyAV's way to decode; after a damaged packet, frame threads lose whole frames
        numbers: time stamp -> frame index; empty where time stamps are missing, repeated, or jump back, and
            where frames refer to a palette: such files are read from their start
        delay: by how many frame intervals, at most, a frame is late or early for a constant frame rate
        keys: (frame index, time stamp, size in bytes) of each keyframe's packet, ascending: decoding from a
            keyframe gives the frames from this index on
    """

    count: int
    threads: str
    numbers: dict[int, int]
    delay: float
    keys: list[tuple[int, int, int]]

    def key_before(self, frame: int) -> int:
        """The position in `keys` of the last keyframe at or before a frame."""
        return max(0, bisect_right(self.keys, frame, key=lambda key: key[0]) - 1)

    @classmethod
    def of(cls, path: Path) -> _Index:
        """Build the index from the file's packets, or by decoding everything where packets do not tell.

        They do not where some are flagged as corrupt, where time stamps are missing, repeated, or jump back
        (concatenated streams), where two packets may be the fields of one frame, or where they contradict
        the first decoded frames.
        """
        with _open(path) as (container, stream):
            countable = stream.codec_context.codec.canonical_name not in UNCOUNTABLE_CODECS
            ticks = stream.time_base * (stream.average_rate or 1)  # frame intervals per unit of time stamps
            packets = [
                _Packet(p.pts, p.size, p.dts, p.is_keyframe, p.is_discard, p.is_corrupt)
                for p in container.demux(stream)
                if p.size
            ]
        with _open(path) as (container, stream):
            sample = list(islice(_decoded(container.demux(stream), stream), SAMPLED_FRAMES))
            first_times = [frame.pts for frame in sample]
            interlaced = any(frame.interlaced_frame for frame in sample)
            paletted = any(frame.format.name == "pal8" for frame in sample)
        shown = [p.time for p in packets if not p.is_hidden]
        times = shown
        if None not in (*shown, *first_times):
            # The first frames in a file may refer to frames that are not in it: these are not shown.
            times = sorted(time for time in shown if time >= first_times[0])
        timed = [p for p in packets if p.time is not None]
        latest = accumulate((p.time for p in timed), max)
        jumps = any(p.is_key and p.time <= time for p, time in zip(timed[1:], latest, strict=False))
        threads = "SLICE" if any(p.is_corrupt for p in packets) else "AUTO"
        if (
            not countable
            or interlaced
            or jumps
            or threads == "SLICE"
            or not _ascending([p.decoding_time for p in packets if p.decoding_time is not None])
            or times[: len(first_times)] != first_times
        ):
            with _open(path, threads) as (container, stream):
                times = [frame.pts for frame in _decoded(container.demux(stream), stream)]
        if not _ascending(times) or paletted:  # demuxers do not repeat the palette where one enters the file
            return cls(len(times), threads, {}, 0.0, [(0, 0, 0)])
        keys = sorted((p.time, p.size) for p in packets if p.is_key and p.time is not None)
        numbered = [(bisect_left(times, time), time, size) for time, size in keys]
        delay = max(abs(time * ticks - i) for i, time in enumerate(times))
        numbers = {time: i for i, time in enumerate(times)}
        return cls(len(times), threads, numbers, float(delay), numbered)


def _ascending(times: list[Any]) -> bool:
    return None not in times and all(a < b for a, b in pairwise(times))


class VideoFile(Frames):
    """A video file that is decoded while you read it.

    Frames are numbered as players show them: frames that an edit list hides have no number, mirroring and rotation
    are applied, and cover art is ignored. The frames are counted, because the number in the file's header may be
    wrong.

    Raises:
        ColorTrackError: if the file cannot be opened, is a still image, has no video, no frame of it can be
            decoded, or its frames have more than `MAX_PIXELS` pixels
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._info, self._orientation = _inspect(self.path)
        self.height, self.width = self._info.height, self._info.width

    def __len__(self) -> int:
        return self._index.count

    def __str__(self) -> str:
        return str(self.path)

    @property
    def info(self) -> VideoInfo:
        """Properties of the video, with the number of frames that it shows."""
        return replace(self._info, frame_count=len(self))

    @property
    def promised(self) -> int:
        """The number of frames in the file's header; 0 if it has none."""
        return self._info.frame_count

    @property
    def warnings(self) -> list[str]:
        """Where the header and the content disagree, and where the App shows other frame numbers."""
        warnings = []
        promised, shown = self.promised, len(self)
        if 0 < promised < shown:
            warnings.append(f"its header claims {promised} frames, but it has {shown}; all of them are used")
        elif promised > shown:
            with _open(self.path, ignore_editlist="1") as (container, stream):
                stored = sum(1 for packet in container.demux(stream) if packet.size and not packet.is_corrupt)
            if stored >= promised:
                warnings.append(
                    f"its edit list hides {promised - shown} of its {promised} frames, as in players"
                )
            else:
                cause = "cut short" if shown < 0.9 * promised else "damaged"
                warnings.append(
                    f"its header claims {promised} frames, but only {shown} can be decoded and are used: "
                    f"the file may be {cause}"
                )
        if plays_in_browser(self._info) and self._index.delay > 0.5:
            warnings.append(
                "its frame rate varies, or it begins late, so the App, which counts by time, may show other "
                "frame numbers; re-encode it at a constant frame rate"
            )
        return warnings

    @cached_property
    def _index(self) -> _Index:
        return _Index.of(self.path)

    def _read(self, indices: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        if indices.step > 0:
            yield from self._decode(indices, size)
            return
        capacity = max(1, REVERSE_BUFFER_BYTES // (size[0] * size[1] * 3))
        while indices:
            first_frame, *_ = self._index.keys[self._index.key_before(indices[0])]
            chunk = indices[: min(capacity, (indices[0] - first_frame) // -indices.step + 1)]
            yield from reversed(list(self._decode(chunk[::-1], size)))
            indices = indices[len(chunk) :]

    def _decode(self, wanted: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Decode the ascending frames `wanted`, from the keyframe before the first one."""
        convert = partial(_to_rgb, size=size, orientation=self._orientation)
        done = 0
        for image in _in_threads(convert, self._select(wanted)):
            yield image
            done += 1
        if done < len(wanted):
            raise ColorTrackError(
                f"frame {wanted[done]} of {self.path} cannot be decoded: the file is damaged or cut short; "
                "re-encode it, or use the frames before"
            )

    def _select(self, wanted: range) -> Iterator[av.VideoFrame]:
        """The ascending frames `wanted`, up to the first one that is missing."""
        with closing(self._numbered(wanted[0])) as numbered:
            found = ((number, frame) for number, frame in numbered if number in wanted)
            for expected, (number, frame) in zip(wanted, found, strict=False):
                if number != expected:
                    return
                yield frame

    def _numbered(self, target: int) -> Generator[tuple[int, av.VideoFrame], None, None]:
        """Decoded frames with their indices, from a keyframe at or before `target` on."""
        index = self._index
        if not index.numbers:
            with _open(self.path, index.threads) as (container, stream):
                yield from enumerate(_decoded(container.demux(stream), stream))
            return
        # Some demuxers seek past the requested time or give wrong times then, and some keyframes are not
        # clean entry points: recognize the keyframe by its size, then try the one before, then the start.
        entries = {key[1:] for key in index.keys}
        position = index.key_before(target)
        for key in (*reversed(index.keys[max(0, position - 1) : position + 1]), None):
            with _open(self.path, index.threads) as (container, stream):
                packets = container.demux(stream)
                if key:
                    with suppress(av.error.FFmpegError):
                        container.seek(key[1], stream=stream)
                    packets = dropwhile(lambda p: (p.pts, p.size) not in entries, packets)
                decoded = _decoded(packets, stream)
                frames = ((index.numbers[f.pts], f) for f in decoded if f.pts in index.numbers)
                first = next(frames, None)
                if first is not None and (key is None or first[0] <= target):
                    yield from chain((first,), frames)
                    return


class ImageSequence(Frames):
    """A video stored as images, one file per frame, all of the same size. Hidden files are ignored.

    Args:
        paths: image files, in the order of the frames

    Raises:
        ColorTrackError: if there is no image, or the first one cannot be read
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self.paths = [Path(path) for path in paths if not is_hidden(path)]
        if not self.paths:
            raise ColorTrackError("an image sequence needs at least one image")
        self.height, self.width = _read_image(self.paths[0]).shape[:2]

    def __len__(self) -> int:
        return len(self.paths)

    def __str__(self) -> str:
        return f"the {len(self)} images in {self.paths[0].parent}"

    def _read(self, indices: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        yield from _in_threads(partial(self._read_image, size=size), (self.paths[i] for i in indices))

    def _read_image(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        image = _read_image(path)
        height, width = image.shape[:2]
        if (height, width) != (self.height, self.width):
            raise ColorTrackError(
                f"{path} is {width} x {height}, but {self.paths[0]} is {self.width} x {self.height}: "
                "all frames of a video must have one size"
            )
        return _shrink(image, size)


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
    """Open the frames of one video.

    Args:
        source: a video file; a folder of images, sorted by number; a list of images in their order; or ``uint8`` RGB
            arrays. Hidden files are ignored

    Raises:
        ColorTrackError: if the source is empty or cannot be read
    """
    if isinstance(source, Frames):
        return source
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.is_dir():
            return VideoFile(path)
        images = list_images(path)
        if not images:
            raise ColorTrackError(f"{path} contains no images; choose a folder of images, or a video file")
        return ImageSequence(images)
    if isinstance(source, np.ndarray):
        return ArrayFrames(source)
    if source and all(isinstance(item, (str, Path)) for item in source):
        return ImageSequence(source)  # type: ignore[arg-type]
    return ArrayFrames(source)  # type: ignore[arg-type]


def probe(path: str | Path) -> VideoInfo:
    """Read the properties of a video file. Frames are counted, in most cases without decoding.

    Raises:
        ColorTrackError: as in `VideoFile`
    """
    return VideoFile(path).info


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    frame_rate: float,
    crf: int = 16,
    *,
    within: Path | None = None,
) -> VideoInfo:
    """Write an H.264 video (yuv420p) that browsers can play.

    The file appears only once it is complete. After an error, no file remains.

    Args:
        path: .mp4 file to write; missing folders are created
        frames: ``uint8`` RGB ``[H, W, 3]``, all of the same size. H.264 needs even sizes: an odd size is padded by
            repeating the last row or column
        frame_rate: frames per second, at most 1,000
        crf: quality of x264, from 0 (lossless) to 51
        within: folder that must stay within the limits of `check_space` while the video is written. Default: none

    Returns:
        properties of the written video, at the encoded size

    Raises:
        ColorTrackError: if there is no frame, frames differ in size or type, or the file cannot be written
    """
    with VideoWriter(path, frame_rate, crf, within=within) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.info


class VideoWriter:
    """`write_video` for frames that come one by one: a context manager.

        with VideoWriter(path, 25) as writer:
            writer.write(frame)

    After an error inside the block, or without a frame, no file remains.

    Args:
        path, frame_rate, crf, within: as in `write_video`

    Attributes:
        info: properties of the written video; set when the block ends
    """

    info: VideoInfo

    def __init__(
        self, path: str | Path, frame_rate: float, crf: int = 16, *, within: Path | None = None
    ) -> None:
        self.path, self._within = Path(path), within
        if not 1 / MAX_FRAME_RATE <= frame_rate <= MAX_FRAME_RATE:
            raise ColorTrackError(
                f"the frame rate of {self.path} must be positive and at most {MAX_FRAME_RATE}, "
                f"but is {frame_rate}"
            )
        self._rate = Fraction(frame_rate).limit_denominator(1001)
        self._crf = crf
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __enter__(self) -> VideoWriter:
        self._check_space()
        with ExitStack() as stack:
            file = str(stack.enter_context(atomic(self.path)))
            options = {"movflags": "+faststart"}
            self._container: Any = av.open(file, "w", format="mp4", options=options)
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, ``uint8`` RGB ``[H, W, 3]``."""
        if not self._count:
            _check_frame(frame, 0, frame.shape)
            self._open_stream(frame.shape)
        _check_frame(frame, self._count, self._shape)
        padded = np.pad(frame, self._pad, mode="edge") if any(sum(self._pad, ())) else frame
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), "rgb24")
        self._container.mux(self._stream.encode(picture))
        self._count += 1
        if self._count % FRAMES_BETWEEN_CHECKS == 0:
            self._check_space()

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _close(self, error: type[BaseException] | None, *_: object) -> None:
        """Complete the file, unless an error ended the block."""
        try:
            if error is None:
                if not self._count:
                    raise ColorTrackError(f"no frames to write to {self.path}: a video needs at least one")
                self._container.mux(self._stream.encode())
                self._container.close()
                duration = float(self._count / self._rate)
                size = self._stream.width, self._stream.height
                self.info = VideoInfo(*size, self._count, float(self._rate), duration, "h264")
        finally:
            with suppress(OSError):  # the first error says more
                self._container.close()

    def _check_space(self) -> None:
        if self._within is not None:
            check_space(self._within)

    def _open_stream(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._pad = ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0))
        stream = self._stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
        stream.pix_fmt = "yuv420p"
        # veryfast takes 40% of the default's time at the same size and quality
        stream.options = {"crf": str(self._crf), "g": str(KEY_FRAME_INTERVAL), "preset": "veryfast"}
        # The values that the conversion from RGB uses; without them, players guess.
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
def _open(path: Path, threads: str = "AUTO", **options: str) -> Iterator[tuple[Any, Any]]:
    """The file's container and the video stream that players show; errors name the file."""
    _require_file(path)
    try:
        # Titles may be in any encoding.
        with av.open(str(path), options=options, metadata_errors="replace") as container:
            stream = _shown_stream(path, container)
            stream.thread_type = threads
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, stream
    except av.error.FFmpegError as error:
        raise ColorTrackError(
            f"{path} cannot be decoded as a video ({error.strerror}); re-encode it, or remove it"
        ) from error


def _require_file(path: Path) -> None:
    try:
        if not path.is_file():
            raise ColorTrackError(f"{path} is not a file: it is missing, or was moved")
    except OSError as error:  # such as a name that is too long
        raise ColorTrackError(f"{path} cannot be opened ({error.strerror}); rename or move it") from error


def _shown_stream(path: Path, container: Any) -> Any:
    """The video stream that players show: cover art and thumbnails are not the video."""
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise ColorTrackError(f"{path} is a still image, not a video; choose a video, or a folder of images")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise ColorTrackError(f"{path} has no video stream")
    streams = [s for s in streams if s.codec_context]  # FFmpeg knows no decoder for the others
    if not streams:
        raise ColorTrackError(f"{path} uses a codec that cannot be decoded; re-encode it, or remove it")
    best = container.streams.best("video")
    videos = [s for s in streams if s.codec_context.codec.canonical_name not in PICTURE_CODECS] or streams
    stream = max(videos, key=lambda s: (s.frames != 1, s == best))
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    return stream


def check_size(path: Path, width: int, height: int) -> None:
    """Raise a ColorTrackError if an image is too large to decode."""
    if width * height > MAX_PIXELS:
        raise ColorTrackError(
            f"{path} has {width} x {height} pixels, more than the limit of {MAX_PIXELS // 10**6} megapixels; "
            "scale it down"
        )


def _decoded(packets: Iterable[av.Packet], stream: Any) -> Iterator[av.VideoFrame]:
    """The shown frames in display order: a damaged packet costs only its own frame."""
    for packet in packets:
        if packet.size:
            with suppress(av.error.InvalidDataError):
                yield from packet.decode()
    with suppress(av.error.InvalidDataError):
        yield from stream.decode(None)


class _Orientation(NamedTuple):
    """How a stored frame ``[H, W, 3]`` becomes upright: first transposed, then read in these steps."""

    transposed: bool = False
    step_y: int = 1
    step_x: int = 1

    @classmethod
    def of(cls, frame: av.VideoFrame) -> _Orientation:
        """Read the display matrix. Angles that are not right angles are ignored, as in browsers."""
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        # A pixel at (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32, 9).tolist()
        diagonal, other = max(abs(a), abs(d)), max(abs(b), abs(c))
        if min(diagonal, other) > 0.0175 * max(diagonal, other):  # a degree
            return cls()
        y, x = (b, c) if other > diagonal else (d, a)
        return cls(other > diagonal, -1 if y < 0 else 1, -1 if x < 0 else 1)


def _inspect(path: Path) -> tuple[VideoInfo, _Orientation]:
    """The header's information, and how frames become upright."""
    with _open(path) as (container, stream):
        frame = next(_decoded(container.demux(stream), stream), None)
        if frame is None:
            raise ColorTrackError(f"{path} has no frame that can be decoded; re-encode it, or remove it")
        orientation = _Orientation.of(frame)
        size = (frame.height, frame.width) if orientation.transposed else (frame.width, frame.height)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        duration = float(stream.duration * stream.time_base) if stream.duration else 0.0
        duration = (
            duration or (container.duration or 0) / av.time_base or (stream.frames / rate if rate else 0.0)
        )
        name = container.format.name.split(",")[0]
        name = "webm" if path.suffix.lower() == ".webm" else {"mov": "mp4"}.get(name, name)
        codec, pixels = stream.codec_context.codec.canonical_name, frame.format.name
        return VideoInfo(*size, stream.frames, rate, duration, codec, pixels, name), orientation


def _to_rgb(frame: av.VideoFrame, size: tuple[int, int], orientation: _Orientation) -> np.ndarray:
    height, width = size[::-1] if orientation.transposed else size
    rgb = frame.reformat(width=width, height=height, format="rgb24", interpolation=SCALING)
    image = rgb.to_ndarray().swapaxes(0, 1) if orientation.transposed else rgb.to_ndarray()
    return np.ascontiguousarray(image[:: orientation.step_y, :: orientation.step_x])


def _in_threads(function: Callable[[Any], np.ndarray], items: Iterable) -> Iterator[np.ndarray]:
    """Apply a function to items in threads, `READ_AHEAD` items ahead of the caller, and keep their order."""
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        pending: deque[Future[np.ndarray]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > READ_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image without decoding it. Errors, also those of decoding it in the block, name the file.

    Raises:
        ColorTrackError: if the file cannot be read as an image, or has more than `MAX_PIXELS` pixels
    """
    _require_file(path)
    try:
        with Image.open(path) as image:
            check_size(path, *image.size)
            yield image
    except ColorTrackError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, cv2.error) as error:
        raise ColorTrackError(f"{path} cannot be read as an image ({error}); restore or remove it") from error


def _read_image(path: Path) -> np.ndarray:
    with open_image(path):
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every path on every system
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError("it is damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
