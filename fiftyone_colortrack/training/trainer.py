"""The training run: data, recipe and Lightning's loop, from first weights to a file that tracks."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.color import fit_palette, rgb_to_lab
from fiftyone_colortrack.model.colorizer import Embedder, PaperEmbedder, cpu_has_fast_bf16
from fiftyone_colortrack.model.presets import build
from fiftyone_colortrack.model.weights import load_model, save_model, usable
from fiftyone_colortrack.training.cache import FrameCache, OnFile, cache_key
from fiftyone_colortrack.training.color_check import ColorCheck
from fiftyone_colortrack.training.data import TrainingData
from fiftyone_colortrack.training.module import TrackerTraining
from fiftyone_colortrack.training.normalization import settled
from fiftyone_colortrack.training.origin import Origin
from fiftyone_colortrack.training.recipe import RECIPES, Recipe
from fiftyone_colortrack.training.sampling import WALK_LENGTH, Sampler

OnStep = Callable[[int, int, dict[str, float]], None]
Evaluation = Callable[[Embedder], dict[str, float]]
CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class TrainResult:
    """What a run made.

    Attributes:
        weights: the safetensors file, in the run's folder; not written where the run was stopped.
        steps: that are done, those before a resumption included.
        losses: the last step's numbers, by name.
        scores: of the trained network: `color_error` (see `ColorCheck`), and what `evaluate` gave.
        start: the same of the network that the run began with.
        seconds: time of this call's steps; `waiting` is the share of it in which steps waited for data.
        unreadable: files that were left out, with the reason.
        stopped: whether the run was stopped before its last step; resumed, it goes on from there.
    """

    weights: Path
    steps: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waiting: float = 0.0
    unreadable: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    def __str__(self) -> str:
        text = (
            f"{'stopped after' if self.stopped else 'trained for'} {self.steps} steps, {self.seconds:.0f} s "
        )
        text += f"({self.waiting:.0%} of them waiting for data)"
        names = [name for name in self.scores if name in self.start]
        text += "".join(f"; {_label(n)} {self.start[n]:.2f} before, {self.scores[n]:.2f} now" for n in names)
        text += f"; {len(self.unreadable)} files left out" if self.unreadable else ""
        return text if self.stopped else f"{text}; weights: {self.weights}"


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
    on_file: OnFile | None = None,
    on_step: OnStep | None = None,
    stop: Callable[[], bool] | None = None,
    evaluate: Evaluation | None = None,
    evaluate_every: int = 1000,
    checkpoint_minutes: float = 5.0,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_budget: float = 8.0,
) -> TrainResult:
    """Trains an embedder without labels and writes its weights to `out_dir`.

    Run under `torchrun`, every process draws batches of its own, so that a step learns from as many times the
    recipe's batch as there are processes; the first one writes.

    Args:
        data: the files to train on.
        preset: `fast` or `paper`.
        init: model name or weights file to start from, of the same preset; a resumed run keeps its own.
        resume: continue exactly where `out_dir`'s last checkpoint is, if it has one; with the same data, seed
            and recipe.
        device: `cpu`, `cuda`, or one of several GPUs such as `cuda:1`; default: the GPU if there is one.
        recipe: default: the preset's, `RECIPES[preset]`; where there are no videos, `fast` learns from
            photographs alone.
        on_file: called after each file that is decoded, see `FrameCache.open`.
        on_step: called after each step with the steps done, `steps` and the step's numbers: its losses, and
            scores where there are new ones; what it raises ends the run.
        stop: asked after each file and each step whether to stop; a checkpoint is kept then.
        evaluate: scores the averaged weights at the start, every `evaluate_every` steps and at the end, such
            as by J.
        cache_dir: where decoded frames are kept, default `out_dir`/cache; runs may share it.
        cache_budget: of the decoded frames, in GiB.

    Raises:
        ColorTrackError: on a preset that cannot be trained, a device that cannot train, unreadable data,
            weights of another preset, an `out_dir` that holds another run and `resume` is not set, a damaged
            checkpoint, or one of a run that began with something else.
    """
    out = Path(out_dir)
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise ColorTrackError(f"{out} holds a run already; continue it (resume), or choose another folder")
    if preset not in RECIPES:
        raise ColorTrackError(f"preset {preset!r} cannot be trained; choose one of {', '.join(RECIPES)}")
    accelerator = _training_device(device)
    origin = Origin(preset, cache_key(data, cache_budget), seed, asdict(recipe or RECIPES[preset]))
    done, begun = _read(checkpoint, steps) if checkpoint.exists() else (0, None)
    if begun:
        begun.check(origin, out)
    origin = begun or origin.starting_from(init)
    weights = out / f"{preset}.safetensors"
    stop = stop or (lambda: False)
    try:
        folder = Path(cache_dir or out / "cache")
        cache = FrameCache.open(data, folder, cache_budget, _stoppable(on_file, stop))
    except _Stopped:
        return TrainResult(weights, stopped=True)
    recipe = recipe or _default_recipe(preset, cache)
    torch.manual_seed(seed)
    network = _network(origin, cache, resumed=done > 0)
    module = TrackerTraining(network, recipe, _placed(cache, accelerator), steps)
    module.to(memory_format=torch.channels_last)
    settle = partial(settled, cache=cache, seed=seed)
    check = ColorCheck(cache, seed)

    def measure(averaged: Embedder) -> dict[str, float]:
        network = settle(averaged)
        return check(network) | (evaluate(network) if evaluate else {})

    run = _Run(out, origin, steps, on_step, stop, measure, evaluate_every, checkpoint_minutes)
    with _quiet():
        trainer = _trainer(out, accelerator, recipe, steps, run)
        if not done and trainer.is_global_zero:
            run.origin = replace(origin, scores=measure(module.averaged))
        batches = Sampler(cache, recipe, seed, done, trainer.global_rank)
        loader = DataLoader(batches, batch_size=None)
        trainer.fit(module, loader, ckpt_path=checkpoint if done else None, weights_only=False)
    if trainer.is_global_zero and not run.stopped:
        facts = _facts(origin, steps, cache) | {"scores": run.scores, "recipe": asdict(recipe)}
        facts |= {"seed": seed, "seconds_per_step": run.seconds / max(trainer.global_step - done, 1)}
        save_model(settle(module.averaged), weights, **facts)
    numbers = (module.losses, run.scores, run.origin.scores, run.seconds, run.waiting)
    return TrainResult(weights, trainer.global_step, *numbers, cache.unreadable, run.stopped)


def _training_device(device: str | torch.device | None) -> torch.device:
    """Training is made for CPUs and CUDA alone: elsewhere some of its operations are missing."""
    chosen = usable(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type not in ("cpu", "cuda"):
        raise ColorTrackError(f"device {str(device)!r} cannot train; choose cpu or cuda")
    return chosen


def _trainer(out: Path, device: torch.device, recipe: Recipe, steps: int, run: L.Callback) -> L.Trainer:
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as torchrun says
    gpu = device.type == "cuda"
    return L.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=processes if device.index is None or not gpu else [device.index],
        num_nodes=int(os.environ.get("WORLD_SIZE", 1)) // processes,
        max_steps=steps,
        precision="bf16-mixed" if gpu or cpu_has_fast_bf16() else "32-true",
        gradient_clip_val=recipe.clip_gradient,
        callbacks=[run],
        logger=_loggers(out),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
        use_distributed_sampler=False,
    )


class _Run(L.Callback):
    """Checkpoints by the clock, numbers into logs, the share of time waiting, scores, and an early end."""

    def __init__(
        self,
        out: Path,
        origin: Origin,
        steps: int,
        on_step: OnStep | None,
        stop: Callable[[], bool],
        measure: Evaluation,
        measure_every: int,
        checkpoint_minutes: float,
    ) -> None:
        self.out, self.origin = out, origin
        self.steps, self.on_step, self.stop = steps, on_step, stop
        self.measure, self.measure_every = measure, measure_every
        self.checkpoint_seconds = 60 * checkpoint_minutes
        self.scores: dict[str, float] = {}
        self.stopped = False
        self.began = self.saved = self.step_ended = time.monotonic()
        self.waited = self.measured = 0.0

    @property
    def seconds(self) -> float:
        return self.step_ended - self.began - self.measured

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
        news = {}
        if trainer.is_global_zero and (step % self.measure_every == 0 or step == self.steps):
            self.scores = news = self.measure(module.averaged)
            self.measured += time.monotonic() - now
        if step % 10 == 0 or news:
            for log in trainer.loggers:
                log.log_metrics({**numbers, **news}, step)
        self._end_or_save(trainer, step, now)
        if self.on_step and trainer.is_global_zero:
            self.on_step(step, self.steps, {**module.losses, **news})
        self.step_ended = time.monotonic()

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["origin"] = asdict(self.origin)

    def _end_or_save(self, trainer: L.Trainer, step: int, now: float) -> None:
        """Processes decide together, for their clocks and signals differ and to save is a meeting of all."""
        any_process = trainer.strategy.reduce_boolean_decision
        stop = self.stop() and step < self.steps
        due = step == self.steps or now - self.saved > self.checkpoint_seconds
        if any_process(stop or due, all=False):
            self._save(trainer)
            self.stopped = trainer.should_stop = any_process(stop, all=False)

    def _save(self, trainer: L.Trainer) -> None:
        """Writes a checkpoint beside the old one, then puts it in its place: a kill leaves one whole."""
        temporary = self.out / f"{CHECKPOINT}.part"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, self.out / CHECKPOINT)
        self.saved = time.monotonic()


def _label(score: str) -> str:
    return "colour error" if score == "color_error" else score


class _Stopped(Exception):  # noqa: N818, a person's wish
    pass


def _stoppable(on_file: OnFile | None, stop: Callable[[], bool]) -> OnFile:
    def after_file(done: int, total: int, name: str) -> None:
        if on_file:
            on_file(done, total, name)
        if stop():
            raise _Stopped

    return after_file


def _default_recipe(preset: str, cache: FrameCache) -> Recipe:
    """The preset's; views of one frame take the place of what the clips are too short for."""
    recipe = RECIPES[preset]
    longest = max(clip.length for clip in cache.clips)
    if longest < WALK_LENGTH:
        recipe = replace(recipe, walks=0, view_pairs=recipe.view_pairs + recipe.walks)
    if longest < 2:
        recipe = replace(recipe, frame_pairs=0, view_pairs=recipe.view_pairs + recipe.frame_pairs)
    return recipe


