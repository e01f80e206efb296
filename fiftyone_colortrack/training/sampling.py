"""Which frames, which parts of them and which distortions make up a batch.

Everything random is drawn from a generator that is seeded by (seed, step, sample), so a batch depends on
nothing that came before: a resumed run goes on exactly, and two processes draw what one would have drawn for
the doubled batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import IterableDataset

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.training.cache import Clip, FrameCache
from fiftyone_colortrack.training.data import SHORT_SIDE
from fiftyone_colortrack.training.recipe import Recipe

CLIP_LENGTH = 4  # three reference frames and the target: Vondrick et al. 2018, 4.1
CLIP_GAP = 1 / 6  # seconds: the paper's 6 frames per second
WALK_LENGTH = 4
CELL = 8  # pixels: the stride of what is trained
WALK_SHIFT = 3  # cells by which the ends of a walk are shifted, so that their borders tell nothing
WARP_POINTS = 4
CUTOUT_POINTS = 8
_RELATIVE_FLIP = 0.1  # share of the view pairs of which one view is mirrored


@dataclass
class View:
    """A distorted part of one frame. Positions are pixels of the window, a square of 256 pixels of it."""

    frame: int
    corner: tuple[int, int]  # (y, x) of the window in the frame
    center: tuple[float, float]  # (y, x) of the view in the window
    extent: tuple[float, float]  # height and width that the view covers
    flip: bool
    angle: float  # radians
    warp: np.ndarray  # [2, WARP_POINTS, WARP_POINTS], displacements (y, x) as shares of the extent
    cutout: np.ndarray  # [CUTOUT_POINTS, CUTOUT_POINTS] over the window: above 0 it is what can be pasted
    jitter: np.ndarray  # [5]: contrast, brightness, saturation, and hue's cosine and sine


@dataclass
class Batch:
    """Views in the order: first and second frames of the frame pairs; first views of the view pairs and first
    frames of the walks, second views and last frames; the undistorted frames of walks one walk after another.
    Or the frames of clips one clip after another.

    Attributes:
        dropped: bool `[frame_pairs, 2]`, which of a and b is taken from both frames of a pair.
    """

    crop: int
    frame_pairs: int
    view_pairs: int
    walks: int
    clips: int
    views: list[View]
    dropped: np.ndarray

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames `[N]` and corners `[N, 2]` of the views' windows."""
        return np.array([view.frame for view in self.views]), np.array([view.corner for view in self.views])


