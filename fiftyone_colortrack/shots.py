"""Shot changes: where one shot of a video ends and the next begins. Imports no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from fiftyone_colortrack.video import Frames

_SIDE = 64  # of the frames that are compared, in pixels
_THRESHOLD = 1.5  # measured by benchmarks/shots.py
_NEIGHBORS = 6  # frames on each side whose changes are the measure of a change
_FLASH = 3  # frames that a flash may last
_NOISE = 3.0  # gray levels by which two frames of a still video may differ


def find_cuts(frames: Frames, step: Callable[[int, int], None] = lambda frame, frames: None) -> list[int]:
    """Find the shot changes of a video.

    Two neighboring frames belong to different shots if their colors differ, and if motion does not explain
    the difference, compared with the frames around them: fast motion changes all frames, a cut only one. A
    flash is not a cut, because the frames before and after it match. Gradual transitions are not found.

    Frames are decoded once, at a short side of 64 pixels, and only a few are held in memory.

    Args:
        frames: the video
        step: called as `step(frame, frames)` after every 25 frames

    Returns:
        Index of the first frame of each new shot, ascending, from 0. Empty if the video is one shot

    Raises:
        ColorTrackError: if a frame cannot be decoded
    """

    def read() -> Iterator[np.ndarray]:
        for number, image in enumerate(frames.read(range(len(frames)), _SIDE), 1):
            yield image
            if number % 25 == 0:
                step(number, len(frames))

    return list(cuts_of(read()))


def cuts_of(frames: Iterable[np.ndarray]) -> Iterator[int]:
    """Yield the shot changes of frames, uint8 RGB `[H, W, 3]`, a few frames after they occur.

    Frames that are read for another purpose need not be decoded again. See `find_cuts`.
    """
    window: deque[_Frame] = deque(maxlen=2 * _NEIGHBORS + 2)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    for index, image in enumerate(frames):
        frame = _Frame(index, cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
        if window:
            frame.change = _unexplained(window[-1], frame, flow)
        window.append(frame)
        candidate = len(window) - 1 - _NEIGHBORS
        if candidate > 0 and _is_cut(list(window), candidate, flow):
            yield window[candidate].index
    for candidate in range(max(1, len(window) - _NEIGHBORS), len(window)):
        if _is_cut(list(window), candidate, flow):
            yield window[candidate].index


@dataclass
class _Frame:
    index: int
    image: np.ndarray
    change: float = 0.0  # from the frame before, in gray levels, beyond what motion explains
    gray: np.ndarray = field(init=False)
    colors: np.ndarray = field(init=False)  # histogram of Lab colors; sums to 1

    def __post_init__(self) -> None:
        self.gray = cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY)
        lab = cv2.cvtColor(self.image, cv2.COLOR_RGB2Lab)
        counts = cv2.calcHist([lab], [0, 1, 2], None, [8, 8, 8], [0, 256, 64, 192, 64, 192])
        smooth = cv2.GaussianBlur(counts.reshape(8, 64), (3, 1), 0)  # over neighboring hues
        self.colors = smooth.ravel() / max(smooth.sum(), 1.0)


def _is_cut(window: list[_Frame], position: int, flow: cv2.DISOpticalFlow) -> bool:
    before, after = window[max(0, position - _FLASH - 1) : position], window[position : position + _FLASH + 1]
    last, first = before[-1], after[0]
    sides = (
        [f.change for f in window[max(0, position - _NEIGHBORS) : position] if f.index],
        [f.change for f in window[position + 1 : position + 1 + _NEIGHBORS]],
    )
    usual = max((float(np.median(changes)) for changes in sides if changes), default=0.0)
    recolored = 1 - float(np.minimum(last.colors, first.colors).sum())
    needed = _THRESHOLD * (usual + _NOISE) / max(recolored, 1e-6)
    if first.change < needed:
        return False
    pairs = [(last, frame) for frame in after[1:]] + [(frame, first) for frame in before[:-1]]
    return all(_unexplained(one, other, flow) >= needed for one, other in pairs)


def _unexplained(one: _Frame, other: _Frame, flow: cv2.DISOpticalFlow) -> float:
    """Mean difference of two frames in gray levels after the first one was warped onto the second."""
    motion = flow.calc(other.gray, one.gray, None)  # type: ignore[call-overload]
    y, x = np.mgrid[: motion.shape[0], : motion.shape[1]].astype(np.float32)
    warped = cv2.remap(
        one.image, x + motion[..., 0], y + motion[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return float(cv2.absdiff(warped, other.image).mean())
