"""Train a tracker on the videos and images of a view, without labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.stop import StopSignal
from fiftyone_colortrack.api.training import (
    STEPS,
    collect,
    decoded_bytes,
    is_unfinished,
    run_folder,
    train,
)
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.weights import RANDOM, check_name, home, list_models, user_models_dir
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
from fiftyone_colortrack.settings import check_space
from fiftyone_colortrack.training.checkpoint import CHECKPOINT, Checkpoint
from fiftyone_colortrack.training.data import TrainingData, cache_key

if TYPE_CHECKING:
    from fiftyone_colortrack.training import TrainResult

LABEL = "Train tracker"
PROPAGATE = f"{PLUGIN}/propagate_labels"
UNFINISHED: list[Choice] = [
    ("resume", "Resume", "Continue after the last step, with the same files"),
    ("overwrite", "Replace", "Discard the run and start again"),
]
SECONDS_PER_STEP = (0.8, 2.5)  # measured on 2 CPU cores, see docs/recipes.md
BUDGET = 8.0  # GiB of decoded frames, as in `train`
CURVE_POINTS = 200
SMOOTHING = 0.95  # of the loss curve
NAMED_FILES = 3  # that could not be read


class TrainTracker(WorkOperator):
    """Train a tracker, which **Propagate labels** then lists by its name."""

    @property
    def config(self) -> foo.OperatorConfig:
        return work_config(
            "train_tracker",
            LABEL,
            "Train a tracker on your videos and images, without labels",
            "train",
        )

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        try:
            if ctx.dataset is None:
                raise ColorTrackError("open a dataset of videos or images first")
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
        replaced = params.get("unfinished") == "overwrite" or bool(params.get("overwrite"))
        forms.remember(ctx, self.config.name, "name", "init", "steps")
        curve = _LossCurve()

        def run(progress: ProgressCallback, stop: StopSignal) -> TrainResult:
            return train(
                view,
                name=name,
                init=params.get("init", "fast"),
                steps=params.get("steps", STEPS),
                resume=not replaced and is_unfinished(name),
                overwrite=replaced,
                progress=progress,
                on_numbers=curve.add,
                stop=stop,
            )

        result = yield from show(ctx, f"{LABEL} {name}", run, chart=curve.traces)
        files = [f"{os.path.basename(path)}: {reason}" for path, reason in result.unreadable.items()]
        more = [f"and {len(files) - NAMED_FILES} others"] if len(files) > NAMED_FILES else []
        if result.stopped:
            ending, links = f"To resume it, run {LABEL} with the same name.", []
        else:
            ending = f"Propagate labels now lists {name} among its models."
            links = [link(f"Propagate labels with {name}", PROPAGATE, {"model": name}, prompt=True)]
        lines = [f"{name}: {result}", ending, *files[:NAMED_FILES], *more]
        return {
            "summary": "\n\n".join(forms.escape(line) for line in lines),
            "title": "Stopped" if result.stopped else "Done",
            "variant": "warning" if files or result.stopped else "success",
            "model": result.model or None,
            "links": links,
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
        run = self._run(name, data)
        init = self._value("init", "fast")
        forms.choose(self._inputs, "init", self._first_weights(), default=init, label="Start from")
        steps = self._value("steps", STEPS)
        prop = forms.whole(
            self._inputs,
            "steps",
            default=steps,
            label="Steps",
            description="More steps are not always better: compare trackers on labeled videos",
        )
        if run and steps <= run.step:
            prop.invalid = True
            prop.error_message = (
                f"The run has already done {forms.plural(run.step, 'step')}: enter more steps"
            )
        preset = self._models[init].preset if init in self._models else "fast"
        left = steps - run.step if run else steps
        forms.message(self._inputs, "content", f"{_content(data)}. {self._time(max(left, 0), preset)}")
        self._files(data)
        self._disk(name)

    def _value(self, name: str, default: Any) -> Any:
        """The value in the form: entered now, or of the stopped run."""
        return self._ctx.params.get(name, self._last.get(name, default))

    def _name(self) -> str:
        """Ask for the model's name, and whether to replace a model that has it; empty if it is invalid."""
        typed = self._value("name", None)
        name = forms.unused_name("my_tracker", self._models) if typed is None else str(typed)
        prop = self._inputs.str(
            "name",
            default=name,
            required=True,
            label="Name of the model",
            description="Letters, digits, - and _. Propagate labels lists the model by this name",
        )
        if not forms.validate(prop, lambda: check_name(name, overwrite=True)):
            return ""
        if name in self._models and not is_unfinished(name):
            label = f"Replace the model {name}"
            self._inputs.bool("overwrite", default=False, label=label, view=types.SwitchView())
            forms.validate(prop, lambda: check_name(name, bool(self._ctx.params.get("overwrite"))))
        return name

    def _run(self, name: str, data: TrainingData) -> Checkpoint | None:
        """Ask what to do with a stopped run of this name; return it if it will be resumed."""
        if not name or not is_unfinished(name):
            return None
        run, reason = None, ""
        try:
            run = Checkpoint.open(run_folder(name) / CHECKPOINT)
            if run.origin.data != cache_key(data, BUDGET):
                reason = f"The run of {name} began with other files: select those files, or replace the run"
        except ColorTrackError as error:
            reason = str(error)
        prop = forms.choose(
            self._inputs, "unfinished", UNFINISHED, radio=True, label=f"A run of {name} was stopped"
        )
        if self._ctx.params.get("unfinished") == "overwrite":
            return None
        if reason:
            prop.invalid, prop.error_message = True, reason
            return None
        return run

    def _first_weights(self) -> list[Choice]:
        models = [(info.name, info.name, info.description) for info in self._models.values()]
        models.sort(key=lambda model: model[0] != "fast")
        return [*models, (RANDOM, "Random weights", "Needs many videos and takes hours")]

    def _files(self, data: TrainingData) -> None:
        """Mark files that do not exist."""
        files = [video if isinstance(video, Path) else video[0] for video in data.videos] + [*data.images]
        missing = [file for file in files if not file.exists()]
        if len(missing) == len(files):
            text = f"None of the files exist, for example {missing[0]}"
            forms.message(self._inputs, "no_files", text, severity="error")
        elif missing:
            text = f"{forms.plural(len(missing), 'missing file')} will be skipped, for example {missing[0]}"
            forms.message(self._inputs, "missing", text, severity="warning")

    def _time(self, steps: int, preset: str) -> str:
        """An estimate from your last run, or from measurements on another machine."""
        own = [m for m in self._models.values() if m.path and m.path.parent == user_models_dir()]
        runs = {
            m.path.stat().st_mtime: m
            for m in own
            if m.path and "seconds_per_step" in m.metadata and m.preset == preset
        }
        if runs:
            last = runs[max(runs)]
            time = forms.duration(steps * last.metadata["seconds_per_step"])
            return f"{steps:,} steps take about {time}, at the speed of your last run, {last.name}."
        if preset == "paper":
            return "The batches of this model are made for a GPU. On a CPU, a step may take minutes."
        low, high = (forms.duration(steps * seconds) for seconds in SECONDS_PER_STEP)
        return f"On two CPU cores, {steps:,} steps take {low} to {high}."

    def _disk(self, name: str) -> None:
        forms.check_writable(self._inputs, home(), "FIFTYONE_COLORTRACK_HOME")
        budget = round(BUDGET * 2**30)
        known = decoded_bytes(self._view)
        size = min(known or budget, budget)
        folder = run_folder(name) if name else home()
        about = "about" if known else "up to"
        text = f"Decoded frames take {about} {estimates.size(size)} in {folder} during training."
        try:
            check_space(folder, size if known else 0)  # training itself checks once it knows
        except ColorTrackError as error:
            forms.message(self._inputs, "disk", str(error), severity="error")
        else:
            forms.message(self._inputs, "disk", text)


def _content(data: TrainingData) -> str:
    videos, images = (
        forms.plural(len(data.videos), "video"),
        forms.plural(len(data.images), "image"),
    )
    if not data.videos:
        return f"{images}, no videos: training works better with videos"
    return f"{videos}, {images}" if data.images else videos


class _LossCurve:
    """The smoothed loss over the steps, as a chart."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: list[float] = []

    def add(self, step: int, numbers: dict[str, float]) -> None:
        """Add a step."""
        before = self._losses[-1] if self._losses else numbers["loss"]
        self._losses.append(SMOOTHING * before + (1 - SMOOTHING) * numbers["loss"])
        self._steps.append(step)

    def traces(self) -> Traces:
        """What to draw; nothing before the first step."""
        every = -(-len(self._losses) // CURVE_POINTS) or 1
        x, y = self._steps[::every], self._losses[::every]
        return [{"x": x, "y": y, "type": "scatter", "mode": "lines", "name": "loss"}] if x else []
