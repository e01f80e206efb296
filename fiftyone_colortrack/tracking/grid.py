"""The geometry of one video: pixels of the frame, pixels of the network's input, cells of its features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_ENLARGEMENT = 2.0
MAX_ASPECT = 4.0


@dataclass(frozen=True)
class Grid:
    """Maps between a frame of `size` pixels and the cells that the network sees.

    The frame is scaled to `input_size`, and padded at the bottom and the right to whole cells of `stride`
    pixels.

    Attributes:
        size: (height, width) of the frame in pixels
        input_size: (height, width) that the network sees, without padding
        stride: pixels of the input per cell
        multiple: of which the numbers of rows and columns are multiples
    """

    size: tuple[int, int]
    input_size: tuple[int, int]
    stride: int
    multiple: int = 1

    @classmethod
    def fit(
        cls, size: tuple[int, int], input_size: int | tuple[int, int], stride: int, multiple: int = 1
    ) -> Grid:
        """Scale the short side of `size` to `input_size`, or exactly to `input_size` if it is a pair.

        A frame is not scaled up to more than `MAX_ENLARGEMENT` times its size. A long one is scaled down further,
        so that it has no more than `MAX_ASPECT` times as many pixels as a square of that side.
        """
        if isinstance(input_size, int):
            area = MAX_ASPECT * input_size**2
            scale = min(input_size / min(size), MAX_ENLARGEMENT, math.sqrt(area / (size[0] * size[1])))
            input_size = (max(stride, round(size[0] * scale)), max(stride, round(size[1] * scale)))
        return cls(size, input_size, stride, multiple)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        whole = self.stride * self.multiple
        rows, columns = (self.multiple * math.ceil(side / whole) for side in self.input_size)
        return rows, columns

    @property
    def pixels_per_cell(self) -> tuple[float, float]:
        """Pixels of the frame per cell, (vertically, horizontally)."""
        return (
            self.stride * self.size[0] / self.input_size[0],
            self.stride * self.size[1] / self.input_size[1],
        )

    def averaging(self, axis: int) -> Tensor:
        """[cells, pixels] matrix that averages pixels over each cell of an axis (0 down, 1 across).

        Cells that reach over the frame's edge average over their part within it; cells beyond it repeat the edge.
        """
        pixels, per_cell = self.size[axis], self.pixels_per_cell[axis]
        starts = torch.arange(self.cells[axis], dtype=torch.float64)[:, None] * per_cell
        starts = starts.clamp(max=pixels - 1)
        pixel = torch.arange(pixels, dtype=torch.float64)
        overlap = torch.minimum(starts + per_cell, pixel + 1) - torch.maximum(starts, pixel)
        overlap = overlap.clamp(min=0)
        return (overlap / overlap.sum(1, keepdim=True)).float()

    def interpolation(self, axis: int) -> Tensor:
        """[pixels, cells] matrix that interpolates between cell centers, constant beyond the outer ones."""
        pixels, cells, per_cell = self.size[axis], self.cells[axis], self.pixels_per_cell[axis]
        position = ((torch.arange(pixels, dtype=torch.float64) + 0.5) / per_cell - 0.5).clamp(0, cells - 1)
        distance = (position[:, None] - torch.arange(cells, dtype=torch.float64)).abs()
        return (1 - distance).clamp(min=0).float()
