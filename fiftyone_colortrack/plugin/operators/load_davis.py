"""Load DAVIS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.datasets.davis import DavisFolder, load_davis
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.operators.load import (
    Content,
    LoadOperator,
    Progress,
    add_on_error,
    add_split,
    chosen_split,
    config,
    loader_options,
)

VIDEO_BYTES_PER_IMAGE_BYTE = 0.2  # measured at 854 x 480


class LoadDavis(LoadOperator):
    """Loads DAVIS 2016 or 2017."""

    folder_help = "With JPEGImages, Annotations and ImageSets"
    seconds_per_video = 2.0

    @property
    def config(self) -> foo.OperatorConfig:
        return config("load_davis", "Load DAVIS", "Make a video dataset of a DAVIS 2016 or 2017 folder")

    def add_choices(self, ctx: ExecutionContext, inputs: types.Object, folder: Path) -> Content:
        everything = DavisFolder(folder)
        add_split(inputs, everything.splits)
        split = chosen_split(ctx.params)
        davis = DavisFolder(folder, split if split in everything.splits else None)
        view = types.AutocompleteView(allow_user_input=False, allow_duplicates=False)
        for name in davis.names:
            view.add_choice(name, label=name)
        inputs.list(
            "sequences", types.String(), label="Sequences", description="All, if none is chosen", view=view
        )
        add_on_error(inputs)
        names = [name for name in ctx.params.get("sequences") or davis.names if name in davis.names]
        images = [path for name in names for path in _images(davis, name)]
        written = VIDEO_BYTES_PER_IMAGE_BYTE * sum(path.stat().st_size for path in images)
        text = f"{forms.plural(len(names), 'sequence')} of DAVIS {davis.year}, "
        text += f"{forms.plural(len(images), 'frame')}, about {estimates.size(written)} of videos"
        return Content(f"davis-{davis.year}", len(names), text)

    def load(self, folder: Path, params: dict[str, Any], progress: Progress) -> fo.Dataset:
        sequences = params.get("sequences") or None
        return load_davis(folder, sequences=sequences, **loader_options(params, progress))


def _images(davis: DavisFolder, name: str) -> Sequence[Path]:
    """The images of a sequence; nothing where some are missing, which loading it will say."""
    try:
        return davis.sequence(name).frames
    except ColorTrackError:
        return []
