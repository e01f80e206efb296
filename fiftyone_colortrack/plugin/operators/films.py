"""Render videos: predicted colors, embeddings, and both beside the tracks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.films import FilmReport, colorize, embed, film
from fiftyone_colortrack.fields import check_videos, is_tracks
from fiftyone_colortrack.model.weights import list_models
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.forms import Choice
from fiftyone_colortrack.plugin.reading import reader
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, has_left, show, work_config

BASES: list[Choice] = [
    ("video", "For each video", "Show the most detail in each video"),
    ("dataset", "For all videos", "Use the same colors in all videos"),
]


class _FilmOperator(WorkOperator):
    about: tuple[str, str, str]
    """Name, label, and description."""
    make: Callable[..., FilmReport]
    seconds_per_frame: float
    """Of 854 x 480 pixels on two CPU cores, as in `propagate`."""
    panels = 1
    """Pictures beside each other, each as large as the source."""
    settings: tuple[str, ...] = ()
    """Parameters that only this operator has."""

    @property
    def config(self) -> foo.OperatorConfig:
        name, label, description = self.about
        return work_config(name, label, description, "film")

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view_prop = inputs.view_target(ctx, action_description="Render videos of")
        view = ctx.target_view()
        if forms.validate(view_prop, lambda: check_videos(view, whole_videos=True)):
            view = check_videos(view)
            models = [(info.name, info.name, info.description) for info in list_models()]
            models.sort(key=lambda model: model[0] != "fast")
            last = forms.remembered(ctx, self.config.name)
            forms.choose(inputs, "model", models, default=last.get("model"), label="Model")
            self._add_settings(inputs, view, last)
            switch = types.SwitchView()
            inputs.bool("overwrite", default=False, label="Render existing videos again", view=switch)
            model = ctx.params.get("model", last.get("model", models[0][0]))
            forms.message(inputs, "estimate", self._estimate(view, model))
        return forms.form(self, inputs)

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        names = ("model", "overwrite", *self.settings)
        forms.remember(ctx, self.config.name, "model", *self.settings)
        options = {name: ctx.params[name] for name in names if name in ctx.params}
        view, make = ctx.target_view(), type(self).make
        report = yield from show(
            ctx,
            self.config.label,
            lambda progress, stop: make(view, progress=progress, stop=stop, **options),
        )
        done = report.with_status("done")
        frames, seconds = sum(video.frames for video in done), sum(video.seconds for video in done)
        estimates.remember_speed(self._work(options.get("model", "fast")), frames, seconds)
        failed = [f"{os.path.basename(v.filepath)}: {v.reason}" for v in report.with_status("failed")]
        made = report.dataset if len(failed) < len(report.videos) else None
        name = made and made.name
        return {
            "summary": "\n\n".join(map(forms.escape, [str(report), *failed])),
            "title": "Done" if done else "Nothing was rendered",
            "variant": "warning" if failed else "success" if done else "info",
            "dataset": name,
        }

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        if results["dataset"] and not has_left(ctx):
            yield ctx.ops.open_dataset(results["dataset"])

    def _add_settings(self, inputs: types.Object, view: SampleCollection, last: dict[str, Any]) -> None:
        pass

    def _work(self, model: str) -> str:
        return f"{self.about[0]} with {model}"

    def _estimate(self, view: SampleCollection, model: str) -> str:
        """The estimated time and storage. A panel of a rendered video takes about as much as its source."""
        size, frames = reader(view)(_size_and_length)
        parts = [forms.plural(len(view), "video")]
        if frames:
            takes = estimates.time_needed(self._work(model), frames, self.seconds_per_frame)
            parts += [forms.plural(frames, "frame"), takes]
        parts += [f"about {estimates.size(size * self.panels)}"] if size else []
        return f"Renders {', '.join(parts)}, to a new dataset and a folder next to the videos."


class ColorizeVideos(_FilmOperator):
    """Predict the colors of videos from their first frames, and measure the error."""

    about = (
        "colorize_videos",
        "Colorize videos",
        "Predict the colors of each video from its first frame. Where this fails, tracking fails",
    )
    make = colorize
    seconds_per_frame = 0.4


class EmbedVideos(_FilmOperator):
    """Show the embeddings of videos in false colors."""

    about = (
        "embed_videos",
        "Show embeddings",
        "Show the embeddings of videos in false colors. The tracker confuses parts of the same color",
    )
    make = embed
    seconds_per_frame = 0.2
    settings = ("basis",)

    def _add_settings(self, inputs: types.Object, view: SampleCollection, last: dict[str, Any]) -> None:
        forms.choose(inputs, "basis", BASES, default=last.get("basis"), radio=True, label="Colors")


class FilmVideos(_FilmOperator):
    """Show each video, its tracks, predicted colors, and embeddings in a grid."""

    about = (
        "film_videos",
        "Make side-by-side videos",
        "Show each video, its tracks, predicted colors, and embeddings in a 2 x 2 grid",
    )
    make = film
    seconds_per_frame = 0.7
    panels = 4
    settings = ("label_field", "confidence")

    def _add_settings(self, inputs: types.Object, view: SampleCollection, last: dict[str, Any]) -> None:
        fields = reader(view)(forms.field_choices, empty=False)
        fields = sorted(fields, key=lambda choice: not is_tracks(view, choice[0]))
        if not fields:
            text = "There are no tracks yet. The videos will show what the network sees instead"
            forms.message(inputs, "no_tracks", text)
            return
        forms.choose(inputs, "label_field", fields, default=last.get("label_field"), label="Tracks")
        default = bool(last.get("confidence"))
        inputs.bool("confidence", default=default, label="Show confidence", view=types.SwitchView())


def _size_and_length(view: SampleCollection) -> list[float]:
    """Bytes and frames of all videos, as far as known."""
    return [view.sum(f"metadata.{name}") or 0 for name in ("size_bytes", "total_frame_count")]
