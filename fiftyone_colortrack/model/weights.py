"""Save, load, and list weights in safetensors files with metadata. Listing does not import PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.settings import atomic
from fiftyone_colortrack.version import __version__

if TYPE_CHECKING:
    import torch

    from fiftyone_colortrack.model.colorizer import Embedder

SHIPPED = Path(__file__).parent / "shipped"
_FORMAT = "fiftyone-colortrack"
_SUFFIX = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_BASELINES = ("identity", "flow", "raft")  # as in `tracking.config`, which this room does not see
_NO_WEIGHTS = ("lab", *_BASELINES)
RANDOM = "random"
"""As the first weights of training: random ones."""
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
"""What a model's tracks depend on, besides its weights."""
_LIMITS = {"temperature": (1e-6, 1e3), "lab_weight": (0.0, 0.999), "lab_tolerance": (0.0, 2.0)}
"""Limits of numbers in the metadata, options included."""


@dataclass(frozen=True)
class ModelInfo:
    """A model, without its weights.

    Attributes:
        name: name for `load_model`
        preset: `fast`, `paper`, or `lab`; empty if the file cannot be read
        description: description in one line
        path: weights file; None for a model without weights
        scores: scores of the model, by name
        metadata: all metadata of the file
        sha256: hash of weights and metadata, as given in the file
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
    """Folder of your models and runs: `$FIFTYONE_COLORTRACK_HOME`, or `~/.fiftyone-colortrack`."""
    return Path(os.environ.get("FIFTYONE_COLORTRACK_HOME") or Path.home() / ".fiftyone-colortrack")


def user_models_dir() -> Path:
    """Folder of your models, with files named `NAME.safetensors`."""
    return home() / "models"


def check_name(name: str, overwrite: bool = False) -> None:
    """Raise a ColorTrackError if a model cannot have this name, or if another model has it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ColorTrackError(f"{name!r} is not a valid name for a model; use letters, digits, - and _")
    if name in (*_NO_WEIGHTS, RANDOM) or (SHIPPED / f"{name}{_SUFFIX}").exists():
        raise ColorTrackError(f"ColorTrack itself uses the name {name}; choose another name")
    if not overwrite and (user_models_dir() / f"{name}{_SUFFIX}").exists():
        raise ColorTrackError(f"the model {name} exists; replace it (overwrite), or choose another name")


def add_model(weights: str | os.PathLike[str], name: str, overwrite: bool = False) -> Path:
    """Copy a weights file to your models, so that you can load it by name.

    Returns:
        The path of the copy

    Raises:
        ColorTrackError: see `check_name`; also if the file holds no weights, or cannot be copied
    """
    check_name(name, overwrite)
    read_info(Path(weights))
    path = user_models_dir() / f"{name}{_SUFFIX}"
    with atomic(path) as unfinished:
        shutil.copyfile(weights, unfinished)
    return path


def list_models() -> list[ModelInfo]:
    """List all models that you can load by name: the shipped models, your own, and `lab`.

    If a file cannot be read, its description says why.
    """
    models: dict[str, ModelInfo] = {}
    for folder in (SHIPPED, user_models_dir()):
        for path in sorted(folder.glob(f"[!.]*{_SUFFIX}")):
            try:
                info = read_info(path)
            except ColorTrackError as error:
                info = ModelInfo(path.stem, "", f"unreadable: {error}", path)
            models.setdefault(path.stem, info)
    models.setdefault("lab", _LAB)
    return list(models.values())