class Sampler(IterableDataset):
    """An endless stream of batches, from `start` on.

    Args:
        rank: of this process; each one draws a whole batch, with other samples than the others.

    Raises:
        ColorTrackError: if the recipe needs videos and there are none.
    """

    def __init__(self, cache: FrameCache, recipe: Recipe, seed: int, start: int = 0, rank: int = 0) -> None:
        self.recipe, self.seed, self.start, self.rank = recipe, seed, start, rank
        self.sizes = cache.sizes
        self.everything = _Choice(cache.clips)
        self.images = _Choice([clip for clip in cache.clips if clip.length == 1])
        self.moving = _Choice([clip for clip in cache.clips if clip.length >= 2])
        self.walkable = _Choice([clip for clip in cache.clips if clip.length >= WALK_LENGTH])
        self.long = _Choice([clip for clip in cache.clips if clip.length > _clip_steps(clip)[-1]])
        if recipe.clips and not self.long:
            raise ColorTrackError("no clip is half a second long; add longer videos to train `paper`")
        if (recipe.frame_pairs and not self.moving) or (recipe.walks and not self.walkable):
            raise ColorTrackError(
                "there are images but no videos; add videos, or set frame_pairs and walks to 0"
            )

    def __iter__(self) -> Iterator[Batch]:
        return map(self.batch, itertools.count(self.start))

    def batch(self, step: int) -> Batch:
        """This process' batch of one step."""
        recipe = self.recipe
        crop = int(np.random.default_rng((self.seed, step)).choice(recipe.crops))
        scale = (recipe.crops[0] / crop) ** 2
        frame_pairs, view_pairs, walks, clips = (
            max(1, round(count * scale)) if count else 0
            for count in (recipe.frame_pairs, recipe.view_pairs, recipe.walks, recipe.clips)
        )

        def generators(kind: int, count: int) -> list[np.random.Generator]:
            ranks = range(self.rank * count, (self.rank + 1) * count)
            return [np.random.default_rng((self.seed, step, kind, sample)) for sample in ranks]

        drawn = generators(0, frame_pairs)
        pairs = [self._frame_pair(rng, crop) for rng in drawn]
        dropped = np.array([[(True, False), (False, True), (True, True)][rng.integers(3)] for rng in drawn])
        twins = [self._view_pair(rng, crop) for rng in generators(1, view_pairs)]
        runs = [self._clip(rng, crop) for rng in generators(2, clips)]
        ways = [self._walk(rng, crop) for rng in generators(3, walks)]
        views = [pair[i] for i in (0, 1) for pair in pairs]
        views += [pair[i] for i in (0, 1) for pair in (*twins, *(ends for ends, _ in ways))]
        views += [view for run in (*runs, *(frames for _, frames in ways)) for view in run]
        return Batch(crop, frame_pairs, view_pairs, walks, clips, views, dropped)

    def _frame_pair(self, rng: np.random.Generator, crop: int) -> list[View]:
        clip = self.moving.draw(rng)
        gap = int(np.clip(round(rng.uniform(*self.recipe.gap) * clip.rate), 1, clip.length - 1))
        first = clip.first + int(rng.integers(clip.length - gap))
        frames = [first, first + gap][:: rng.choice([-1, 1])]
        one = self._view(rng, frames[0], crop, distorted=False)
        return [one, self._view(rng, frames[1], crop, distorted=False, near=one, reach=1 / 6)]

    def _view_pair(self, rng: np.random.Generator, crop: int) -> list[View]:
        source = self.everything
        if self.images and self.moving:
            source = self.images if rng.random() < self.recipe.images else self.moving
        clip = source.draw(rng)
        frame = clip.first + int(rng.integers(clip.length))
        one = self._view(rng, frame, crop, distorted=True)
        other = self._view(rng, frame, crop, distorted=True, near=one, reach=1 / 3)
        other.flip = one.flip ^ bool(rng.random() < _RELATIVE_FLIP)
        return [one, other]

    def _walk(self, rng: np.random.Generator, crop: int) -> tuple[list[View], list[View]]:
        """The distorted first and last frame of a walk, and all its frames as they are."""
        clip = self.walkable.draw(rng)
        longest = (clip.length - 1) // (WALK_LENGTH - 1)
        gap = int(np.clip(round(rng.uniform(*self.recipe.walk_gap) * clip.rate), 1, longest))
        first = clip.first + int(rng.integers(clip.length - gap * (WALK_LENGTH - 1)))
        view = self._view(rng, first, crop, distorted=False)
        frames = [replace(view, frame=first + i * gap) for i in range(WALK_LENGTH)]
        cutout = _draw_cutout(rng, self.recipe.cutouts)
        ends = []
        for frame in (frames[0], frames[-1]):
            shift = rng.integers(-WALK_SHIFT, WALK_SHIFT, 2, endpoint=True) * CELL / crop * frame.extent
            center = (frame.center[0] + float(shift[0]), frame.center[1] + float(shift[1]))
            jitter = _draw_jitter(rng, self.recipe.jitter)
            ends.append(replace(frame, center=center, cutout=cutout, jitter=jitter))
        return ends, frames

    def _clip(self, rng: np.random.Generator, crop: int) -> list[View]:
        clip = self.long.draw(rng)
        steps = _clip_steps(clip)
        first = clip.first + int(rng.integers(clip.length - steps[-1]))
        view = self._view(rng, first, crop, distorted=False)
        return [replace(view, frame=first + step) for step in steps]

    def _view(
        self,
        rng: np.random.Generator,
        frame: int,
        crop: int,
        distorted: bool,
        near: View | None = None,
        reach: float = 0.0,
    ) -> View:
        """A view, or another one that is `near` a first: as far as `reach` times its extent."""
        recipe, size = self.recipe, self.sizes[frame]
        if near is None:
            side = crop / np.exp(rng.uniform(*np.log(recipe.zoom)))
        else:
            side = np.prod(near.extent) ** 0.5 * recipe.rescale ** rng.uniform(-1, 1)
        aspect = np.exp(rng.uniform(-0.2, 0.2)) if distorted else 1.0
        extent = np.minimum(side * np.array([aspect**0.5, aspect**-0.5]), SHORT_SIDE)
        if near is None:
            center = rng.uniform(extent / 2, size - extent / 2)
            corner = np.clip(center - SHORT_SIDE / 2, 0, size - SHORT_SIDE).round().astype(int)
            center = center - corner
        else:  # within the other view's window
            corner = np.array(near.corner)
            offset = rng.uniform(-reach, reach, 2) * near.extent
            center = np.clip(near.center + offset, extent / 2, SHORT_SIDE - extent / 2)
        strength = float(distorted)
        angle = np.deg2rad(recipe.rotation) * strength
        return View(
            frame,
            (int(corner[0]), int(corner[1])),
            (float(center[0]), float(center[1])),
            (float(extent[0]), float(extent[1])),
            flip=near.flip if near else bool(rng.random() < 0.5) and recipe.clips == 0,
            angle=float(rng.uniform(-angle, angle)),
            warp=rng.normal(0, recipe.warp * strength, (2, WARP_POINTS, WARP_POINTS)),
            cutout=near.cutout if near else _draw_cutout(rng, recipe.cutouts * strength),
            jitter=_draw_jitter(rng, recipe.jitter * strength),
        )


def _clip_steps(clip: Clip) -> list[int]:
    """The frames of the paper's clips, counted from their first."""
    return [max(i, round(i * CLIP_GAP * clip.rate)) for i in range(CLIP_LENGTH)]


def _draw_jitter(rng: np.random.Generator, strength: float) -> np.ndarray:
    hue = rng.uniform(-0.4, 0.4) * strength
    contrast, saturation = np.exp(rng.uniform([-0.3, -0.5], [0.3, 0.5]) * strength)
    return np.array([contrast, rng.uniform(-0.25, 0.25) * strength, saturation, np.cos(hue), np.sin(hue)])


def _draw_cutout(rng: np.random.Generator, share: float) -> np.ndarray:
    """Noise that is above 0 in half of the window or less; for `1 - share` of the windows, nowhere."""
    lowered = rng.uniform(0, 1.5) if rng.random() < share else np.inf
    return rng.normal(size=(CUTOUT_POINTS, CUTOUT_POINTS)) - lowered


class _Choice:
    """Draws clips by their worth and length."""

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = clips
        worth = np.cumsum([clip.weight * clip.length**0.5 for clip in clips])
        self.cumulated = worth / worth[-1] if clips else worth

    def __len__(self) -> int:
        return len(self.clips)

    def draw(self, rng: np.random.Generator) -> Clip:
        return self.clips[int(np.searchsorted(self.cumulated, rng.random(), side="right"))]
