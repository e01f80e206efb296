"""Load JHMDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.datasets.jhmdb import JhmdbFolder, load_jhmdb
from fiftyone_colortrack.plugin import forms
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


class LoadJhmdb(LoadOperator):
    """Loads JHMDB."""

    folder_help = "With joint_positions, splits, and Rename_Images or ReCompress_Videos"

    @property
    def config(self) -> foo.OperatorConfig:
        return config("load_jhmdb", "Load JHMDB", "Make a video dataset with human joints of a JHMDB folder")

    def add_choices(self, ctx: ExecutionContext, inputs: types.Object, folder: Path) -> Content:
        everything = JhmdbFolder(folder)
        add_split(inputs, everything.splits)
        split = chosen_split(ctx.params)
        jhmdb = JhmdbFolder(folder, split if split in everything.splits else None)
        add_on_error(inputs)
        return Content("jhmdb", len(jhmdb.names), f"{forms.plural(len(jhmdb.names), 'video')} with joints")

    def load(self, folder: Path, params: dict[str, Any], progress: Progress) -> fo.Dataset:
        return load_jhmdb(folder, **loader_options(params, progress))
