"""Pictures of what the tracker does: labels over frames, predicted colors, embeddings, grids with captions.

A picture is `uint8` RGB `[H, W, 3]`. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.tracking.config import TrackerConfig
from fiftyone_colortrack.video import Frames, open_frames

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.metrics import ColorError
    from fiftyone_colortrack.model.colorizer import Embedder
    from fiftyone_colortrack.tracking.grid import Grid

_COLORS = "e41a1c 377eb8 4daf4a ff7f00 984ea3 00ced1 f781bf"
COLORS = np.frombuffer(bytes.fromhex(_COLORS), np.uint8).reshape(-1, 3)
"""RGB colors of objects: id 1 has the first one; after the last one they repeat."""
PALETTE_SIZE = 16  # colors that `ColorError.top1` distinguishes
SAMPLED_FRAMES = 12  # per video, to fit a basis
PANEL_HEIGHT = 360  # pixels, at most


def draw_masks(frame: np.ndarray, ids: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Tint each object in its color, and draw its outline.

    Args:
        frame: `uint8` RGB `[H, W, 3]`
        ids: object ids, integers `[H, W]`; 0 is background
        opacity: of the tint, 0 to 1

    Returns:
        a new picture
    """
    import torch
    from torchvision.utils import draw_segmentation_masks

    numbers = np.unique(ids[ids > 0])
    if not len(numbers):
        return frame.copy()
    masks = ids == numbers[:, None, None]
    colors = [_color(number) for number in numbers]
    picture = _draw(draw_segmentation_masks, frame, torch.from_numpy(masks), alpha=opacity, colors=colors)
    for mask, color in zip(masks, colors, strict=True):
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, color, max(1, len(frame) // 240))
    return picture


def draw_boxes(frame: np.ndarray, boxes: Mapping[int, np.ndarray]) -> np.ndarray:
    """Draw the box of each object.

    Args:
        frame: `uint8` RGB `[H, W, 3]`
        boxes: object id -> (x0, y0, x1, y1) in pixels

    Returns:
        a new picture
    """
    import torch
    from torchvision.utils import draw_bounding_boxes

    corners = torch.tensor(np.array(list(boxes.values()), np.float32).reshape(-1, 4))
    colors = [_color(id) for id in boxes]
    return _draw(draw_bounding_boxes, frame, corners, colors=colors, width=max(1, len(frame) // 160))


def draw_points(
    frame: np.ndarray, points: Mapping[int, np.ndarray], edges: Sequence[Sequence[int]] = ()
) -> np.ndarray:
    """Draw the keypoints of each object, and the limbs between them.

    Args:
        frame: `uint8` RGB `[H, W, 3]`
        points: object id -> (x, y) in pixels `[P, 2]`, NaN where a point is missing
        edges: of the skeleton: chains of indices of points, as `fiftyone.KeypointSkeleton` has them

    Returns:
        a new picture
    """
    picture, size = frame.copy(), max(2, len(frame) // 160)
    limbs = [limb for chain in edges for limb in pairwise(chain)]
    for id, of_object in points.items():
        found = np.flatnonzero(np.isfinite(of_object).all(1)).tolist()
        places = {index: np.rint(of_object[index]).astype(int).tolist() for index in found}
        for start, end in limbs:  # torchvision draws them in white
            if start in places and end in places:
                cv2.line(picture, places[start], places[end], _color(id), size, cv2.LINE_AA)
        for place in places.values():
            cv2.circle(picture, place, 2 * size, _color(id), cv2.FILLED, cv2.LINE_AA)
    return picture


def _draw(
    function: Callable[..., torch.Tensor], picture: np.ndarray, *args: Any, **kwargs: Any
) -> np.ndarray:
    """Draw with a function of torchvision, which takes and gives [3, H, W]."""
    import torch

    drawn = function(torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1), *args, **kwargs)
    return np.ascontiguousarray(drawn.permute(1, 2, 0).numpy())


def _color(id: int) -> tuple[int, int, int]:
    red, green, blue = COLORS[(int(id) - 1) % len(COLORS)].tolist()
    return red, green, blue


def caption(picture: np.ndarray, text: str, bottom: bool = False) -> np.ndarray:
    """Write a text into the upper (or lower) left corner; returns a new picture."""
    image = Image.fromarray(picture)
    size = max(11, min(picture.shape[:2]) // 15)
    place, anchor = (image.height - size // 2, "ls") if bottom else (size // 3, "la")
    font, stroke = ImageFont.load_default(size), max(1, size // 10)  # Pillow's own TrueType font
    draw = ImageDraw.Draw(image)
    draw.text((size // 2, place), text, "white", font, anchor, stroke_width=stroke, stroke_fill="black")
    return np.array(image)


@dataclass(frozen=True)
class ColorizedFrame:
    """A frame whose colors were predicted.

    Attributes:
        frame: index, from 0
        image: `uint8` RGB `[H, W, 3]`, true lightness in predicted colors; the first frame is the true one
        seen: `uint8` RGB `[H, W, 3]`, what the network sees of this frame: its lightness
        error: of the predicted colors
        still_error: of the first frame's colors, left in place: what you get without tracking
    """

    frame: int
    image: np.ndarray
    seen: np.ndarray
    error: ColorError
    still_error: ColorError

    @property
    def measures(self) -> dict[str, float]:
        """Both errors by name; empty for the first frame, whose colors are given."""
        if self.frame == 0:
            return {}
        return {
            "color_top1": self.error.top1,
            "color_distance": self.error.distance,
            "still_top1": self.still_error.top1,
            "still_distance": self.still_error.distance,
        }


def colorize_frames(
    frames: Any,
    *,
    model: str | Embedder = "fast",
    config: TrackerConfig | None = None,
    device: str | torch.device | None = None,
) -> Iterator[ColorizedFrame]:
    """Take the first frame in color and all others in gray, and predict their colors (Vondrick et al. 2018).

    The a and b channels of Lab are propagated like labels, by features of the gray frames.

    Args:
        frames: a video file, image paths, an array `[T, H, W, 3]`, a list of frames, or `Frames`
        model: name or file of a model, a loaded model, or a baseline
        config: settings of the tracker
        device: torch device; by default the best available
    """
    import torch

    from fiftyone_colortrack.metrics import color_error
    from fiftyone_colortrack.model.color import AB_RANGE, fit_palette
    from fiftyone_colortrack.tracking.propagator import Labeled
    from fiftyone_colortrack.tracking.tracker import make_propagator

    video = open_frames(frames)
    propagator = make_propagator(model, config or TrackerConfig(), device)
    grid = propagator.grid((video.height, video.width))
    averaging = [grid.averaging(axis) for axis in (0, 1)]
    for index, true in enumerate(video.read(range(len(video)))):
        lab = cv2.cvtColor(true.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
        lightness, ab = lab[..., :1], lab[..., 1:].copy()
        seen = _to_rgb(lightness, np.zeros_like(ab))
        prepared = propagator.prepare(seen, grid)
        if index == 0:
            samples = torch.from_numpy(ab.reshape(-1, 2)[::17] / AB_RANGE)
            palette = fit_palette(samples, min(PALETTE_SIZE, len(samples))).numpy() * AB_RANGE
            first_ab, image = ab, true
            soft = torch.einsum("yh,hwc,xw->yxc", averaging[0], torch.from_numpy(ab), averaging[1])
            propagator.start([Labeled(prepared, soft.to(propagator.device))])
        else:
            soft = propagator.step(prepared)
            image = _to_rgb(lightness, _enlarge(soft.cpu().numpy(), grid))
        still = _to_rgb(lightness, first_ab)
        errors = (color_error(shown, true, palette) for shown in (image, still))
        yield ColorizedFrame(index, image, seen, *errors)


@dataclass(frozen=True)
class EmbeddingBasis:
    """Three directions in the space of embeddings, shown as red, green, and blue.

    Attributes:
        mean: `[C]`
        axes: `[C, 3]`, of unit length: the first principal components
        low: `[3]`, shown as 0
        high: `[3]`, shown as 255
    """

    mean: np.ndarray
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(cls, embeddings: np.ndarray) -> EmbeddingBasis:
        """Principal components of embeddings `[N, C]`, with fixed signs, so that colors do not flip."""
        mean = embeddings.mean(0)
        centered = (embeddings - mean).astype(np.float64)
        axes = np.linalg.eigh(centered.T @ centered).eigenvectors[:, :-4:-1]
        axes = axes * np.sign(np.take_along_axis(axes, abs(axes).argmax(0)[None], 0))
        low, high = np.quantile(centered @ axes, [0.02, 0.98], axis=0)
        return cls(mean, *(values.astype(np.float32) for values in (axes, low, high)))

    def show(self, embeddings: np.ndarray) -> np.ndarray:
        """`[h, w, C]` -> RGB in [0, 1], `[h, w, 3]`."""
        return (((embeddings - self.mean) @ self.axes - self.low) / (self.high - self.low)).clip(0, 1)


def fit_basis(
    videos: Iterable[Frames], embedder: Embedder, config: TrackerConfig | None = None
) -> EmbeddingBasis:
    """One basis for all frames of these videos, fitted to some frames of each.

    Raises:
        ColorTrackError: if there is no video
    """
    samples = []
    for video in videos:
        grid = _grid(video, embedder, config)
        for index in np.linspace(0, len(video) - 1, min(SAMPLED_FRAMES, len(video))).round().astype(int):
            (frame,) = video.read(range(index, index + 1))
            embedding = _embed(frame, embedder, grid)
            samples.append(embedding.reshape(-1, embedding.shape[-1])[::3])
    if not samples:
        raise ColorTrackError("none of the videos can be read, so their embeddings cannot share colors")
    return EmbeddingBasis.fit(np.concatenate(samples))


def embed_frames(
    frames: Any, embedder: Embedder, basis: EmbeddingBasis | None = None, config: TrackerConfig | None = None
) -> Iterator[np.ndarray]:
    """The embeddings of each frame in false colors, `uint8` RGB `[H, W, 3]`.

    Args:
        frames: see `colorize_frames`
        embedder: the network
        basis: to compare videos; by default the video has its own
        config: settings of the tracker: its `input_size` counts
    """
    video = open_frames(frames)
    basis = basis or fit_basis([video], embedder, config)
    grid = _grid(video, embedder, config)
    for frame in video.read(range(len(video))):
        yield (_enlarge(basis.show(_embed(frame, embedder, grid)), grid) * 255).round().astype(np.uint8)


def overview(
    frames: Any, tracks: Iterable[np.ndarray] | None, embedder: Embedder, config: TrackerConfig | None = None
) -> Iterator[np.ndarray]:
    """A 2 x 2 grid of each frame, its tracks, its predicted colors, and its embeddings, with captions.

    Args:
        frames: see `colorize_frames`
        tracks: a picture of the tracks in each frame; without them, the grid shows the gray frames instead
        embedder: the network
        config: settings of the tracker
    """
    video = open_frames(frames)
    height = min(PANEL_HEIGHT, video.height)
    size = (round(video.width * height / video.height), height)
    second = "Tracks" if tracks is not None else "What the network sees"
    embedded = embed_frames(video, embedder, config=config)
    colored = colorize_frames(video, model=embedder, config=config)
    pictures = iter(tracks) if tracks is not None else None
    for frame, color, embedding in zip(video.read(range(len(video))), colored, embedded, strict=True):
        panels = {
            "Video": frame,
            second: color.seen if pictures is None else next(pictures),
            "Predicted colors": color.image,
            "Embeddings": embedding,
        }
        small = [caption(cv2.resize(p, size, interpolation=cv2.INTER_AREA), t) for t, p in panels.items()]
        yield np.vstack([np.hstack(small[:2]), np.hstack(small[2:])])


def _grid(video: Frames, embedder: Embedder, config: TrackerConfig | None) -> Grid:
    from fiftyone_colortrack.tracking.grid import Grid

    short_side = (config or TrackerConfig()).input_size or embedder.input_size
    return Grid.fit((video.height, video.width), short_side, embedder.stride)


def _embed(frame: np.ndarray, embedder: Embedder, grid: Grid) -> np.ndarray:
    """The embeddings of a frame, [h, w, C]."""
    import torch

    from fiftyone_colortrack.tracking.propagator import resize

    batch = torch.from_numpy(resize(frame, grid.input_size)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return embedder.embed(batch)[0].permute(1, 2, 0).float().cpu().numpy()


def _enlarge(cells: np.ndarray, grid: Grid) -> np.ndarray:
    """Interpolate [h, w, C] between cells to [H, W, C] in pixels."""
    down, across = (grid.interpolation(axis).numpy() for axis in (0, 1))
    return np.einsum("yh,hwc,xw->yxc", down, cells, across, optimize=True)


def _to_rgb(lightness: np.ndarray, ab: np.ndarray) -> np.ndarray:
    lab = np.dstack([lightness, ab]).astype(np.float32)
    return (cv2.cvtColor(lab, cv2.COLOR_Lab2RGB).clip(0, 1) * 255).round().astype(np.uint8)
