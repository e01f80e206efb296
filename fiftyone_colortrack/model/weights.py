"""Weights in safetensors files with metadata: save, load, list. Listing needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.version import __version__

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder

SHIPPED = Path(__file__).parent / "shipped"
_FORMAT = "fiftyone-colortrack"
_SUFFIX = ".safetensors"
_MAX_HEADER = 10**7
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_BASELINES = ("identity", "flow", "raft")  # as in `tracking.config`, which this room does not see
_NO_WEIGHTS = ("lab", *_BASELINES)
_TRAITS = (
    "preset",
    "stride",
    "dim",
    "unit_length",
    "temperature",
    "lab_channels",
    "lab_weight",
    "lab_tolerance",
)
"""What a model's tracks depend on beside its weights."""


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without loading it.

    `path` is None for a model that needs no weights; `sha256` is the hash that its file has of its contents.
    """

    name: str
    preset: str
    description: str
    path: Path | None = None
    scores: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


_LAB = ModelInfo("lab", "lab", "No network: raw Lab pixels, the baseline")


def home() -> Path:
    """The folder of this user's own models: `$FIFTYONE_COLORTRACK_HOME`, or `~/.fiftyone-colortrack`."""
    return Path(os.environ.get("FIFTYONE_COLORTRACK_HOME") or Path.home() / ".fiftyone-colortrack")


def user_models_dir() -> Path:
    """Where a trained model must lie, as `NAME.safetensors`, to be found by its name."""
    return home() / "models"


def check_name(name: str, overwrite: bool = False) -> None:
    """Raises ColorTrackError if `add_model` must not give a model this name."""
    if not _NAME.fullmatch(name):
        raise ColorTrackError(f"{name!r} is no name for a model; use letters, digits, - and _")
    if name in _NO_WEIGHTS or (SHIPPED / f"{name}{_SUFFIX}").exists():
        raise ColorTrackError(f"{name} is a model that comes with this package; choose another name")
    if not overwrite and (user_models_dir() / f"{name}{_SUFFIX}").exists():
        raise ColorTrackError(f"a model {name} exists; replace it (overwrite), or choose another name")


def add_model(weights: str | os.PathLike[str], name: str, overwrite: bool = False) -> Path:
    """Puts a copy of a weights file among the user's models, where it is found by its name; returns its path.

    Raises:
        ColorTrackError: see `check_name`; also if the file holds no weights of this program.
    """
    check_name(name, overwrite)
    read_info(Path(weights))
    path = user_models_dir() / f"{name}{_SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.copyfile(weights, temporary)
    os.replace(temporary, path)
    return path


def list_models() -> list[ModelInfo]:
    """All models that `load_model` knows by name: shipped ones, the user's own, and `lab`.

    A user's file that cannot be read is listed with that as its description. A user's model never hides a
    shipped one.
    """
    models: dict[str, ModelInfo] = {}
    for folder in (SHIPPED, user_models_dir()):
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            try:
                info = read_info(path)
            except ColorTrackError as error:
                info = ModelInfo(path.stem, "", f"unreadable: {error}", path)
            models.setdefault(path.stem, info)
    models.setdefault("lab", _LAB)
    return list(models.values())


def load_model(name: str | os.PathLike[str] = "fast", device: Any = None, **options: Any) -> Embedder:
    """Loads a model for tracking: in evaluation mode, in float32, its weights checked against their hash.

    Args:
        name: `lab`, a model of `list_models`, or the path of a `.safetensors` file.
        device: torch device; default: the GPU (CUDA, or Apple's) if there is one, else the CPU.
        options: options of the preset, such as `stride=4` for `fast`.

    Raises:
        ColorTrackError: if there is no such model, its file is damaged or of another program, or the device
            cannot be used.
    """
    from fiftyone_colortrack.model.presets import build

    device = usable(device or best_device())
    if str(name) == "lab":
        model, source = build("lab", **options), "lab"
    else:
        info = find_model(name)
        model, source = _with_weights(info, options), info.sha256
    model.eval().requires_grad_(False)
    if not options:
        model.loaded_as = _state(model), source
    return model.to(device)


def _with_weights(info: ModelInfo, options: dict[str, Any]) -> Embedder:
    import torch

    from fiftyone_colortrack.model.presets import build

    tensors = _read_tensors(info)
    try:
        model = build(info.preset, **{**info.metadata.get("options", {}), **options})
        model.load_state_dict({key: value.float() for key, value in tensors.items()})
    except RuntimeError as error:
        raise ColorTrackError(
            f"{info.path} does not fit preset {info.preset!r} of version {__version__}: {error}"
        ) from error
    model.name = info.name
    model.temperature = info.metadata.get("temperature", model.temperature)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fingerprint(model: str | Embedder) -> str:
    """Changes with all that tracks depend on in a model: weights, options, temperature; not with its name.

    That of a name is read from the header of its file, so that forms can ask for it. A model that was loaded
    by name, without options, has the same one as long as nothing in it is changed.
    """
    if isinstance(model, str):
        return model if model in _NO_WEIGHTS else find_model(model).sha256
    state = _state(model)
    at_first, source = model.loaded_as or ("", "")
    return source if state == at_first else state


