"""Training runs as a program of their own: to be killed, resumed, or run in several processes."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fiftyone_colortrack.model import colorizer
from fiftyone_colortrack.model.colorizer import Embedder
from fiftyone_colortrack.training import RECIPES, TrainingData, fit, scoring

TRAINER = sys.modules[fit.__module__]
TINY = replace(RECIPES["fast"], frame_pairs=1, view_pairs=1, walks=1, crops=(64,), warm_up=2, ema=0.9)
ALONE = replace(TINY, view_pairs=0, walks=0)  # in correspondence, a batch's images are each other's rivals


class Plain(Embedder):
    """A network without batch statistics, which depend on how a batch is divided."""

    preset, name, stride, dim = "fast", "fast", 8, 16

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 16, 8, stride=8)

    def forward(self, lab: Tensor) -> Tensor:
        return nn.functional.normalize(self.conv(lab).float(), dim=1)


def kill_at(last: int):
    def on_step(step: int, steps: int, losses: dict) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_step


def main(mode: str, videos: Path, out: Path) -> None:
    for module in (TRAINER, colorizer):  # what is compared to the last bit is fp32
        module.cpu_has_fast_bf16 = lambda: False
    scoring.TRACKED_SIDE = 96
    data = TrainingData.collect(videos)
    common = {"steps": 6, "out_dir": out, "device": "cpu", "cache_dir": videos / "cache"}
    if mode in ("doubled", "halves"):
        TRAINER.build = lambda preset: Plain()
        fit(data, recipe=replace(ALONE, frame_pairs=2 if mode == "doubled" else 1), **common)
    elif mode == "killed":
        fit(data, recipe=TINY, checkpoint_minutes=0, on_step=kill_at(3), **common)
    else:
        fit(data, recipe=TINY, resume=mode == "resumed", **common)


main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
