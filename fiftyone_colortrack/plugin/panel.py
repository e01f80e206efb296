"""The panel that shows where tracks are good and where not."""

from __future__ import annotations

from dataclasses import dataclass

import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.categories import Categories
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.analysis import (
    Analysis,
    analyze,
    group_fields,
    metrics,
    scored_view,
    track_evaluations,
)
from fiftyone_colortrack.charts import figure, group_notes, point_rows
from fiftyone_colortrack.plugin.forms import escape

NONE = "none"
PLOT_HEIGHT = "360px"
OPERATORS = "@colortrack/fiftyone-colortrack"
HELP = """
The scores of **Evaluate tracks**, over the whole dataset. Click a bar to see its videos, or a point of a line
to see its frames.
"""
NO_EVALUATION = """
**No evaluation yet**

Track labels through the videos, score the tracks against ground truth, and see here where they are good and
where not.
"""


@dataclass(frozen=True)
class _Choice:
    """A choice of one of several values, which have labels."""

    label: str
    values: dict[str, str]
    chosen: str


class ColorTrackPanel(foo.Panel):
    """Scores by attribute, time, color error, and confidence; what you click appears in the grid."""

    @property
    def config(self) -> foo.PanelConfig:
        return foo.PanelConfig(
            name="colortrack_panel",
            label="ColorTrack",
            help_markdown=HELP,
            icon="query_stats",  # of Material: for panels FiftyOne 1.22 does not find a plugin's own files
            category=Categories.ANALYZE,
            surfaces="grid",
        )

    def refresh(self, ctx: ExecutionContext) -> None:
        """Something else was chosen: a panel is rendered again after each of its events."""

    on_change_active_fields = refresh  # an evaluation adds fields

    def evaluate(self, ctx: ExecutionContext) -> None:
        ctx.prompt(f"{OPERATORS}/evaluate_tracks")

    def propagate(self, ctx: ExecutionContext) -> None:
        ctx.prompt(f"{OPERATORS}/propagate_labels")

    def show(self, ctx: ExecutionContext) -> None:
        """Show the videos of the score that was clicked, or clips of its frames."""
        name = ctx.params["path"].rpartition(".")[2]
        (breakdown,) = (b for b in self._analysis(ctx, self._choices(ctx)).breakdowns if b.name == name)
        score = breakdown.scores[ctx.params["trace"]][ctx.params["idx"]]
        ctx.ops.set_view(scored_view(ctx.dataset, score))

    def render(self, ctx: ExecutionContext) -> types.Property:
        panel = types.Object()
        if track_evaluations(ctx.dataset):
            choices = self._choices(ctx)
            row = panel.h_stack("choices", gap=2)
            for name, choice in choices.items():
                view = types.DropdownView()
                for value, label in choice.values.items():
                    view.add_choice(value, label=label)
                row.enum(
                    name,
                    list(choice.values),
                    default=choice.chosen,
                    label=choice.label,
                    view=view,
                    on_change=self.refresh,
                )
            self._add_charts(panel, self._analysis(ctx, choices))
        else:
            panel.md(NO_EVALUATION, name="no_evaluation")
            buttons = panel.h_stack("start", gap=2)
            buttons.btn("propagate", "Propagate labels", variant="outlined", on_click=self.propagate)
            buttons.btn("evaluate", "Evaluate tracks", variant="contained", on_click=self.evaluate)
        return types.Property(panel, view=types.GridView(orientation="vertical", columns=1, gap=2, pad=2))

    def _choices(self, ctx: ExecutionContext) -> dict[str, _Choice]:
        """What can be chosen; the first of everything until somebody does, or what they chose is gone."""

        def choose(name: str, label: str, values: dict[str, str]) -> _Choice:
            chosen = ctx.panel.get_state(f"choices.{name}")
            return _Choice(label, values, chosen if chosen in values else next(iter(values)))

        keys = track_evaluations(ctx.dataset)
        evaluation = choose("evaluation", "Evaluation", {key: key for key in keys})
        shown = metrics(ctx.dataset, evaluation.chosen)
        others = [key for key in keys if key != evaluation.chosen and metrics(ctx.dataset, key) == shown]
        return {
            "evaluation": evaluation,
            "against": choose("against", "Against", {**{key: key for key in others}, NONE: "nothing"}),
            "metric": choose("metric", "Score", shown),
            "group_by": choose("group_by", "Videos by", {path: path for path in group_fields(ctx.dataset)}),
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
        panel.md(f"{analysis.metric} of all videos: {', '.join(totals)}", name="totals")
        for breakdown in analysis.breakdowns:
            chart = figure(breakdown, analysis.metric)
            panel.plot(
                breakdown.name,
                data=chart["data"],
                layout=chart["layout"],
                config={"scrollZoom": False, "displayModeBar": False},
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
