"""The training run: data, recipe and Lightning's loop, from first weights to a file that tracks."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.color import fit_palette, rgb_to_lab
from fiftyone_colortrack.model.colorizer import Embedder, PaperEmbedder, cpu_has_fast_bf16
from fiftyone_colortrack.model.presets import build
from fiftyone_colortrack.model.weights import find_model, load_model, save_model
from fiftyone_colortrack.training.data import FrameCache, TrainingData
from fiftyone_colortrack.training.module import TrackerTraining
from fiftyone_colortrack.training.recipe import RECIPES, Recipe
from fiftyone_colortrack.training.sampling import Sampler

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, dict[str, float]], None]
Evaluation = Callable[[Embedder], dict[str, float]]
CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class TrainResult:
    """What a run made.

    Attributes:
        weights: the safetensors file, in the run's folder.
        losses: the last step's numbers, by name.
        scores: what `evaluate` gave at the end, empty without it.
        seconds: time of this call's steps; `waiting` is the share of it in which steps waited for data.
        unreadable: files that were left out, with the reason.
    """

    weights: Path
    steps: int
    losses: dict[str, float]
    scores: dict[str, float]
    seconds: float
    waiting: float
    unreadable: dict[str, str] = field(default_factory=dict)


def fit(
    data: TrainingData,
    preset: str = "fast",
    *,
    steps: int,
    out_dir: str | os.PathLike[str],
    init: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    recipe: Recipe | None = None,
    on_step: Progress | None = None,
    evaluate: Evaluation | None = None,
    evaluate_every: int = 1000,
    checkpoint_minutes: float = 5.0,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_budget: float = 8.0,
    progress_bar: bool = False,
) -> TrainResult:
    """Trains an embedder without labels and writes its weights to `out_dir`.

    Run under `torchrun`, every process takes its share of each batch and the first one writes.

    Args:
        data: the files to train on.
        preset: `fast` or `paper`.
        init: model name or weights file to start from, of the same preset.
        resume: continue exactly where `out_dir`'s last checkpoint is, if it has one.
        device: `cpu`, `cuda`; default: the GPU if there is one.
        recipe: default: the preset's, `RECIPES[preset]`.
        on_step: called after each step with the steps done, `steps` and the losses; what it raises ends
            the run.
        evaluate: scores the averaged weights every `evaluate_every` steps and at the end, such as by J.
        cache_dir: where decoded frames are kept, default `out_dir`/cache; runs may share it.
        cache_budget: of the decoded frames, in GiB.

    Raises:
        ColorTrackError: on a preset that cannot be trained, unreadable data, weights of another preset, or an
            `out_dir` that holds another run and `resume` is not set.
    """
    out = Path(out_dir)
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise ColorTrackError(f"{out} holds a run already; resume it, or choose another folder")
    if preset not in RECIPES:
        raise ColorTrackError(f"preset {preset!r} cannot be trained; choose one of {', '.join(RECIPES)}")
    recipe = recipe or RECIPES[preset]
    accelerator = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(seed)
    cache = FrameCache.open(data, Path(cache_dir or out / "cache"), cache_budget)
    network = _first_weights(preset, init, cache, seed)
    module = TrackerTraining(network, recipe, _placed(cache, accelerator), steps)
    module.to(memory_format=torch.channels_last)
    run = _Run(out, steps, on_step, evaluate, evaluate_every, checkpoint_minutes)
    trainer = _trainer(out, steps, accelerator, recipe, run, progress_bar)
    start = _step_of(checkpoint) if resume and checkpoint.exists() else 0
    batches = Sampler(cache, recipe, seed, start, trainer.global_rank, trainer.world_size)
    loader = DataLoader(batches, batch_size=None)
    trainer.fit(module, loader, ckpt_path=checkpoint if start else None, weights_only=False)
    scores = evaluate(module.averaged) if evaluate and trainer.is_global_zero else {}
    facts = {"steps": steps, "data": _describe(cache), "recipe": asdict(recipe), "scores": scores}
    facts |= {"seed": seed, "init": str(init) if init else None}
    weights = out / f"{preset}.safetensors"
    if trainer.is_global_zero:
        save_model(module.averaged, weights, description=f"{preset}, trained for {steps} steps", **facts)
    return TrainResult(weights, steps, module.losses, scores, run.seconds, run.waiting, cache.unreadable)


def _trainer(
    out: Path, steps: int, device: torch.device, recipe: Recipe, run: L.Callback, progress_bar: bool
) -> L.Trainer:
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as torchrun says
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=processes,
        num_nodes=int(os.environ.get("WORLD_SIZE", 1)) // processes,
        max_steps=steps,
        precision="bf16-mixed" if device.type == "cuda" or cpu_has_fast_bf16() else "32-true",
        gradient_clip_val=recipe.clip_gradient,
        callbacks=[run],
        logger=_loggers(out),
        enable_checkpointing=False,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        default_root_dir=out,
        use_distributed_sampler=False,
    )


class _Run(L.Callback):
    """Checkpoints by the clock, numbers into logs, the share of time waiting, scores on labelled video."""

    def __init__(
        self,
        out: Path,
        steps: int,
        on_step: Progress | None,
        evaluate: Evaluation | None,
        evaluate_every: int,
        checkpoint_minutes: float,
    ) -> None:
        self.out, self.steps = out, steps
        self.on_step, self.evaluate, self.evaluate_every = on_step, evaluate, evaluate_every
        self.checkpoint_seconds = 60 * checkpoint_minutes
        self.began = self.saved = self.step_ended = time.monotonic()
        self.waited = 0.0

    @property
    def seconds(self) -> float:
        return self.step_ended - self.began

    @property
    def waiting(self) -> float:
        return self.waited / max(self.seconds, 1e-9)

    def on_train_start(self, *_: Any) -> None:
        self.began = self.saved = self.step_ended = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        self.waited += time.monotonic() - self.step_ended

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        now = time.monotonic()
        self.waited += module.gather_seconds
        step = trainer.global_step
        numbers = {**module.losses, "seconds": now - self.step_ended, "waiting": self.waiting}
        if self.evaluate and trainer.is_global_zero and step % self.evaluate_every == 0:
            numbers |= self.evaluate(module.averaged)
        if step % 10 == 0 or len(numbers) > len(module.losses) + 2:
            for log in trainer.loggers:
                log.log_metrics(numbers, step)
        if step == self.steps or now - self.saved > self.checkpoint_seconds:
            self._save(trainer)
        if self.on_step and trainer.is_global_zero:
            self.on_step(step, self.steps, module.losses)
        self.step_ended = time.monotonic()

    def _save(self, trainer: L.Trainer) -> None:
        """Writes a checkpoint beside the old one, then puts it in its place: a kill leaves one whole."""
        temporary = self.out / f"{CHECKPOINT}.part"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, self.out / CHECKPOINT)
        self.saved = time.monotonic()


def _first_weights(preset: str, init: Any, cache: FrameCache, seed: int) -> Embedder:
    if init is not None:
        info = find_model(init)
        if info.preset != preset:
            raise ColorTrackError(f"{init} is of preset {info.preset!r}, not {preset!r}")
        return load_model(init, "cpu").train().requires_grad_(True)
    network = build(preset).train()
    if isinstance(network, PaperEmbedder):
        network.palette.copy_(fit_palette(_sample_colors(cache, seed), len(network.palette), seed=seed))
    return network


def _sample_colors(cache: FrameCache, seed: int, frames: int = 200, pixels: int = 50_000) -> torch.Tensor:
    """ab of cells' colours from random frames `[pixels, 2]`, for the palette."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(cache.sizes), size=frames)
    windows = cache.windows(chosen, np.zeros((frames, 2), dtype=int))
    small = F.avg_pool2d(windows.float() / 255, 8)
    ab = rgb_to_lab(small)[:, 1:].permute(0, 2, 3, 1).reshape(-1, 2)
    return ab[torch.from_numpy(rng.integers(len(ab), size=pixels))]


def _placed(cache: FrameCache, device: torch.device) -> FrameCache:
    """The cache on the GPU, if it takes no more than half of the memory that is free there."""
    if device.type == "cuda" and cache.pixels.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
        return cache.to(device)
    return cache


def _loggers(out: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(out, name="logs", version="csv", flush_logs_every_n_steps=1)]
    try:
        loggers.append(TensorBoardLogger(out, name="logs", version="tensorboard"))
    except ModuleNotFoundError:
        logger.warning("tensorboard is not installed: losses are logged to CSV only")
    return loggers


def _step_of(checkpoint: Path) -> int:
    try:
        return int(torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=False)["global_step"])
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ColorTrackError(
            f"the checkpoint {checkpoint} is damaged: {error}; start the run anew"
        ) from error


def _describe(cache: FrameCache) -> dict[str, int]:
    return {
        "clips": sum(clip.length > 1 for clip in cache.clips),
        "photographs": sum(clip.length == 1 for clip in cache.clips),
        "frames": len(cache.sizes),
    }