def load_model(name: str | os.PathLike[str] = "fast", device: Any = None, **options: Any) -> Embedder:
    """Load a model for tracking: in evaluation mode, in float32.

    Args:
        name: name of a model (see `list_models`), or path of a `.safetensors` file
        device: PyTorch device. Default: the GPU (CUDA or Apple) if there is one, otherwise the CPU
        options: options of the preset, such as `stride=4` for `fast`

    Raises:
        ColorTrackError: if there is no such model, its file is damaged or not from ColorTrack, its weights are not
            finite, or the device cannot be used
    """
    from fiftyone_colortrack.model.colorizer import build

    device = usable(device or best_device())
    if str(name) == "lab":
        model, source = build("lab", **options), ("", "lab")
    else:
        model, source = _with_weights(find_model(name), options)
    model.eval().requires_grad_(False)
    if not options:
        model.loaded_as = source[0] + _traits(model), source[1]
    return model.to(device)


def _with_weights(info: ModelInfo, options: dict[str, Any]) -> tuple[Embedder, tuple[str, str]]:
    """The model, and the facts and the hash of its file."""
    import torch

    from fiftyone_colortrack.model.colorizer import build

    tensors, facts = _read_tensors(info)
    try:
        model = build(info.preset, **{**info.metadata.get("options", {}), **options})
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ColorTrackError(
            f"{info.path} does not fit preset {info.preset!r} of version {__version__}: {error}"
        ) from error
    model.name = info.name
    model.temperature = info.metadata.get("temperature", model.temperature)
    return model.to(memory_format=torch.channels_last), (facts, info.sha256)  # type: ignore[call-overload]


def fingerprint(model: str | Embedder) -> str:
    """A hash that changes with all that tracks depend on in a model: weights, options, and temperature.

    A model's name does not count. For a name, the hash is read from the file. A model that was loaded
    by name, without options, has the same one until something in it is changed.
    """
    if isinstance(model, str):
        return model if model in _NO_WEIGHTS else find_model(model).sha256
    traits = _traits(model)
    state = {key: value.cpu() for key, value in model.state_dict().items()}
    key, source = model.loaded_as or ("", "")
    if key.endswith(traits):
        saved = {name: _compact(value) for name, value in state.items()}
        if not state or _digest(saved, key.removesuffix(traits)) == source:
            return source
    return _digest(state, traits)


def _traits(model: Embedder) -> str:
    return repr([type(model).__qualname__, *(getattr(model, name) for name in _TRAITS)])


