"""Operators with long work: progress in the App, stopping, and a summary at the end."""

from __future__ import annotations

import json
import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NamedTuple, TypeVar

import fiftyone.operators as foo
from bson import json_util
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.stop import StopSignal, leave
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.progress import ProgressCallback

logger = logging.getLogger(__name__)

T = TypeVar("T")
Results = dict[str, Any]
Messages = Generator[Any, None, T]
"""Yields messages to the App."""
Traces = list[dict[str, Any]]
"""Traces of Plotly; empty for no chart."""

PLUGIN = "@colortrack/fiftyone-colortrack"
STOP_OPERATOR = f"{PLUGIN}/stop_tracking"
SECONDS_BETWEEN_MESSAGES = 0.5
SECONDS_TO_LEAVE = 5
CHART_LAYOUT = {
    "height": 240,
    "margin": {"t": 10, "b": 40, "l": 60, "r": 10},
    "xaxis": {"title": {"text": "step"}},
    "yaxis": {"title": {"text": "loss"}},
}


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
    """An operator whose work reports progress.

    In the App, it is a generator of messages, because FiftyOne shows progress in no other way. A delegated operator
    runs to its end, and FiftyOne keeps its results with the delegated operation.
    """

    @abstractmethod
    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        """Do the work.

        Returns:
            what the dialog shows at the end: `summary`, in Markdown (see `forms.escape`); `title`, by default
            "Done"; `variant`: `success`, `info`, `warning`, or `error`; and `links`, see `link`
        """

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        """Update the App after the work."""
        yield ctx.ops.reload_dataset()

    def resolve_output(self, ctx: ExecutionContext) -> types.Property:
        outputs = types.Object()
        variant = ctx.results.get("variant", "success")
        if variant != "success":
            outputs.view("outcome", types.AlertView(severity=variant, label=ctx.results.get("title", "Done")))
        label = "" if variant != "success" else ctx.results.get("title", "Done")
        outputs.str("summary", label=label, view=types.MarkdownView())
        for number, button in enumerate(ctx.results.get("links", [])):
            outputs.btn(f"link_{number}", variant="outlined", **button)
        return types.Property(outputs, view=types.View(label=self.config.label))

    def execute(self, ctx: ExecutionContext) -> Results | Messages[None]:
        if not ctx.delegated:
            return self._execute_in_app(ctx)
        work = self.work(ctx)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value

    def _execute_in_app(self, ctx: ExecutionContext) -> Messages[None]:
        """Send messages until the work ends, or until somebody leaves it: then, `goes_on` has the rest of them."""
        messages = self._messages(ctx)
        for message in messages:
            if isinstance(message, _Left):
                _messages_of_left[message.id] = messages
                return
            yield message

    def _messages(self, ctx: ExecutionContext) -> Messages[None]:
        yield ctx.ops.set_progress(progress=0.0, label="Preparing")
        try:
            results = yield from self.work(ctx)
        except ColorTrackError as error:
            yield from show_error(ctx, self.config.label, str(error))
            return
        if has_left(ctx):
            text = forms.unescape(results["summary"]).replace("\n\n", ". ")
            yield ctx.ops.notify(text, variant=results.get("variant", "success"))
        else:
            ctx.request_params["results"] = results
            yield ctx.ops.show_output(self.resolve_output(ctx).to_json(), results)
        yield from self.after(ctx, results)


class _Left(NamedTuple):
    """In place of a message: somebody left the dialog of this work."""

    id: str


_messages_of_left: dict[str, Messages[None]] = {}


def goes_on(id: str) -> Messages[None]:
    """Leave the dialog of running work, and wait for the end of the work.

    FiftyOne keeps the form of an operator open as long as the operator sends messages, so the rest of them come from
    another one. Work that has ended by now has none.
    """
    leave(id)
    deadline = time.monotonic() + SECONDS_TO_LEAVE
    while id not in _messages_of_left:
        if time.monotonic() > deadline:
            return
        time.sleep(SECONDS_BETWEEN_MESSAGES / 5)
    yield from _messages_of_left.pop(id)


def has_left(ctx: ExecutionContext) -> bool:
    """Whether somebody closed the dialog of running work, and does something else now."""
    return bool(ctx.request_params.get("left"))


