"""Load Kinetics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.datasets.kinetics import load_kinetics, read_kinetics
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.operators.load import (
    Content,
    LoadOperator,
    Progress,
    add_split,
    chosen_split,
    config,
    loader_options,
)


class LoadKinetics(LoadOperator):
    """Loads a folder of Kinetics' videos, or of any others."""

    folder_help = "With videos, in folders named by class or beside Kinetics' lists (CSV)"

    @property
    def config(self) -> foo.OperatorConfig:
        return config(
            "load_kinetics", "Load Kinetics", "Make a video dataset of a folder of videos, to train on"
        )

    def add_choices(self, ctx: ExecutionContext, inputs: types.Object, folder: Path) -> Content:
        clips = read_kinetics(folder)
        splits = sorted({clip.split for clip in clips if clip.split})
        add_split(inputs, splits)
        forms.whole(inputs, "max_samples", label="At most so many videos", description="All, if empty")
        split = chosen_split(ctx.params)
        count = sum(split not in splits or clip.split == split for clip in clips)
        count = min(count, ctx.params.get("max_samples", count))
        return Content("kinetics", count, f"{forms.plural(count, 'video')}; broken ones are left out")

    def load(self, folder: Path, params: dict[str, Any], progress: Progress) -> fo.Dataset:
        options = {**loader_options(params, progress), "on_error": "skip"}
        return load_kinetics(folder, max_samples=params.get("max_samples"), **options)
