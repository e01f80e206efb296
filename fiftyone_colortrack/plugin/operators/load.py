"""Operators that create a dataset: load DAVIS, JHMDB, or a folder of videos, or render scenes."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from colortrack_benchmarks.scenes import Difficulty, load_scenes
from fiftyone_colortrack.datasets.davis import DavisFolder, load_davis
from fiftyone_colortrack.datasets.jhmdb import JhmdbFolder, load_jhmdb
from fiftyone_colortrack.datasets.kinetics import load_kinetics, read_kinetics
from fiftyone_colortrack.datasets.video_dataset import check_name, unused_name, video_folder
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.exports import import_tracks, read_export
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.work import (
    Messages,
    Results,
    WorkOperator,
    has_left,
    show,
    until_stopped,
    work_config,
)
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.settings import check_allowed, check_space

ALL = "all"
DATASETS_FOLDER = "FIFTYONE_DEFAULT_DATASET_DIR"
ON_ERROR: list[forms.Choice] = [
    ("raise", "Stop", "Create no dataset if a video cannot be read"),
    ("skip", "Skip", "Load the other videos, and list these in the summary"),
]
VIDEO_BYTES_PER_IMAGE_BYTE = 0.2  # measured on DAVIS at 854 x 480
SCENE_BYTES, SECONDS_PER_SCENE = 200_000, 0.8  # measured
SCENE_DIFFICULTIES: dict[str, str] = {
    "easy": "Slow objects in different colors",
    "hard": "Fast, similar objects that occlude each other",
}


class Content(NamedTuple):
    """The content of a folder.

    Attributes:
        name: a name for the dataset
        splits: all splits
        videos: names of the videos in the chosen split
        find: looks up the images of a video by its name; raises a ColorTrackError if files are missing
    """

    name: str
    splits: list[str]
    videos: list[str]
    find: Callable[[str], Iterable[Path]]


class _DatasetOperator(WorkOperator):
    """Create a persistent dataset, and open it."""

    about: tuple[str, str, str]
    """Name, label, and description."""

    @property
    def config(self) -> foo.OperatorConfig:
        return work_config(*self.about, "load")

    @abstractmethod
    def load(self, params: dict[str, Any], progress: ProgressCallback) -> fo.Dataset:
        """Create the dataset that the form's parameters describe."""

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        started = time.monotonic()
        kept = "Stopped. No dataset was created. Encoded videos are kept for the next time."
        dataset = yield from show(
            ctx,
            self.config.label,
            lambda progress, stop: self.load(ctx.params, until_stopped(progress, stop, kept)),
        )
        estimates.remember_speed(self.config.label, len(dataset), time.monotonic() - started)
        skipped = dataset.info.get("skipped", {})
        summary = f"Loaded {forms.plural(len(dataset), 'video')} into {dataset.name}"
        if skipped:
            summary += f"; skipped {len(skipped)}: {'; '.join(skipped.values())}"
        return {
            "summary": forms.escape(summary),
            "dataset": dataset.name,
            "variant": "warning" if skipped else "success",
        }

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        if not has_left(ctx):
            yield ctx.ops.open_dataset(results["dataset"])

    def _add_name(self, ctx: ExecutionContext, inputs: types.Object, default: str) -> None:
        name = ctx.params.get("name") or unused_name(default)
        prop = inputs.str("name", default=name, label="Name of the dataset")
        forms.validate(prop, lambda: check_name(name))

    def _add_estimate(
        self,
        inputs: types.Object,
        text: str,
        videos: int,
        seconds: float | None,
        folder: Path,
        written: float,
    ) -> None:
        """Show the estimated time and storage, or why the folder for videos cannot be used."""
        takes = estimates.time_needed(self.config.label, videos, seconds)
        size = f", about {estimates.size(written)} of videos" if written else ""
        text = f"{text}{size}: {takes}. Videos that are encoded for browsers go to {folder}."
        forms.message(inputs, "estimate", text)
        forms.check_writable(inputs, folder, DATASETS_FOLDER)
        try:
            check_space(folder, int(written))
        except ColorTrackError as error:
            forms.message(inputs, "space", str(error), severity="error")


