"""All settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How to train. Sizes are in pixels of frames whose short side is 256, times in seconds.

    Attributes:
        frame_pairs: pairs of frames of one clip in a batch, for the reconstruction of colors.
        view_pairs: pairs of views of one frame in a batch, for the correspondence.
        walks: walks of four frames in a batch, along which partners are found for the correspondence.
        clips: clips of four frames in a batch, for the paper's loss.
        stills: share of the steps in which each frame of a clip is embedded by itself, as in tracking, and not together
            with its neighbors.
        crops: sizes of the network's input; each step takes one of them. A batch has the stated number of
            pairs at the first size, fewer at a larger one, so that every step costs the same.
        zoom: smallest and largest ratio between the crop and the square of the frame that it shows.
        rescale: largest ratio between the zooms of two views of one frame.
        gap: shortest and longest time between the frames of a pair.
        walk_gap: shortest and longest time between neighboring frames of a walk.
        walk_radius: farthest motion between these frames, in cells.
        agreement: required agreement of the ways there and back, see `walk_partners`.
        images: share of the view pairs that comes from images, where there are any.
        warp: strength of the smooth warp of views, as a share of the crop.
        rotation: largest rotation of a view, in degrees.
        cutouts: share of the view pairs and walks from which a cut-out is pasted onto another pair, where it moves
            independently, so that the network learns to recognize a cell by its content, not by its surroundings.
        jitter: strength of the color jitter; at 1, contrast changes by up to 1.35, saturation by 1.65 times.
        gray: whether the network sees lightness only.
        window: reach of the reconstruction's affinity, in cells.
        temperature: temperature of both affinities.
        reconstruction: weight of the reconstruction loss.
        correspondence: weight of the correspondence loss.
        strangers: number of cells of each other image that a cell must differ from in the correspondence loss.
        accumulate: number of batches whose gradients are averaged for one step.
        learning_rate: learning rate at the end of the warm-up; a cosine brings it to 0.
        decay_at: instead of the cosine, the share of the steps after which the rate falls to a tenth.
        ema: decay of the averaged weights, which are saved.
    """

    frame_pairs: int = 4
    view_pairs: int = 4
    walks: int = 4
    clips: int = 0
    stills: float = 0.0
    crops: tuple[int, ...] = (128, 160, 208)
    zoom: tuple[float, float] = (0.6, 2.0)
    rescale: float = 1.35
    gap: tuple[float, float] = (0.1, 1.0)
    walk_gap: tuple[float, float] = (0.07, 0.25)
    walk_radius: float = 5.0
    agreement: float = 0.05
    images: float = 0.3
    warp: float = 0.03
    rotation: float = 10.0
    cutouts: float = 0.8
    jitter: float = 0.5
    gray: bool = False
    window: int = 8
    temperature: float = 0.07
    reconstruction: float = 20.0
    correspondence: float = 1.0
    strangers: int = 256
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: int = 100
    decay_at: float | None = None
    clip_gradient: float = 1.0
    ema: float = 0.998


RECIPES = {
    "fast": Recipe(),
    # Adam at 1e-3 for 60k of 400k iterations, then 1e-4; batch 32; no augmentation: Vondrick et al. 2018, A.1
    "paper": Recipe(
        frame_pairs=0,
        view_pairs=0,
        walks=0,
        clips=32,
        crops=(256,),
        zoom=(1.0, 1.0),
        warp=0.0,
        rotation=0.0,
        cutouts=0.0,
        jitter=0.0,
        gray=True,
        weight_decay=0.0,
        warm_up=0,
        decay_at=0.15,
    ),
}
