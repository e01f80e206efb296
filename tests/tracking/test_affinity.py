from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn import functional as F

from fiftyone_colortrack.model.colorizer import build
from fiftyone_colortrack.tracking.affinity import (
    bf16_products,
    compare_again,
    copy_labels,
    largest,
    open_matches,
    rounded,
    search_all_tiles,
    top_k_matches,
    trust,
    weighted,
)


def features(frames: int, height: int, width: int, dim: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(frames, height, width, dim, generator=generator), dim=-1)


def naive(query: torch.Tensor, keys: torch.Tensor, radius: float | None) -> torch.Tensor:
    """The full affinity, -inf outside the disc: [hw, T * hw]."""
    height, width, _ = query.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([y.flatten(), x.flatten()], 1).double()
    outside = torch.cdist(cells, cells) > (radius if radius is not None else 1e9)
    full = query.flatten(0, 1) @ keys.flatten(1, 2).transpose(1, 2)  # T x hw x hw
    return full.masked_fill(outside, -torch.inf).permute(1, 0, 2).flatten(1)


@pytest.mark.parametrize(
    ("height", "width", "radius", "frames"),
    [(25, 31, 5, 3), (12, 12, 12, 1), (13, 40, 12, 8), (7, 5, 2.5, 2), (1, 1, 1, 1), (20, 20, None, 2)],
)
def test_the_same_as_the_full_affinity(height, width, radius, frames):
    query, *keys = features(frames + 1, height, width)
    keys = torch.stack(keys)
    full = naive(query, keys, radius)
    matches = top_k_matches(query, keys, 10, radius)
    k = matches.similarity.shape[1]
    expected = full.topk(k, 1)
    torch.testing.assert_close(matches.similarity, expected.values)
    found = matches.similarity.isfinite()
    assert found.sum() == expected.values.isfinite().sum()
    assert torch.equal(matches.cell[found], expected.indices[found])


@pytest.mark.parametrize(
    ("height", "width", "radius", "frames"),
    [(25, 31, 5, 3), (12, 12, 12, 1), (7, 5, 2.5, 2), (30, 100, 9, 2)],
)
def test_all_tiles_at_once_have_the_same_matches(height, width, radius, frames):
    query, *keys = features(frames + 1, height, width)
    keys = torch.stack(keys)
    expected = top_k_matches(query, keys, 10, radius)
    matches = search_all_tiles(query, keys, expected.cell.shape[1], radius)
    torch.testing.assert_close(matches.similarity, expected.similarity)
    found = expected.similarity.isfinite()
    assert torch.equal(matches.cell[found], expected.cell[found])


def test_matches_found_with_less_precision_are_compared_again():
    query, *keys = features(4, 20, 30, dim=32)
    keys = torch.stack(keys)
    expected = top_k_matches(query, keys, 10, 6)
    rough = top_k_matches(query.bfloat16(), keys.bfloat16(), 20, 6)
    matches = compare_again(rough, query.flatten(0, 1), keys.flatten(0, 2), 10)
    torch.testing.assert_close(matches.similarity, expected.similarity)
    assert torch.equal(matches.cell, expected.cell)


def test_all_matches_are_a_softmax_over_the_window():
    query, *keys = features(3, 9, 14)
    keys = torch.stack(keys)
    labels = torch.rand(2 * 9 * 14, 4)
    copied = copy_labels(top_k_matches(query, keys, None, 3), labels, 0.1)
    torch.testing.assert_close(copied, (naive(query, keys, 3) / 0.1).softmax(1) @ labels)


@pytest.mark.parametrize("length", [50, 641, 1000, 10368])
def test_largest_is_exact(length):
    values = torch.randn(7, length, generator=torch.Generator().manual_seed(length))
    found, where = largest(values, 10)
    torch.testing.assert_close(found, values.topk(10).values)
    assert torch.equal(where, values.topk(10).indices)


def test_a_cell_copies_from_where_it_came_from():
    (frame,) = features(1, 20, 30, dim=64)
    moved = torch.roll(frame, (2, -3), (0, 1))
    labels = torch.rand(20 * 30, 1)
    copied = copy_labels(top_k_matches(moved, frame[None], 5, 6), labels, 0.01).view(20, 30)
    expected = torch.roll(labels.view(20, 30), (2, -3), (0, 1))
    torch.testing.assert_close(copied[2:, :-3], expected[2:, :-3], atol=1e-3, rtol=0)


def test_products_of_rounded_features_are_exact():
    query, *keys = rounded(features(4, 20, 30, dim=64))
    keys = torch.stack(keys)
    before = torch.get_float32_matmul_precision()
    with bf16_products():
        matches = top_k_matches(query, keys, 10, 6)
    assert torch.get_float32_matmul_precision() == before
    expected = naive(query, keys, 6).topk(10, 1)
    torch.testing.assert_close(matches.similarity, expected.values)