def usable(device: Any) -> torch.device:
    """Raise a ColorTrackError if this machine does not have the device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ColorTrackError(f"device {str(device)!r} cannot be used: {reason}; use cpu") from error
    return torch.device(device)


def best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_model(name: str | os.PathLike[str]) -> ModelInfo:
    """Find a model by name or by the path of its file; raise a ColorTrackError if there is none."""
    if str(name).endswith(_SUFFIX):
        return read_info(Path(name))
    if str(name) == "lab":
        return _LAB
    for folder in (SHIPPED, user_models_dir()):
        path = folder / f"{name}{_SUFFIX}"
        if path.parent == folder and path.exists():
            return read_info(path)
    known = ", ".join(info.name for info in list_models())
    raise ColorTrackError(
        f"there is no model {str(name)!r}; known models: {known}, and the baselines {', '.join(_BASELINES)}. "
        f"Your own models are in {user_models_dir()}. You can also pass the path of a {_SUFFIX} file"
    )


def save_model(model: Embedder, path: str | os.PathLike[str], **metadata: Any) -> Path:
    """Write weights with metadata, in half precision except for values that it cannot represent.

    Args:
        model: the network
        path: file to write, ending in `.safetensors`; an existing file is replaced
        metadata: JSON values. `description` (str), `scores` (numbers by name), `temperature`, and `options` (of the
            preset) have a meaning; other values are kept

    Returns:
        The path

    Raises:
        ColorTrackError: if a weight is not finite, or the file cannot be written. Then no file remains
    """
    from safetensors.torch import save

    path = Path(path)
    tensors = {key: _compact(value.detach().cpu()) for key, value in model.state_dict().items()}
    _check_finite(tensors, path)
    header = {"preset": model.preset, "version": __version__, **metadata}
    facts = json.dumps(header)
    data = save(tensors, {"format": _FORMAT, "sha256": _digest(tensors, facts), "colortrack": facts})
    with atomic(path) as unfinished:
        unfinished.write_bytes(data)
    return path


def _check_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    import torch

    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise ColorTrackError(f"the weights {path} contain values that are not finite; train the model again")


def _compact(value: torch.Tensor) -> torch.Tensor:
    """In half precision, except for values too large for it, such as variances of unbounded features."""
    import torch

    fits = value.is_floating_point() and bool((value.abs() <= torch.finfo(torch.half).max).all())
    return (value.half() if fits else value).contiguous()


def read_info(path: Path) -> ModelInfo:
    """Read the metadata of a weights file.

    Raises:
        ColorTrackError: if the file is missing, damaged, or not from ColorTrack, or if its metadata is invalid
    """
    strings = _read_strings(path)
    try:
        metadata = json.loads(strings["colortrack"])
        _check_metadata(metadata)
        sha256 = strings["sha256"]
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ColorTrackError(f"{path} has damaged metadata ({error}); copy it or train it again") from error
    description, scores = metadata.get("description", ""), metadata.get("scores", {})
    return ModelInfo(path.stem, metadata["preset"], description, path, scores, metadata, sha256)


def _check_metadata(metadata: Any) -> None:
    """Raises ValueError unless everything that has a meaning has the right type, and is within its limits."""
    if not isinstance(metadata, dict):
        raise ValueError("not a table")
    kinds = {"preset": str, "description": str, "options": dict, "scores": dict}
    for name, kind in kinds.items():
        if not isinstance(metadata[name] if name == "preset" else metadata.get(name, kind()), kind):
            raise ValueError(f"{metadata[name]!r:.50} is not of type {kind.__name__}")
    options, scores = metadata.get("options", {}), metadata.get("scores", {})
    for name, (low, high) in _LIMITS.items():
        for value in (table[name] for table in (metadata, options) if name in table):
            if not _is_number(value) or not low <= value <= high:
                raise ValueError(f"{name} {value!r:.50} is not a number from {low} to {high}")
    for name in options.keys() & {"channels", "colors", "dim", "samples", "stride"}:
        if type(options[name]) is not int or not 1 <= options[name] <= 4096:
            raise ValueError(f"{name} {options[name]!r:.50} is not a whole number from 1 to 4096")
    numbers = {name: metadata[name] for name in ("steps", "seconds_per_step") if name in metadata}
    for name, value in (scores | numbers).items():
        if not _is_number(value):
            raise ValueError(f"{name} {value!r:.50} is not a finite number")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _read_strings(path: Path) -> dict[str, str]:
    """The strings in the header of a weights file of this package."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb"):  # whose error is clearer than that of safetensors
            pass
        with safe_open(path, "np") as file:
            strings = file.metadata() or {}
    except OSError as error:
        raise ColorTrackError(f"cannot read the weights {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ColorTrackError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    if strings.get("format") != _FORMAT:
        raise ColorTrackError(f"{path} has no weights of ColorTrack; train a model with `colortrack train`")
    return strings


def _read_tensors(info: ModelInfo) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a model, checked against their hash, and the facts that the hash covers."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    assert info.path is not None
    try:
        facts = _read_strings(info.path)["colortrack"]
        tensors = load_file(info.path)
    except (SafetensorError, OSError) as error:
        raise ColorTrackError(
            f"the weights {info.path} are damaged ({error}); copy them or train them again"
        ) from error
    if _digest(tensors, facts) != info.sha256:
        raise ColorTrackError(
            f"the weights {info.path} do not match their hash; copy them or train them again"
        )
    _check_finite(tensors, info.path)
    return tensors, facts


def _digest(tensors: dict[str, torch.Tensor], facts: str) -> str:
    """sha256 of facts, and of each tensor's name, type, shape, and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256(facts.encode())
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
