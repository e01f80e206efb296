"""Load DAVIS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.datasets.davis import DavisFolder, load_davis
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.operators.load import (
    LoadOperator,
    Progress,
    add_skip,
    add_split,
    chosen_split,
    config,
    loader_options,
)


class LoadDavis(LoadOperator):
    """Loads DAVIS 2016 or 2017."""

    folder_help = "With JPEGImages, Annotations and ImageSets"

    @property
    def config(self) -> foo.OperatorConfig:
        return config("load_davis", "Load DAVIS", "Make a video dataset of a DAVIS 2016 or 2017 folder")

    def add_choices(self, ctx: ExecutionContext, inputs: types.Object, folder: Path) -> tuple[str, str]:
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
        add_skip(inputs)
        count = len(ctx.params.get("sequences") or davis.names)
        return f"davis-{davis.year}", f"{forms.plural(count, 'sequence')} of DAVIS {davis.year}."

    def load(self, folder: Path, params: dict[str, Any], progress: Progress) -> fo.Dataset:
        sequences = params.get("sequences") or None
        return load_davis(folder, sequences=sequences, **loader_options(params, progress))
