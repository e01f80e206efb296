"""The panel: where tracks fail, what the tracker doubts in the open video, and running work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.categories import Categories
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.analysis import (
    Analysis,
    analyze,
    doubtful_frames,
    group_fields,
    metrics,
    object_confidence,
    scored_view,
    track_evaluations,
)
from fiftyone_colortrack.api.stop import request_stop, running
from fiftyone_colortrack.charts import confidence_figure, figure, group_notes, point_rows
from fiftyone_colortrack.fields import check_videos, frame_path, is_tracks, seed_fields, whole
from fiftyone_colortrack.plugin.forms import escape, open_sample
from fiftyone_colortrack.plugin.operators.suggest_frame import GO_TO_FRAME

NONE = "none"
PLOT_HEIGHT = "360px"
PLOT_CONFIG = {"scrollZoom": False, "displayModeBar": False}
MILLISECONDS_BETWEEN_LOOKS = 2000
OPERATORS = "@colortrack/fiftyone-colortrack"
HELP = """
In the grid, the panel shows the scores of **Evaluate tracks** over the whole dataset. Click a bar to see its videos,
or a point on a line to see its frames. Next to an open video, the panel shows the tracker's confidence in each object.
Click a point to go to its frame.
"""
NO_EVALUATION = """
**No evaluation yet**

