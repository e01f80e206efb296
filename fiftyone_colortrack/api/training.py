"""Training on one's own videos: from a view, a folder or files to a model that is found by its name.

Importing this module does not import torch.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from fiftyone.core.collections import SampleCollection

from fiftyone_colortrack.api.films import FILM_FIELDS, FilmKind
from fiftyone_colortrack.api.report import duration
from fiftyone_colortrack.datasets import ENCODED
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.weights import add_model, check_name, find_model, home
from fiftyone_colortrack.training import TrainingData
from fiftyone_colortrack.training.data import IMAGE_SEQUENCE_RATE, MAX_RATE, SHORT_SIDE
from fiftyone_colortrack.video import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from fiftyone_colortrack.training import TrainResult

PathLike = str | os.PathLike[str]
Source: TypeAlias = SampleCollection | TrainingData | PathLike | Iterable[PathLike | Sequence[PathLike]]

STEPS = 1000
NOTHING = "nothing"  # what forms and commands call random first weights
SHOWN_STEPS = 20  # over so many steps the loss that is shown is averaged
READING = 0.1  # share of the bar for files to decode, which comes before the steps
_FILM = re.compile(rf"-({'|'.join(get_args(FilmKind))})-[0-9a-f]{{8}}\.mp4$")


@dataclass(frozen=True)
class TrainProgress:
    """Where a run is: `done` of `total` steps, or, where `file` names the last one, of files to decode.

    Attributes:
        numbers: of this step: its losses, and scores where there are new ones
        loss: mean of the last steps
        seconds_left: estimated from the steps so far; None until there are two
    """

    done: int
    total: int
    file: str = ""
    numbers: dict[str, float] | None = None
    loss: float = 0.0
    seconds_left: float | None = None

    @property
    def fraction(self) -> float:
        """Share of the whole run, which never falls: first files, then steps."""
        share = self.done / self.total if self.total else 0.0
        return READING * share if self.numbers is None else READING + (1 - READING) * share

    def __str__(self) -> str:
        if self.numbers is None:
            return f"reading frames, file {self.done} of {self.total}: {self.file}"
        text = f"training step {self.done} of {self.total}, loss {self.loss:.3g}"
        return text if self.seconds_left is None else f"{text}, {duration(self.seconds_left)} left"


def train(
    source: Source,
    name: str | None,
    *,
    init: str | None = "fast",
    preset: str | None = None,
    steps: int = STEPS,
    exclude: Iterable[str] = (),
    out_dir: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[TrainProgress], None] | None = None,
    **options: Any,
) -> TrainResult:
    """Train a tracker on videos and photographs, without labels, and give it a name.

        train(dataset, "mine", steps=500)
        propagate(dataset, "frames.seed", "frames.tracks", model="mine")

    The model is then among those of `list_models`, of the command `colortrack` and of the App's forms. Files
    that cannot be read, such as those that are not there, are left out and named in the result; so are films
    that this program made.

    Args:
        source: a dataset or view of videos or photographs, grouped ones included (a dynamic group of images
            is a video), a folder that is searched to any depth, a list of files (a list in it is a video of
            images), or collected `TrainingData`
        name: of the model: letters, digits, - and _; None only writes its weights to `out_dir`
        init: the model to start from; None starts from nothing, which takes far more videos and steps; a
            resumed run keeps its own
        preset: `fast` or `paper`; by default that of `init`, or `fast`
        steps: how many batches; a resumed run counts its earlier ones
        exclude: names of files that are left out, with or without suffix
        out_dir: folder of the run, which is left as it is; without it a folder of this program is used, of
            which only the logs stay when the run has come to its end
        resume: continue a run of this name, or in this folder, that was stopped or killed, with the same
            files
        overwrite: replace a model of this name, and a run of it that was stopped
        progress: called after every file that is decoded and every step
        options: see `training.fit`: `seed`, `device`, `recipe`, `stop`, `evaluate`, `cache_budget` and others

    Returns:
        What the run did; `weights` is the model's file

    Raises:
        ColorTrackError: if there is nothing to train on, the name cannot be had, or a run of this name was
            stopped and is neither resumed nor replaced, or began with something else
    """
    from fiftyone_colortrack.training import fit

    if name is None and out_dir is None:
        raise ColorTrackError("where to? Give the model a name, or the run a folder (out_dir)")
    first_process = int(os.environ.get("RANK", 0)) == 0  # under torchrun
    if first_process and name is not None:
        check_name(name, overwrite or (resume and is_unfinished(name)))
    data = source if isinstance(source, TrainingData) else collect(source, exclude)
    out = Path(out_dir) if out_dir else run_folder(str(name))
    if first_process and name and not out_dir and not resume and is_unfinished(name):
        if not overwrite:
            raise ColorTrackError(
                f"a run of {name} was stopped; continue it (resume), or start it anew (overwrite)"
            )
        shutil.rmtree(out)
    clock = _Clock(progress or (lambda _: None))
    result = fit(
        data,
        preset or (find_model(init).preset if init else "fast"),
        steps=steps,
        out_dir=out,
        init=init,
        resume=resume,
        on_file=clock.file,
        on_step=clock.step,
        **options,
    )
    if not first_process or result.stopped or name is None:
        return result
    result = replace(result, weights=add_model(result.weights, name, overwrite=True))
    if not out_dir:
        _keep_logs(out)
    return result


def collect(source: Source, exclude: Iterable[str] = ()) -> TrainingData:
    """The files of a source, see `train`; they are not opened.

    Raises:
        ColorTrackError: if it has no videos and no photographs
    """
    if isinstance(source, TrainingData):
        return source
    if isinstance(source, SampleCollection):
        videos, images = _files_of_view(source)
        if not videos and not images:
            raise ColorTrackError(
                "there is nothing to train on: no videos and no photographs but films of this program"
            )
        return TrainingData.collect(videos, images, exclude)
    if isinstance(source, (str, os.PathLike)):
        return TrainingData.collect(source, source, exclude)
    entries = list(source)
    photographs = [e for e in entries if isinstance(e, (str, os.PathLike)) and _is_image(e)]
    return TrainingData.collect([e for e in entries if e not in photographs], photographs, exclude)


def run_folder(name: str) -> Path:
    """Where a model's run keeps what it needs: checkpoint, decoded frames, logs."""
    return home() / "runs" / name


