"""Reconstruction of colors through an affinity: the signal that names the method."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fiftyone_colortrack.model.colorizer import copy_colors


class ReconstructionLoss(nn.Module):
    """Huber loss of colors copied from a reference frame along a windowed affinity.

    Lai, Lu, Xie: MAST: A Memory-Augmented Self-Supervised Tracker (2020), section 3: the network does not see
    the color that is to be copied. The affinity is a softmax of cosine similarities over the cells within
    `window` rows and columns. Colors are compared at twice the resolution of the cells, so that an embedding
    must tell what its cell looks like, not only its mean.

    Args:
        window: reach of the affinity in cells.
        temperature: of the softmax.
        beta: where Huber's loss turns from square to linear, in scaled Lab.

    Example:
        >>> loss = ReconstructionLoss(window=8, temperature=0.07)
        >>> features = F.normalize(torch.randn(2, 64, 16, 16), dim=1)
        >>> colors = torch.rand(2, 2, 128, 128)
        >>> float(loss(features, features, colors, colors, torch.ones(2, 2, dtype=torch.bool))) >= 0
        True
    """

    def __init__(self, window: int = 8, temperature: float = 0.07, beta: float = 0.05) -> None:
        super().__init__()
        self.window, self.temperature, self.beta = window, temperature, beta

    def forward(
        self, reference: Tensor, target: Tensor, reference_ab: Tensor, target_ab: Tensor, dropped: Tensor
    ) -> Tensor:
        """The mean over the pairs of the mean over their dropped channels.

        Args:
            reference, target: unit-length embeddings `[B, D, h, w]` of frames without their dropped channels.
            reference_ab, target_ab: scaled a and b `[B, 2, H, W]`, H = s h, W = s w with an even stride s.
            dropped: bool `[B, 2]`, which channels were dropped; at least one of each pair.

        Raises:
            ValueError: if embeddings differ in shape.
        """
        if reference.shape != target.shape:
            raise ValueError(f"embeddings differ: {list(reference.shape)} and {list(target.shape)}")
        affinity = windowed_affinity(target, reference, self.window, self.temperature)
        source, truth = (_subcells(ab, reference.shape[-2:]) for ab in (reference_ab, target_ab))
        copied = copy_colors(affinity, source.flatten(1, 2)).view_as(truth)  # B x 2 x 4 x N
        error = F.huber_loss(copied, truth, reduction="none", delta=self.beta) / self.beta
        shares = dropped / dropped.sum(1, keepdim=True)  # of each pair's loss, B x 2
        return (error.mean((2, 3)) * shares).sum(1).mean()


def windowed_affinity(target: Tensor, reference: Tensor, window: int, temperature: float) -> Tensor:
    """Softmax over the reference cells within a square window around each target cell: `[B, N, N]`."""
    rows, columns = target.shape[-2:]
    similarity = target.flatten(2).transpose(1, 2) @ reference.flatten(2) / temperature  # B x N x N
    y = torch.arange(rows, device=target.device).repeat_interleave(columns)
    x = torch.arange(columns, device=target.device).repeat(rows)
    near = ((y[:, None] - y).abs() <= window) & ((x[:, None] - x).abs() <= window)  # N x N
    return similarity.masked_fill(~near, -torch.inf).softmax(-1)


def _subcells(ab: Tensor, cells: torch.Size) -> Tensor:
    """Colors of the four quarters of each cell: `[B, 2, H, W]` -> `[B, 2, 4, h w]`."""
    quarters = F.adaptive_avg_pool2d(ab, (2 * cells[0], 2 * cells[1]))
    return F.pixel_unshuffle(quarters, 2).unflatten(1, (2, 4)).flatten(3)
