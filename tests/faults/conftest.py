"""Videos of a red square that goes right, as odd as they come, and runs that track it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import fiftyone as fo
import numpy as np
import pytest

import fiftyone_colortrack as ct
from fiftyone_colortrack import PropagationReport
from fiftyone_colortrack.tracking import TrackerConfig

SOAK = bool(os.environ.get("COLORTRACK_SOAK"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("soak") and not SOAK:
            item.add_marker(pytest.mark.skip(reason="takes minutes: `make soak` runs it"))


def draw_scene(height: int = 64, width: int = 96, length: int = 6, *, gray: bool = False) -> np.ndarray:
    """[T, H, W, 3]: a square (a quarter of either side, from a quarter on) goes right by a pixel a frame."""
    rng = np.random.default_rng(0)
    background = rng.integers(90, 160, (height, width, 1), np.uint8).repeat(3, 2)
    video = background[None].repeat(length, 0)
    for t in range(length):
        color = 230 if gray else (220, 40, 40)
        video[t, height // 4 : height // 2, width // 4 + t : width // 2 + t] = color
    return video


def encode(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    turned: int = 0,
    title: str = "",
) -> Path:
    """Write a video as some camera might: time stamps are at 25 a second, turns in degrees."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        container.metadata["title"] = title
        if turned:
            stream.set_display_rotation(turned)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            if times:
                picture.pts, picture.time_base = times[i], Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def draw_square(**fields: object) -> fo.Detection:
    """The square in the first frame, as a mask; or something else."""
    default = {"label": "square", "bounding_box": [0.25] * 4, "mask": np.ones((16, 24), bool)}
    return fo.Detection(**{**default, **fields})


@pytest.fixture(scope="session")
def scene() -> Callable[..., np.ndarray]:
    return draw_scene


@pytest.fixture(scope="session")
def film() -> Callable[..., Path]:
    return encode


@pytest.fixture(scope="session")
def square() -> Callable[..., fo.Detection]:
    return draw_square


@pytest.fixture(scope="session")
def labeled() -> Callable[..., fo.Sample]:
    """A sample with labels of some frames in `seed`; by default the square in frame 1."""

    def make(path: Path, labels: fo.Label | Mapping[int, fo.Label] | None = None) -> fo.Sample:
        sample = fo.Sample(filepath=str(path))
        labels = labels or fo.Detections(detections=[draw_square()])
        for number, label in (labels if isinstance(labels, Mapping) else {1: labels}).items():
            sample.frames[number] = fo.Frame(seed=label)
        return sample

    return make


@pytest.fixture(scope="session")
def propagate() -> Callable[..., PropagationReport]:
    def run(view: fo.Dataset, label_field: str = "tracks", **options: object) -> PropagationReport:
        options = {"model": "lab", "config": TrackerConfig(input_size=64, memory=2), **options}
        return ct.propagate(view, "frames.seed", f"frames.{label_field}", **options)

    return run
