from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.colorizer import build
from fiftyone_colortrack.training.augmentation import (
    cell_positions,
    cutouts,
    partners,
    pasted_partners,
    render_views,
    through,
    view_grid,
)
from fiftyone_colortrack.training.cache import Clip, FrameCache
from fiftyone_colortrack.training.module import TrackerTraining
from fiftyone_colortrack.training.recipe import Recipe
from fiftyone_colortrack.training.sampling import CLIP_LENGTH, WALK_SHIFT, Sampler

RECIPE = Recipe(frame_pairs=3, view_pairs=3, walks=0, crops=(64, 128))


@pytest.fixture
def cache() -> FrameCache:
    """Two clips of ten frames and two photographs, 256 x 320, of coordinates: red is x, green is y."""
    y, x = np.mgrid[:256, :320]
    image = np.stack([x * 255 // 319, y, np.full_like(x, 90)], -1).astype(np.uint8)
    pixels = torch.from_numpy(np.stack([image] * 22)).flatten()
    clips = [
        Clip("a", 0, 10, 12.0, 1.0),
        Clip("b", 10, 10, 12.0, 0.1),
        Clip("c", 20, 1, 1.0, 1.0),
        Clip("d", 21, 1, 1.0, 1.0),
    ]
    return FrameCache(pixels, np.array([[256, 320]] * 22), np.arange(22) * image.size, clips)


def test_a_batch_depends_on_seed_and_step_alone(cache: FrameCache) -> None:
    sampler = Sampler(cache, RECIPE, seed=3)
    batch = sampler.batch(5)
    resumed = next(iter(Sampler(cache, RECIPE, seed=3, start=5)))
    for one, other in zip(batch.views, resumed.views, strict=True):
        assert one.frame == other.frame
        assert one.extent == other.extent
        np.testing.assert_array_equal(one.warp, other.warp)
    assert [v.frame for v in batch.views] != [v.frame for v in sampler.batch(6).views]
    assert [v.center for v in batch.views] != [
        v.center for v in Sampler(cache, RECIPE, seed=4).batch(5).views
    ]


def test_two_processes_draw_what_one_would_for_the_doubled_batch(cache: FrameCache) -> None:
    halves = [Sampler(cache, RECIPE, 0, rank=rank).batch(2) for rank in (0, 1)]
    crop = halves[0].crop
    count = halves[0].frame_pairs
    whole = Sampler(
        cache, replace(RECIPE, crops=(crop,), frame_pairs=2 * count, view_pairs=2 * count), 0
    ).batch(2)
    shared = [v.center for half in halves for v in half.views[:count]]
    assert shared == [v.center for v in whole.views[: 2 * count]]


def test_frame_pairs_show_one_place_of_one_clip_at_two_times(cache: FrameCache) -> None:
    gaps, places = [], set()
    for step in range(50):
        batch = Sampler(cache, RECIPE, 0).batch(step)
        for one, other in zip(
            batch.views[: batch.frame_pairs], batch.views[batch.frame_pairs :], strict=False
        ):
            assert one.frame // 10 == other.frame // 10 < 2
            assert (one.corner, one.flip) == (other.corner, other.flip)
            offset = np.abs(np.subtract(one.center, other.center))
            assert (offset <= np.array(one.extent) / 6 + 1e-6).all()
            places.add(one.center == other.center)
            gaps.append(one.frame - other.frame)
        assert batch.dropped.any(1).all()
    assert places == {False}  # of one place, the borders would tell where a cell is
    assert 0 not in gaps
    assert min(gaps) == -9
    assert max(gaps) == 9


def test_larger_crops_have_fewer_pairs_and_heavy_clips_come_more_often(cache: FrameCache) -> None:
    batches = [Sampler(cache, replace(RECIPE, view_pairs=8), 0).batch(step) for step in range(60)]
    assert {(batch.crop, batch.view_pairs) for batch in batches} == {(64, 8), (128, 2)}
    frames = np.array([batch.views[0].frame for batch in batches])
    assert (frames < 10).sum() > 4 * (frames >= 10).sum()


def test_partners_show_the_same_place(cache: FrameCache) -> None:
    recipe = replace(RECIPE, frame_pairs=0, view_pairs=6, crops=(128,), jitter=0.0)
    batch = Sampler(cache, recipe, 1).batch(0)
    grid = view_grid(batch.views, 128, torch.device("cpu"))
    lab = render_views(cache.windows(*batch.places), grid, batch.views)
    assert lab.shape == (12, 3, 128, 128)
    first, second = cell_positions(grid, 8).chunk(2)
    extent = torch.tensor([view.extent[0] / 16 for view in batch.views[6:]])
    partner = partners(first, second, extent)
    matched = partner >= 0
    assert matched.float().mean() > 0.3
    where = second.gather(1, partner.clamp(min=0)[..., None].expand(-1, -1, 2))
    assert (first - where).norm(dim=2)[matched].max() < 0.71 * extent.max() + 1e-3

    cells = torch.nn.functional.avg_pool2d(lab, 8).flatten(2)  # the image's colors are its coordinates
    one, other = cells.chunk(2)
    found = other.gather(2, partner.clamp(min=0)[:, None].expand(-1, 3, -1))
    assert (one - found).abs().mean(1)[matched].mean() < 0.3 * (one - other).abs().mean()


def test_an_undistorted_view_is_its_part_of_the_frame(cache: FrameCache) -> None:
    recipe = replace(RECIPE, view_pairs=0, frame_pairs=1, crops=(64,), zoom=(1.0, 1.0))
    view = Sampler(cache, recipe, 0).batch(0).views[0]
    view.flip = False
    grid = view_grid([view], 64, torch.device("cpu"))[0]
    top = view.center[0] - 32
    left = view.center[1] - 32
    torch.testing.assert_close(grid[0, 0], torch.tensor([left + 0.5, top + 0.5], dtype=torch.float32))
    torch.testing.assert_close(grid[-1, -1] - grid[0, 0], torch.tensor([63.0, 63.0]))


def test_both_views_show_the_same_cut_out(cache: FrameCache) -> None:
    recipe = replace(RECIPE, frame_pairs=0, view_pairs=6, crops=(128,), cutouts=1.0)
    batch = Sampler(cache, recipe, 1).batch(0)
    grid = view_grid(batch.views, 128, torch.device("cpu"))
    first, second = torch.nn.functional.avg_pool2d(cutouts(grid, batch.views).float(), 8).flatten(2).chunk(2)
    assert 0.02 < first.mean() < 0.5
    partner = partners(*cell_positions(grid, 8).chunk(2), torch.full((6,), 12.0))
    here, there = first[:, 0], second[:, 0].gather(1, partner.clamp(min=0))
    inside = (partner >= 0) & (here == 1)
    assert inside.sum() > 50
    assert there[inside].mean() > 0.95


def test_pasted_cells_have_the_partners_of_what_is_pasted() -> None:
    own, other = torch.tensor([[1, 0, -1, 3]]), torch.tensor([[3, 2, 0, 1]])
    first = torch.tensor([[1.0, 0.0, 0.9, 0.5]])  # shares of the first views' cells
    second = torch.tensor([[1.0, 0.0, 0.1, 1.0]])
    # pasted in both; its partner was pasted over; pasted in both; neither one nor the other
    assert pasted_partners(own, other, first, second).tolist() == [[3, -1, 0, -1]]


def test_partners_by_way_of_other_cells() -> None:
    first, second = torch.tensor([[2, -1, 0]]), torch.tensor([[-1, 1, 2]])
    assert through(first, second).tolist() == [[2, -1, -1]]
    assert through(first, second, torch.tensor([[0, 0, 1]])).tolist() == [[1, -1, -1]]


def test_clips_have_the_papers_rate(cache: FrameCache) -> None:
    recipe = replace(RECIPE, frame_pairs=0, view_pairs=0, clips=3, crops=(64,))
    batch = Sampler(cache, recipe, 0).batch(0)
    frames = np.array([view.frame for view in batch.views]).reshape(3, CLIP_LENGTH)
    assert (np.diff(frames, axis=1) == 2).all()  # 6 of the clips' 12 frames per second


def test_missing_material_is_named(cache: FrameCache) -> None:
    stills = FrameCache(cache.pixels, cache.sizes, cache.offsets, cache.clips[2:])
    with pytest.raises(ColorTrackError, match="no videos"):
        Sampler(stills, RECIPE, 0)
    with pytest.raises(ColorTrackError, match="half a second"):
        Sampler(stills, replace(RECIPE, frame_pairs=0, clips=2), 0)
    assert Sampler(stills, replace(RECIPE, frame_pairs=0), 0).batch(0).frame_pairs == 0


def test_walks_follow_one_place_through_a_clip(cache: FrameCache) -> None:
    recipe = replace(RECIPE, frame_pairs=0, view_pairs=1, walks=2, crops=(64,), walk_gap=(0.08, 0.08))
    batch = Sampler(cache, recipe, 0).batch(0)
    ends = [batch.views[1:3], batch.views[4:6]]  # after the view pair's first, and its second view
    walks = [batch.views[6:10], batch.views[10:14]]
    for first, last, walk in zip(*ends, walks, strict=True):
        assert (first.frame, last.frame) == (walk[0].frame, walk[-1].frame)
        assert [b.frame - a.frame for a, b in pairwise(walk)] == [1, 1, 1]
        assert len({view.center for view in walk}) == 1
        cell = walk[0].extent[0] / 8  # of a crop of 64 pixels
        shift = np.subtract([first.center, last.center], walk[0].center) / cell
        np.testing.assert_allclose(shift, shift.round(), atol=1e-6)
        assert np.abs(shift.round()).max() <= WALK_SHIFT
        assert first.cutout is last.cutout
        assert all(np.array_equal(view.jitter, [1, 0, 1, 1, 0]) for view in walk)
        assert not np.array_equal(first.jitter, last.jitter)


def test_walks_are_seen_after_what_they_teach(cache: FrameCache) -> None:
    """The network learns from the first and last frames only; the others show the way."""
    recipe = replace(RECIPE, frame_pairs=1, view_pairs=1, walks=1, crops=(64,))
    module = TrackerTraining(build("fast").requires_grad_(True), recipe, cache, steps=1)
    seen = []
    module.network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    module.training_step(Sampler(cache, recipe, 0).batch(0), 0).backward()
    assert seen == [2 + 2 + 2]
    assert module.losses["correspondence"] > 0
