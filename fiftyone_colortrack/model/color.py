"""Colors: RGB <-> CIE Lab, and the palette of ab clusters that the paper copies between frames."""

from __future__ import annotations

import torch
from torch import Tensor

# sRGB (D65) to CIE XYZ, rows already divided by the white point: IEC 61966-2-1, CIE 15:2004.
_RGB_TO_XYZ = torch.tensor(
    [
        [0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456],
        [0.212671, 0.715160, 0.072169],
        [0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754],
    ]
)
_DELTA = 6 / 29
AB_RANGE = 110.0  # the value of a or b that becomes 1; sRGB's ab lie within [-108, 98.5]


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Converts sRGB to Lab, scaled for a network.

    Args:
        rgb: float `[..., 3, H, W]` in [0, 1].

    Returns:
        float `[..., 3, H, W]`: L / 50 - 1 in [-1, 1], a / 110 and b / 110 within [-1, 1].
    """
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,...jhw->...ihw", _RGB_TO_XYZ.to(rgb), linear)
    root = torch.where(xyz > _DELTA**3, xyz.clamp(min=1e-6) ** (1 / 3), xyz / (3 * _DELTA**2) + 4 / 29)
    x, y, z = root.unbind(-3)
    lightness = (116 * y - 16) / 50 - 1
    return torch.stack([lightness, 500 * (x - y) / AB_RANGE, 200 * (y - z) / AB_RANGE], -3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """The inverse of `rgb_to_lab`; colors outside of sRGB are clipped to [0, 1]."""
    lightness, a, b = lab.unbind(-3)
    y = ((lightness + 1) * 50 + 16) / 116
    root = torch.stack([y + a * AB_RANGE / 500, y, y - b * AB_RANGE / 200], -3)
    xyz = torch.where(root > _DELTA, root**3, 3 * _DELTA**2 * (root - 4 / 29))
    linear = torch.einsum("ij,...jhw->...ihw", torch.linalg.inv(_RGB_TO_XYZ).to(lab), xyz).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def fit_palette(ab: Tensor, clusters: int = 16, iterations: int = 50, seed: int = 0) -> Tensor:
    """Clusters colors by k-means (k-means++ start, Lloyd's iterations).

    Args:
        ab: float `[N, 2]` samples of scaled a and b, N >= clusters.

    Returns:
        float `[clusters, 2]`: the centers.

    Raises:
        ValueError: if there are fewer samples than clusters.
    """
    if len(ab) < clusters:
        raise ValueError(f"a palette of {clusters} colors needs at least as many samples, not {len(ab)}")
    generator = torch.Generator().manual_seed(seed)
    samples = ab.detach().float().cpu()
    centers = samples[torch.randint(len(samples), (1,), generator=generator)]
    for _ in range(clusters - 1):
        distance = torch.cdist(samples, centers).amin(1).square() + 1e-12
        centers = torch.cat([centers, samples[torch.multinomial(distance, 1, generator=generator)]])
    for _ in range(iterations):
        nearest = torch.cdist(samples, centers).argmin(1)
        counts = torch.bincount(nearest, minlength=clusters).clamp(min=1)
        sums = torch.zeros_like(centers).index_add_(0, nearest, samples)
        occupied = torch.bincount(nearest, minlength=clusters) > 0
        centers = torch.where(occupied[:, None], sums / counts[:, None], centers)
    return centers


def quantize(ab: Tensor, palette: Tensor) -> Tensor:
    """Index of the nearest palette color: `[B, 2, H, W]` and `[K, 2]` -> int64 `[B, H, W]`."""
    flat = ab.movedim(1, -1).reshape(-1, 2)  # BHW x 2
    return torch.cdist(flat.float(), palette.to(flat.device)).argmin(1).view(ab.shape[0], *ab.shape[2:])
