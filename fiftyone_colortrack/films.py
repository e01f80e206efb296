"""What the network sees, as films: colours that it copies from the first frame, and its embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.metrics import ColorError, color_error
from fiftyone_colortrack.model.color import AB_RANGE, fit_palette
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.pictures import draw_masks
from fiftyone_colortrack.tracking.config import TrackerConfig
from fiftyone_colortrack.tracking.tracker import make_propagator
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.propagator import Labelled, resize
from fiftyone_colortrack.tracking.tracker import Tracker
from fiftyone_colortrack.video import Frames, open_frames

PALETTE_SIZE = 16
SAMPLED_FRAMES = 12  # of a video, for a basis


@dataclass(frozen=True)
class ColorizedFrame:
    """A frame whose colours were predicted.

    Attributes:
        frame: index, from 0
        image: uint8 RGB [H, W, 3], the true lightness in predicted colours; the first frame is the true one
        error: of the predicted colours
        still_error: of the first frame's colours, left where they were: what no motion would give
    """

    frame: int
    image: np.ndarray
    error: ColorError
    still_error: ColorError

    @property
    def measures(self) -> dict[str, float]:
        """Both errors by name; nothing for the first frame, whose colours are given."""
        if self.frame == 0:
            return {}
        return {
            "color_top1": self.error.top1,
            "color_distance": self.error.distance,
            "still_top1": self.still_error.top1,
            "still_distance": self.still_error.distance,
        }


def colorize(
    frames: Any,
    *,
    model: str | Embedder = "fast",
    config: TrackerConfig | None = None,
    device: str | torch.device | None = None,
) -> Iterator[ColorizedFrame]:
    """Show the first frame in colour, all others in grey, and predict their colours (Vondrick et al. 2018).

    The a and b of Lab are propagated as any other label, by features of the grey frames.

    Args:
        frames: path of a video, list of image paths, array [T, H, W, 3], list of frames, or `Frames`
        model: name or file of a model, a loaded one, or a baseline
        config: settings of the tracker
        device: torch device
    """
    video = open_frames(frames)
    propagator = make_propagator(model, config or TrackerConfig(), device)
    grid = propagator.grid((video.height, video.width))
    averaging = [grid.averaging(axis) for axis in (0, 1)]
    interpolation = [grid.interpolation(axis) for axis in (0, 1)]
    for index, true in enumerate(video.read(range(len(video)))):
        lightness, ab = _to_lab(true)
        prepared = propagator.prepare(_grey(lightness), grid)
        if index == 0:
            first_ab, palette = ab, _palette(ab)
            soft = _apply(averaging, torch.from_numpy(ab)).to(propagator.device)
            propagator.start([Labelled(prepared, soft)])
            image = true
        else:
            soft = propagator.step(prepared)
            image = _to_rgb(lightness, _apply(interpolation, soft.cpu()).numpy())
        still = _to_rgb(lightness, first_ab)
        yield ColorizedFrame(
            index, image, color_error(image, true, palette), color_error(still, true, palette)
        )


def mean_measures(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over the frames that have it."""
    names = dict.fromkeys(name for measures in measured for name in measures)
    return {name: float(np.mean([m[name] for m in measured if name in m])) for name in names}


@dataclass(frozen=True)
class EmbeddingBasis:
    """Three directions of the embedding space that are shown as red, green and blue.

    Attributes:
        mean: [C]
        axes: [C, 3], unit length, the first principal components
        low: [3], shown as 0
        high: [3], shown as 255
    """

    mean: Tensor
    axes: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def fit(cls, embeddings: Tensor) -> EmbeddingBasis:
        """Principal components of embeddings [N, C]; their signs are fixed, so that colours do not flip."""
        mean = embeddings.mean(0)
        centred = embeddings - mean
        covariance = (centred.T @ centred).cpu().double()  # not every device has doubles
        axes = torch.linalg.eigh(covariance).eigenvectors[:, -3:].flip(1)
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        axes = (axes * largest.sign()).to(embeddings)
        shown = centred @ axes
        low, high = torch.quantile(shown, torch.tensor([0.02, 0.98]).to(shown), dim=0)
        return cls(mean, axes, low, high)

    def show(self, embeddings: Tensor) -> Tensor:
        """[h, w, C] -> RGB in [0, 1], [h, w, 3]."""
        shown = (embeddings - self.mean) @ self.axes
        return ((shown - self.low) / (self.high - self.low)).clamp(0, 1)


def fit_embedding_basis(
    videos: Sequence[Frames], embedder: Embedder, config: TrackerConfig | None = None
) -> EmbeddingBasis:
    """One basis for all frames of these videos, from some frames of each.

    Raises:
        ColorTrackError: if there is no video
    """
    if not videos:
        raise ColorTrackError("there is no video to show the embeddings of")
    return EmbeddingBasis.fit(torch.cat([sample_embeddings(video, embedder, config) for video in videos]))


def sample_embeddings(video: Frames, embedder: Embedder, config: TrackerConfig | None = None) -> Tensor:
    """Embeddings [N, C] of some cells of some frames of a video, for a basis."""
    config = config or TrackerConfig()
    grid = Grid.fit((video.height, video.width), config.input_size, embedder.stride)
    samples = []
    for index in np.linspace(0, len(video) - 1, min(SAMPLED_FRAMES, len(video))).round().astype(int):
        (frame,) = video.read(range(index, index + 1))
        samples.append(_embed(frame, embedder, grid).flatten(0, 1)[::3])
    return torch.cat(samples)


