"""What the operators that load datasets share."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.datasets.video_dataset import check_name, unused_name, video_folder
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, link, show, work_config

ALL = "all"
DATASETS_FOLDER = "FIFTYONE_DEFAULT_DATASET_DIR"
ON_ERROR: list[forms.Choice] = [
    ("raise", "Stop", "The first one ends the loading, and no dataset is made"),
    ("skip", "Leave out", "The others are loaded, and these are named"),
]
Progress = Callable[[int, int, str], None]


class Content(NamedTuple):
    """What will be loaded: a name for the dataset, the number of videos, and both in words."""

    name: str
    videos: int
    text: str


class LoadOperator(WorkOperator):
    """Makes a persistent dataset of a folder, and opens it."""

    folder_help = ""
    seconds_per_video: float | None = None
    """Measured on two CPU cores, for the estimate until this machine has loaded such a folder."""

    @abstractmethod
    def add_choices(self, ctx: ExecutionContext, inputs: types.Object, folder: Path) -> Content:
        """Add what can be chosen from a folder; returns what will be loaded.

        Raises:
            ColorTrackError: if there is nothing to load from it
        """

    @abstractmethod
    def load(self, folder: Path, params: dict[str, Any], progress: Progress) -> fo.Dataset:
        """Make the dataset `params["name"]`, persistent."""

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view = types.FileExplorerView(button_label="Choose a folder", choose_dir=True)
        folder_input = inputs.file(
            "folder", required=True, label="Folder", description=self.folder_help, view=view
        )
        folder = chosen_folder(ctx.params)
        if folder is not None:
            try:
                content = self.add_choices(ctx, inputs, folder)
            except (ColorTrackError, OSError) as error:
                folder_input.invalid = True
                folder_input.error_message = getattr(error, "strerror", None) or str(error)
            else:
                add_name(ctx, inputs, content.name)
                forms.message(inputs, "estimate", self._estimate(folder, content))
                forms.check_writable(inputs, video_folder(folder, None), DATASETS_FOLDER)
        return forms.form(self, inputs)

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        folder, params, started = chosen_folder(ctx.params), ctx.params, time.monotonic()
        if folder is None:
            raise ColorTrackError("no folder was chosen")
        dataset = yield from show(
            ctx, self.config.label, lambda progress, stop: self.load(folder, params, progress)
        )
        estimates.remember_speed(self.config.label, len(dataset), time.monotonic() - started)
        return loaded(dataset)

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield ctx.ops.open_dataset(results["dataset"])

    def _estimate(self, folder: Path, content: Content) -> str:
        takes = estimates.time_needed(self.config.label, content.videos, self.seconds_per_video)
        where = f"Videos that must be encoded for browsers go to {video_folder(folder, None)}."
        return f"{content.text}: {takes}. {where}"


def config(name: str, label: str, description: str) -> foo.OperatorConfig:
    """The configuration of an operator that loads a dataset."""
    return work_config(name, label, description, "load")


def chosen_folder(params: dict[str, Any]) -> Path | None:
    """The folder that was chosen in FiftyOne's file explorer, or that a script names."""
    folder = params.get("folder")
    path = folder.get("absolute_path") if isinstance(folder, dict) else folder
    return Path(os.path.realpath(os.path.expanduser(path))) if path else None


def add_name(ctx: ExecutionContext, inputs: types.Object, default: str) -> str:
    """Add the name of the dataset that is made, one that does not exist yet; returns it."""
    name = ctx.params.get("name") or unused_name(default)
    prop = inputs.str("name", default=name, label="Name of the dataset")
    forms.validate(prop, lambda: check_name(name))
    return name


def add_split(inputs: types.Object, splits: list[str]) -> None:
    """Add the choice of a split, or of all."""
    if splits:
        choices = [(ALL, "All", ""), *((split, split, "") for split in splits)]
        forms.choose(inputs, "split", choices, label="Split")


def add_on_error(inputs: types.Object) -> None:
    """Add the choice of what to do with videos that cannot be loaded."""
    label = "Videos with missing or broken files"
    forms.choose(inputs, "on_error", ON_ERROR, radio=True, label=label)


def chosen_split(params: dict[str, Any]) -> str | None:
    """The split to load; None for all."""
    return None if params.get("split", ALL) == ALL else params["split"]


def loader_options(params: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The arguments that all loaders of folders take."""
    return {
        "name": params.get("name"),
        "split": chosen_split(params),
        "on_error": params.get("on_error", "raise"),
        "persistent": True,
        "progress": progress,
    }


def loaded(dataset: fo.Dataset) -> Results:
    """What is said of a new dataset."""
    skipped = dataset.info.get("skipped", {})
    summary = f"{forms.plural(len(dataset), 'video')} loaded into {dataset.name}"
    if skipped:
        summary += f"; {len(skipped)} left out: {'; '.join(skipped.values())}"
    return {
        "summary": summary,
        "dataset": dataset.name,
        "variant": "warning" if skipped else "success",
        "links": [link("Open the dataset", "open_dataset", {"dataset": dataset.name})],
    }