def test_threads_of_others_keep_their_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(3)  # no other test asks for three, so that these are new ones
    try:
        query, keys = features(2, 40, 40)
        top_k_matches(query, keys[None], 10, 12)
        with ThreadPoolExecutor(1) as another:
            assert another.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_raw_colors_count_less_where_they_are_not_found_again():
    embedder = build("fast", channels=16, lab_weight=0.75)
    learned, raw = features(2, 14, 14), features(2, 14, 14, dim=embedder.lab_channels, seed=1)
    raw[1, :, 7:] = raw[0, :, 7:]  # the right half is found again
    last, query = torch.cat([0.5 * learned, 0.75**0.5 * raw], -1)
    share, found = trust(query, last, embedder)
    assert torch.equal(found.view(14, 14)[:, 7:], torch.arange(196).view(14, 14)[:, 7:])
    scaled = weighted(query, share, embedder)
    assert torch.equal(scaled[..., :16], query[..., :16])
    torch.testing.assert_close(
        scaled[:, 9:], query[:, 9:]
    )  # two cells further on, no window reaches the left half
    distance = (1 - naive(raw[1], raw[:1], 6).amax(1)).view(14, 14).clamp(min=1e-6)
    alone = (embedder.lab_tolerance / distance).clamp(max=1)
    assert alone[:, :7].max() < 0.2
    for y, x in ((0, 0), (5, 6), (13, 8)):
        mean = alone[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].mean()
        torch.testing.assert_close(scaled[y, x, 16:], query[y, x, 16:] * mean**2)
    assert (trust(query, last, build("lab"))[0] == 1).all()


@pytest.mark.parametrize("whole", [1, 2])
def test_labeled_frames_are_searched_whole_with_a_handicap(whole):
    query, *keys = features(4, 17, 30)
    keys = torch.stack(keys)
    near = naive(query, keys, 4)
    everywhere = naive(query, keys, None) - 0.1
    everywhere[:, whole * 17 * 30 :] = -torch.inf
    expected = torch.maximum(near, everywhere).topk(10, 1)
    matches = top_k_matches(query, keys, 10, 4, whole=whole, handicap=0.1)
    torch.testing.assert_close(matches.similarity, expected.values)
    assert torch.equal(matches.cell, expected.indices)


def test_only_wanted_cells_have_to_be_searched():
    query, keys = features(2, 30, 40)
    wanted = torch.zeros(30, 40, dtype=torch.bool)
    wanted[3:5, 20:30] = True
    some = top_k_matches(query, keys[None], 5, 6, wanted=wanted)
    every = top_k_matches(query, keys[None], 5, 6)
    assert torch.equal(some.cell[wanted.flatten()], every.cell[wanted.flatten()])
    assert torch.equal(some.similarity[wanted.flatten()], every.similarity[wanted.flatten()])
    assert some.similarity[-1, 0] == -torch.inf  # far from all of them


def test_opened_matches_are_the_best_fine_cells_around_them():
    generator = torch.Generator().manual_seed(0)
    fine = features(2, 12, 16, dim=24)  # of 6 x 8 coarse cells
    coarse = torch.randint(2 * 6 * 8, (5, 3), generator=generator)
    query = features(1, 5, 4, dim=24, seed=1)[0]
    labels = torch.rand(2 * 12 * 16, 3, generator=generator)
    copied = open_matches(coarse, query, fine, labels, 4, 0.1)
    for row, matches in enumerate(coarse):
        candidates = set()
        for match in matches.tolist():
            frame, y, x = match // 48, match % 48 // 8, match % 8
            rows = [min(max(2 * y + d, 0), 11) for d in range(-1, 3)]
            columns = [min(max(2 * x + d, 0), 15) for d in range(-1, 3)]
            candidates |= {(frame * 12 + i) * 16 + j for i in rows for j in columns}
        cells = torch.tensor(sorted(candidates))
        best = (query[row] @ fine.flatten(0, 2)[cells].T).topk(4, 1)
        expected = (best.values / 0.1).softmax(1)[..., None] * labels[cells[best.indices]]
        torch.testing.assert_close(copied[row], expected.sum(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same():
    query, *keys = features(4, 30, 40, dim=64)
    keys = torch.stack(keys)
    there = top_k_matches(query.cuda(), keys.cuda(), 10, 12)
    here = top_k_matches(query, keys, 10, 12)
    torch.testing.assert_close(there.similarity.cpu(), here.similarity, atol=1e-4, rtol=0)
