"""Partners through real motion: cells followed along a walk of frames, there and back."""

from __future__ import annotations

import torch
from torch import Tensor


def walk_partners(embeddings: Tensor, radius: float, temperature: float, agreement: float) -> Tensor:
    """For each cell of a walk's first frame the cell of its last one that shows the same thing.

    Steps between neighboring frames are softmax affinities, as when labels are copied; their products lead
    from the first frame to the last (Jabri et al. 2020, eq. 3) and from the last to the first. Two cells are
    partners if the way there and the way back agree on them: each is the other's best, and the product of
    the two probabilities is at least `agreement`. Occluded and ambiguous cells so stay without a partner.

    Args:
        embeddings: unit-length `[B, T, D, h, w]` of T frames.
        radius: in cells, how far things move from frame to frame.
        temperature: of the affinities.
        agreement: in (0, 1].

    Returns:
        int64 `[B, h w]`, -1 for none.
    """
    rows, columns = embeddings.shape[-2:]
    y = torch.arange(rows, device=embeddings.device).repeat_interleave(columns)
    x = torch.arange(columns, device=embeddings.device).repeat(rows)
    far = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 > radius**2
    cells = embeddings.flatten(3)  # B x T x D x N
    similarity = (cells[:, :-1].transpose(2, 3) @ cells[:, 1:] / temperature).masked_fill(far, -torch.inf)
    there, back = similarity.softmax(3), similarity.transpose(2, 3).softmax(3)  # B x T-1 x N x N
    forward, backward = there[:, 0], back[:, -1]
    for step in range(1, there.shape[1]):
        forward, backward = forward @ there[:, step], backward @ back[:, -1 - step]
    both = forward * backward.transpose(1, 2)  # B x N x N
    probability, partner = both.max(2)
    mutual = both.argmax(1).gather(1, partner) == torch.arange(rows * columns, device=embeddings.device)
    return torch.where(mutual & (probability >= agreement), partner, -1)
