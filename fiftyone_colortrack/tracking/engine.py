"""What tracks the labels of a video: the propagator, and the way from labels to soft ones and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.model.weights import load_model
from fiftyone_colortrack.tracking.baselines import DisPropagator, IdentityPropagator, RaftPropagator
from fiftyone_colortrack.tracking.codecs import CODECS, Codec
from fiftyone_colortrack.tracking.config import TrackerConfig
from fiftyone_colortrack.tracking.labels import LABEL_KINDS, LabelKind, Seed, TrackedFrame
from fiftyone_colortrack.tracking.outlines import STEP, Outlines
from fiftyone_colortrack.tracking.propagator import ColorPropagator, Labelled, Propagator, resize
from fiftyone_colortrack.video import Frames


def make_propagator(
    model: str | Embedder,
    config: TrackerConfig,
    device: str | torch.device | None = None,
    kind: LabelKind = "masks",
) -> Propagator[Any]:
    """The propagator of labels of a kind, for one of `BASELINES`, a name or file, or a loaded model."""
    if model == "identity":
        return IdentityPropagator()
    if model == "flow":
        return DisPropagator(config.input_size)
    if model == "raft":
        return RaftPropagator(config.input_size, device)
    if not isinstance(model, Embedder):
        model = load_model(model, device)
    return ColorPropagator(model.for_points() if kind == "points" else model, config)


class Engine:
    """What tracks labels of one kind through frames of one size, in whatever order these come.

    Attributes:
        propagator: carries soft labels from frame to frame
        grid: the geometry of the frames
        codec: labels <-> soft labels
        outlined: whether labels follow the outlines of what is seen
    """

    def __init__(
        self,
        frames: Frames,
        seeds: Sequence[Seed],
        kind: LabelKind,
        model: str | Embedder,
        config: TrackerConfig,
        device: str | torch.device | None,
    ) -> None:
        if kind not in LABEL_KINDS:
            raise ColorTrackError(f"kind is {kind!r}; choose one of {', '.join(LABEL_KINDS)}")
        self.propagator = make_propagator(model, config, device, kind)
        self.grid = self.propagator.grid((frames.height, frames.width))
        self.codec: Codec = CODECS[kind].create(seeds, self.grid, self.propagator.device)
        self.outlined = config.outlines and kind == "masks" and self.grid.stride % STEP == 0

    def read(self, frames: Frames, indices: range) -> Iterator[np.ndarray]:
        """Frames as small as they may be, each decoded while the one before is worked on."""
        return _ahead(frames.read(indices, short_side=min(self.grid.input_size)))

    def prepare(self, image: np.ndarray) -> Any:
        return self.propagator.prepare(image, self.grid)

    def labelled(self, frames: Frames, seed: Seed) -> Labelled:
        """The frame of a seed, ready to track from."""
        (image,) = self.read(frames, range(seed.frame, seed.frame + 1))
        return Labelled(self.prepare(image), self.codec.encode(seed.labels))

    def decode(
        self, index: int, soft: Tensor, image: np.ndarray | None, known: frozenset[int]
    ) -> TrackedFrame:
        """Soft labels as labels; without its image they have no outlines to follow."""
        outlines = None
        if self.outlined and image is not None:
            outlines = Outlines(resize(image, self.grid.input_size), self.grid, self.propagator.device)
        return TrackedFrame(index, *self.codec.decode(soft, outlines), objects=known)


def _ahead(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Decode the next frame while the last one is worked on."""
    with ThreadPoolExecutor(1, "colortrack-decoder") as decoder:
        coming = decoder.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = decoder.submit(next, frames, None)
            yield frame
