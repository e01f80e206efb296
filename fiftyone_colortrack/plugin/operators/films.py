"""Films of videos: predicted colours, embeddings, and all side by side."""

from __future__ import annotations

import os
from typing import Any

import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api import check_videos
from fiftyone_colortrack.api.films import FilmKind, films_iter
from fiftyone_colortrack.api.stop import StopSignal
from fiftyone_colortrack.model.weights import list_models
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.forms import Choice
from fiftyone_colortrack.plugin.reading import reader
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, link, show, work_config

BASES: list[Choice] = [
    ("video", "For each video", "Shows the most within a video"),
    ("dataset", "One for all videos", "A colour means the same in all films"),
]


class _FilmOperator(WorkOperator):
    kind: FilmKind
    about: tuple[str, str, str]
    """Name, label and description."""
    seconds_per_frame: float
    """Of 854 x 480 pixels on two CPU cores, as in `propagate`."""

    @property
    def config(self) -> foo.OperatorConfig:
        name, label, description = self.about
        return work_config(name, label, description, "film")

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view_prop = inputs.view_target(ctx, action_description="Make films of")
        view = ctx.target_view()
        if forms.validate(view_prop, lambda: check_videos(view)):
            models = [(info.name, info.name, info.description) for info in list_models()]
            models.sort(key=lambda model: model[0] != "fast")
            last = forms.remembered(ctx, self.config.name)
            forms.choose(inputs, "model", models, default=last.get("model"), label="Model")
            self._add_settings(inputs, view, last)
            inputs.bool("overwrite", default=False, label="Replace films that exist", view=types.SwitchView())
            model = ctx.params.get("model", last.get("model", models[0][0]))
            forms.message(inputs, "estimate", self._estimate(view, model))
        return forms.form(self, inputs)

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        forms.remember(ctx, self.config.name, "model", "basis", "tracks")
        names = ("model", "basis", "tracks", "overwrite")
        options = {name: ctx.params[name] for name in names if name in ctx.params}
        with StopSignal(forms.store(ctx), self.config.label) as stop:
            steps = films_iter(ctx.target_view(), self.kind, stop=stop, **options)
            report = yield from show(ctx, steps, stop)
        frames, seconds = (
            sum(getattr(v, name) for v in report.with_status("done")) for name in ("frames", "seconds")
        )
        estimates.remember_speed(self._work(options.get("model", "fast")), frames, seconds)
        failed = [f"{os.path.basename(v.filepath)}: {v.reason}" for v in report.with_status("failed")]
        made = len(failed) < len(report.videos)
        return {
            "summary": "\n\n".join([str(report), *failed]),
            "variant": "warning" if failed else "success",
            "dataset": report.dataset if made else None,
            "links": [link("Open the films", "open_dataset", {"dataset": report.dataset})] if made else [],
        }

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        if results["dataset"]:
            yield ctx.ops.open_dataset(results["dataset"])

    def _add_settings(self, inputs: types.Object, view: SampleCollection, last: dict[str, Any]) -> None:
        pass

    def _work(self, model: str) -> str:
        return f"films of {self.kind} with {model}"

    def _estimate(self, view: SampleCollection, model: str) -> str:
        """How much will be made; films are about as large as their videos."""
        sizes, lengths = reader(view)(_sizes_and_lengths)
        parts = [f"Films of {forms.plural(len(view), 'video')}"]
        if lengths:
            takes = estimates.time_needed(self._work(model), lengths, self.seconds_per_frame)
            parts += [forms.plural(lengths, "frame"), takes]
        parts += [f"about {estimates.size(sizes)}"] if sizes else []
        return f"{', '.join(parts)}, beside the videos' files and in a dataset of films."


class ColorizeVideos(_FilmOperator):
    """Predicts the colours of videos from their first frames, and shows how well it went."""

    kind: FilmKind = "colors"
    about = (
        "colorize_videos",
        "Colorize videos",
        "Predict colours from each video's first frame: where this fails, tracking fails",
    )
    seconds_per_frame = 0.4


class EmbedVideos(_FilmOperator):
    """Shows what the tracker sees: embeddings in false colours."""

    kind: FilmKind = "embedding"
    about = (
        "embed_videos",
        "Show embeddings",
        "Show the embeddings of videos in false colours: what has one colour is one thing to the tracker",
    )
    seconds_per_frame = 0.2

    def _add_settings(self, inputs: types.Object, view: SampleCollection, last: dict[str, Any]) -> None:
        forms.choose(inputs, "basis", BASES, default=last.get("basis"), radio=True, label="Colours")


class FilmVideos(_FilmOperator):
    """Shows a video, its tracks, its predicted colours and its embeddings in one picture."""

    kind: FilmKind = "overview"
    about = (
        "film_videos",
        "Make side-by-side films",
        "Show videos, their tracks, predicted colours and embeddings side by side, for talks",
    )
    seconds_per_frame = 0.7

    def _add_settings(self, inputs: types.Object, view: SampleCollection, last: dict[str, Any]) -> None:
        fields = reader(view)(forms.field_choices, empty=False)
        fields = sorted(fields, key=lambda choice: not forms.is_tracks(view, choice[0]))
        if fields:
            forms.choose(inputs, "tracks", fields, default=last.get("tracks"), label="Tracks")
        else:
            forms.message(inputs, "no_tracks", "There are no tracks yet: the films will be without them")


def _sizes_and_lengths(view: SampleCollection) -> list[float]:
    """Bytes and frames of all videos, as far as they are known."""
    return [view.sum(f"metadata.{name}") or 0 for name in ("size_bytes", "total_frame_count")]
