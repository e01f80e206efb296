"""Propagate labels: above the grid, and in a video's window."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api import PropagationReport, check_propagation, check_videos, propagate_iter
from fiftyone_colortrack.api.stop import StopSignal
from fiftyone_colortrack.datasets.video_dataset import color_by_instance
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import field_name, labelled_frames, run_field, seed_fields
from fiftyone_colortrack.model.weights import list_models
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.forms import Choice
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, show
from fiftyone_colortrack.tracking.config import TrackerConfig

LABEL = "Propagate labels"
REMEMBERED = "propagate_labels"
SPEEDS = "frames_per_second"
MAX_SHARDS = 64
SEED_TYPES = (fo.Detections, fo.Keypoints, fo.Segmentation)
SEEDS: list[Choice] = [
    ("first", "First labelled frame", "Tracks what is labelled in the first labelled frame of each video"),
    ("all", "All labelled frames", "Frames between two labelled ones are tracked from both sides"),
    ("keyframes", "Keyframes", "Tracks labels with keyframe = true: those that a person drew or corrected"),
]
DIRECTIONS: list[Choice] = [
    ("both", "Both", "All frames of the video"),
    ("forward", "Forward", "From the labelled frames to the end"),
    ("backward", "Backward", "From the labelled frames to the beginning"),
]
EXISTING: list[Choice] = [
    ("skip_existing", "Continue", "Leave the videos alone that an earlier run finished"),
    ("overwrite", "Replace", "Track all videos again and replace their tracks"),
]
BASELINES: list[Choice] = [
    ("identity", "identity", "Baseline: repeats the labels in place"),
    ("flow", "flow", "Baseline: moves the labels with optical flow"),
    ("raft", "raft", "Baseline: optical flow of a network, where torchvision's weights are present"),
]
OUTPUTS: dict[type[fo.Label], list[Choice]] = {
    fo.Detections: [
        ("same", "As labelled", "Masks stay masks, boxes stay boxes"),
        ("masks", "Masks", "Boxes are tracked as filled masks"),
        ("boxes", "Boxes", "The boxes around the tracked masks"),
    ],
    fo.Segmentation: [
        ("same", "Detections with masks", "Each class becomes a track with a timeline"),
        ("segmentation", "Segmentation", "As labelled"),
        ("boxes", "Boxes", "The box around each class"),
    ],
}

TRACKER_SETTINGS: list[tuple[str, int, int, str, str]] = [
    ("memory", 1, 20, "Memory", "How many of the last frames are looked at"),
    ("radius", 1, 60, "Radius", "How far things may move from frame to frame, in cells of 8 pixels"),
    ("top_k", 1, 100, "Matches", "How many of the best matches labels are copied from"),
    ("input_size", 128, 1440, "Short side", "Larger frames are scaled down to this, in pixels"),
]


class PropagateLabels(WorkOperator):
    """Propagate labels through the videos of the grid."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="propagate_labels",
            label=LABEL,
            description="Track the labels of one or more frames of each video through all its frames",
            icon="/assets/icons/propagate.svg",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
            risk_level=types.RiskLevel.MEDIUM,
        )

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement:
        button = types.Button(label=LABEL, prompt=True)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view = self._add_target(ctx, inputs)
        _Form(ctx, view, inputs).build()
        description = "Label one frame, get every frame labelled"
        return types.Property(inputs, view=types.View(label=LABEL, description=description))

    def resolve_output(self, ctx: ExecutionContext) -> types.Property:
        outputs = types.Object()
        outputs.str("summary", label=LABEL, view=types.MarkdownView())
        return types.Property(outputs, view=types.View(label=LABEL))

    def resolve_run_name(self, ctx: ExecutionContext) -> str:
        return f"Propagate {ctx.params.get('seed_field')} to {ctx.params.get('out_field')}"

    def resolve_delegation(self, ctx: ExecutionContext) -> bool | None:
        return False if ctx.params.get("shards", 1) > 1 else None  # it is the shards that are delegated

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        view, store = self._target(ctx), forms.store(ctx)
        options = _options(view, ctx.params)
        if ctx.dataset.app_config.color_scheme is None and not ctx.delegated:
            yield _color_by_instance(ctx)
        store.set(REMEMBERED, {key: value for key, value in ctx.params.items() if key != "estimate"})
        with StopSignal(store, f"{LABEL} to frames.{field_name(options['out_field'])}") as stop:
            report = yield from show(ctx, propagate_iter(view, stop=stop, **options), stop)
        if report.frames:
            _remember_speed(ctx, options["model"], report)
        return {
            "summary": summary(report),
            "variant": "warning" if report.with_status("failed") else "success",
            "run": report.run_key,
            "tracks": f"frames.{report.out_field}" if report.frames else None,
        }

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield from super().after(ctx, results)
        if results["tracks"]:  # in place of the labels that they start from, which lie beneath
            shown = [field for field in ctx.active_fields if field != ctx.params["seed_field"]]
            yield ctx.ops.set_active_fields([*shown, results["tracks"]])

    def _add_target(self, ctx: ExecutionContext, inputs: types.Object) -> SampleCollection:
        inputs.view_target(ctx, action_description="Track labels in")
        return self._target(ctx)

    def _target(self, ctx: ExecutionContext) -> SampleCollection:
        return ctx.target_view()


