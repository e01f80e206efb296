"""Checkpoints of training runs: safetensors with JSON metadata, so that loading one never runs code."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.weights import RANDOM, find_model
from fiftyone_colortrack.settings import atomic

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CHECKPOINT = "last.ckpt"
_FORMAT = "fiftyone-colortrack checkpoint 2"
_LOCK = "training.lock"
_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
}


@dataclass(frozen=True)
class Origin:
    """What a run began with. Its checkpoints keep this, because a run can only continue with the same.

    Attributes:
        preset: `fast` or `paper`
        data: key of the decoded files, see `cache_key`
        seed: of everything that is drawn at random
        recipe: the fields of the recipe, without adjustments to the data or the device
        init: model name or weights file of the first weights, or `random`
        model: name of the first weights; None for random ones
        chosen: `temperature` and `options` that were chosen for the first weights, and still hold
        scores: of the first weights, once measured
    """

    preset: str
    data: str
    seed: int
    recipe: dict[str, Any]
    init: str = RANDOM
    model: str | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def starting_from(self, init: str | os.PathLike[str]) -> Origin:
        """The same with first weights; raises ColorTrackError if they belong to another preset."""
        if str(init) == RANDOM:
            return self
        info = find_model(init)
        if info.preset != self.preset:
            raise ColorTrackError(f"{init} has preset {info.preset!r}, not {self.preset!r}")
        chosen = {name: value for name, value in info.metadata.items() if name in ("temperature", "options")}
        return replace(self, init=str(init), model=info.name, chosen=chosen)

    def check(self, now: Origin, run: os.PathLike[str]) -> None:
        """Raises ColorTrackError if a run that began with this cannot continue with `now`."""
        then, given = self.recipe, json.loads(json.dumps(now.recipe))  # as it was stored: lists for tuples
        if self.preset != now.preset:
            differences = [f"preset {self.preset!r}, not {now.preset!r}"]  # its recipe differs as well
        else:
            differences = ["other files, or another cache_budget"] if self.data != now.data else []
            numbers = {"seed": (self.seed, now.seed)}
            numbers |= {name: (then.get(name), given.get(name)) for name in then | given}
            differences += [f"{name} {old}, not {new}" for name, (old, new) in numbers.items() if old != new]
        if differences:
            raise ColorTrackError(
                f"the run in {run} began with {', '.join(differences)}; pass the same to continue it "
                "(resume), or replace it (overwrite)"
            )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: `step` steps of the run are done."""

    path: Path
    step: int
    origin: Origin

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read what a checkpoint says about itself.

        Raises:
            ColorTrackError: if the file is damaged, or is not a checkpoint of this version
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError("its format is unknown")
            step, origin = int(metadata["step"]), Origin(**json.loads(metadata["origin"]))
            if step < 1 or not isinstance(origin.recipe, dict) or not isinstance(origin.chosen, dict):
                raise ValueError("its metadata are invalid")
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise ColorTrackError(
                f"{path} is damaged, or is not a checkpoint of this version ({_first_line(error)}); "
                "replace the run (overwrite), or choose another folder (out_dir)"
            ) from error
        return cls(path, step, origin)

    @staticmethod
    def save(
        path: Path, step: int, origin: Origin, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Write a checkpoint, then put it in place of the old one: there is always a whole one.

        Raises:
            ColorTrackError: if the disk is full or read-only. The old checkpoint stays
        """
        from safetensors.torch import save

        tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        metadata = {"format": _FORMAT, "step": str(step), "origin": json.dumps(asdict(origin))}
        data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)
        with atomic(path) as unfinished:
            unfinished.write_bytes(data)

    def load(self, module: nn.Module) -> dict[int, dict[str, Tensor]]:
        """Load the weights into `module`. Returns the state of its optimizer.

        Raises:
            ColorTrackError: if the tensors do not fit, or are damaged
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        weights: dict[str, Tensor] = {}
        states: dict[int, dict[str, Tensor]] = {}
        try:
            for key, value in load_file(self.path).items():
                part, _, name = key.partition(".")
                if value.ndim == 4:
                    value = value.contiguous(memory_format=torch.channels_last)
                if part == "module":
                    weights[name] = value
                else:
                    index, _, name = name.partition(".")
                    states.setdefault(int(index), {})[name] = value
            module.load_state_dict(weights)
            parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
            for number, state in states.items():
                shape = parameters[number].shape
                if any(value.ndim and value.shape != shape for value in state.values()):
                    raise ValueError("the state of the optimizer does not fit")
        except (SafetensorError, OSError, RuntimeError, ValueError, IndexError) as error:
            raise ColorTrackError(
                f"the checkpoint {self.path} does not fit this run ({_first_line(error)}); "
                "replace the run (overwrite)"
            ) from error
        return states


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder, so that no second training uses it. A process that dies releases it.

    Raises:
        ColorTrackError: if another training uses the folder, or nothing can be written to it
    """
    lock = FileLock(folder / _LOCK)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ColorTrackError(
                f"another training run uses {folder}; wait until it ends, or choose another folder (out_dir)"
            ) from error
    try:
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns errors of a full or read-only disk into a ColorTrackError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise ColorTrackError(f"cannot write to {folder}: {error.strerror}; free disk space") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