Propagate labels, evaluate the tracks against ground truth, and see here where they fail.
"""
BESIDE_VIDEO = """
Click a point to go to its frame. To see the video at the same time, click **Split horizontally** next to the tab.
"""


@dataclass(frozen=True)
class _Choice:
    """A choice of one of several labeled values."""

    label: str
    values: dict[str, str]
    chosen: str


class ColorTrackPanel(foo.Panel):
    """Running work; in the grid, scores by attribute, time, color error, and confidence; next to a video, the
    tracker's confidence.
    """

    @property
    def config(self) -> foo.PanelConfig:
        return foo.PanelConfig(
            name="colortrack_panel",
            label="ColorTrack",
            help_markdown=HELP,
            icon="query_stats",  # of Material: for panels FiftyOne 1.22 does not find a plugin's own files
            category=Categories.ANALYZE,
            surfaces="grid modal",
        )

    def refresh(self, ctx: ExecutionContext) -> None:
        """Do nothing: a panel is rendered again after each of its events."""

    on_change_active_fields = refresh  # an evaluation adds fields
    on_change_current_sample = refresh

    def look(self, ctx: ExecutionContext) -> None:
        """Look how far the work is; when it has ended, show what it wrote."""
        if not running(ctx.dataset):
            ctx.ops.reload_dataset()

    def stop(self, ctx: ExecutionContext) -> None:
        request_stop(ctx.params["run"])

    def go_to(self, ctx: ExecutionContext) -> None:
        """Go to the frame of the clicked point."""
        ctx.trigger(GO_TO_FRAME, {"frame_numbers": [int(ctx.params["x"])]})

    def next_doubtful(self, ctx: ExecutionContext) -> None:
        self._step(ctx, 1)

    def previous_doubtful(self, ctx: ExecutionContext) -> None:
        self._step(ctx, -1)

    def _step(self, ctx: ExecutionContext, direction: int) -> None:
        """Go to the next or previous doubtful frame, and wrap around at the end."""
        tracks = self._choose_tracks(ctx)
        if tracks is None:
            return
        confidence = object_confidence(check_videos(open_sample(ctx)), tracks.chosen)
        numbers = doubtful_frames(confidence)[::direction]
        if not numbers:
            ctx.ops.notify("This video has no doubtful frames")
            return
        ctx.trigger(GO_TO_FRAME, {"frame_numbers": numbers})

    def evaluate(self, ctx: ExecutionContext) -> None:
        ctx.prompt(f"{OPERATORS}/evaluate_tracks")

    def propagate(self, ctx: ExecutionContext) -> None:
        ctx.prompt(f"{OPERATORS}/propagate_labels")

    def show(self, ctx: ExecutionContext) -> None:
        """Show the videos of the clicked score, or clips of its frames."""
        name = ctx.params["path"].rpartition(".")[2]
        (breakdown,) = (b for b in self._analysis(ctx, self._choices(ctx)).breakdowns if b.name == name)
        score = breakdown.scores[ctx.params["trace"]][ctx.params["idx"]]
        ctx.ops.set_view(scored_view(ctx.dataset, score))

    def render(self, ctx: ExecutionContext) -> types.Property:
        panel = types.Object()
        self._add_running(panel, ctx)
        if ctx.current_sample:
            self._add_video(panel, ctx)
        elif track_evaluations(ctx.dataset):
            choices = self._choices(ctx)
            self._add_choices(panel, choices)
            self._add_charts(panel, self._analysis(ctx, choices))
        else:
            panel.md(NO_EVALUATION, name="no_evaluation")
            buttons = panel.h_stack("start", gap=2)
            buttons.btn("propagate", "Propagate labels", variant="outlined", on_click=self.propagate)
            buttons.btn("evaluate", "Evaluate tracks", variant="contained", on_click=self.evaluate)
        return types.Property(panel, view=types.GridView(orientation="vertical", columns=1, gap=2, pad=2))

    def _add_running(self, panel: types.Object, ctx: ExecutionContext) -> None:
        """List the running work, and keep the list up to date."""
        works = running(ctx.dataset)
        for work in works:
            row = panel.h_stack(f"run_{work.id}", gap=2, align_y="center")
            row.md(f"**{escape(work.title)}** {work.fraction:.0%} {escape(work.message)}", name="progress")
            row.btn("stop", "Stop", variant="outlined", on_click=self.stop, params={"run": work.id})
        if works:
            timer = types.TimerView(interval=MILLISECONDS_BETWEEN_LOOKS, on_interval=self.look)
            panel.obj("timer", view=timer)

    def _add_video(self, panel: types.Object, ctx: ExecutionContext) -> None:
        """Show the tracker's confidence in the objects of the open video."""
        tracks = self._choose_tracks(ctx)
        if tracks is None:
            panel.md(
                "**No tracks yet.** Propagate labels to see the tracker's confidence here.", name="no_tracks"
            )
            return
        if len(tracks.values) > 1:
            self._add_choices(panel, {"tracks": tracks})
        confidence = object_confidence(check_videos(open_sample(ctx)), tracks.chosen)
        if not any(confidence.values()):
            panel.md(f"This video has no labels in {escape(tracks.chosen)}.", name="no_labels")
            return
        chart = confidence_figure(confidence)
        panel.plot(
            "confidence",
            data=chart["data"],
            layout=chart["layout"],
            config=PLOT_CONFIG,
            height=PLOT_HEIGHT,
            on_click=self.go_to,
        )
        panel.md(BESIDE_VIDEO, name="hint")
        row = panel.h_stack("doubtful", gap=2)
        row.btn("previous", "Previous doubtful frame", variant="outlined", on_click=self.previous_doubtful)
        row.btn("next", "Next doubtful frame", variant="outlined", on_click=self.next_doubtful)

    def _add_choices(self, panel: types.Object, choices: dict[str, _Choice]) -> None:
        row = panel.h_stack("choices", gap=2)
        for name, choice in choices.items():
            view = types.DropdownView()
            for value, label in choice.values.items():
                view.add_choice(value, label=label)
            values, change = list(choice.values), self.refresh
            row.enum(name, values, default=choice.chosen, label=choice.label, view=view, on_change=change)

    def _choose_tracks(self, ctx: ExecutionContext) -> _Choice | None:
        """The fields of tracks, the latest first; None if there are none."""
        videos = whole(ctx.dataset)
        paths = [frame_path(name) for name in reversed(seed_fields(videos)) if is_tracks(videos, name)]
        return self._choose(ctx, "tracks", "Tracks", {path: path for path in paths}) if paths else None

    def _choose(self, ctx: ExecutionContext, name: str, label: str, values: dict[str, str]) -> _Choice:
        """The chosen value; by default, or if it is gone, the first one."""
        chosen = ctx.panel.get_state(f"choices.{name}")
        return _Choice(label, values, chosen if chosen in values else next(iter(values)))

    def _choices(self, ctx: ExecutionContext) -> dict[str, _Choice]:
        """The choices for the charts."""
        choose = partial(self._choose, ctx)
        keys = track_evaluations(ctx.dataset)
        evaluation = choose("evaluation", "Evaluation", {key: key for key in keys})
        shown = metrics(ctx.dataset, evaluation.chosen)
        others = [key for key in keys if key != evaluation.chosen and metrics(ctx.dataset, key) == shown]
        return {
            "evaluation": evaluation,
            "against": choose("against", "Compare with", {**{key: key for key in others}, NONE: "nothing"}),
            "metric": choose("metric", "Score", shown),
            "group_by": choose(
                "group_by", "Group videos by", {path: path for path in group_fields(ctx.dataset)}
            ),
        }

    def _analysis(self, ctx: ExecutionContext, choices: dict[str, _Choice]) -> Analysis:
        chosen = {name: choice.chosen for name, choice in choices.items()}
        return analyze(
            ctx.dataset,
            chosen["evaluation"],
            against=None if chosen["against"] == NONE else chosen["against"],
            metric=chosen["metric"],
            group_by=chosen["group_by"],
        )

    def _add_charts(self, panel: types.Object, analysis: Analysis) -> None:
        totals = [f"{k} {total:.1%}" for k, total in analysis.totals.items() if total is not None]
        panel.md(escape(f"{analysis.metric} of all videos: {', '.join(totals)}"), name="totals")
        for breakdown in analysis.breakdowns:
            chart = figure(breakdown, analysis.metric)
            panel.plot(
                breakdown.name,
                data=chart["data"],
                layout=chart["layout"],
                config=PLOT_CONFIG,
                height=PLOT_HEIGHT,
                on_click=self.show,
            )
            if group_notes(breakdown):
                panel.md(escape(group_notes(breakdown)), name=f"key_{breakdown.name}")
        for name, points in analysis.points.items():
            head, *body = [[escape(cell) for cell in row] for row in point_rows(points)]
            lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]
            title = f"**Keypoints: {escape(name)}**"
            panel.md("\n".join([title, "", *lines]), name=f"points_{name}")
        for i, text in enumerate(analysis.missing):
            panel.md(escape(text), name=f"missing_{i}")
