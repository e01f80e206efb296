"""Rendered videos with exact labels: textured objects that deform and occlude each other over an image.

The images come with scikit-image, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.video import write_video

if TYPE_CHECKING:
    import fiftyone as fo

Difficulty = Literal["easy", "hard"]
IMAGES = ("coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png", "ihc.png", "hubble_deep_field.jpg")
POINT_NAMES = ("middle", "right", "bottom", "left", "top")
POINT_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4))
FRAME_RATE = 24
_REACH = 1.5  # the outline and texture of an object end within this many radii


@dataclass(frozen=True)
class Scene:
    """A rendered video and its exact labels; object ids count from 1.

    Attributes:
        frames: ``uint8`` RGB ``[T, H, W, 3]``
        masks: ids of the visible objects, ``uint8`` ``[T, H, W]``
        boxes: (x0, y0, x1, y1) around the visible part of each object, ``[T, K, 4]``; NaN if nothing is
            visible
        points: (x, y) of `POINT_NAMES` on each object, ``[T, K, P, 2]``; NaN if occluded or outside the frame
    """

    frames: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class _Motion:
    """The parameters of `easy` and `hard`. Lengths are in object radii, angles in radians."""

    crowd: float  # how much objects' homes are pulled together, 0 to 1
    sway: float  # amplitude of the movement
    turn: float  # amplitude of the rotation
    zoom: float  # amplitude of the logarithm of the size
    bend: float  # amplitude of the deformation
    pan: float  # how far the background moves, as a share of the frame
    flicker: float  # amplitude of the brightness
    tint: float  # weight of an object's own hue against its texture, 0 to 1


_MOTIONS = {
    "easy": _Motion(crowd=0, sway=0.4, turn=0.4, zoom=0.08, bend=0.08, pan=0.05, flicker=0, tint=0.4),
    "hard": _Motion(crowd=0.4, sway=1.8, turn=1.5, zoom=0.3, bend=0.2, pan=0.2, flicker=0.15, tint=0.1),
}


def render_scene(
    size: tuple[int, int] = (240, 320),
    frames: int = 48,
    objects: int = 3,
    *,
    difficulty: Difficulty = "easy",
    late: int = 0,
    seed: int = 0,
) -> Scene:
    """Render a video.

    Args:
        size: height and width, at least 32 pixels
        frames: number of frames
        objects: number of objects, at most 255
        difficulty: ``easy``: slow objects in different colors that never overlap; ``hard``: fast, similar, rotating,
            deforming objects that occlude each other in changing light
        late: number of objects that enter after a third of the video
        seed: the same seed gives the same scene

    Raises:
        ColorTrackError: if a number is out of range
    """
    if min(size) < 32 or frames < 1 or not 0 <= late <= objects <= 255:
        raise ColorTrackError(
            f"cannot render {frames} frames of size {size} with {objects} objects, {late} of them late: use "
            "at least 32 pixels, 1 frame, at most 255 objects, and at most as many late ones"
        )
    rng = np.random.default_rng(seed)
    motion = _MOTIONS[difficulty]
    background = _Background(rng, size, motion)
    bodies = [_Body(rng, i, size, objects, motion, late=i >= objects - late) for i in range(objects)]
    order = rng.permutation(objects)  # from the back to the front
    video = np.empty((frames, *size, 3), np.uint8)
    masks = np.zeros((frames, *size), np.uint8)
    points = np.empty((frames, objects, len(POINT_NAMES), 2))
    for t in range(frames):
        time = t / max(frames - 1, 1)
        canvas = background.render(time)
        for i in order:
            bodies[i].paint(canvas, masks[t], time)
        light = 1 + motion.flicker * np.sin(4 * np.pi * time)
        noise = rng.standard_normal(canvas.shape, np.float32)
        video[t] = np.clip(light * canvas + 2 * noise + 0.5, 0, 255)
        for i, body in enumerate(bodies):
            points[t, i] = _visible(body.points(time), masks[t], i + 1)
    return Scene(video, masks, _boxes(masks, objects), points)


class _Background:
    """An image larger than the frame; the frame pans over it."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], motion: _Motion) -> None:
        self.size = size
        image = _image(IMAGES[rng.integers(3)])
        margin = 1 + 2 * motion.pan
        scale = max(margin * size[0] / image.shape[0], margin * size[1] / image.shape[1])
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        self.image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)
        self.range = np.array(self.image.shape[1::-1]) - size[::-1] - 1
        self.path = _smooth_path(rng, 2, amplitude=0.5)

    def render(self, time: float) -> np.ndarray:
        x, y = (0.5 + self.path(time)) * self.range
        shift = np.array([[1, 0, -x], [0, 1, -y]])
        return cv2.warpAffine(self.image, shift, self.size[::-1], flags=cv2.INTER_LINEAR).astype(np.float32)


