"""ResNet-18 trunks. The block is torchvision's, whose import takes as long as that of torch itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2016), with torchvision's names of parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + shortcut)


class FastTrunk(nn.Module):
    """ResNet-18 up to its third stage, whose stride is removed, with its earlier stages beside it: stride 8.

    The third stage knows what surrounds a cell, the earlier ones see the cell itself. At stride 4 the same
    weights see the same pixels at twice the resolution: the second stage loses its stride too, and what
    follows is dilated by 2.
    """

    channels = 64 + 128 + 256

    def __init__(self, stride: int = 8) -> None:
        super().__init__()
        if stride not in (4, 8):
            raise ValueError(f"the stride of fast is 8 or 4, not {stride}")
        self.stride = stride
        convolution = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        pooling = nn.MaxPool2d(3, stride=2, padding=1)
        self.stem = nn.Sequential(convolution, nn.BatchNorm2d(64), nn.ReLU(inplace=True), pooling)
        self.layer1, self.layer2, self.layer3 = _stage(64, 64, 1), _stage(64, 128, 2), _stage(128, 256, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if stride == 4:
            _set_stride(self.layer2, 1)
            _dilate(self.layer2, skip_first=True)
            _dilate(self.layer3, skip_first=False)

    def forward(self, lab: Tensor) -> Tensor:
        first = self.layer1(self.stem(lab))  # B x 64 x H/4 x W/4
        second = self.layer2(first)  # B x 128 x H/8 x W/8
        third = self.layer3(second)  # B x 256 x H/8 x W/8
        pooled = F.avg_pool2d(F.pad(first, (0, 1, 0, 1), mode="replicate"), 2, self.stride // 4)
        return torch.cat([pooled, second, third], 1)


class PaperTrunk(nn.Module):
    """ResNet-18 of the paper: no pooling, strides instead, gray input, 32 x 32 x 256 for 256 x 256 pixels."""

    channels = 256

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(
            _stage(64, 64, 2), _stage(64, 128, 2), _stage(128, 256, 1), _stage(256, 256, 1)
        )

    def forward(self, gray: Tensor) -> Tensor:
        return self.stages(self.stem(gray))  # B x 256 x H/8 x W/8


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))


def _set_stride(stage: nn.Module, stride: int) -> None:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (stride, stride)


def _dilate(stage: nn.Module, skip_first: bool) -> None:
    """Doubles the reach of a stage's 3 x 3 convolutions, but for the one that only lost its stride."""
    convs = [m for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    for conv in convs[1:] if skip_first else convs:
        conv.dilation, conv.padding = (2, 2), (2, 2)