def _network(origin: Origin, cache: FrameCache, resumed: bool) -> Embedder:
    """The first weights; a resumed run has its own, whatever has become of the model that it began with."""
    if origin.init and not resumed:
        return load_model(origin.init, "cpu").train().requires_grad_(True)
    network = build(origin.preset, **origin.chosen.get("options", {})).train()
    network.temperature = origin.chosen.get("temperature", network.temperature)
    if isinstance(network, PaperEmbedder) and not resumed:
        colors = _sample_colors(cache, origin.seed)
        network.palette.copy_(fit_palette(colors, len(network.palette), seed=origin.seed))
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notes on hardware and its advertisements: the run has a report of its own."""
    chatty = logging.getLogger("pytorch_lightning")
    level = chatty.level
    chatty.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(pytorch_lightning|lightning_fabric)")
        try:
            yield
        finally:
            chatty.setLevel(level)


def _loggers(out: Path) -> list[Logger]:
    csv = CSVLogger(out, name="logs", version="csv", flush_logs_every_n_steps=1)
    return [csv, TensorBoardLogger(out, name="logs", version="tensorboard")]


def _read(checkpoint: Path, steps: int) -> tuple[int, Origin | None]:
    """The step that a checkpoint was written after, and what its run began with, if it keeps that."""
    try:
        state = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=False)
        done, kept = int(state["global_step"]), state.get("origin")  # older ones do not have it
        origin = Origin(**kept) if kept else None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ColorTrackError(
            f"the checkpoint {checkpoint} is damaged: {error}; start the run anew"
        ) from error
    if done > steps:
        raise ColorTrackError(f"the run of {checkpoint} has done {done} steps; give at least as many")
    return done, origin


def _facts(origin: Origin, steps: int, cache: FrameCache) -> dict[str, Any]:
    """What is kept with the weights; a temperature or options that were chosen for the first ones hold on."""
    clips = sum(clip.length > 1 for clip in cache.clips)
    counts = {"clips": clips, "photographs": len(cache.clips) - clips, "frames": len(cache.sizes)}
    start = f"fine-tuned from {origin.model}" if origin.model else "trained from nothing"
    material = f"{clips} clips and {counts['photographs']} photographs"
    facts = {"description": f"{origin.preset}, {start}: {steps} steps on {material}"}
    return facts | {"steps": steps, "data": counts, "init": origin.init} | origin.chosen