class PropagateLabelsInVideo(PropagateLabels):
    """Propagate labels through the video whose window is open."""

    @property
    def config(self) -> foo.OperatorConfig:
        config = super().config
        config.name, config.unlisted = "propagate_labels_in_video", True
        config.description = "Track the labels of one or more frames of this video through all its frames"
        return config

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement:
        button = types.Button(label=LABEL, prompt=True)
        return types.Placement(types.Places.SAMPLES_VIEWER_ACTIONS, button)

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield from super().after(ctx, results)
        yield ctx.ops.close_sample()  # an open window does not show new fields; opened again, it does

    def _add_target(self, ctx: ExecutionContext, inputs: types.Object) -> SampleCollection:
        if ctx.selected_labels:
            label = f"Only the {forms.plural(len(ctx.selected_labels), 'selected label')}"
            inputs.bool("only_selected", default=True, label=label, view=types.SwitchView())
        return self._target(ctx)

    def _target(self, ctx: ExecutionContext) -> SampleCollection:
        view = ctx.view.select(ctx.current_sample)
        if ctx.selected_labels and ctx.params.get("only_selected", True):
            view = view.select_labels(labels=ctx.selected_labels)
        return view


class _Form:
    def __init__(self, ctx: ExecutionContext, view: SampleCollection, inputs: types.Object) -> None:
        self._ctx, self._view, self._inputs = ctx, view, inputs
        self._last: dict[str, Any] = forms.store(ctx).get(REMEMBERED) or {}

    def build(self) -> None:
        try:
            check_videos(self._view)
        except ColorTrackError as error:
            forms.message(self._inputs, "no_videos", str(error), severity="error")
            return
        choices = forms.field_choices(self._view, *SEED_TYPES)
        if not choices:
            text = (
                "Open a video, press Annotate, and draw masks, boxes or key points on one frame. "
                "Then come back."
            )
            forms.message(self._inputs, "no_labels", text, severity="error", title="No labels to start from")
            return
        labelled = self._seeds(choices)
        finished = self._tracks(labelled)
        self._method(sum(map(bool, labelled.values())))
        self._estimate(labelled, finished)

    def _value(self, name: str, default: Any = None) -> Any:
        """What the form holds: what was typed, else what was chosen the last time."""
        return self._ctx.params.get(name, self._last.get(name, default))

    def _seeds(self, choices: list[Choice]) -> dict[str, list[int]]:
        """Which labels to start from; returns the labelled frames of each video."""
        field = self._value("seed_field")
        if field not in [name for name, _, _ in choices]:
            field = choices[0][0]
        keyframes = any(labelled_frames(self._view, field, "keyframes").values())
        seeds = self._value("seeds", "first")
        if seeds == "keyframes" and not keyframes:
            seeds = "first"
        prop = forms.choose(
            self._inputs, "seed_field", choices, default=field, required=True, label="Labels to start from"
        )
        options = SEEDS if keyframes else SEEDS[:2]
        forms.choose(self._inputs, "seeds", options, default=seeds, radio=True, label="Frames to start from")
        labelled = labelled_frames(self._view, field, seeds)
        if not any(labelled.values()):
            prop.invalid = True
            prop.error_message = (
                f"No frame of these videos has labels in {field}: label one, or choose another"
            )
        self._seed_field, self._seed_frames = field, seeds
        return labelled

    def _tracks(self, labelled: dict[str, list[int]]) -> int:
        """Where to write; returns the number of videos left alone because an earlier run finished them."""
        schema = self._view.get_frame_field_schema()
        name = self._ctx.params.get("out_field") or self._proposed_name(schema, labelled)
        earlier = [field for field in schema if forms.is_tracks(self._view, field)]
        view = types.AutocompleteView(allow_user_input=True)
        for field in earlier:
            view.add_choice(field, label=field, description="Tracks of an earlier run")
        prop = self._inputs.str(
            "out_field",
            default=name,
            required=True,
            label="Write tracks to",
            description="A frame field, new or of an earlier run",
            view=view,
        )
        finished, overwrite, skip = 0, False, False
        name = field_name(name)
        if name in earlier:
            finished, overwrite = self._existing(name, labelled)
            skip = not overwrite
        elif name in schema and name != field_name(self._seed_field):
            overwrite = bool(self._value("replace", False))
            label = f"Replace the labels that are in frames.{name} now"
            self._inputs.bool("replace", default=False, label=label, view=types.SwitchView())
        forms.validate(
            prop,
            lambda: check_propagation(
                self._view,
                self._seed_field,
                name,
                seeds=self._seed_frames,
                output=_output(self._ctx.params.get("output")),
                overwrite=overwrite,
                skip_existing=skip,
            ),
        )
        return finished

    def _existing(self, name: str, labelled: dict[str, list[int]]) -> tuple[int, bool]:
        """What to do with earlier tracks: the number of finished videos left alone, whether to overwrite."""
        existing = self._ctx.params.get("existing", "skip_existing")
        forms.choose(
            self._inputs, "existing", EXISTING, default=existing, radio=True, label="Tracks of earlier runs"
        )
        if existing == "overwrite":
            return 0, True
        finished, unfinished = self._count_finished(name, labelled)
        if finished and not unfinished:
            text = "All these videos are finished: replace their tracks, or write to another field."
            forms.message(self._inputs, "finished", text, severity="error")
        return finished, False

    def _count_finished(self, name: str, labelled: dict[str, list[int]]) -> tuple[int, int]:
        """How many of the labelled videos runs have finished, and how many not."""
        runs = dict(zip(*self._view.values(["id", run_field(name)]), strict=True))
        finished = [runs[id] is not None for id, frames in labelled.items() if frames]
        return sum(finished), len(finished) - sum(finished)

    def _proposed_name(self, schema: Iterable[str], labelled: dict[str, list[int]]) -> str:
        """The last run's field if there is something to continue, else a new one."""
        last = field_name(self._last.get("out_field") or "")
        if last and forms.is_tracks(self._view, last) and self._count_finished(last, labelled)[1]:
            return last
        return forms.unused_name("tracks", schema)

    def _method(self, videos: int) -> None:
        forms.choose(
            self._inputs,
            "direction",
            DIRECTIONS,
            default=self._value("direction"),
            radio=True,
            label="Direction",
        )
        forms.choose(self._inputs, "model", _models(), default=self._value("model"), label="Model")
        advanced = bool(self._value("advanced"))
        self._inputs.bool("advanced", default=advanced, label="Advanced settings", view=types.SwitchView())
        if not advanced:
            return
        outputs = OUTPUTS.get(seed_fields(self._view)[field_name(self._seed_field)])
        if outputs:
            forms.choose(self._inputs, "output", outputs, default=self._value("output"), label="Write as")
        for name, low, high, label, description in TRACKER_SETTINGS:
            default = self._value(name, getattr(TrackerConfig(), name))
            self._inputs.int(name, min=low, max=high, default=default, label=label, description=description)
        if videos > 1:
            self._inputs.int(
                "shards",
                min=1,
                max=MAX_SHARDS,
                default=self._value("shards", 1),
                label="Shards",
                description="More than one: shared among workers (fiftyone delegated launch) on any machines",
            )

    def _estimate(self, labelled: dict[str, list[int]], finished: int) -> None:
        """Say how much work it is, before the button is pressed."""
        ids, lengths = self._view.values(["id", "metadata.total_frame_count"])
        seeded = [length for id, length in zip(ids, lengths, strict=True) if labelled[id]]
        count = len(seeded) - finished
        if not count:
            return
        known = [length for length in seeded if length]
        frames = round(sum(known) / len(known) * count) if known else 0
        text = f"{forms.plural(count, 'video')} to track"
        text += f", {forms.plural(frames, 'frame')}" if frames else ""
        speed = (forms.store(self._ctx).get(SPEEDS) or {}).get(self._value("model"))
        text += (
            f", about {forms.duration(frames / speed)} at the speed of the last run"
            if speed and frames
            else ""
        )
        notes = [f"{finished} finished by earlier runs" if finished else ""]
        notes += [
            f"{len(ids) - len(seeded)} without labels in {self._seed_field}" if len(ids) > len(seeded) else ""
        ]
        details = " and ".join(filter(None, notes))
        forms.message(self._inputs, "estimate", f"{text}." + (f" Left out: {details}." if details else ""))


