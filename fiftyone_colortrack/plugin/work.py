"""Operators whose work takes a while: progress in the App, stopping, a summary at the end."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import fiftyone.operators as foo
from bson import json_util
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.report import drain
from fiftyone_colortrack.api.stop import StopSignal
from fiftyone_colortrack.errors import ColorTrackError

T = TypeVar("T")
S = TypeVar("S", bound="Step")
Results = dict[str, Any]
Messages = Generator[Any, None, T]
"""Yields messages to the App."""
Traces = list[dict[str, Any]]
"""What Plotly draws; nothing: no chart."""

PLUGIN = "@colortrack/fiftyone-colortrack"
STOP_OPERATOR = f"{PLUGIN}/stop_tracking"
SECONDS_BETWEEN_MESSAGES = 0.5
CHART_LAYOUT = {
    "height": 240,
    "margin": {"t": 10, "b": 40, "l": 60, "r": 10},
    "xaxis": {"title": {"text": "step"}},
    "yaxis": {"title": {"text": "loss"}},
}


class Step(Protocol):
    """Progress that can be shown: `str` describes it, `fraction` is the share of the work that is done."""

    @property
    def fraction(self) -> float: ...


def work_config(name: str, label: str, description: str, icon: str) -> foo.OperatorConfig:
    """The configuration of a `WorkOperator` with a form."""
    return foo.OperatorConfig(
        name=name,
        label=label,
        description=description,
        icon=f"/assets/icons/{icon}.svg",
        dynamic=True,
        execute_as_generator=True,
        allow_delegated_execution=True,
        risk_level=types.RiskLevel.MEDIUM,
    )


class WorkOperator(foo.Operator):
    """An operator whose work yields progress.

    In the App it is a generator of messages, which is the only way that FiftyOne shows progress. Delegated it
    runs to its end, and its results are kept with the delegated operation.
    """

    @abstractmethod
    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        """Do the work; returns what `resolve_output` shows: a `summary`, in Markdown, and `links`."""

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        """What the App does when the work is done."""
        yield ctx.ops.reload_dataset()

    def resolve_output(self, ctx: ExecutionContext) -> types.Property:
        outputs = types.Object()
        outputs.str("summary", label="Done", view=types.MarkdownView())
        for number, button in enumerate(ctx.results.get("links", [])):
            outputs.btn(f"link_{number}", variant="outlined", **button)
        return types.Property(outputs, view=types.View(label=self.config.label))

    def execute(self, ctx: ExecutionContext) -> Results | Messages[None]:
        if not ctx.delegated:
            return self._execute_in_app(ctx)
        return drain(self.work(ctx))

    def _execute_in_app(self, ctx: ExecutionContext) -> Messages[None]:
        yield ctx.ops.set_progress(progress=0.0, label="Preparing")
        try:
            results = yield from self.work(ctx)
        except ColorTrackError as error:
            yield ctx.ops.notify(str(error), variant="error")
            return
        ctx.request_params["results"] = results
        yield ctx.ops.show_output(self.resolve_output(ctx).to_json(), results)
        yield from self.after(ctx, results)
        yield ctx.ops.notify(results["summary"], variant=results.get("variant", "success"))


def link(label: str, operator: str, params: Results | None = None, *, prompt: bool = False) -> Results:
    """A button below a summary: it executes an operator, or opens its form (`prompt`)."""
    return {"label": label, "on_click": operator, "params": params or {}, "prompt": prompt}


def view_link(label: str, view: SampleCollection) -> Results:
    """A button below a summary that shows a view in the grid."""
    return link(label, "set_view", {"view": json.loads(json_util.dumps(view._serialize()))})


def show(
    ctx: ExecutionContext,
    steps: Generator[S, None, T],
    stop: StopSignal | None = None,
    chart: Callable[[S], Traces] | None = None,
) -> Messages[T]:
    """Show the progress of some steps, a button that stops them, and a chart; returns what they return."""
    last = -SECONDS_BETWEEN_MESSAGES
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        traces = chart(step) if chart else []
        if time.monotonic() - last < SECONDS_BETWEEN_MESSAGES:
            continue
        last = time.monotonic()
        if ctx.delegated:
            ctx.set_progress(step.fraction, label=str(step))
        else:
            results = {"progress": step.fraction, "chart": traces}
            yield ctx.ops.show_output(_progress_output(str(step), stop, bool(traces)), results)


def _progress_output(label: str, stop: StopSignal | None, chart: bool) -> dict[str, Any]:
    outputs = types.Object()
    outputs.float("progress", view=types.ProgressView(label=label))
    if chart:
        outputs.plot("chart", layout=CHART_LAYOUT)
    if stop is not None:
        params = {"run": stop.id}
        outputs.btn("stop", "Stop", variant="outlined", on_click=STOP_OPERATOR, params=params)
    return types.Property(outputs).to_json()


@dataclass(frozen=True)
class Count:
    """Progress by numbers: `done` of `total`, the last one being `name`."""

    done: int
    total: int
    name: str

    @property
    def fraction(self) -> float:
        return self.done / self.total if self.total else 0.0

    def __str__(self) -> str:
        return f"{self.done} of {self.total}: {self.name}"


def counted(function: Callable[[Callable[[int, int, str], None]], T]) -> Generator[Count, None, T]:
    """`reported` for a function that counts."""
    return reported(lambda report: function(lambda done, total, name: report(Count(done, total, name))))


def reported(
    function: Callable[[Callable[[S], None]], T], stop: StopSignal | None = None
) -> Generator[S, None, T]:
    """Run a function that reports its progress to a callback, as a generator of that progress.

    When the generator is closed, as with the App's window, the function is asked to stop and waited for.
    """
    steps: SimpleQueue[S | None] = SimpleQueue()

    def run() -> T:
        try:
            return function(steps.put)
        finally:
            steps.put(None)

    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(run)
        try:
            while (step := steps.get()) is not None:
                yield step
        except GeneratorExit:
            if stop is not None:
                stop.request()
            raise
    return result.result()
