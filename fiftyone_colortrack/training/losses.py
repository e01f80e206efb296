"""The losses, and the partners of cells that one of them learns from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fiftyone_colortrack.model.colorizer import copy_colors


def reconstruction_loss(
    reference: Tensor,
    target: Tensor,
    reference_ab: Tensor,
    target_ab: Tensor,
    dropped: Tensor,
    window: int = 8,
    temperature: float = 0.07,
    beta: float = 0.05,
) -> Tensor:
    """Huber loss of colors copied from a reference frame along a windowed affinity.

    Lai, Lu, Xie: MAST: A Memory-Augmented Self-Supervised Tracker (2020), section 3: the network does not see
    the color that is to be copied. The affinity is a softmax of cosine similarities over the cells within
    `window` rows and columns. Colors are compared at twice the resolution of the cells, so that an embedding
    must tell what its cell looks like, not only its mean.

    Args:
        reference, target: unit-length embeddings `[B, D, h, w]` of frames without their dropped channels.
        reference_ab, target_ab: scaled a and b `[B, 2, H, W]`, H = s h, W = s w with an even stride s.
        dropped: bool `[B, 2]`, which channels were dropped; at least one of each pair.
        window: reach of the affinity in cells.
        temperature: of the softmax.
        beta: where Huber's loss turns from square to linear, in scaled Lab.

    Returns:
        The mean over the pairs of the mean over their dropped channels.
    """
    rows, columns = reference.shape[-2:]
    source, truth = (  # the colors of the four quarters of each cell, B x 2 x 4 x N
        F.pixel_unshuffle(F.adaptive_avg_pool2d(ab, (2 * rows, 2 * columns)), 2)
        .unflatten(1, (2, 4))
        .flatten(3)
        for ab in (reference_ab, target_ab)
    )
    affinity = windowed_affinity(target, reference, window, temperature)
    copied = copy_colors(affinity, source.flatten(1, 2)).view_as(truth)
    error = F.huber_loss(copied, truth, reduction="none", delta=beta) / beta
    shares = dropped / dropped.sum(1, keepdim=True)  # of each pair's loss, B x 2
    return (error.mean((2, 3)) * shares).sum(1).mean()


def windowed_affinity(target: Tensor, reference: Tensor, window: int, temperature: float) -> Tensor:
    """Softmax over the reference cells within a square window around each target cell: `[B, N, N]`."""
    similarity = target.flatten(2).transpose(1, 2) @ reference.flatten(2) / temperature  # B x N x N
    dy, dx = _distances(target)
    return similarity.masked_fill((dy > window) | (dx > window), -torch.inf).softmax(-1)


def correspondence_loss(
    first: Tensor, second: Tensor, partner: Tensor, temperature: float = 0.07, strangers: int = 64
) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4) over cells: each must find its partner in the other view.

    Its rivals are all other cells of the other view and `strangers` evenly spaced cells of every other image.

    Args:
        first, second: unit-length embeddings of two views `[B, D, N]`.
        partner: int64 `[B, N]`, for each cell of the first view its partner in the second, -1 for none.
        temperature: of the softmax over cosine similarities.
        strangers: cells that each other image contributes.

    Returns:
        The mean over all cells that have a partner, 0 if none has.
    """
    batch, cells = partner.shape
    queries = first.transpose(1, 2)  # B x N x D
    here = queries @ second  # B x N x N
    chosen = torch.linspace(0, cells - 1, min(strangers, cells), device=first.device).round().long()
    others = second[:, :, chosen].transpose(0, 1).flatten(1)  # D x BS
    elsewhere = (queries @ others).unflatten(2, (batch, -1))  # B x N x B x S
    own = torch.eye(batch, dtype=torch.bool, device=first.device)[:, None, :, None]
    elsewhere = elsewhere.masked_fill(own, -torch.inf).flatten(2)
    logits = torch.cat([here, elsewhere], 2) / temperature
    loss = F.cross_entropy(logits.flatten(0, 1), partner.flatten(), ignore_index=-1, reduction="sum")
    return loss / (partner >= 0).sum().clamp(min=1)


def pointer_loss(embeddings: Tensor, labels: Tensor, clusters: int = 16) -> Tensor:
    """Cross-entropy of color clusters copied from reference frames (Vondrick et al. 2018, eq. 1-3).

    A = softmax(f_i . f_j) over all cells of all reference frames, y_j = sum_i A_ij c_i, loss = -log y_j[c_j].
    y_j is a distribution already and goes through no second softmax.

    Args:
        embeddings: `[B, T, D, h, w]`, the last frame of each clip is the target.
        labels: int64 `[B, T, h, w]`, cluster of each cell.

    Returns:
        The mean over the target's cells.
    """
    target = embeddings[:, -1].flatten(2).transpose(1, 2)  # B x N x D
    reference = embeddings[:, :-1].transpose(1, 2).flatten(2)  # B x D x (T-1)N
    affinity = (target @ reference).softmax(-1)
    colors = F.one_hot(labels[:, :-1].flatten(1), clusters).transpose(1, 2)  # B x K x (T-1)N
    copied = copy_colors(affinity, colors.to(affinity))  # B x K x N
    probability = copied.gather(1, labels[:, -1].flatten(1)[:, None])
    return -probability.clamp(min=torch.finfo(torch.float32).tiny).log().mean()


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
    dy, dx = _distances(embeddings)
    cells = embeddings.flatten(3)  # B x T x D x N
    similarity = cells[:, :-1].transpose(2, 3) @ cells[:, 1:] / temperature
    similarity = similarity.masked_fill(dy**2 + dx**2 > radius**2, -torch.inf)
    there, back = similarity.softmax(3), similarity.transpose(2, 3).softmax(3)  # B x T-1 x N x N
    forward, backward = there[:, 0], back[:, -1]
    for step in range(1, there.shape[1]):
        forward, backward = forward @ there[:, step], backward @ back[:, -1 - step]
    both = forward * backward.transpose(1, 2)  # B x N x N
    probability, partner = both.max(2)
    mutual = both.argmax(1).gather(1, partner) == torch.arange(both.shape[1], device=both.device)
    return torch.where(mutual & (probability >= agreement), partner, -1)


def _distances(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns between each two cells of features `[..., h, w]`: two int `[N, N]`."""
    rows, columns = cells.shape[-2:]
    y = torch.arange(rows, device=cells.device).repeat_interleave(columns)
    x = torch.arange(columns, device=cells.device).repeat(rows)
    return (y[:, None] - y).abs(), (x[:, None] - x).abs()
