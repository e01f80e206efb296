"""Correspondence between two views of one frame, whose cells' partners are known exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CorrespondenceLoss(nn.Module):
    """InfoNCE (van den Oord et al. 2018, eq. 4) over cells: each must find its partner in the other view.

    Its rivals are all other cells of the other view and `strangers` evenly spaced cells of every other image.

    Args:
        temperature: of the softmax over cosine similarities.
        strangers: cells that each other image contributes.

    Example:
        >>> loss = CorrespondenceLoss(temperature=0.07, strangers=64)
        >>> features = F.normalize(torch.randn(2, 64, 256), dim=1)
        >>> float(loss(features, features, torch.arange(256).expand(2, -1))) >= 0
        True
    """

    def __init__(self, temperature: float = 0.07, strangers: int = 64) -> None:
        super().__init__()
        self.temperature, self.strangers = temperature, strangers

    def forward(self, first: Tensor, second: Tensor, partner: Tensor) -> Tensor:
        """The mean over all cells that have a partner, 0 if none has.

        Args:
            first, second: unit-length embeddings of two views `[B, D, N]`.
            partner: int64 `[B, N]`, for each cell of the first view its partner in the second, -1 for none.

        Raises:
            ValueError: if the shapes do not fit each other.
        """
        if first.shape != second.shape or partner.shape != (len(first), first.shape[2]):
            raise ValueError(
                f"shapes do not fit: {list(first.shape)}, {list(second.shape)} and {list(partner.shape)}"
            )
        batch, cells = partner.shape
        queries = first.transpose(1, 2)  # B x N x D
        here = queries @ second  # B x N x N
        chosen = torch.linspace(0, cells - 1, min(self.strangers, cells), device=first.device).round().long()
        others = second[:, :, chosen].transpose(0, 1).flatten(1)  # D x BS
        elsewhere = (queries @ others).unflatten(2, (batch, -1))  # B x N x B x S
        own = torch.eye(batch, dtype=torch.bool, device=first.device)[:, None, :, None]
        elsewhere = elsewhere.masked_fill(own, -torch.inf).flatten(2)
        logits = torch.cat([here, elsewhere], 2) / self.temperature
        loss = F.cross_entropy(logits.flatten(0, 1), partner.flatten(), ignore_index=-1, reduction="sum")
        return loss / (partner >= 0).sum().clamp(min=1)
