"""The Lightning module: batches to losses, the optimizer, averaged weights."""

from __future__ import annotations

import copy
import math
import time
from functools import partial
from typing import Any

import pytorch_lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from fiftyone_colortrack.model.color import quantize
from fiftyone_colortrack.model.colorizer import Embedder, PaperEmbedder, cpu_has
from fiftyone_colortrack.training.augmentation import (
    cell_positions,
    cutouts,
    partners,
    pasted_partners,
    render_views,
    through,
    view_grid,
)
from fiftyone_colortrack.training.cache import FrameCache
from fiftyone_colortrack.training.losses import (
    correspondence_loss,
    pointer_loss,
    reconstruction_loss,
    walk_partners,
)
from fiftyone_colortrack.training.recipe import Recipe
from fiftyone_colortrack.training.sampling import CLIP_LENGTH, WALK_LENGTH, Batch


class TrackerTraining(L.LightningModule):
    """Trains an embedder by a recipe.

    Attributes:
        network: the weights that are optimized.
        averaged: their moving average, which is what is kept.
        losses: of the last step, by name.
        gather_seconds: time spent on gathering frames.
        done: number of steps done before a resumption.
        optimizer_states: the optimizer's states after these.
    """

    def __init__(self, network: Embedder, recipe: Recipe, cache: FrameCache, steps: int) -> None:
        super().__init__()
        self.network = network
        self.averaged = copy.deepcopy(network).eval().requires_grad_(False)
        if not cpu_has("amx_bf16"):
            _spare_strided_convolutions(network)
        self.recipe, self.cache, self.steps = recipe, cache, steps
        self.reconstruction = partial(
            reconstruction_loss, window=recipe.window, temperature=recipe.temperature
        )
        self.correspondence = partial(
            correspondence_loss, temperature=recipe.temperature, strangers=recipe.strangers
        )
        self.losses: dict[str, Tensor] = {}
        self.gather_seconds = 0.0
        self.done = 0
        self.optimizer_states: dict[int, dict[str, Tensor]] = {}

    @property
    def step(self) -> int:
        """Number of steps done, including those before a resumption."""
        return self.done + self.global_step

    def training_step(self, batch: Batch, _: int) -> Tensor:
        start = time.perf_counter()
        windows = self.cache.windows(*batch.places).to(self.device)
        self.gather_seconds += time.perf_counter() - start
        grid = view_grid(batch.views, batch.crop, self.device)
        lab = render_views(windows, grid, batch.views)
        losses = self._clip_losses(lab) if batch.clips else self._pair_losses(lab, grid, batch)
        self.losses = {name: value.detach() for name, value in losses.items()}
        return losses["loss"]

    def _pair_losses(self, lab: Tensor, grid: Tensor, batch: Batch) -> dict[str, Tensor]:
        recipe, pairs, walked = self.recipe, 2 * batch.frame_pairs, len(lab) - WALK_LENGTH * batch.walks
        dropped = torch.from_numpy(batch.dropped).to(self.device)
        shown = self._hide(lab, dropped)
        seen, pasted = self._paste(shown[:walked], grid[:walked], batch)
        features = self.network(seen).float()
        losses = {"loss": lab.new_zeros(())}
        if pairs:
            reference, target = features[:pairs].chunk(2)
            reference_ab, target_ab = lab[:pairs, 1:].chunk(2)
            losses["reconstruction"] = self.reconstruction(
                reference, target, reference_ab, target_ab, dropped | recipe.gray
            )
            losses["loss"] = losses["loss"] + recipe.reconstruction * losses["reconstruction"]
        if len(features) > pairs:
            first, second = features[pairs:].flatten(2).chunk(2)
            forth, back = self._partners(grid[pairs:], shown[walked:], batch)
            here, there = pasted.chunk(2)
            forth = pasted_partners(forth, forth.roll(1, 0), here, there)
            back = pasted_partners(back, back.roll(1, 0), there, here)
            there_and_back = self.correspondence(first, second, forth) + self.correspondence(
                second, first, back
            )
            losses["correspondence"] = there_and_back / 2
            losses["loss"] = losses["loss"] + recipe.correspondence * losses["correspondence"]
        return losses

    def _partners(self, grid: Tensor, walks: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each first view's cells' partners in the second one, and the other way round.

        In two views of one frame they are known; through a walk they are found by raw colors and the
        averaged network, which teaches the network what moves against its surroundings.
        """
        positions = cell_positions(grid, self.network.stride)
        count = batch.view_pairs + batch.walks
        first, second, way = positions.split([count, count, WALK_LENGTH * batch.walks])
        forth, back = _same_place(first, second)
        if batch.walks:
            with torch.no_grad():
                frames = F.normalize(self.averaged.describe(walks).float(), dim=1)
            walk = frames.unflatten(0, (batch.walks, WALK_LENGTH))
            follow = partial(
                walk_partners,
                radius=self.recipe.walk_radius,
                temperature=self.averaged.temperature,
                agreement=self.recipe.agreement,
            )
            start, end = way[::WALK_LENGTH], way[WALK_LENGTH - 1 :: WALK_LENGTH]
            into, out = _same_place(first[batch.view_pairs :], start)
            leave, enter = _same_place(end, second[batch.view_pairs :])
            forth[batch.view_pairs :] = through(into, follow(walk), leave)
            back[batch.view_pairs :] = through(enter, follow(walk.flip(1)), out)
        return forth, back

    def _hide(self, lab: Tensor, dropped: Tensor) -> Tensor:
        """What the network may see: without the dropped channels of frame pairs, or in gray altogether."""
        shown = lab.new_ones(len(lab), 3, 1, 1)
        if self.recipe.gray:
            shown[:, 1:] = 0
        if len(dropped):
            shown[: 2 * len(dropped), 1:, 0, 0] *= (~dropped).float().repeat(2, 1)
        return lab * shown

    def _paste(self, lab: Tensor, grid: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pastes onto every view pair and walk the cut-out of the one before it.

        Returns:
            the views, and the share of each cell of these pairs' views that is pasted, `[2 * pairs, cells]`.
        """
        pairs = 2 * batch.frame_pairs
        if len(lab) == pairs:
            return lab, lab.new_zeros(0, 1)
        first, second = lab[pairs:].chunk(2)
        others = torch.cat([first.roll(1, 0), second.roll(1, 0)])
        own = cutouts(grid[pairs:], batch.views[pairs : len(lab)])
        mask = torch.cat([part.roll(1, 0) for part in own.chunk(2)])
        seen = torch.cat([lab[:pairs], torch.where(mask, others, lab[pairs:])])
        share = F.avg_pool2d(mask.float(), self.network.stride).flatten(1)
        return seen.contiguous(memory_format=torch.channels_last), share

    def _clip_losses(self, lab: Tensor) -> dict[str, Tensor]:
        network = self.network
        assert isinstance(network, PaperEmbedder)
        share, step = self.recipe.stills, self.step
        stills = int((step + 1) * share) > int(step * share)
        embeddings = network(lab, 1 if stills else CLIP_LENGTH).float().unflatten(0, (-1, CLIP_LENGTH))
        ab = F.adaptive_avg_pool2d(lab[:, 1:], embeddings.shape[-2:])
        labels = quantize(ab, network.palette).unflatten(0, (-1, CLIP_LENGTH))
        return {"loss": pointer_loss(embeddings, labels)}

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self.optimizer_states, "param_groups": groups})
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._rate(self.done + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        recipe, progress = self.recipe, step / self.steps
        if step < recipe.warm_up:
            return (step + 1) / recipe.warm_up
        if recipe.decay_at is not None:
            return 1.0 if progress < recipe.decay_at else 0.1
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Takes the step, then moves the averaged weights, before anything can be saved or scored.

        In the first steps the average moves faster, so that it forgets the random start.
        """
        super().optimizer_step(*arguments, **options)
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        current = self.network.state_dict()
        for name, value in self.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])


def _spare_strided_convolutions(network: torch.nn.Module) -> None:
    """Keeps strided convolutions in fp32 on CPUs without AMX, where bf16 gradients take 3.5 times as long."""

    def in_fp32(conv: torch.nn.Conv2d, inputs: Tensor) -> Tensor:
        if inputs.device.type != "cpu":
            return torch.nn.Conv2d.forward(conv, inputs)
        with torch.autocast("cpu", enabled=False):
            return torch.nn.Conv2d.forward(conv, inputs.float())

    for conv in network.modules():
        if isinstance(conv, torch.nn.Conv2d) and conv.stride != (1, 1):
            conv.forward = partial(in_fp32, conv)  # type: ignore[method-assign]


def _same_place(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """`partners` by cell positions `[B, N, 2]` in shared windows, forth and back."""
    return partners(first, second, _cell_extent(second)), partners(second, first, _cell_extent(first))


def _cell_extent(positions: Tensor) -> Tensor:
    """The distance between neighboring cells of views: `[B, N, 2]` -> `[B]`, in pixels of the window."""
    side = math.isqrt(positions.shape[1])
    rows = positions.unflatten(1, (side, side))
    return (rows[:, :, 1:] - rows[:, :, :-1]).norm(dim=-1).mean((1, 2))