def embedding_film(
    frames: Any, embedder: Embedder, basis: EmbeddingBasis | None = None, config: TrackerConfig | None = None
) -> Iterator[np.ndarray]:
    """Frames of the embeddings in false colours, uint8 RGB [H, W, 3]: what has one colour is one thing to it.

    Args:
        frames: see `colorize`
        embedder: the network
        basis: to compare videos with; by default the video's own
        config: settings of the tracker, of which the input size counts
    """
    video = open_frames(frames)
    config = config or TrackerConfig()
    basis = basis or fit_embedding_basis([video], embedder, config)
    grid = Grid.fit((video.height, video.width), config.input_size, embedder.stride)
    interpolation = [grid.interpolation(axis) for axis in (0, 1)]
    for frame in video.read(range(len(video))):
        shown = basis.show(_embed(frame, embedder, grid))
        yield (_apply(interpolation, shown.cpu()) * 255).round().byte().numpy()


def tracks_film(frames: Any, ids: np.ndarray, model: str | Embedder) -> Iterator[np.ndarray]:
    """Frames with the tracks of the first one's objects drawn in, uint8 RGB [H, W, 3].

    Args:
        frames, model: see `colorize`
        ids: of the objects in the first frame, integers [H, W], 0 is background
    """
    video = open_frames(frames)
    tracker = Tracker(video, ids, model=model)
    for picture, tracked in zip(video.read(range(len(video))), tracker, strict=True):
        yield draw_masks(picture, np.asarray(tracked.labels))


def side_by_side(films: dict[str, Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
    """Films of one size and length in a row, each with its title: uint8 RGB [H, n W, 3]."""
    for pictures in zip(*films.values(), strict=True):
        titled = []
        for title, picture in zip(films, pictures, strict=True):
            picture = picture.copy()
            scale = picture.shape[0] / 480
            for color, thickness in ((0, 4), (255, 1)):
                place, font = (round(12 * scale), round(32 * scale)), cv2.FONT_HERSHEY_SIMPLEX
                width = max(1, round(thickness * scale))
                cv2.putText(picture, title, place, font, 0.9 * scale, (color,) * 3, width, cv2.LINE_AA)
            titled.append(picture)
        yield np.hstack(titled)


def overview(
    frames: Any,
    tracks: Iterable[np.ndarray] | None,
    embedder: Embedder,
    *,
    config: TrackerConfig | None = None,
    height: int = 360,
) -> Iterator[np.ndarray]:
    """A film of the frames, their tracks, their predicted colours and their embeddings, side by side.

    Args:
        frames: see `colorize`
        tracks: pictures of the tracks, one for every frame; without them the film has three columns
        embedder: the network
        config: settings of the tracker
        height: of the film in pixels; smaller videos are not enlarged
    """
    video = open_frames(frames)
    height = min(height, video.height)
    size = (round(video.width * height / video.height), height)
    films = views(video, tracks, embedder, config)
    return side_by_side({title: (_scale(picture, size) for picture in film) for title, film in films.items()})


def views(
    video: Frames,
    tracks: Iterable[np.ndarray] | None,
    embedder: Embedder,
    config: TrackerConfig | None = None,
) -> dict[str, Iterable[np.ndarray]]:
    """The films of `overview` by their titles, in the size of the video; for the arguments see there."""
    return {
        "frame": video.read(range(len(video))),
        **({} if tracks is None else {"tracks": tracks}),
        "predicted colours": (frame.image for frame in colorize(video, model=embedder, config=config)),
        "embedding": embedding_film(video, embedder, config=config),
    }


def _scale(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


@torch.inference_mode()
def _embed(frame: np.ndarray, embedder: Embedder, grid: Grid) -> Tensor:
    batch = torch.from_numpy(resize(frame, grid.input_size)).permute(2, 0, 1)[None]
    return embedder.embed(batch)[0].permute(1, 2, 0)  # h x w x C


def _apply(matrices: Sequence[Tensor], channels: Tensor) -> Tensor:
    """Resample [h, w, C] down and across."""
    return torch.einsum("yh,hwc,xw->yxc", matrices[0], channels, matrices[1])


def _to_lab(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB -> L in [0, 100], [H, W]; a and b, [H, W, 2]."""
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return lab[..., 0], np.ascontiguousarray(lab[..., 1:])


def _to_rgb(lightness: np.ndarray, ab: np.ndarray) -> np.ndarray:
    lab = np.dstack([lightness, ab]).astype(np.float32)
    return (cv2.cvtColor(lab, cv2.COLOR_Lab2RGB).clip(0, 1) * 255).round().astype(np.uint8)


def _grey(lightness: np.ndarray) -> np.ndarray:
    return _to_rgb(lightness, np.zeros((*lightness.shape, 2), np.float32))


def _palette(ab: np.ndarray) -> np.ndarray:
    """Cluster centres of a frame's colours, in CIE units."""
    samples = torch.from_numpy(ab.reshape(-1, 2))[::17] / AB_RANGE
    return fit_palette(samples, min(PALETTE_SIZE, len(samples))).numpy() * AB_RANGE
