"""Stop tracking."""

from __future__ import annotations

import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.stop import request_stop, running
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.work import Messages, goes_on


class StopTracking(foo.Operator):
    """Stop work on the dataset. Saved labels stay."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="stop_tracking",
            label="Stop tracking",
            description="Stop work on this dataset. Labels that are already tracked stay",
            icon="/assets/icons/stop.svg",
            dynamic=True,
            risk_level=types.RiskLevel.LOW,
        )

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement | None:
        if ctx.dataset is None or not running(ctx.dataset):
            return None
        button = types.Button(label="Stop tracking", prompt=True)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        works = running(ctx.dataset)
        if not works:
            forms.message(inputs, "none", "Nothing is running on this dataset", severity="error")
        else:
            choices = [(work.id, work.title, work.message) for work in works]
            forms.choose(inputs, "run", choices, radio=True, label="Run")
        return forms.form(self, inputs)

    def resolve_output(self, ctx: ExecutionContext) -> types.Property:
        outputs = types.Object()
        outputs.str("stopped", label="Stopping")
        return types.Property(outputs, view=types.View(label="Stop tracking"))

    def execute(self, ctx: ExecutionContext) -> dict[str, str]:
        titles = {work.id: work.title for work in running(ctx.dataset)}
        request_stop(ctx.params["run"])
        return {"stopped": titles.get(ctx.params["run"], "The run has already ended")}


class ContinueInBackground(foo.Operator):
    """Lets work continue without its dialog, and reports its end. `app.js` runs it when a dialog is closed."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="continue_in_background",
            label="Continue in the background",
            description="Continue work on this dataset without its dialog",
            icon="/assets/icons/propagate.svg",
            unlisted=True,
            execute_as_generator=True,
            risk_level=types.RiskLevel.LOW,
        )

    def execute(self, ctx: ExecutionContext) -> Messages[None]:
        yield from goes_on(ctx.params["run"])