def is_unfinished(name: str) -> bool:
    """Whether a run of this name was stopped, or killed, and can be resumed."""
    return any(run_folder(name).glob("*.ckpt"))


def decoded_bytes(view: SampleCollection) -> int | None:
    """About how much the decoded frames of a view's files take; None if no sample has metadata."""
    sizes = [size for part in _flat_views(view) for size in _frame_bytes(part)]
    known = [size for size in sizes if size is not None]
    return round(sum(known) / len(known) * len(sizes)) if known else None


def _files_of_view(view: SampleCollection) -> tuple[list[Any], list[str]]:
    videos: dict[Any, None] = {}
    images: dict[str, None] = {}
    if view._is_clips:
        raise ColorTrackError("clips are parts of videos; choose a dataset or view of the videos themselves")
    if view._is_dynamic_groups:
        groups = (tuple(group.values("filepath")) for group in view.iter_dynamic_groups())
        return list(dict.fromkeys(groups)), []
    for part in _flat_views(view):
        files = videos if part.media_type == "video" else images
        files.update((path, None) for path in part.values("filepath") if not _is_film(path))
    return list(videos), list(images)


def _flat_views(view: SampleCollection) -> Iterator[SampleCollection]:
    """The videos and the images of a view, without this program's own films."""
    kinds = {view.media_type}
    if view.media_type == "group" and not view._is_dynamic_groups:
        kinds = set(view.group_media_types.values())
    for kind in sorted(kinds & {"video", "image"}):
        part = view.select_group_slices(media_type=kind) if view.media_type == "group" else view
        mark = FILM_FIELDS[0]
        yield part.exists(mark, False) if part.has_sample_field(mark) else part


def _frame_bytes(view: SampleCollection) -> Iterator[int | None]:
    """Size of the decoded frames of every sample."""
    if view.media_type == "image":
        for size in zip(*view.values(["metadata.width", "metadata.height"]), strict=True):
            yield _picture_bytes(*size) if all(size) else None
        return
    names = ("frame_width", "frame_height", "total_frame_count", "frame_rate")
    for width, height, count, rate in zip(*view.values([f"metadata.{n}" for n in names]), strict=True):
        step = max(1, round((rate or IMAGE_SEQUENCE_RATE) / MAX_RATE))
        yield _picture_bytes(width, height) * -(-count // step) if width and height and count else None


def _picture_bytes(width: int, height: int) -> int:
    return round(3 * SHORT_SIDE**2 * max(width, height) / min(width, height))


def _is_film(path: str) -> bool:
    """Whether a file is named as the films of `films_iter`, such as one that was imported with its folder."""
    folder, name = os.path.split(path)
    return os.path.basename(folder) == ENCODED and _FILM.search(name) is not None


def _is_image(path: PathLike) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def _keep_logs(run: Path) -> None:
    for entry in run.iterdir():
        if entry.is_dir() and entry.name != "logs":
            shutil.rmtree(entry)
        elif entry.is_file():
            entry.unlink()


class _Clock:
    """Turns the callbacks of `fit` into progress, with the mean loss and the time left."""

    def __init__(self, report: Callable[[TrainProgress], None]) -> None:
        self._report = report
        self._losses: deque[float] = deque(maxlen=SHOWN_STEPS)
        self._first: tuple[int, float] | None = None  # step and its time

    def file(self, done: int, total: int, name: str) -> None:
        self._report(TrainProgress(done, total, file=name))

    def step(self, done: int, total: int, numbers: dict[str, float]) -> None:
        now = time.perf_counter()
        self._losses.append(numbers["loss"])
        self._first = self._first or (done, now)
        first, began = self._first
        left = (now - began) / (done - first) * (total - done) if done > first else None
        loss = sum(self._losses) / len(self._losses)
        self._report(TrainProgress(done, total, numbers=numbers, loss=loss, seconds_left=left))
