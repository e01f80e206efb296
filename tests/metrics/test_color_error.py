import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.metrics.color_error import color_error

PALETTE = np.array([[0, 0], [60, 40], [-60, 40], [20, -60]])


def test_same_frame() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    error = color_error(frame, frame, PALETTE)
    assert (error.top1, error.distance) == (1, 0)


def test_lightness_does_not_count() -> None:
    def lab(lightness: float) -> np.ndarray:
        return (255 * lab2rgb(np.full((4, 4, 3), [lightness, 30, 20])) + 0.5).astype(np.uint8)

    assert color_error(lab(40), lab(60), PALETTE).distance < 0.7


def test_matches_an_independent_implementation() -> None:
    rng = np.random.default_rng(1)
    pred, gt = rng.integers(0, 256, (2, 20, 30, 3), np.uint8)
    a, b = (rgb2lab(frame)[..., 1:].reshape(-1, 1, 2) for frame in (pred, gt))
    nearest = [np.linalg.norm(ab - PALETTE, axis=2).argmin(1) for ab in (a, b)]
    error = color_error(pred, gt, PALETTE)
    assert error.top1 == pytest.approx((nearest[0] == nearest[1]).mean(), abs=5e-3)
    assert error.distance == pytest.approx(
        np.linalg.norm(a - b, axis=2).mean(), rel=5e-3
    )  # skimage's white point is finer


def test_bad_input() -> None:
    frame = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ColorTrackError, match="uint8 and have the same shape"):
        color_error(frame, frame[:2], PALETTE)
