"""Pointer networks: frames to embeddings, and colours copied along their affinities."""

from __future__ import annotations

import time
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fiftyone_colortrack.model.backbone import FastTrunk, PaperTrunk
from fiftyone_colortrack.model.color import rgb_to_lab


@cache
def cpu_has_fast_bf16() -> bool:
    """Whether a bf16 convolution beats fp32 clearly on this CPU (timed once per process, in milliseconds)."""
    conv = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last).requires_grad_(False)
    image = torch.randn(1, 64, 64, 64).to(memory_format=torch.channels_last)

    def best_time(enabled: bool) -> float:
        times = []
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for _ in range(5):
                start = time.perf_counter()
                conv(image)
                times.append(time.perf_counter() - start)
        return min(times)

    return best_time(True) < 0.7 * best_time(False)


def autocast(device: torch.device) -> torch.autocast:
    """bf16 autocast where the device is fast at it, a context without effect elsewhere."""
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_fast_bf16()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def copy_colors(affinity: Tensor, colors: Tensor) -> Tensor:
    """Copies colours along a pointer: y_j = sum_i A_ij c_i (Vondrick et al. 2018, eq. 1).

    Args:
        affinity: `[B, N, M]`, each of the N target cells' weights over the M reference cells, rows sum to 1.
        colors: `[B, C, M]`, whatever is to be copied: cluster distributions, Lab channels, labels.

    Returns:
        `[B, C, N]`.
    """
    return torch.einsum("bnm,bcm->bcn", affinity, colors)


class Embedder(nn.Module):
    """Frames to unit-length embeddings, one per cell of `stride` x `stride` pixels.

    Attributes:
        stride: pixels per cell.
        dim: length of an embedding.
        preset: name of the configuration: `lab`, `fast` or `paper`.
        name: name under which it was loaded.
        temperature: of the softmax over matches that tracks best with these embeddings.
    """

    stride: int
    dim: int
    preset: str
    name: str
    temperature: float = 0.07

    def forward(self, lab: Tensor) -> Tensor:
        """Scaled Lab `[B, 3, H, W]`, H and W multiples of the stride -> unit-length `[B, dim, H/s, W/s]`."""
        raise NotImplementedError

    @torch.no_grad()
    def embed(self, frames: Tensor) -> Tensor:
        """Embeds RGB frames with the network as it is in evaluation.

        Args:
            frames: uint8 `[B, 3, H, W]`; sides that are no multiple of the stride are padded at the bottom
                and right by repeating the border.

        Returns:
            float32 `[B, dim, ceil(H / stride), ceil(W / stride)]` of unit length.

        Raises:
            ValueError: if `frames` is not a uint8 batch of RGB images.
        """
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames must be uint8 [B, 3, H, W], not {frames.dtype} {list(frames.shape)}")
        height, width = frames.shape[-2:]
        lab = rgb_to_lab(frames.to(self.device).float() / 255)
        lab = F.pad(lab, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        with autocast(self.device):
            features = self(lab.contiguous(memory_format=torch.channels_last))
        return F.normalize(features.float(), dim=1)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))


