import pytest
import torch

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.colorizer import build, copy_colors, frames_to_lab, lab_patches, positions


def frames(height: int, width: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("preset", ["lab", "fast", "paper"])
def test_embeddings_on_a_grid_of_cells(preset: str) -> None:
    model = build(preset).eval()
    embedded = model.embed(frames(41, 67))
    assert embedded.shape == (2, model.dim, 6, 9)
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2, 6, 9))
    published = model.for_all_cells().embed(frames(41, 67))
    has_unit_length = torch.allclose(published.norm(dim=1), torch.ones(2, 6, 9))
    assert has_unit_length == (preset != "paper")


@pytest.mark.parametrize("preset", ["lab", "fast", "paper"])
def test_a_frame_is_embedded_the_same_alone_and_in_a_batch(preset: str) -> None:
    model = build(preset).eval()
    batch = frames(40, 64, 3)
    alone = torch.cat([model.embed(frame[None]) for frame in batch])
    torch.testing.assert_close(model.embed(batch), alone, atol=0.02, rtol=0)  # bf16 sums in another order


def test_stride_4_samples_stride_8_more_densely() -> None:
    coarse = build("fast").eval()
    dense = build("fast", stride=4).eval()
    dense.load_state_dict(coarse.state_dict())
    lab = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        fine, rough = dense(lab), coarse(lab)
    assert fine.shape == (1, 128, 64, 64)
    inner = slice(10, -10)  # zero padding at the border has another width
    torch.testing.assert_close(fine[:, :, ::2, ::2][..., inner, inner], rough[..., inner, inner])


def test_fast_adds_raw_lab_by_its_weight() -> None:
    torch.manual_seed(0)
    fused = build("fast", lab_weight=0.75).eval()
    network = build("fast", lab_weight=0).eval()
    network.load_state_dict(fused.state_dict())
    image = frames(32, 40)
    similarity = torch.einsum("chw,chw->hw", *fused.embed(image))
    learned = torch.einsum("chw,chw->hw", *network.embed(image))
    raw = torch.einsum("hwc,hwc->hw", *lab_patches(frames_to_lab(image), 8))
    torch.testing.assert_close(similarity, 0.25 * learned + 0.75 * raw, atol=1e-4, rtol=0)
    with pytest.raises(ColorTrackError, match="lab_weight"):
        build("fast", lab_weight=1)


def test_points_weigh_raw_lab_less() -> None:
    fused = build("fast").eval()
    points = fused.for_points()
    assert points.lab_weight < fused.lab_weight == build("fast").lab_weight
    assert points.temperature > fused.temperature
    assert points.project.weight is fused.project.weight
    alone = build("fast", lab_weight=0)
    assert alone.for_points() is alone


def test_lab_patches_are_those_of_the_cells() -> None:
    lab = torch.randn(1, 3, 48, 64)
    assert lab_patches(lab, 8).shape == (1, 6, 8, 108)
    assert lab_patches(lab, 4).shape == (1, 12, 16, 108)
    flat = torch.ones(1, 3, 16, 16) * torch.tensor([0.5, 0.1, -0.2])[:, None, None]
    for stride in (4, 8):
        patches = lab_patches(flat, stride)
        torch.testing.assert_close(patches[:, :1, :1].expand_as(patches), patches)


def test_lab_is_invariant_to_nothing_but_its_cell() -> None:
    model = build("lab")
    image = frames(32, 32, 1)
    changed = image.clone()
    changed[:, :, 8:16, 16:24] = 255 - changed[:, :, 8:16, 16:24]
    difference = (model.embed(image) - model.embed(changed)).abs().sum(1)[0]
    assert difference[1, 2] > 0.1
    difference[0:3, 1:4] = 0  # antialiasing looks a little over the cell's edge
    assert difference.max() == 0


def test_paper_sees_gray_and_the_still_video() -> None:
    model = build("paper").eval()
    lab = torch.randn(1, 3, 64, 64)
    gray = lab * torch.tensor([1.0, 0, 0])[:, None, None]
    with torch.no_grad():
        single = model(lab)
        torch.testing.assert_close(model(gray), single)
        still = model(lab.expand(4, -1, -1, -1), 4)
    torch.testing.assert_close(still, single.expand(4, -1, -1, -1), atol=1e-4, rtol=1e-4)


def test_copied_colors_are_the_weighted_mean() -> None:
    affinity = torch.tensor([[[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]])
    colors = torch.tensor([[[4.0, 8.0, 1.0]]])
    torch.testing.assert_close(copy_colors(affinity, colors), torch.tensor([[[7.0, 1.0]]]))


def test_positions_run_from_corner_to_corner() -> None:
    grid = positions(torch.zeros(1, 1, 3, 5))
    assert grid[0, :, 0, 0].tolist() == [-1, -1]
    assert grid[0, :, 2, 4].tolist() == [1, 1]
    assert grid[0, :, 1, 0].tolist() == [-1, 0]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        build("lab").embed(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ColorTrackError, match="lab, fast, paper"):
        build("slow")
    with pytest.raises(ColorTrackError, match="8 or 4, not 2"):
        build("fast", stride=2)
    with pytest.raises(ColorTrackError, match="width"):
        build("fast", width=2)