class _FolderOperator(_DatasetOperator):
    """Load a folder."""

    folder_help: str
    seconds_per_video: float | None = None
    """Measured on two CPU cores, for the estimate until this machine has loaded such a folder."""

    @abstractmethod
    def look(self, folder: Path, split: str | None) -> Content:
        """List the videos of a folder.

        Raises:
            ColorTrackError: if there is nothing to load
        """

    def add_choices(self, inputs: types.Object, content: Content) -> None:
        """Add the inputs that only this operator has."""

    def chosen(self, params: dict[str, Any], content: Content) -> list[str]:
        """Names of the videos that will be loaded."""
        return content.videos

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view = types.FileExplorerView(button_label="Choose a folder", choose_dir=True)
        prop = inputs.file("folder", required=True, label="Folder", description=self.folder_help, view=view)
        if ctx.params.get("folder"):
            try:
                folder = _folder(ctx.params)
                content = self.look(folder, None)
                split = _split(ctx.params)
                if split in content.splits:
                    content = self.look(folder, split)
            except (ColorTrackError, OSError) as error:
                prop.invalid = True
                prop.error_message = getattr(error, "strerror", None) or str(error)
            else:
                self._add_settings(ctx, inputs, folder, content)
        return forms.form(self, inputs)

    def _add_settings(
        self, ctx: ExecutionContext, inputs: types.Object, folder: Path, content: Content
    ) -> None:
        if content.splits:
            choices = [(ALL, "All", ""), *((split, split, "") for split in content.splits)]
            forms.choose(inputs, "split", choices, label="Split")
        self.add_choices(inputs, content)
        on_error = forms.choose(
            inputs, "on_error", ON_ERROR, radio=True, label="Videos with missing or damaged files"
        )
        videos = self.chosen(ctx.params, content)
        images: list[Path] = []
        faults: list[str] = []
        for name in videos:
            try:
                images += content.find(name)
            except (ColorTrackError, OSError) as error:
                faults.append(str(error))
        if faults:
            text = f"{len(faults)} of {forms.plural(len(videos), 'video')} cannot be loaded. {faults[0]}"
            if len(faults) == len(videos) or ctx.params.get("on_error", "raise") == "raise":
                on_error.invalid, on_error.error_message = True, text
            else:
                forms.message(inputs, "faults", text, severity="warning")
        self._add_name(ctx, inputs, content.name)
        count = len(videos) - len(faults)
        text = forms.plural(count, "video")
        if images:
            text += f", {forms.plural(len(images), 'frame')}"
        written = VIDEO_BYTES_PER_IMAGE_BYTE * sum(path.stat().st_size for path in images)
        self._add_estimate(inputs, text, count, self.seconds_per_video, video_folder(folder, None), written)


def _folder(params: dict[str, Any]) -> Path:
    """The folder from FiftyOne's file explorer or from a script.

    Raises:
        ColorTrackError: if there is none, or if this server does not allow it
    """
    folder = params.get("folder")
    path = folder.get("absolute_path") if isinstance(folder, dict) else folder
    if not path:
        raise ColorTrackError("choose a folder")
    return check_allowed(os.path.realpath(os.path.expanduser(path)))


def _split(params: dict[str, Any]) -> str | None:
    """The chosen split; None for all."""
    return None if params.get("split", ALL) == ALL else params["split"]