class _Body:
    """One object: a star-shaped outline, a texture in its own coordinates, and a motion.

    A point p of the frame shows the point u = q + wave(q) of the body, q = R(-angle) (p - center) / radius.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        index: int,
        size: tuple[int, int],
        count: int,
        motion: _Motion,
        late: bool,
    ) -> None:
        self.id = index + 1
        height, width = size
        columns = int(np.ceil(np.sqrt(count * width / height)))
        rows = int(np.ceil(count / columns))
        cell = np.array([width / columns, height / rows])
        home = (np.array([index % columns, index // columns]) + 0.5) * cell
        self.home = home + motion.crowd * (np.array([width, height]) / 2 - home)
        self.radius = cell.min() / 2 / (_REACH + _MOTIONS["easy"].sway)  # an easy object stays in its cell
        self.entry = np.array([-width / 2 - 2 * _REACH * self.radius, 0]) if late else np.zeros(2)
        self.sway = _smooth_path(rng, 2, amplitude=motion.sway * self.radius)
        self.turn = _smooth_path(rng, 1, amplitude=motion.turn)
        self.zoom = _smooth_path(rng, 1, amplitude=motion.zoom)
        self.bend, self.phase = motion.bend, rng.uniform(0, 2 * np.pi)
        self.lobes = rng.uniform(0.5, 1, 3) * [0.2, 0.12, 0.06], rng.uniform(0, 2 * np.pi, 3)
        self.texture = _texture(rng, index, int(2 * _REACH * self.radius) + 2, motion.tint)
        angles = np.arange(4) * np.pi / 2
        rim = 0.65 * self._outline(angles)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        self.marks = np.concatenate([np.zeros((1, 2)), rim])  # P x 2, on the body

    def paint(self, canvas: np.ndarray, ids: np.ndarray, time: float) -> None:
        """Draw onto the canvas ``[H, W, 3]`` and the ids ``[H, W]`` in place."""
        center, turn, radius = self._pose(time)
        reach = _REACH * radius + 1
        x0, y0 = np.maximum(np.floor(center - reach), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(center + reach), ids.shape[::-1]).astype(int)
        if x0 >= x1 or y0 >= y1:
            return
        pixels = np.stack(np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5), -1)  # h x w x 2
        q = (pixels - center) @ turn / radius
        u = q + self._wave(q, time)
        angle, distance = np.arctan2(u[..., 1], u[..., 0]), np.linalg.norm(u, axis=-1)
        alpha = np.clip(0.5 + (self._outline(angle) - distance) * radius, 0, 1).astype(
            np.float32
        )  # a soft edge
        at = ((u / (2 * _REACH) + 0.5) * len(self.texture) - 0.5).astype(np.float32)
        color = cv2.remap(
            self.texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        region = canvas[y0:y1, x0:x1]
        region += alpha[..., None] * (color - region)
        ids[y0:y1, x0:x1][alpha > 0.5] = self.id

    def points(self, time: float) -> np.ndarray:
        """Positions of the marks in the frame, ``[P, 2]``, visible or not."""
        center, turn, radius = self._pose(time)
        q = self.marks
        for _ in range(30):  # solve u = q + wave(q): a contraction, as the wave is shallow
            q = self.marks - self._wave(q, time)
        return center + radius * q @ turn.T

    def _pose(self, time: float) -> tuple[np.ndarray, np.ndarray, float]:
        entering = np.clip((1 / 3 + 0.2 - time) / 0.2, 0, 1)  # 1: outside, 0: at home
        center = self.home + self.sway(time) + self.entry * entering
        (angle,), (zoom,) = self.turn(time), self.zoom(time)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return center, turn, self.radius * float(np.exp(zoom))

    def _wave(self, q: np.ndarray, time: float) -> np.ndarray:
        wave = self.bend * np.sin(2.5 * q[..., 0] + 6 * np.pi * time + self.phase)
        return np.stack([np.zeros_like(wave), wave], -1)

    def _outline(self, angle: np.ndarray) -> np.ndarray:
        amplitudes, phases = self.lobes
        lobes = (
            a * np.cos(k * angle + p) for k, (a, p) in enumerate(zip(amplitudes, phases, strict=True), 2)
        )
        return 1 + sum(lobes, np.zeros_like(angle))


def _smooth_path(rng: np.random.Generator, dims: int, amplitude: float) -> Callable[[float], np.ndarray]:
    """A smooth function of time in [0, 1], within plus and minus the amplitude in each dimension."""
    speeds, phases = rng.uniform(1.5, 4, (2, dims)), rng.uniform(0, 2 * np.pi, (2, dims))
    return lambda time: amplitude * np.sin(speeds * time + phases).mean(0)


def _texture(rng: np.random.Generator, index: int, side: int, tint: float) -> np.ndarray:
    """A square crop of an image, mixed with a hue of the object's own: ``[side, side, 3]``."""
    image = _image(IMAGES[(3 + index) % len(IMAGES)])
    scale = 2 * side / min(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    corners = [[rng.integers(0, extent - side + 1) for extent in image.shape[:2]] for _ in range(8)]
    crops = [image[y : y + side, x : x + side].astype(np.float32) for y, x in corners]
    hue = np.array([[[int(180 * (index * 0.382 + 0.15)) % 180, 220, 230]]], np.uint8)
    color = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB).astype(np.float32)
    return (1 - tint) * max(crops, key=np.std) + tint * color