def show_error(ctx: ExecutionContext, title: str, reason: str) -> Messages[None]:
    """Show in an operator's dialog, until somebody closes it, why the work failed; without a dialog, notify."""
    if has_left(ctx):
        yield ctx.ops.notify(f"{title}: {reason}", variant="error")
        return
    outputs = types.Object()
    outputs.view("failed", types.AlertView(severity="error", label="Failed", description=reason))
    yield ctx.ops.show_output(types.Property(outputs, view=types.View(label=title)).to_json(), {})


def link(label: str, operator: str, params: Results | None = None, *, prompt: bool = False) -> Results:
    """A button below a summary: it executes an operator, or opens its form (`prompt`)."""
    return {"label": label, "on_click": operator, "params": params or {}, "prompt": prompt}


def view_link(label: str, view: SampleCollection) -> Results:
    """A button below a summary that shows a view in the grid."""
    return link(label, "set_view", {"view": json.loads(json_util.dumps(view._serialize()))})


def show(
    ctx: ExecutionContext,
    title: str,
    work: Callable[[ProgressCallback, StopSignal], T],
    *,
    chart: Callable[[], Traces] | None = None,
    id: str | None = None,
) -> Messages[T]:
    """Run work in a thread, and show its progress in the dialog, with a Stop button and a chart.

    If the user closes the dialog or the page, the work continues. `running` lists it until it ends.

    Args:
        ctx: of the operator
        title: of the work, as people read it
        work: called with a progress callback and a function that tells whether to stop
        chart: what to draw now
        id: of the work, see `StopSignal`

    Returns:
        What `work` returns
    """
    latest = 0, 0, "Preparing"
    result: Future[T] = Future()
    stop = StopSignal(ctx.dataset, title, id)

    def update(done: int, total: int, message: str) -> None:
        nonlocal latest
        latest = done, total, message
        stop.update(done, total, message)

    def run() -> None:
        try:
            with stop:
                done = work(update, stop)
            result.set_result(done)
        except BaseException as error:  # it belongs to whoever waits for the result
            result.set_exception(error)
            if stop.left.is_set():
                logger.error("%s failed: %s", title, error, exc_info=error)

    threading.Thread(target=run, name=f"colortrack-{stop.id}", daemon=True).start()
    shown = -SECONDS_BETWEEN_MESSAGES
    try:
        while True:
            try:
                return result.result(timeout=SECONDS_BETWEEN_MESSAGES / 5)
            except FutureTimeoutError:
                if result.done():  # by now; or the work itself raised this error
                    return result.result()
            if stop.left.is_set():
                if not has_left(ctx):
                    ctx.request_params["left"] = True
                    yield _Left(stop.id)
                    yield ctx.ops.notify(
                        f"{title} continues. The ColorTrack panel shows its progress and can stop it"
                    )
                    if not ctx.current_sample:  # whose window has the panel already
                        yield ctx.ops.open_panel("colortrack_panel", layout="horizontal")
                continue
            done, total, message = latest
            if time.monotonic() - shown < SECONDS_BETWEEN_MESSAGES:
                continue
            shown, fraction = time.monotonic(), min(done / total, 1.0) if total else 0.0
            if ctx.delegated:
                ctx.set_progress(fraction, label=message)
            else:
                traces = chart() if chart else []
                outputs = _progress_output(message, stop.id, chart=bool(traces))
                yield ctx.ops.show_output(outputs, {"progress": fraction, "chart": traces})
    except GeneratorExit:
        stop.left.set()
        raise


def until_stopped(progress: ProgressCallback, stop: Callable[[], bool], reason: str) -> ProgressCallback:
    """Report progress, and end work that cannot ask whether to stop: it gets a ColorTrackError with a reason."""

    def update(done: int, total: int, message: str) -> None:
        progress(done, total, message)
        if stop() and done < total:
            raise ColorTrackError(reason)

    return update


def _progress_output(label: str, id: str, *, chart: bool) -> dict[str, Any]:
    outputs = types.Object()
    outputs.float("progress", view=types.ProgressView(label=label))
    if chart:
        outputs.plot("chart", layout=CHART_LAYOUT)
    row = outputs.h_stack("buttons", gap=2)
    row.btn("stop", "Stop", variant="outlined", on_click=STOP_OPERATOR, params={"run": id})
    row.view("leave", types.View(component="ColorTrackLeave", run=id))  # of `app.js`
    return types.Property(outputs).to_json()