def _options(params: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
    """The arguments that all loaders of folders take."""
    return {
        "name": params.get("name"),
        "on_error": params.get("on_error", "raise"),
        "persistent": True,
        "progress": progress,
    }


class LoadDavis(_FolderOperator):
    """Load DAVIS 2016 or 2017."""

    about = ("load_davis", "Load DAVIS", "Create a video dataset from a DAVIS 2016 or 2017 folder")
    folder_help = "The folder with JPEGImages, Annotations, and ImageSets"
    seconds_per_video = 2.0

    def look(self, folder: Path, split: str | None) -> Content:
        davis = DavisFolder(folder, split)
        return Content(
            f"davis-{davis.year}", davis.splits, davis.names, lambda name: davis.sequence(name).frames
        )

    def add_choices(self, inputs: types.Object, content: Content) -> None:
        view = types.AutocompleteView(allow_user_input=False, allow_duplicates=False)
        for name in content.videos:
            view.add_choice(name, label=name)
        description = "If empty: all"
        inputs.list("sequences", types.String(), label="Sequences", description=description, view=view)

    def chosen(self, params: dict[str, Any], content: Content) -> list[str]:
        return [name for name in params.get("sequences") or content.videos if name in content.videos]

    def load(self, params: dict[str, Any], progress: ProgressCallback) -> fo.Dataset:
        options = _options(params, progress)
        sequences = params.get("sequences") or None
        return load_davis(_folder(params), split=_split(params), sequences=sequences, **options)


class LoadJhmdb(_FolderOperator):
    """Load JHMDB."""

    about = ("load_jhmdb", "Load JHMDB", "Create a video dataset with human joints from a JHMDB folder")
    folder_help = "The folder with joint_positions, splits, and Rename_Images or ReCompress_Videos"

    def look(self, folder: Path, split: str | None) -> Content:
        jhmdb = JhmdbFolder(folder, split)
        return Content("jhmdb", jhmdb.splits, jhmdb.names, lambda name: jhmdb.clip(name).frames)

    def load(self, params: dict[str, Any], progress: ProgressCallback) -> fo.Dataset:
        return load_jhmdb(_folder(params), split=_split(params), **_options(params, progress))


class LoadKinetics(_FolderOperator):
    """Load a folder of videos, in the layout of Kinetics or any other."""

    about = ("load_kinetics", "Load Kinetics", "Create a video dataset from a folder of videos, for training")
    folder_help = "A folder of videos; class folders and Kinetics lists (CSV) are optional"

    def look(self, folder: Path, split: str | None) -> Content:
        clips = read_kinetics(folder, split)
        splits = sorted({clip.split for clip in clips if clip.split})
        return Content("kinetics", splits, [str(clip.path) for clip in clips], lambda name: ())

    def add_choices(self, inputs: types.Object, content: Content) -> None:
        forms.whole(inputs, "max_samples", label="Maximum number of videos", description="If empty: all")

    def chosen(self, params: dict[str, Any], content: Content) -> list[str]:
        return content.videos[: params.get("max_samples")]

    def load(self, params: dict[str, Any], progress: ProgressCallback) -> fo.Dataset:
        options = _options(params, progress)
        count = params.get("max_samples")
        return load_kinetics(_folder(params), split=_split(params), max_samples=count, **options)


class ImportTracks(_FolderOperator):
    """Load what `ExportTracks` wrote, after another program may have edited it."""

    about = ("import_tracks", "Import tracks", "Create a video dataset from tracks that were exported")
    folder_help = "A folder that Export tracks wrote: MOT Challenge, YouTube-VIS, or DAVIS, with the videos"

    def look(self, folder: Path, split: str | None) -> Content:
        return Content(folder.name, [], list(read_export(folder).videos), lambda name: ())

    def load(self, params: dict[str, Any], progress: ProgressCallback) -> fo.Dataset:
        return import_tracks(_folder(params), **_options(params, progress))


class LoadScenes(_DatasetOperator):
    """Render videos with exact labels, to try the tracker."""

    about = (
        "load_scenes",
        "Render demo scenes",
        "Render videos with exact masks, boxes, and keypoints, to try the tracker",
    )

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        forms.whole(inputs, "count", default=4, label="Number of videos")
        difficulties = [(name, name.capitalize(), SCENE_DIFFICULTIES[name]) for name in get_args(Difficulty)]
        forms.choose(inputs, "difficulty", difficulties, radio=True, label="Difficulty")
        self._add_name(ctx, inputs, "colortrack-scenes")
        count = ctx.params.get("count", 4)
        text, written = forms.plural(count, "video"), count * SCENE_BYTES
        self._add_estimate(inputs, text, count, SECONDS_PER_SCENE, _scenes_folder(), written)
        return forms.form(self, inputs)

    def load(self, params: dict[str, Any], progress: ProgressCallback) -> fo.Dataset:
        return load_scenes(
            _scenes_folder(),
            params.get("name") or unused_name("colortrack-scenes"),
            params.get("count", 4),
            difficulty=params.get("difficulty", "easy"),
            persistent=True,
            progress=progress,
        )


def _scenes_folder() -> Path:
    return Path(fo.config.default_dataset_dir) / "colortrack-scenes"