class LabEmbedder(Embedder):
    """No training: each cell's embedding is its own Lab pixels, the baseline that every network must beat.

    `samples` x `samples` Lab values per cell (averaged from the pixels), stacked and set to unit length.
    """

    stride = 8
    preset = "lab"
    name = "lab"
    temperature = 0.01

    anchor: Tensor

    def __init__(self, samples: int = 6) -> None:
        super().__init__()
        self.samples = samples
        self.dim = 3 * samples**2
        self.register_buffer("anchor", torch.zeros(0), persistent=False)  # carries the device

    @property
    def device(self) -> torch.device:
        return self.anchor.device

    def forward(self, lab: Tensor) -> Tensor:
        rows, columns = (side // self.stride * self.samples for side in lab.shape[-2:])
        sampled = F.interpolate(
            lab.float(), (rows, columns), mode="bilinear", antialias=True, align_corners=False
        )
        return F.normalize(F.pixel_unshuffle(sampled, self.samples), dim=1)  # B x 3ss x h x w


class FastEmbedder(Embedder):
    """ResNet-18 to its third stage on Lab input, projected to `dim` channels."""

    preset = "fast"
    name = "fast"

    def __init__(self, dim: int = 128, stride: int = 8) -> None:
        super().__init__()
        self.dim, self.stride = dim, stride
        self.trunk = FastTrunk(stride)
        self.project = nn.Conv2d(self.trunk.channels, dim, 1)

    def forward(self, lab: Tensor) -> Tensor:
        return F.normalize(self.project(self.trunk(lab)).float(), dim=1)


class ClipHead(nn.Module):
    """The paper's 3-D head: five blocks of spatial (dilation 1 to 16) and temporal convolutions, then 1x1x1.

    Time is padded by repetition, so that a single frame is embedded as the still video that it is.
    """

    def __init__(self, channels: int = 256, dim: int = 64) -> None:
        super().__init__()
        self.spatial = nn.ModuleList()
        self.temporal = nn.ModuleList()
        for i in range(5):
            width = channels + 2 if i == 0 else channels  # + the cell's position
            self.spatial.append(nn.Conv2d(width, channels, 3, padding=2**i, dilation=2**i, bias=False))
            self.temporal.append(nn.Conv2d(3 * channels, channels, 1, bias=False))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(5))
        self.last = nn.Conv2d(channels, dim, 1)

    def forward(self, features: Tensor, length: int) -> Tensor:
        """`[B * length, channels, h, w]`, clips of `length` frames -> `[B * length, dim, h, w]`."""
        features = torch.cat([features, positions(features)], 1)
        for spatial, temporal, norm in zip(self.spatial, self.temporal, self.norms, strict=True):
            features = torch.relu(norm(self._over_time(temporal, spatial(features), length)))
        return self.last(features)

    @staticmethod
    def _over_time(conv: nn.Module, features: Tensor, length: int) -> Tensor:
        """A 3 x 1 x 1 convolution, as a 1 x 1 convolution of the frames before, at and after each time."""
        clips = features.unflatten(0, (-1, length))  # B x T x C x h x w
        before = torch.cat([clips[:, :1], clips[:, :-1]], 1)
        after = torch.cat([clips[:, 1:], clips[:, -1:]], 1)
        return conv(torch.cat([before, clips, after], 2).flatten(0, 1))  # BT x C x h x w


def positions(features: Tensor) -> Tensor:
    """The (x, y) in [-1, 1] of every cell of `[B, C, h, w]`: `[B, 2, h, w]`."""
    rows, columns = features.shape[-2:]
    y = torch.linspace(-1, 1, rows, device=features.device, dtype=features.dtype)
    x = torch.linspace(-1, 1, columns, device=features.device, dtype=features.dtype)
    grid = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)])
    return grid.expand(len(features), -1, -1, -1)


class PaperEmbedder(Embedder):
    """The published network: grey input, ResNet-18 without pooling, position channels, 3-D head, 64 channels.

    The published affinity is a plain dot product; `forward` therefore keeps the embeddings' length, which
    `embed` sets to one as for every other embedder.

    Args:
        colors: number of ab clusters in the palette that is stored with the weights.
    """

    preset = "paper"
    name = "paper"
    stride = 8

    palette: Tensor

    def __init__(self, dim: int = 64, colors: int = 16) -> None:
        super().__init__()
        self.dim = dim
        self.trunk = PaperTrunk()
        self.head = ClipHead(self.trunk.channels, dim)
        self.register_buffer("palette", torch.zeros(colors, 2))

    def forward(self, lab: Tensor, length: int = 1) -> Tensor:
        """Clips of `length` frames `[B * length, 3, H, W]`, seen in grey -> `[B * length, dim, h, w]`."""
        return self.head(self.trunk(lab[:, :1]), length).float()