def _state(model: Embedder) -> str:
    """A hash of a model as it is in memory."""
    traits = [type(model).__qualname__, *(getattr(model, name) for name in _TRAITS)]
    return _digest({key: value.cpu() for key, value in model.state_dict().items()}, repr(traits))


def usable(device: Any) -> torch.device:
    """Raises ColorTrackError if this machine has no such device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ColorTrackError(f"device {str(device)!r} cannot be used: {reason}; cpu always can") from error
    return torch.device(device)


def best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_model(name: str | os.PathLike[str]) -> ModelInfo:
    """Resolves a model's name, or the path of its file; raises ColorTrackError if there is none."""
    if str(name).endswith(_SUFFIX):
        return read_info(Path(name))
    for info in list_models():
        if info.name == str(name):
            return info if info.path is None else read_info(info.path)
    known = ", ".join(info.name for info in list_models())
    raise ColorTrackError(
        f"there is no model {str(name)!r}; known models: {known}, and for tracking the baselines "
        f"{', '.join(_BASELINES)}; own models are looked for in {user_models_dir()}, or give the path of a "
        f"{_SUFFIX} file"
    )


def save_model(model: Embedder, path: str | os.PathLike[str], **metadata: Any) -> Path:
    """Writes weights in fp16, float32 where that is too small for them, with their metadata, atomically.

    Args:
        path: the file to write, ending in `.safetensors`.
        metadata: what a user should know, as JSON values; `description` (str), `scores` (dict of floats),
            `temperature` and `options` (of the preset) have a meaning, others (steps, data, ...) are kept.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    tensors = {key: _compact(value.detach().cpu()) for key, value in model.state_dict().items()}
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise ColorTrackError(f"the weights for {path} hold values that are not finite; nothing was written")
    header = {"preset": model.preset, "version": __version__, **metadata}
    facts = json.dumps(header)
    strings = {"format": _FORMAT, "sha256": _digest(tensors, facts), "colortrack": facts}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(save(tensors, strings))
    os.replace(temporary, path)
    return path


def _compact(value: torch.Tensor) -> torch.Tensor:
    """Half precision, but for what is too large for it, such as variances of unbounded features."""
    import torch

    fits = value.is_floating_point() and bool((value.abs() <= torch.finfo(torch.half).max).all())
    return (value.half() if fits else value).contiguous()


def read_info(path: Path) -> ModelInfo:
    """Reads a weights file's metadata; raises ColorTrackError if it is not one of this program's."""
    strings = _read_header(path).get("__metadata__")
    if not isinstance(strings, dict) or strings.get("format") != _FORMAT:
        raise ColorTrackError(f"{path} holds no weights of this program; train some with `colortrack train`")
    try:
        metadata = json.loads(strings["colortrack"])
        info = ModelInfo(
            path.stem,
            metadata["preset"],
            metadata.get("description", ""),
            path,
            metadata.get("scores", {}),
            metadata,
            strings["sha256"],
        )
        types = (str, info.preset), (str, info.description), (dict, info.scores)
        for expected, value in (*types, (dict, metadata.get("options", {}))):
            if not isinstance(value, expected):
                raise TypeError(f"{value!r:.50} is no {expected.__name__}")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ColorTrackError(f"{path} has damaged metadata ({error}); copy or train it again") from error
    return info


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ColorTrackError(f"cannot read the weights {path}: {error.strerror}") from error
    except (struct.error, ValueError, RecursionError) as error:
        raise ColorTrackError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    if not isinstance(header, dict):
        raise ColorTrackError(f"{path} is not a safetensors file, or is damaged: its header is no table")
    return header


def _read_tensors(info: ModelInfo) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    assert info.path is not None
    try:
        strings = _read_header(info.path)["__metadata__"]
        tensors = load_file(info.path)
    except (SafetensorError, OSError) as error:
        raise ColorTrackError(
            f"the weights {info.path} are damaged ({error}); copy or train them again"
        ) from error
    if _digest(tensors, strings["colortrack"]) != strings.get("sha256"):
        raise ColorTrackError(f"the weights {info.path} do not match their hash; copy or train them again")
    return tensors


def _digest(tensors: dict[str, torch.Tensor], facts: str) -> str:
    """sha256 over some facts and each tensor's name, type, shape and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256(facts.encode())
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