@cache
def _image(name: str) -> np.ndarray:
    data = np.frombuffer((files("skimage") / "data" / name).read_bytes(), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, f"scikit-image's {name} is damaged"
    image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    scale = 640 / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _visible(points: np.ndarray, ids: np.ndarray, id: int) -> np.ndarray:
    x, y = np.floor(points).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < ids.shape[1]) & (y < ids.shape[0])
    seen = inside.copy()
    seen[inside] = ids[y[inside], x[inside]] == id
    return np.where(seen[:, None], points, np.nan)


def _boxes(masks: np.ndarray, objects: int) -> np.ndarray:
    boxes = np.full((len(masks), objects, 4), np.nan)
    for t, ids in enumerate(masks):
        for i in range(objects):
            x, y, width, height = cv2.boundingRect((ids == i + 1).view(np.uint8))
            if width:
                boxes[t, i] = x, y, x + width, y + height
    return boxes


def load_scenes(
    video_dir: str | Path,
    name: str = "colortrack-scenes",
    count: int = 4,
    *,
    size: tuple[int, int] = (240, 320),
    frames: int = 48,
    objects: int = 3,
    difficulty: Difficulty = "easy",
    late: int = 0,
    seed: int = 0,
    overwrite: bool = False,
    persistent: bool = False,
    progress: bool | ProgressCallback | None = None,
) -> fo.Dataset:
    """Render videos into a FiftyOne dataset. `scene_sample` describes its fields.

    Args:
        video_dir: folder for the videos
        name: name of the dataset
        count: number of videos
        size: height and width, at least 32 pixels
        frames: number of frames
        objects: number of objects, at most 255
        difficulty: ``easy``: slow objects in different colors that never overlap; ``hard``: fast, similar, rotating,
            deforming objects that occlude each other in changing light
        late: number of objects that enter after a third of the video
        seed: seed of the first video; each further video adds 1
        overwrite: replace the dataset with this name once the new one is complete
        persistent: keep the dataset when the database shuts down
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar

    Returns:
        The dataset

    Raises:
        ColorTrackError: if the name is taken, a number is out of range, or a video cannot be written
    """
    from fiftyone_colortrack.datasets.video_dataset import add_videos, build_dataset
    from fiftyone_colortrack.fields import digest, set_skeleton
    from fiftyone_colortrack.settings import check_allowed, check_space

    def make_sample(scene_name: str) -> fo.Sample:
        scene = render_scene(size, frames, objects, difficulty=difficulty, late=late, seed=seeds[scene_name])
        check_space(folder.parent)
        return scene_sample(folder / f"{scene_name}.mp4", scene, name=scene_name, tags=[difficulty])

    settings = digest(size, frames, objects, late)[:12]  # other scenes have other files
    folder = check_allowed(video_dir) / settings
    seeds = {f"{difficulty}-{number}": number for number in range(seed, seed + count)}
    with build_dataset(name, persistent, overwrite) as dataset:
        set_skeleton(dataset, "points", point_skeleton())
        add_videos(dataset, list(seeds), make_sample, progress=progress)
    return dataset


def point_skeleton() -> fo.KeypointSkeleton:
    """The skeleton of `POINT_NAMES`: each outer point is joined to the middle."""
    import fiftyone as fo

    return fo.KeypointSkeleton(labels=list(POINT_NAMES), edges=[list(edge) for edge in POINT_EDGES])


def scene_sample(path: Path, scene: Scene, **fields: object) -> fo.Sample:
    """Write a scene's video, and make a sample of it.

    Frames have ``ground_truth`` (detections with masks), ``boxes`` (detections without masks), and ``points``
    (keypoints). The labels of an object share ``index`` and ``instance``.

    Args:
        path: the video file to write
        scene: the scene
        fields: more fields of the sample, such as ``tags``
    """
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import Instances, relative_points, video_sample

    info = write_video(path, scene.frames, FRAME_RATE)
    sample = video_sample(path, info, **fields)
    instances = Instances()
    for t, ids in enumerate(scene.masks):
        masks = instances.detections(ids, info)
        boxes, points = [], []
        for mask in masks.detections:
            common = instances.common(mask.index)
            boxes.append(fo.Detection(bounding_box=mask.bounding_box, **common))
            points.append(
                fo.Keypoint(points=relative_points(scene.points[t, mask.index - 1], info), **common)
            )
        sample.frames[t + 1] = fo.Frame(
            ground_truth=masks,
            boxes=fo.Detections(detections=boxes),
            points=fo.Keypoints(keypoints=points),
        )
    return sample
