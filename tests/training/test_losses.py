import torch
import torch.nn.functional as F

from fiftyone_colortrack.training.losses import (
    correspondence_loss,
    pointer_loss,
    reconstruction_loss,
    walk_partners,
)

GENERATOR = torch.Generator().manual_seed(0)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=GENERATOR), dim=1)


def plain_reconstruction(reference, target, reference_ab, target_ab, dropped, window, temperature, beta):
    """The loss, cell by cell."""
    batch, _, rows, columns = reference.shape
    side = reference_ab.shape[-1] // columns // 2
    pairs = []
    for b in range(batch):
        channels = []
        for c in range(2):
            if not dropped[b, c]:
                continue
            errors = []
            for y in range(rows):
                for x in range(columns):
                    near = [
                        (i, j)
                        for i in range(max(0, y - window), min(rows, y + window + 1))
                        for j in range(max(0, x - window), min(columns, x + window + 1))
                    ]
                    scores = torch.stack([target[b, :, y, x] @ reference[b, :, i, j] for i, j in near])
                    weights = (scores / temperature).softmax(0)
                    for v in (0, 1):
                        for u in (0, 1):

                            def quarter(ab, i, j, v=v, u=u, b=b, c=c):
                                top, left = (2 * i + v) * side, (2 * j + u) * side
                                return ab[b, c, top : top + side, left : left + side].mean()

                            copied = sum(
                                w * quarter(reference_ab, i, j)
                                for w, (i, j) in zip(weights, near, strict=True)
                            )
                            error = abs(copied - quarter(target_ab, y, x))
                            errors.append(error**2 / 2 / beta if error < beta else error - beta / 2)
            channels.append(torch.stack(errors).mean())
        pairs.append(torch.stack(channels).mean())
    return torch.stack(pairs).mean()


def test_reconstruction_equals_plain_loops() -> None:
    reference, target = unit(2, 8, 4, 4), unit(2, 8, 4, 4)
    colors = [torch.rand(2, 2, 16, 16, generator=GENERATOR) - 0.5 for _ in range(2)]
    dropped = torch.tensor([[True, False], [True, True]])
    loss = reconstruction_loss(reference, target, *colors, dropped, window=1, temperature=0.2, beta=0.05)
    expected = plain_reconstruction(reference, target, *colors, dropped, 1, 0.2, 0.05)
    torch.testing.assert_close(loss, expected)


def test_reconstruction_vanishes_where_the_pointer_is_right() -> None:
    features = torch.eye(16).view(1, 16, 4, 4)
    colors = torch.rand(1, 2, 32, 32, generator=GENERATOR)
    both = torch.ones(1, 2, dtype=torch.bool)
    right = reconstruction_loss(features, features, colors, colors, both, temperature=0.02)
    wrong = reconstruction_loss(features, features.flip(2), colors, colors, both, temperature=0.02)
    assert right < 1e-6 < wrong


def test_correspondence_equals_plain_loops() -> None:
    first, second = unit(3, 8, 16), unit(3, 8, 16)
    partner = torch.randint(-1, 16, (3, 16), generator=GENERATOR)
    loss = correspondence_loss(first, second, partner, temperature=0.1, strangers=4)

    terms = []
    for b in range(3):
        strangers = [second[o][:, [0, 5, 10, 15]] for o in range(3) if o != b]
        for n in range(16):
            if partner[b, n] < 0:
                continue
            rivals = torch.cat([second[b], *strangers], 1)
            scores = (first[b, :, n] @ rivals) / 0.1
            terms.append(scores.logsumexp(0) - scores[partner[b, n]])
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_correspondence_without_partners_is_zero_and_has_a_gradient() -> None:
    first = unit(2, 8, 16).requires_grad_()
    loss = correspondence_loss(first, unit(2, 8, 16), torch.full((2, 16), -1))
    loss.backward()
    assert loss.item() == 0


def test_pointer_equals_plain_loops() -> None:
    embeddings = torch.randn(2, 4, 6, 3, 3, generator=GENERATOR)
    labels = torch.randint(5, (2, 4, 3, 3), generator=GENERATOR)
    loss = pointer_loss(embeddings, labels, clusters=5)

    terms = []
    for b in range(2):
        cells = [(t, y, x) for t in range(3) for y in range(3) for x in range(3)]
        for y in range(3):
            for x in range(3):
                target = embeddings[b, 3, :, y, x]
                scores = torch.stack([target @ embeddings[b, t, :, i, j] for t, i, j in cells])
                weights = scores.softmax(0)
                right = [labels[b, t, i, j] == labels[b, 3, y, x] for t, i, j in cells]
                terms.append(-sum(w for w, hit in zip(weights, right, strict=True) if hit).log())
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_pointer_survives_a_color_that_no_reference_has() -> None:
    labels = torch.zeros(1, 4, 3, 3, dtype=torch.long)
    labels[:, 3] = 1
    loss = pointer_loss(torch.randn(1, 4, 6, 3, 3, generator=GENERATOR), labels, clusters=2)
    assert torch.isfinite(loss)


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
