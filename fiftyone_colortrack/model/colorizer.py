"""Pointer networks: frames to embeddings, and colors copied along their affinities."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.backbone import FastTrunk, PaperTrunk
from fiftyone_colortrack.model.color import AB_RANGE, rgb_to_lab


def cpu_has(*instructions: str) -> bool:
    """Whether this CPU has one of some instruction sets, by `torch.cpu.get_capabilities`' names for them.

    PyTorch before 2.10 cannot tell: then it has none.
    """
    there: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(there.get(name) for name in instructions)


def cpu_has_fast_bf16() -> bool:
    """Whether bf16 convolutions beat fp32 on this CPU: Intel's AMX, AVX-512 with bf16, ARM with bf16."""
    return cpu_has("amx_bf16", "avx512_bf16", "bf16")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device is fast at it, else float32: without its instructions, bf16 is several times as slow."""
    on_cpu = device.type == "cpu" and cpu_has_fast_bf16()
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else on_cpu
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """bf16 autocast where the device is fast at it, a context without effect elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_dtype(device) is torch.bfloat16)


def copy_colors(affinity: Tensor, colors: Tensor) -> Tensor:
    """Copies colors along a pointer: y_j = sum_i A_ij c_i (Vondrick et al. 2018, eq. 1).

    Args:
        affinity: `[B, N, M]`, each of the N target cells' weights over the M reference cells, rows sum to 1.
        colors: `[B, C, M]`, whatever is to be copied: cluster distributions, Lab channels, labels.

    Returns:
        `[B, C, N]`.
    """
    return torch.einsum("bnm,bcm->bcn", affinity, colors)


def frames_to_lab(frames: Tensor) -> Tensor:
    """uint8 RGB `[B, 3, H, W]` to scaled Lab as `rgb_to_lab` gives it; on a CPU by OpenCV, several times as fast."""
    if frames.device.type != "cpu":
        return rgb_to_lab(frames.float() / 255)
    images = [frame.astype(np.float32) / 255 for frame in frames.movedim(1, -1).numpy()]
    lab = torch.from_numpy(np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2LAB) for image in images]))
    lab *= torch.tensor([1 / 50, 1 / AB_RANGE, 1 / AB_RANGE])
    return (lab - torch.tensor([1.0, 0.0, 0.0])).movedim(-1, 1)


class Features(NamedTuple):
    """What the tracker compares in a frame.

    Attributes:
        coarse: float32 `[h, w, C]` with the precision of bf16: one cell for each stride x stride pixels
        fine: bf16 `[2h, 2w, C]`: cells of half the stride
    """

    coarse: Tensor
    fine: Tensor | None

    @property
    def nbytes(self) -> int:
        return self.coarse.nbytes + (0 if self.fine is None else self.fine.nbytes)


class Embedder(nn.Module):
    """Frames to embeddings, one per cell of `stride` x `stride` pixels.

    Attributes:
        stride: pixels per cell.
        dim: length of an embedding.
        preset: name of the configuration: `lab`, `fast` or `paper`.
        name: name under which it was loaded.
        unit_length: whether `embed` sets the length of every embedding to one.
        temperature: of the softmax over matches that tracks best with these embeddings.
        lab_channels: number of last channels that are raw colors, see `lab_tolerance`.
        lab_weight: the squared length of these channels.
        lab_tolerance: the cosine distance to a cell's best match from which on raw colors count less.
        input_size: the short side of frames that it tracks best, in pixels.
        has_fine: whether it can tell cells of half the stride apart, see `finer`.
        tracker_settings: fields of `TrackerConfig` whose defaults are not the best for it.
        loaded_as: its state when it was loaded, and what it was loaded from; see `weights.fingerprint`.
    """

    stride: int
    dim: int
    preset: str
    name: str
    unit_length: bool = True
    temperature: float = 0.07
    lab_channels: int = 0
    lab_weight: float = 0.0
    lab_tolerance: float = 0.0
    input_size: int = 480
    has_fine: bool = False
    tracker_settings: Mapping[str, float] = {}
    loaded_as: tuple[str, str] | None = None

    def forward(self, lab: Tensor) -> Tensor:
        """Scaled Lab `[B, 3, H, W]`, H and W multiples of the stride -> `[B, dim, H/s, W/s]`."""
        raise NotImplementedError

    @torch.no_grad()
    def embed(self, frames: Tensor) -> Tensor:
        """Embed RGB frames with the network as it is in evaluation.

        Args:
            frames: uint8 `[B, 3, H, W]`; sides that are no multiple of the stride are padded at the bottom
                and right by repeating the border.

        Returns:
            float32 `[B, dim, ceil(H / stride), ceil(W / stride)]`.

        Raises:
            ValueError: if `frames` is not a uint8 batch of RGB images.
        """
        return self._embedded(self._padded_lab(frames))

    @torch.no_grad()
    def features(self, frame: Tensor, fine: bool = False) -> Features:
        """What the tracker compares of one frame.

        Args:
            frame: uint8 `[1, 3, H, W]`, padded as in `embed`.
            fine: whether to describe cells of half the stride as well; only if the embedder `has_fine`.
        """
        lab = self._padded_lab(frame)
        coarse = self._embedded(lab)[0].permute(1, 2, 0).contiguous()  # h x w x C
        return Features(coarse.bfloat16().float(), self.finer(lab, coarse).bfloat16() if fine else None)

    def finer(self, lab: Tensor, coarse: Tensor) -> Tensor:
        """Features of cells of half the stride: padded Lab, and coarse features `[h, w, C]` -> `[2h, 2w, C]`."""
        raise NotImplementedError

    def _embedded(self, lab: Tensor) -> Tensor:
        embeddings = self.describe(lab).float()
        return F.normalize(embeddings, dim=1) if self.unit_length else embeddings

    def _padded_lab(self, frames: Tensor) -> Tensor:
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames must be uint8 [B, 3, H, W], not {frames.dtype} {list(frames.shape)}")
        height, width = frames.shape[-2:]
        lab = frames_to_lab(frames.to(self.device))
        lab = F.pad(lab, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        return lab.contiguous(memory_format=torch.channels_last)

    def describe(self, lab: Tensor) -> Tensor:
        """What `embed` makes of padded Lab: the network's output, in bf16 where that is fast."""
        with autocast(self.device):
            return self(lab)

    def for_points(self) -> Embedder:
        """This network with what tracks points best, where that differs from what tracks masks best."""
        return self

    def at_half_stride(self) -> Embedder:
        """The same weights at half the stride; itself if it cannot do that."""
        return self

    def for_all_cells(self) -> Embedder:
        """This network for a softmax over all cells, if that needs other embeddings than a few matches do."""
        return self

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))


