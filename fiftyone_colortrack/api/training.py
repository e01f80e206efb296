"""Training on your own videos: from samples, a folder, or files to a model that is found by its name.

Importing this module does not import torch.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import fiftyone as fo
from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.api.films import FILM_FIELDS, FilmKind
from fiftyone_colortrack.api.report import duration
from fiftyone_colortrack.datasets import ENCODED
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import check_videos
from fiftyone_colortrack.model.weights import RANDOM, add_model, check_name, find_model, home
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.settings import check_allowed
from fiftyone_colortrack.training import Recipe, TrainingData
from fiftyone_colortrack.training.checkpoint import CHECKPOINT
from fiftyone_colortrack.training.data import IMAGE_SEQUENCE_RATE, MAX_RATE, SHORT_SIDE
from fiftyone_colortrack.video import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from fiftyone_colortrack.model.colorizer import Embedder
    from fiftyone_colortrack.training import TrainResult

PathLike = str | os.PathLike[str]
Source: TypeAlias = SampleCollection | TrainingData | PathLike | Iterable[PathLike | Sequence[PathLike]]

STEPS = 1000
AVERAGED_STEPS = 20  # of the loss that is reported
_FILM = re.compile(rf"-({'|'.join(get_args(FilmKind))})-[0-9a-f]{{8}}\.mp4$")


def train(
    samples: Source,
    *,
    images: PathLike | Iterable[PathLike] = (),
    name: str | None = None,
    out_dir: str | Path | None = None,
    preset: str | None = None,
    steps: int = STEPS,
    init: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    exclude: Iterable[str] = (),
    seed: int = 0,
    device: str | None = None,
    recipe: Recipe | None = None,
    evaluate: Callable[[Embedder], dict[str, float]] | None = None,
    evaluate_every: int = 1000,
    cache_dir: str | Path | None = None,
    cache_budget: float = 8.0,
    progress: bool | ProgressCallback | None = None,
    on_numbers: Callable[[int, dict[str, float]], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train a tracker on videos and images, without labels.

        train("my-videos", name="mine", steps=500)
        propagate("my-videos", "frames.seed", "frames.tracks", model="mine")

    Then `list_models`, the command line, and the forms in the App offer the model by its name. Files that cannot be
    read are skipped and listed in the result. Videos that ColorTrack rendered are ignored.

    Args:
        samples: what to train on: a dataset or view of videos or images, a dataset's name, a folder (searched to
            any depth), a list of files (a list within it is a video of images), or `TrainingData`. All slices of
            grouped datasets count. A dynamic group of images is a video
        images: folder of more images, or a list of image files
        name: name of the model: letters, digits, `-`, and `_`. Without a name, the weights stay in `out_dir`
        out_dir: folder of the run, for checkpoint, logs, and weights. Default: a folder in
            `~/.fiftyone-colortrack/runs`, which keeps only the logs after the last step
        preset: `fast` or `paper`. Default: the preset of `init`, or `fast`
        steps: number of steps, including those of a run that you resume
        init: model to start from: a name, a weights file, or `random` for random weights, which take many videos
            and hours. Default: the shipped model of the preset. A resumed run keeps its own
        resume: continue the stopped run with this name, or in this folder. The files must be the same
        overwrite: replace the model with this name, and its run if it was stopped
        exclude: names of files to skip, with or without suffix
        seed: seed of all random choices
        device: `cpu`, `cuda`, or one of several GPUs such as `cuda:1`. Default: the GPU if there is one
        recipe: all other settings of the training, see `Recipe`. Default: the preset's recipe
        evaluate: called with the network before the first step, every `evaluate_every` steps, and after the last
            step. Returns scores by name
        evaluate_every: number of steps between two evaluations
        cache_dir: folder of the decoded frames. Default: in the folder of the run. Runs may share it
        cache_budget: largest size of the decoded frames, in GiB
        progress: a callback `progress(done, total, message)`, or whether to show a progress bar
        on_numbers: called after each step with the number of steps done, its losses, and new scores
        stop: called after each file and each step; return True to stop. You can resume a stopped run

    Returns:
        what the run did. Pass `model` to `propagate`; `weights` is the model's file

    Raises:
        ColorTrackError: if there is nothing to train on; if the name or folder is taken, and neither `resume`
            nor `overwrite` is set; if the run began with something else; or as described for `training.fit`
        KeyboardInterrupt: on Ctrl-C, after the current step. A checkpoint is kept
    """
    from fiftyone_colortrack.training import fit

    if name is None and out_dir is None:
        raise ColorTrackError("the model needs a name (name), or the run a folder (out_dir)")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ColorTrackError(f"steps is {steps!r}; it must be a positive whole number")
    first_process = int(os.environ.get("RANK", 0)) == 0  # under torchrun
    if first_process and name is not None:
        check_name(name, overwrite or (resume and is_unfinished(name)))
    for folder in (out_dir, cache_dir):
        if folder:
            check_allowed(folder)
    random = str(init) == RANDOM
    preset = preset or ("fast" if random or init is None else find_model(init).preset)
    data = collect(samples, images, exclude)
    out = Path(out_dir) if out_dir else run_folder(str(name))
    with progress_bar(progress, "Training") as update:
        losses: deque[float] = deque(maxlen=AVERAGED_STEPS)
        began: tuple[int, float] | None = None  # the first step of this call, and its time

        def on_step(done: int, total: int, numbers: dict[str, float]) -> None:
            nonlocal began
            now = time.perf_counter()
            began = began or (done, now)
            losses.append(numbers["loss"])
            message = f"Step {done:,} of {total:,}, loss {sum(losses) / len(losses):.3g}"
            if done > began[0]:
                message += f", {duration((now - began[1]) / (done - began[0]) * (total - done))} left"
            if on_numbers:
                on_numbers(done, numbers)
            update(done, total, message)

        result = fit(
            data,
            preset,
            steps=steps,
            out_dir=out,
            init=preset if init is None else init,
            resume=resume,
            overwrite=overwrite,
            seed=seed,
            device=device,
            recipe=recipe,
            on_file=lambda done, total, file: update(0, steps, f"Reading file {done} of {total}: {file}"),
            on_step=on_step,
            stop=stop,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            cache_dir=cache_dir,
            cache_budget=cache_budget,
        )
    if not first_process or result.weights is None or name is None:
        return result
    result = replace(result, model=name, weights=add_model(result.weights, name, overwrite=True))
    if not out_dir:
        for entry in out.iterdir():
            if entry.is_file():
                entry.unlink()
            elif entry.name != "logs":
                shutil.rmtree(entry)
    return result


