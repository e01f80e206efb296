"""The paper's loss: which cluster of colors a cell has, copied from reference frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fiftyone_colortrack.model.colorizer import copy_colors


class PointerLoss(nn.Module):
    """Cross-entropy of copied color clusters (Vondrick et al. 2018, eq. 1-3).

    A = softmax(f_i . f_j) over all cells of all reference frames, y_j = sum_i A_ij c_i, loss = -log y_j[c_j].
    y_j is a distribution already and goes through no second softmax.

    Example:
        >>> loss = PointerLoss(clusters=16)
        >>> float(loss(torch.randn(2, 4, 64, 8, 8), torch.randint(16, (2, 4, 8, 8)))) >= 0
        True
    """

    def __init__(self, clusters: int = 16) -> None:
        super().__init__()
        self.clusters = clusters

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over the target's cells.

        Args:
            embeddings: `[B, T, D, h, w]`, the last frame of each clip is the target.
            labels: int64 `[B, T, h, w]`, cluster of each cell.

        Raises:
            ValueError: if the shapes do not fit each other.
        """
        if embeddings.shape[:2] + embeddings.shape[3:] != labels.shape:
            raise ValueError(f"shapes do not fit: {list(embeddings.shape)} and labels {list(labels.shape)}")
        target = embeddings[:, -1].flatten(2).transpose(1, 2)  # B x N x D
        reference = embeddings[:, :-1].transpose(1, 2).flatten(2)  # B x D x (T-1)N
        affinity = (target @ reference).softmax(-1)
        colors = F.one_hot(labels[:, :-1].flatten(1), self.clusters).transpose(1, 2)  # B x K x (T-1)N
        copied = copy_colors(affinity, colors.to(affinity))  # B x K x N
        probability = copied.gather(1, labels[:, -1].flatten(1)[:, None])
        return -probability.clamp(min=torch.finfo(torch.float32).tiny).log().mean()
