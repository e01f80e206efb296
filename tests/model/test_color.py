import cv2
import numpy as np
import pytest
import torch

from fiftyone_colortrack.model.color import (
    AB_RANGE,
    fit_palette,
    lab_to_rgb,
    quantize,
    rgb_to_lab,
)


@pytest.fixture
def rgb() -> torch.Tensor:
    return torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))


def test_lab_equals_opencv(rgb: torch.Tensor) -> None:
    image = rgb[0].permute(1, 2, 0).numpy()
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    lab = rgb_to_lab(rgb)[0].permute(1, 2, 0).numpy()
    restored = np.stack([(lab[..., 0] + 1) * 50, lab[..., 1] * AB_RANGE, lab[..., 2] * AB_RANGE], -1)
    np.testing.assert_allclose(restored, expected, atol=0.4)  # OpenCV interpolates in tables


def test_lab_and_back(rgb: torch.Tensor) -> None:
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=1e-4, rtol=0)


def test_gray_has_no_color_and_range_is_one() -> None:
    gray = torch.linspace(0, 1, 5)[None, :, None].expand(3, 5, 1)
    lab = rgb_to_lab(gray)
    torch.testing.assert_close(lab[1:], torch.zeros(2, 5, 1), atol=2e-4, rtol=0)
    torch.testing.assert_close(lab[0, [0, -1], 0], torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)


def test_gradients_are_finite_at_black() -> None:
    black = torch.zeros(1, 3, 2, 2, requires_grad=True)
    rgb_to_lab(black).sum().backward()
    assert black.grad is not None
    assert torch.isfinite(black.grad).all()


def test_palette_round_trip() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.tensor([[-0.8, -0.8], [0.8, -0.8], [0.0, 0.0], [0.8, 0.8]])
    labels = torch.randint(4, (1000,), generator=generator)
    palette = fit_palette(truth[labels] + 0.02 * torch.randn(1000, 2, generator=generator), clusters=4)
    assert torch.cdist(truth, palette).amin(1).max() < 0.02

    image = palette[torch.randint(4, (2, 5, 6), generator=generator)].permute(0, 3, 1, 2)
    clusters = quantize(image, palette)
    assert clusters.shape == (2, 5, 6)
    torch.testing.assert_close(palette[clusters].permute(0, 3, 1, 2), image)


def test_palette_is_deterministic_and_needs_samples() -> None:
    samples = torch.rand(100, 2, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(fit_palette(samples, 8, seed=3), fit_palette(samples, 8, seed=3))
    with pytest.raises(ValueError, match="16 colors"):
        fit_palette(samples[:15], 16)


def test_lab_of_red_is_the_published_value() -> None:
    red = torch.tensor([1.0, 0, 0])[:, None, None]
    lightness, a, b = rgb_to_lab(red).flatten().tolist()
    assert (lightness + 1) * 50 == pytest.approx(53.24, abs=0.02)
    assert a * AB_RANGE == pytest.approx(80.09, abs=0.05)
    assert b * AB_RANGE == pytest.approx(67.20, abs=0.05)
