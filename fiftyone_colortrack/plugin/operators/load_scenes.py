"""Load rendered scenes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, get_args

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.datasets.scenes import Difficulty, load_scenes
from fiftyone_colortrack.datasets.video_dataset import unused_name
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.operators.load import add_name, config, loaded
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, counted, show

NAME = "colortrack-scenes"
COUNT = 4
VIDEO_BYTES = 200_000  # measured
DESCRIPTIONS: dict[str, str] = {
    "easy": "Slow, in colours of their own",
    "hard": "Fast, alike, hiding each other",
}


class LoadScenes(WorkOperator):
    """Renders videos with exact labels: something to try the tracker on."""

    @property
    def config(self) -> foo.OperatorConfig:
        description = "Render videos with exact masks, boxes and key points, to try tracking on"
        return config("load_scenes", "Render demo scenes", description)

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        inputs.int("count", min=1, max=100, default=COUNT, label="Number of videos")
        difficulties = [(name, name.capitalize(), DESCRIPTIONS[name]) for name in get_args(Difficulty)]
        forms.choose(inputs, "difficulty", difficulties, radio=True, label="Moving things")
        add_name(ctx, inputs, NAME)
        count = ctx.params.get("count") or COUNT
        takes = estimates.time_needed(self.config.label, count)
        written = f"about {estimates.size(count * VIDEO_BYTES)} in {_folder(ctx.params)}"
        forms.message(inputs, "estimate", f"{forms.plural(count, 'video')}: {takes}, {written}.")
        return types.Property(inputs, view=types.View(label="Render demo scenes"))

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        folder, started = _folder(ctx.params), time.monotonic()
        options = {
            "count": ctx.params.get("count") or COUNT,
            "difficulty": ctx.params.get("difficulty", "easy"),
            "persistent": True,
        }
        dataset = yield from show(
            ctx, counted(lambda progress: load_scenes(folder, folder.name, progress=progress, **options))
        )
        estimates.remember_speed(self.config.label, len(dataset), time.monotonic() - started)
        return loaded(dataset)

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield ctx.ops.open_dataset(results["dataset"])


def _folder(params: dict[str, Any]) -> Path:
    return Path(fo.config.default_dataset_dir) / (params.get("name") or unused_name(NAME))