def summary(report: PropagationReport) -> str:
    """What a run did, and what went wrong with which video."""
    lines = [str(report)]
    lines += [f"{os.path.basename(v.filepath)} failed: {v.reason}" for v in report.with_status("failed")]
    return "\n\n".join(lines + report.warnings)


def _models() -> list[Choice]:
    """The trained tracker first, the baselines last."""
    models = [(info.name, info.name, info.description) for info in list_models() if info.preset]
    models.sort(key=lambda model: model[0] != "fast")
    return models + BASELINES


def _options(view: SampleCollection, params: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `propagate_iter` from the form's values; what the form did not ask for does not count."""
    settings = {name: params[name] for name, *_ in TRACKER_SETTINGS if params.get(name) is not None}
    shards = params.get("shards") or 1
    asked = "existing" if forms.is_tracks(view, params["out_field"]) else "replace"
    return {
        "seed_field": params["seed_field"],
        "out_field": params["out_field"],
        "seeds": params.get("seeds", "first"),
        "direction": params.get("direction", "both"),
        "model": params.get("model") or _models()[0][0],
        "output": _output(params.get("output")),
        "config": TrackerConfig(**settings),
        "overwrite": params.get(asked) in ("overwrite", True),
        "skip_existing": params.get(asked) != "overwrite",
        "executor": "delegated" if shards > 1 else "local",
        "shards": shards,
    }


def _output(value: str | None) -> Any:
    return None if value in (None, "same") else value


def _color_by_instance(ctx: ExecutionContext) -> Any:
    """What the run will do to the dataset, for the App that is open, which would not notice."""
    color_by_instance(ctx.dataset)
    scheme = ctx.dataset.app_config.color_scheme
    params = {"color_by": scheme.color_by, "color_pool": scheme.color_pool}
    return ctx.trigger("set_color_scheme", params=params)


def _remember_speed(ctx: ExecutionContext, model: str, report: PropagationReport) -> None:
    store = forms.store(ctx)
    seconds = sum(video.seconds for video in report.with_status("done"))
    store.set(SPEEDS, {**(store.get(SPEEDS) or {}), model: report.frames / seconds})
