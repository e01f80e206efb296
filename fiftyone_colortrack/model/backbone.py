"""ResNet-18 trunks. The block is torchvision's, whose import takes as long as that of torch itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2016), with torchvision's names of parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        shortcut = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))
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
            stages = (*self.layer2.modules(), *self.layer3.modules())
            convs = [module for module in stages if isinstance(module, nn.Conv2d)]
            for i, conv in enumerate(convs):
                conv.stride = (1, 1)
                if i > 0 and conv.kernel_size == (3, 3):  # the first one has only lost its stride
                    conv.dilation, conv.padding = (2, 2), (2, 2)

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
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs))