def collect(
    samples: Source, images: PathLike | Iterable[PathLike] = (), exclude: Iterable[str] = ()
) -> TrainingData:
    """List the files to train on, without opening them.

    Raises:
        ColorTrackError: if there are no videos and no images, or no such dataset or folder
    """
    if isinstance(samples, TrainingData):
        return samples
    if isinstance(samples, str) and fo.dataset_exists(samples):
        samples = fo.load_dataset(samples)
    videos: Any
    found: list[Any]
    if isinstance(samples, fo.Sample):
        check_videos(samples)  # says what to pass instead
    if isinstance(samples, SampleCollection):
        videos, found = _files_of_view(samples)
    elif isinstance(samples, (str, os.PathLike)):
        if not os.path.isdir(samples):
            raise ColorTrackError(f"there is no dataset and no folder {os.fspath(samples)!r} to train on")
        check_allowed(samples)
        videos = samples
        found = [] if images else list(TrainingData.list_images(samples))
    else:
        entries = list(samples)
        files = [entry for entry in entries if isinstance(entry, (str, os.PathLike))]
        found = [file for file in files if Path(file).suffix.lower() in IMAGE_SUFFIXES]
        videos = [e for e in entries if e not in found]
    if isinstance(images, (str, os.PathLike)):
        check_allowed(images)
        images = TrainingData.list_images(images)
    return TrainingData.collect(videos, [*found, *images], exclude)


def run_folder(name: str) -> Path:
    """Folder of a named model's run: checkpoint, decoded frames, and logs."""
    return home() / "runs" / name


def is_unfinished(name: str) -> bool:
    """Whether a run of this name was stopped or killed, and can be resumed."""
    return (run_folder(name) / CHECKPOINT).exists()


def decoded_bytes(view: SampleCollection) -> int | None:
    """Estimated size of the decoded frames of a view; None if no sample has metadata."""
    sizes = []
    for part in _flat_views(view):
        names = ["width", "height"]
        if part.media_type == "video":
            names = ["frame_width", "frame_height", "total_frame_count", "frame_rate"]
        columns = part.values([f"metadata.{name}" for name in names])
        for width, height, *of_video in zip(*columns, strict=True):
            count, rate = of_video or (1, MAX_RATE)
            step = max(1, round((rate or IMAGE_SEQUENCE_RATE) / MAX_RATE))
            if width and height and count:
                pixels = SHORT_SIDE**2 * max(width, height) / min(width, height)
                sizes.append(3 * pixels * -(-count // step))
            else:
                sizes.append(None)
    known = [size for size in sizes if size is not None]
    return round(sum(known) / len(known) * len(sizes)) if known else None


def _files_of_view(view: SampleCollection) -> tuple[list[Any], list[str]]:
    videos: dict[Any, None] = {}
    images: dict[str, None] = {}
    if view._is_clips:
        raise ColorTrackError(
            "clips views cannot be used for training; choose a dataset or view of whole videos"
        )
    if view._is_dynamic_groups:
        groups = (tuple(group.values("filepath")) for group in view.iter_dynamic_groups())
        return list(dict.fromkeys(groups)), []
    for part in _flat_views(view):
        files = videos if part.media_type == "video" else images
        files.update((path, None) for path in part.values("filepath") if not _is_film(path))
    return list(videos), list(images)


def _flat_views(view: SampleCollection) -> Iterator[SampleCollection]:
    """The videos and the images of a view, without videos that this package made."""
    kinds = {view.media_type}
    if view.media_type == "group" and not view._is_dynamic_groups:
        kinds = set(view.group_media_types.values())
    for kind in sorted(kinds & {"video", "image"}):
        part = view.select_group_slices(media_type=kind) if view.media_type == "group" else view
        mark = FILM_FIELDS[0]
        yield part.exists(mark, False) if part.has_sample_field(mark) else part


def _is_film(path: str) -> bool:
    """Whether a file has the name of a video that this package made, such as one of an imported folder."""
    folder, name = os.path.split(path)
    return os.path.basename(folder) == ENCODED and _FILM.search(name) is not None
