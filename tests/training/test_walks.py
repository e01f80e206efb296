"""Partners through video."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fiftyone_colortrack.training.walks import walk_partners


def moving_cells(frames: int = 4, side: int = 8, dim: int = 128) -> torch.Tensor:
    """A wide picture of random cells that moves one cell to the left from frame to frame."""
    generator = torch.Generator().manual_seed(0)
    picture = F.normalize(torch.randn(dim, side, side + frames - 1, generator=generator), dim=0)
    return torch.stack([picture[:, :, i : i + side] for i in range(frames)])[None]


def columns(partner: torch.Tensor) -> torch.Tensor:
    return torch.where(partner < 0, -1, partner % 8).view(8, 8)


def test_partners_move_with_the_picture() -> None:
    partner = walk_partners(moving_cells(), radius=2, temperature=0.02, agreement=0.05)
    expected = torch.arange(8).expand(8, -1) - 3  # what leaves on the left has no partner
    assert torch.equal(columns(partner), torch.where(expected < 0, -1, expected))


def test_steps_longer_than_the_radius_are_not_followed() -> None:
    fast = moving_cells(7)[:, ::3]  # three cells a step
    followed = walk_partners(fast, radius=3, temperature=0.02, agreement=0.05)
    lost = walk_partners(fast, radius=2, temperature=0.02, agreement=0.05)
    arrived = torch.tensor([0, 1]).expand(8, -1)
    assert torch.equal(columns(followed)[:, 6:], arrived)
    assert (columns(lost)[:, 6:] != arrived).all()


def test_what_looks_alike_everywhere_has_no_partner() -> None:
    flat = F.normalize(torch.ones(1, 4, 16, 8, 8), dim=2)
    assert (walk_partners(flat, radius=3, temperature=0.02, agreement=0.05) == -1).all()


def test_backwards_is_the_reverse() -> None:
    walk = moving_cells()
    forth = walk_partners(walk, 2, 0.02, 0.05)[0]
    back = walk_partners(walk.flip(1), 2, 0.02, 0.05)[0]
    cells = torch.nonzero(forth >= 0)[:, 0]
    assert torch.equal(back[forth[cells]], cells)
    assert len(cells) == (back >= 0).sum() == 8 * 5