class LabEmbedder(Embedder):
    """No training: each cell's embedding is its own Lab pixels, the baseline that every network must beat.

    `samples` x `samples` Lab values per cell (averaged from the pixels), stacked and set to unit length.
    """

    # Without it, a gray as bright as the middle has no direction, and white resembles any hue more than a darker gray.
    OFFSET = 0.5

    stride = 8
    preset = "lab"
    name = "lab"
    temperature = 0.004
    has_fine = True

    anchor: Tensor

    def __init__(self, samples: int = 6) -> None:
        super().__init__()
        self.samples = samples
        self.dim = 3 * samples**2 + 1
        self.register_buffer("anchor", torch.zeros(0), persistent=False)  # carries the device

    @property
    def device(self) -> torch.device:
        return self.anchor.device

    def forward(self, lab: Tensor) -> Tensor:
        return lab_patches(lab, self.stride, self.samples, self.OFFSET).permute(0, 3, 1, 2)

    def finer(self, lab: Tensor, coarse: Tensor) -> Tensor:
        return lab_patches(lab, self.stride // 2, self.samples, self.OFFSET)[0]


def lab_patches(lab: Tensor, stride: int, samples: int = 6, offset: float = 0.0) -> Tensor:
    """The Lab values around each cell as unit-length features.

    Args:
        lab: scaled Lab `[B, 3, H, W]`, H and W multiples of the stride.
        stride: 8, or 4 for patches of 8 x 8 pixels that overlap by half.
        samples: values per side of a patch, averaged from its pixels.
        offset: a further value of each sample, the same for all, in one more channel; 0 for none.

    Returns:
        float32 `[B, H / stride, W / stride, 3 samples samples]`, with an offset one more.
    """
    rows, columns = lab.shape[-2] // stride, lab.shape[-1] // stride
    step = samples * stride // 8
    size = (rows * step, columns * step)
    sampled = F.interpolate(lab.float(), size, mode="bilinear", antialias=True, align_corners=False)
    margin = samples - step
    padding = (margin // 2, margin - margin // 2)
    image = F.pad(sampled, 2 * padding, mode="replicate").permute(0, 2, 3, 1).contiguous()  # B x H x W x 3
    patches = image.unfold(1, samples, step).unfold(2, samples, step)  # B x h x w x 3 x samples x samples
    values = patches.permute(0, 1, 2, 4, 5, 3).flatten(3)  # copies whole rows of colors
    if offset:
        values = F.pad(values, (0, 1), value=offset * samples)
    return F.normalize(values, dim=-1)


class FastEmbedder(Embedder):
    """ResNet-18 to its third stage on Lab input, projected to `channels`; for tracking, raw Lab is added.

    The network knows an object by its look at large, and follows what changes; raw colors are exact where
    the network is vague, at edges and on small and fast objects. `embed` puts both side by side, so that the
    similarity of two cells is (1 - lab_weight) network + lab_weight raw Lab; training sees the network alone.
    Where raw colors find no good match, in blur, smoke and shadow, they mislead: there the tracker lowers
    their weight (`lab_tolerance`).

    Args:
        channels: of the network's output.
        stride: pixels per cell: 8, or 4 for finer labels at 3.4 times the work.
        lab_weight: of raw Lab patches in the similarity, in [0, 1).
        lab_tolerance: the cosine distance to a cell's best match from which on its raw Lab counts less.
    """

    preset = "fast"
    name = "fast"
    temperature = 0.0115

    # A joint is known by the body around it more than by its colors (docs/recipes.md).
    POINTS_LAB_WEIGHT, POINTS_TEMPERATURE = 0.65, 0.0165

    def __init__(
        self, channels: int = 128, stride: int = 8, lab_weight: float = 0.82, lab_tolerance: float = 0.04
    ) -> None:
        super().__init__()
        if not 0 <= lab_weight < 1:
            raise ValueError(f"lab_weight is in [0, 1), not {lab_weight}")
        self.stride = stride
        self.lab_weight, self.lab_channels = lab_weight, 3 * 6**2 if lab_weight else 0
        self.lab_tolerance = lab_tolerance
        self.dim = channels + self.lab_channels
        self.trunk = FastTrunk(stride)
        self.project = nn.Conv2d(self.trunk.channels, channels, 1)

    def forward(self, lab: Tensor) -> Tensor:
        return F.normalize(self.project(self.trunk(lab)).float(), dim=1)

    @property
    def has_fine(self) -> bool:  # type: ignore[override]
        return self.stride == 8 and self.lab_channels > 0

    def finer(self, lab: Tensor, coarse: Tensor) -> Tensor:
        learned = coarse[..., : -self.lab_channels].contiguous().permute(2, 0, 1)[None]
        learned = F.interpolate(learned, scale_factor=2.0, mode="bilinear")[0].permute(1, 2, 0)  # 2h x 2w x D
        fine = coarse.new_empty(*learned.shape[:2], coarse.shape[2], dtype=torch.bfloat16)
        squared = torch.linalg.vecdot(learned, learned)[..., None]  # on a CPU several times as fast as a norm
        scale = (1 - self.lab_weight) ** 0.5 * squared.clamp(min=1e-12).rsqrt()
        torch.mul(learned, scale, out=fine[..., : -self.lab_channels])
        raw = lab_patches(lab, self.stride // 2)[0]
        torch.mul(raw, self.lab_weight**0.5, out=fine[..., -self.lab_channels :])
        return fine

    def at_half_stride(self) -> Embedder:
        if self.stride == 4:
            return self
        finer = FastEmbedder(self.project.out_channels, 4, self.lab_weight, self.lab_tolerance)
        finer.load_state_dict(self.state_dict())
        finer.name, finer.temperature = self.name, self.temperature
        return finer.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]

    def for_points(self) -> Embedder:
        if self.lab_weight <= self.POINTS_LAB_WEIGHT:
            return self
        points = copy(self)  # of the same weights
        points.lab_weight, points.temperature = self.POINTS_LAB_WEIGHT, self.POINTS_TEMPERATURE
        return points

    def describe(self, lab: Tensor) -> Tensor:
        learned = super().describe(lab)
        if not self.lab_channels:
            return learned
        raw = lab_patches(lab, self.stride).permute(0, 3, 1, 2)
        return torch.cat([(1 - self.lab_weight) ** 0.5 * learned, self.lab_weight**0.5 * raw], 1)


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
    """The published network: gray input, ResNet-18 without pooling, position channels, 3-D head, 64 channels.

    The published affinity is a plain dot product over all cells, in which the lengths of embeddings count. Where
    labels are copied from a few matches, cosine similarity at a small temperature tracks better (docs/recipes.md).

    Args:
        colors: number of ab clusters in the palette that is stored with the weights.
    """

    preset = "paper"
    name = "paper"
    stride = 8
    temperature = 0.01
    input_size = 240  # it was trained on frames of this size
    tracker_settings: Mapping[str, float] = {"radius": 32.0, "handicap": 10.0}

    palette: Tensor

    def __init__(self, dim: int = 64, colors: int = 16) -> None:
        super().__init__()
        self.dim = dim
        self.trunk = PaperTrunk()
        self.head = ClipHead(self.trunk.channels, dim)
        self.register_buffer("palette", torch.zeros(colors, 2))

    def for_all_cells(self) -> Embedder:
        published = copy(self)  # of the same weights
        published.unit_length, published.temperature = False, 0.5
        return published

    def forward(self, lab: Tensor, length: int = 1) -> Tensor:
        """Clips of `length` frames `[B * length, 3, H, W]`, seen in gray -> `[B * length, dim, h, w]`."""
        embeddings = self.head(self.trunk(lab[:, :1]), length).float()
        return embeddings * self.dim**-0.25  # larger products saturate the softmax


PRESETS: dict[str, type[Embedder]] = {"lab": LabEmbedder, "fast": FastEmbedder, "paper": PaperEmbedder}


def build(preset: str, **options: Any) -> Embedder:
    """Makes a preset's network with untrained weights.

    Args:
        preset: `lab`, `fast` or `paper`.
        options: arguments of the preset's class: `dim`, `stride` (fast), `samples` (lab).

    Raises:
        ColorTrackError: if there is no such preset or the preset has no such option.
    """
    if preset not in PRESETS:
        raise ColorTrackError(f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}")
    try:
        return PRESETS[preset](**options)
    except (TypeError, ValueError) as error:
        raise ColorTrackError(f"preset {preset!r} cannot be built with {options}: {error}") from error
