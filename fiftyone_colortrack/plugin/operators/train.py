"""Train tracker: on the videos and photographs of a view, without labels."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.stop import StopSignal
from fiftyone_colortrack.api.training import (
    NOTHING,
    STEPS,
    TrainProgress,
    collect,
    decoded_bytes,
    is_unfinished,
    run_folder,
    train,
)
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.weights import check_name, home, list_models, user_models_dir
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.forms import Choice
from fiftyone_colortrack.plugin.work import (
    PLUGIN,
    Messages,
    Results,
    Traces,
    WorkOperator,
    link,
    show,
    work_config,
)
from fiftyone_colortrack.progress import ProgressCallback
from fiftyone_colortrack.training.data import TrainingData

if TYPE_CHECKING:
    from fiftyone_colortrack.training import TrainResult

LABEL = "Train tracker"
PROPAGATE = f"{PLUGIN}/propagate_labels"
UNFINISHED: list[Choice] = [
    ("continue", "Continue", "Go on where it was stopped, with the same files"),
    ("anew", "Start anew", "Drop what it has learned"),
]
SECONDS_PER_STEP = (0.8, 2.5)  # measured on 2 CPU cores, see docs/recipes.md
BUDGET = 8 * 2**30  # bytes of decoded frames, as in `training.fit`
CURVE_POINTS = 200
NAMED_FILES = 3  # of those that could not be read


class TrainTracker(WorkOperator):
    """Trains a tracker that **Propagate labels** offers by its name."""

    @property
    def config(self) -> foo.OperatorConfig:
        return work_config(
            "train_tracker",
            LABEL,
            "Train a tracker on these videos and photographs, without any label",
            "train",
        )

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        try:
            if ctx.dataset is None:
                raise ColorTrackError("open a dataset of videos or photographs first")
            inputs.view_target(ctx, action_description="Train on")
            view = ctx.target_view()
            _Form(ctx, view, inputs).build(collect(view))
        except ColorTrackError as error:
            forms.message(inputs, "no_files", str(error), severity="error")
        return forms.form(self, inputs)

    def resolve_run_name(self, ctx: ExecutionContext) -> str:
        return f"{LABEL} {ctx.params.get('name')}"

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        params = ctx.params
        view, name = ctx.target_view(), params["name"]
        anew = params.get("unfinished") == "anew"
        forms.remember(ctx, self.config.name, "name", "init", "steps")

        curve, traces = _LossCurve(), []

        def run(progress: ProgressCallback, stop: StopSignal) -> TrainResult:
            def report(step: TrainProgress) -> None:
                traces[:] = curve(step)
                progress(round(1000 * step.fraction), 1000, str(step))

            return train(
                view,
                name,
                init=None if params.get("init") == NOTHING else params.get("init", "fast"),
                steps=params.get("steps", STEPS),
                resume=not anew,
                overwrite=anew or bool(params.get("replace")),
                progress=report,
                stop=stop,
            )

        result = yield from show(ctx, f"{LABEL} {name}", run, chart=lambda: traces)
        files = [f"{os.path.basename(path)}: {reason}" for path, reason in result.unreadable.items()]
        more = [f"and {len(files) - NAMED_FILES} others"] if len(files) > NAMED_FILES else []
        ending = (
            f"{LABEL} with the same name goes on from there."
            if result.stopped
            else f"Propagate labels offers {name} among its models."
        )
        return {
            "summary": "\n\n".join([f"{name}: {result}", ending, *files[:NAMED_FILES], *more]),
            "variant": "warning" if files or result.stopped else "success",
            "model": None if result.stopped else name,
            "links": []
            if result.stopped
            else [link(f"Propagate labels with {name}", PROPAGATE, {"model": name}, prompt=True)],
            "scores": result.scores,
        }

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield from ()


class _Form:
    def __init__(self, ctx: ExecutionContext, view: SampleCollection, inputs: types.Object) -> None:
        self._ctx, self._view, self._inputs = ctx, view, inputs
        self._models = {info.name: info for info in list_models() if info.preset in ("fast", "paper")}
        last = forms.remembered(ctx, TrainTracker().config.name)
        self._last: dict[str, Any] = last if is_unfinished(last.get("name", "")) else {}

    def build(self, data: TrainingData) -> None:
        name = self._name()
        init = self._value("init", "fast")
        forms.choose(self._inputs, "init", self._first_weights(), default=init, label="Start from")
        steps = self._value("steps", STEPS)
        forms.whole(
            self._inputs,
            "steps",
            default=steps,
            label="Steps",
            description="More are not better by themselves: compare the trackers on labelled videos",
        )
        preset = self._models[init].preset if init in self._models else "fast"
        forms.message(self._inputs, "content", f"{_content(data)}. {self._time(steps, preset)}")
        self._disk(name)

    def _value(self, name: str, default: Any) -> Any:
        """What the form holds: what was typed, else what the run had that was stopped."""
        return self._ctx.params.get(name, self._last.get(name, default))

    def _name(self) -> str:
        """Ask for the model's name, and what to do with a run or a model that has it."""
        typed = self._value("name", None)
        name = forms.unused_name("my_tracker", self._models) if typed is None else str(typed)
        prop = self._inputs.str(
            "name",
            default=name,
            required=True,
            label="Name of the model",
            description="Letters, digits, - and _; Propagate labels offers it under this name",
        )
        if not forms.validate(prop, lambda: check_name(name, overwrite=True)):
            return ""
        if is_unfinished(name):
            label = f"A run of {name} was stopped"
            forms.choose(self._inputs, "unfinished", UNFINISHED, radio=True, label=label)
        elif name in self._models:
            label = f"Replace the model {name}"
            self._inputs.bool("replace", default=False, label=label, view=types.SwitchView())
            forms.validate(prop, lambda: check_name(name, overwrite=bool(self._ctx.params.get("replace"))))
        return name

    def _first_weights(self) -> list[Choice]:
        models = [(info.name, info.name, info.description) for info in self._models.values()]
        models.sort(key=lambda model: model[0] != "fast")
        return [*models, (NOTHING, "nothing", "Random weights, as of fast: takes many videos and hours")]

    def _time(self, steps: int, preset: str) -> str:
        """What the last run of this user says; without one, what was measured elsewhere."""
        own = [m for m in self._models.values() if m.path and m.path.parent == user_models_dir()]
        runs = {
            m.path.stat().st_mtime: m
            for m in own
            if m.path and "seconds_per_step" in m.metadata and m.preset == preset
        }
        if runs:
            last = runs[max(runs)]
            time = forms.duration(steps * last.metadata["seconds_per_step"])
            return f"About {time} for {steps:,} steps at the speed of the last run, {last.name}."
        if preset == "paper":
            return "The paper's batches are meant for a GPU; on a CPU a step may take minutes."
        low, high = (forms.duration(steps * seconds) for seconds in SECONDS_PER_STEP)
        return f"On two CPU cores {steps:,} steps take {low} to {high}; after some steps the bar knows more."

    def _disk(self, name: str) -> None:
        forms.check_writable(self._inputs, home(), "FIFTYONE_COLORTRACK_HOME")
        size = min(decoded_bytes(self._view) or BUDGET, BUDGET)
        free = shutil.disk_usage(next(folder for folder in (home(), *home().parents) if folder.exists())).free
        text = f"While it trains, {run_folder(name)} holds decoded frames: about {estimates.size(size)}."
        if size > free:
            forms.message(
                self._inputs, "disk", f"{text} Only {estimates.size(free)} are free.", severity="warning"
            )
        else:
            forms.message(self._inputs, "disk", text)


def _content(data: TrainingData) -> str:
    videos, photographs = (
        forms.plural(len(data.videos), "video"),
        forms.plural(len(data.images), "photograph"),
    )
    if not data.videos:
        return f"{photographs}, no videos: it learns to match views, but not from colours that are copied"
    return f"{videos}, {photographs}" if data.images else videos


class _LossCurve:
    """The mean loss of the last steps, over the steps, as a chart."""

    def __init__(self) -> None:
        self._points: list[tuple[int, float]] = []

    def __call__(self, step: TrainProgress) -> Traces:
        if step.numbers is None:
            return []
        self._points.append((step.done, step.loss))
        shown = self._points[:: -(-len(self._points) // CURVE_POINTS)]
        x, y = zip(*shown, strict=True)
        return [{"x": x, "y": y, "type": "scatter", "mode": "lines", "name": "loss"}]
