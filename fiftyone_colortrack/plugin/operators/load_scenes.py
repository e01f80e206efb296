"""Load rendered scenes."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import get_args

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from colortrack_benchmarks.scenes import Difficulty, load_scenes
from fiftyone_colortrack.datasets.video_dataset import unused_name
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.operators.load import DATASETS_FOLDER, add_name, config, loaded
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, show

NAME = "colortrack-scenes"
COUNT = 4
VIDEO_BYTES, SECONDS_PER_VIDEO = 200_000, 0.8  # measured
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
        forms.whole(inputs, "count", default=COUNT, label="Number of videos")
        difficulties = [(name, name.capitalize(), DESCRIPTIONS[name]) for name in get_args(Difficulty)]
        forms.choose(inputs, "difficulty", difficulties, radio=True, label="Moving things")
        name = add_name(ctx, inputs, NAME)
        count = ctx.params.get("count", COUNT)
        takes = estimates.time_needed(self.config.label, count, SECONDS_PER_VIDEO)
        written = f"about {estimates.size(count * VIDEO_BYTES)} in {_folder(name)}"
        forms.message(inputs, "estimate", f"{forms.plural(count, 'video')}: {takes}, {written}.")
        forms.check_writable(inputs, _folder(name), DATASETS_FOLDER)
        return forms.form(self, inputs)

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        name, started = ctx.params.get("name") or unused_name(NAME), time.monotonic()
        folder = _folder(name)
        options = {
            "count": ctx.params.get("count", COUNT),
            "difficulty": ctx.params.get("difficulty", "easy"),
            "persistent": True,
        }
        dataset = yield from show(
            ctx,
            self.config.label,
            lambda progress, stop: load_scenes(folder, name, progress=progress, **options),
        )
        estimates.remember_speed(self.config.label, len(dataset), time.monotonic() - started)
        return loaded(dataset)

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield ctx.ops.open_dataset(results["dataset"])


def _folder(name: str) -> Path:
    """Of a dataset's videos: never outside FiftyOne's folder, whatever was typed."""
    return Path(fo.config.default_dataset_dir) / re.sub(r"[^\w-]", "_", name)
