"""Run a training with Lightning, from the first weights to a file that the tracker can load."""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.color import fit_palette, rgb_to_lab
from fiftyone_colortrack.model.colorizer import Embedder, PaperEmbedder, build, cpu_has_fast_bf16
from fiftyone_colortrack.model.weights import RANDOM, load_model, save_model, usable
from fiftyone_colortrack.progress import ProgressCallback, ctrl_c
from fiftyone_colortrack.training.cache import FrameCache
from fiftyone_colortrack.training.checkpoint import CHECKPOINT, Checkpoint, Origin, locked, writing_to
from fiftyone_colortrack.training.data import TrainingData, cache_key
from fiftyone_colortrack.training.module import TrackerTraining
from fiftyone_colortrack.training.recipe import RECIPES, Recipe
from fiftyone_colortrack.training.sampling import WALK_LENGTH, Sampler
from fiftyone_colortrack.training.scoring import color_error, settled

OnStep = Callable[[int, int, dict[str, float]], None]
Evaluation = Callable[[Embedder], dict[str, float]]
_CPU_CLIPS = 4  # of a batch on a CPU
_NUMBERS_EVERY = 10  # steps after which the losses are read from a GPU, which waits for it


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        weights: weights file of the trained model; None if the run was stopped before its last step
        folder: folder of the run: checkpoint, logs, and weights
        model: the model, to pass to `load_model` and `propagate`; empty if the run was stopped
        steps: number of steps, including those before the run was resumed
        losses: last losses, by name
        scores: scores of the trained network: `color_error` (see `color_error`), and those of `evaluate`
        start: scores of the first weights
        seconds: time of the steps of this call
        waiting: share of `seconds` in which steps waited for data
        unreadable: skipped files, with the reason
        stopped: whether the run was stopped before its last step; you can resume it
    """

    weights: Path | None
    folder: Path
    model: str = ""
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
            f"{'stopped after' if self.stopped else 'trained for'} {self.steps} steps, "
            f"{self.seconds:.0f} s ({self.waiting:.0%} waiting for data)"
        )
        for name in self.scores:
            if name in self.start:
                label = name.replace("_", " ")
                text += f"; {label} {self.start[name]:.2f} before, {self.scores[name]:.2f} now"
        text += f"; {len(self.unreadable)} files skipped" if self.unreadable else ""
        return f"{text}; weights: {self.weights}" if self.weights else text


def fit(
    data: TrainingData,
    preset: str = "fast",
    *,
    steps: int,
    out_dir: str | os.PathLike[str],
    init: str | os.PathLike[str] = RANDOM,
    resume: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    recipe: Recipe | None = None,
    on_file: ProgressCallback | None = None,
    on_step: OnStep | None = None,
    stop: Callable[[], bool] | None = None,
    evaluate: Evaluation | None = None,
    evaluate_every: int = 1000,
    checkpoint_minutes: float = 5.0,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_budget: float = 8.0,
) -> TrainResult:
    """Train an embedder without labels, and write its weights to `out_dir`.

    Under `torchrun`, each process draws its own batches, so a step learns from one batch per process. Only the first
    process writes files.

    Args:
        data: the files to train on
        preset: `fast` or `paper`
        steps: number of steps, including those of the run that is resumed
        out_dir: the run's folder
        init: what to start from: the name or weights file of a model of the same preset, or `random`. A
            resumed run keeps its own
        resume: continue exactly after the last checkpoint in `out_dir`, if there is one. Files, seed, and
            recipe must be the same
        overwrite: replace the run in `out_dir`
        seed: seed of all random choices
        device: `cpu`, `cuda`, or one of several GPUs such as `cuda:1`. Default: the GPU if there is one
        recipe: default: that of the preset, `RECIPES[preset]`, adjusted to data without videos and to the
            memory of a CPU
        on_file: called after each decoded file, see `FrameCache.open`
        on_step: called after each step with the number of steps done, `steps`, and the step's numbers: its
            losses, and new scores. If it raises an error, the run ends
        stop: called after each file and each step; return True to stop. A checkpoint is kept
        evaluate: scores the averaged weights before the first step, every `evaluate_every` steps, and after
            the last one
        evaluate_every: steps between two evaluations
        checkpoint_minutes: time between two checkpoints
        cache_dir: where decoded frames are kept; default: `out_dir`/cache. Runs may share it
        cache_budget: maximum size of the decoded frames, in GiB

    Raises:
        ColorTrackError: if the preset, device, data, or first weights cannot be used; if `out_dir` holds a
            run and neither `resume` nor `overwrite` is set, a damaged checkpoint, or a run that began with
            something else; if another training uses it; or if the disk is full
        KeyboardInterrupt: on Ctrl-C, after the current step; a checkpoint is kept
    """
    out = Path(out_dir)
    if preset not in RECIPES:
        raise ColorTrackError(f"preset {preset!r} cannot be trained; choose one of {', '.join(RECIPES)}")
    if resume and overwrite:
        raise ColorTrackError("resume continues a run and overwrite replaces it; choose one")
    target = usable(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if target.type not in ("cpu", "cuda"):  # only these have all operations that training needs
        raise ColorTrackError(f"device {str(device)!r} cannot train; choose cpu or cuda")
    first_process = int(os.environ.get("RANK", 0)) == 0
    with locked(out) if first_process else nullcontext(), ctrl_c() as pressed:

        def stopping() -> bool:
            return pressed() or bool(stop and stop())

        origin = Origin(preset, cache_key(data, cache_budget), seed, asdict(recipe or RECIPES[preset]))
        if overwrite and first_process:
            (out / CHECKPOINT).unlink(missing_ok=True)
            shutil.rmtree(out / "logs", ignore_errors=True)
        checkpoint = None if overwrite else _begun(out, origin, steps, resume)
        done = checkpoint.step if checkpoint else 0
        origin = checkpoint.origin if checkpoint else origin.starting_from(init)

        def after_file(number: int, total: int, name: str) -> None:
            if on_file:
                on_file(number, total, name)
            if stopping():
                raise _Stopped

        try:
            cache = FrameCache.open(data, Path(cache_dir or out / "cache"), cache_budget, after_file)
        except _Stopped:
            return TrainResult(None, out, steps=done, stopped=True)
        recipe = recipe or _default_recipe(preset, cache, target)
        torch.manual_seed(seed)
        network = _network(origin, cache, resumed=checkpoint is not None)
        # On the GPU, if the frames take at most half of the free memory there
        fits = target.type == "cuda" and cache.pixels.nbytes < torch.cuda.mem_get_info(target)[0] / 2
        module = TrackerTraining(network, recipe, cache.to(target) if fits else cache, steps)
        module.to(memory_format=torch.channels_last)
        if checkpoint:
            module.done, module.optimizer_states = done, checkpoint.load(module)

        def measure(averaged: Embedder) -> dict[str, float]:
            network = settled(averaged, cache, seed)
            return color_error(network, cache, seed) | (evaluate(network) if evaluate else {})

        if not checkpoint and first_process:
            origin = replace(origin, scores=measure(module.averaged))
        run = _Run(out, origin, steps, on_step, stopping, measure, evaluate_every, 60 * checkpoint_minutes)
        batches = Sampler(cache, recipe, seed, done * recipe.accumulate, int(os.environ.get("RANK", 0)))
        with _quiet(), writing_to(out):
            trainer = _trainer(out, target, recipe, steps - done, run)
            try:
                trainer.fit(module, DataLoader(batches, batch_size=None))
            except SystemExit as ended:  # Lightning turns Ctrl-C into this, and SIGTERM as well
                if isinstance(ended.__context__, KeyboardInterrupt):
                    raise KeyboardInterrupt from ended
                raise
        weights = None if run.stopped else out / f"{preset}.safetensors"
        if weights and first_process:
            facts = _facts(origin, steps, cache) | {"scores": run.scores, "recipe": asdict(recipe)}
            facts |= {"seed": seed, "seconds_per_step": run.seconds / max(steps - done, 1)}
            save_model(settled(module.averaged, cache, seed), weights, **facts)
        numbers = (run.losses, run.scores, origin.scores, run.seconds, run.waiting)
        return TrainResult(
            weights, out, str(weights or ""), module.step, *numbers, cache.unreadable, run.stopped
        )


def _begun(out: Path, origin: Origin, steps: int, resume: bool) -> Checkpoint | None:
    """The run in the folder that is to be continued with `origin`, if there is one."""
    if not (out / CHECKPOINT).exists():
        return None
    if not resume:
        raise ColorTrackError(
            f"{out} holds a run; continue it (resume), replace it (overwrite), or choose another "
            "folder (out_dir)"
        )
    checkpoint = Checkpoint.open(out / CHECKPOINT)
    checkpoint.origin.check(origin, out)
    if checkpoint.step > steps:
        raise ColorTrackError(
            f"the run in {out} has already done {checkpoint.step} steps; ask for at least as many"
        )
    return checkpoint


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
        accumulate_grad_batches=recipe.accumulate,
        callbacks=[run],
        logger=[
            CSVLogger(out, name="logs", version="csv", flush_logs_every_n_steps=1),
            TensorBoardLogger(out, name="logs", version="tensorboard"),
        ],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
        use_distributed_sampler=False,
    )


@dataclass(eq=False)
class _Run(L.Callback):
    """Numbers into logs, checkpoints by the clock, the share of time waiting, scores, and an early end."""

    out: Path
    origin: Origin
    steps: int
    on_step: OnStep | None
    stop: Callable[[], bool]
    measure: Evaluation
    measure_every: int
    checkpoint_seconds: float
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    stopped: bool = False
    step: int = 0
    waited: float = 0.0  # seconds between batches
    measured: float = 0.0  # seconds of measuring

    def __post_init__(self) -> None:
        self.began = self.saved = self.step_ended = self.batch_ended = time.monotonic()

    # Lightning calls this when everything is in place: only now the time begins to count.
    def on_train_start(self, *_: Any) -> None:
        self.__post_init__()

    @property
    def seconds(self) -> float:
        return self.step_ended - self.began - self.measured

    @property
    def waiting(self) -> float:
        return self.waited / max(self.seconds, 1e-9)

    def on_train_batch_start(self, *_: Any) -> None:
        self.waited += time.monotonic() - self.batch_ended

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        self.waited += module.gather_seconds
        module.gather_seconds = 0.0
        if module.step != self.step:  # else gradients are still being accumulated
            self._after_step(trainer, module)
        self.batch_ended = time.monotonic()

    def _after_step(self, trainer: L.Trainer, module: Any) -> None:
        now = time.monotonic()
        step = self.step = module.step
        if trainer.strategy.root_device.type == "cpu" or step % _NUMBERS_EVERY == 0 or step == self.steps:
            self.losses = {name: value.item() for name, value in module.losses.items()}
        news = {}
        if trainer.is_global_zero and (step % self.measure_every == 0 or step == self.steps):
            self.scores = news = self.measure(module.averaged)
            self.measured += time.monotonic() - now
        if step % _NUMBERS_EVERY == 0 or news:
            numbers = {**self.losses, "seconds": now - self.step_ended, "waiting": self.waiting}
            for log in trainer.loggers:
                log.log_metrics({**numbers, **news}, step)
        self._end_or_save(trainer, module, now)
        if self.on_step and trainer.is_global_zero:
            try:
                self.on_step(step, self.steps, {**self.losses, **news})
            except KeyboardInterrupt:
                self._save(trainer, module)
                raise
        self.step_ended = time.monotonic()

    def _end_or_save(self, trainer: L.Trainer, module: Any, now: float) -> None:
        """Processes decide together, because their clocks and signals differ."""
        any_process = trainer.strategy.reduce_boolean_decision
        stop = self.stop() and module.step < self.steps
        due = module.step == self.steps or now - self.saved > self.checkpoint_seconds
        if any_process(stop or due, all=False):
            self._save(trainer, module)
            self.stopped = trainer.should_stop = any_process(stop, all=False)

    def _save(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.is_global_zero:
            Checkpoint.save(self.out / CHECKPOINT, module.step, self.origin, module, trainer.optimizers[0])
        self.saved = time.monotonic()


class _Stopped(Exception):  # noqa: N818, a person's wish
    pass


def _default_recipe(preset: str, cache: FrameCache, device: torch.device) -> Recipe:
    """The preset's, adjusted: views of one frame replace what the clips are too short for, and a CPU adds up
    the gradients of smaller batches.
    """
    recipe = RECIPES[preset]
    if device.type == "cpu" and recipe.clips > _CPU_CLIPS:
        recipe = replace(recipe, clips=_CPU_CLIPS, accumulate=recipe.clips // _CPU_CLIPS)
    longest = max(clip.length for clip in cache.clips)
    if longest < WALK_LENGTH:
        recipe = replace(recipe, walks=0, view_pairs=recipe.view_pairs + recipe.walks)
    if longest < 2:
        recipe = replace(recipe, frame_pairs=0, view_pairs=recipe.view_pairs + recipe.frame_pairs)
    return recipe


def _network(origin: Origin, cache: FrameCache, resumed: bool) -> Embedder:
    """The network with its first weights. A resumed run does not need the model that it began with."""
    if origin.model and not resumed:
        return load_model(origin.init, "cpu").train().requires_grad_(True)
    network = build(origin.preset, **origin.chosen.get("options", {})).train()
    network.temperature = origin.chosen.get("temperature", network.temperature)
    if isinstance(network, PaperEmbedder) and not resumed:
        colors = _sample_colors(cache, origin.seed)
        network.palette.copy_(fit_palette(colors, len(network.palette), seed=origin.seed))
    return network


def _sample_colors(cache: FrameCache, seed: int, frames: int = 200, pixels: int = 50_000) -> torch.Tensor:
    """Colors (ab) of cells of random frames `[pixels, 2]`, for the palette."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(cache.sizes), size=frames)
    windows = cache.windows(chosen, np.zeros((frames, 2), dtype=int))
    small = F.avg_pool2d(windows.float() / 255, 8)
    ab = rgb_to_lab(small)[:, 1:].permute(0, 2, 3, 1).reshape(-1, 2)
    return ab[torch.from_numpy(rng.integers(len(ab), size=pixels))]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Lightning's notes on hardware and its advertisements."""
    chatty = logging.getLogger("pytorch_lightning")
    level = chatty.level
    chatty.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(pytorch_lightning|lightning_fabric)")
        try:
            yield
        finally:
            chatty.setLevel(level)


def _facts(origin: Origin, steps: int, cache: FrameCache) -> dict[str, Any]:
    """Metadata of the weights, with the temperature and options that were chosen for the first ones."""
    clips = sum(clip.length > 1 for clip in cache.clips)
    counts = {"clips": clips, "images": len(cache.clips) - clips, "frames": len(cache.sizes)}
    start = f"fine-tuned from {origin.model}" if origin.model else "trained from random weights"
    material = f"{clips} clips and {counts['images']} images"
    facts = {"description": f"{origin.preset}, {start}: {steps} steps on {material}"}
    return facts | {"steps": steps, "data": counts, "init": origin.init} | origin.chosen
