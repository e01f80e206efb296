"""Propagate labels: above the grid, and in a video's window."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api import PropagationReport, check_propagation, check_videos, propagate_iter
from fiftyone_colortrack.api.plan import PlannedVideo, Settings, find_videos
from fiftyone_colortrack.api.stop import StopSignal
from fiftyone_colortrack.fields import color_by_instance
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    SeedFrames,
    confidence_field,
    failed_tag,
    field_name,
    labelled_frames,
    run_field,
    seed_fields,
)
from fiftyone_colortrack.model.weights import list_models
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.forms import Choice
from fiftyone_colortrack.plugin.reading import reader
from fiftyone_colortrack.plugin.work import (
    PLUGIN,
    Messages,
    Results,
    WorkOperator,
    link,
    show,
    view_link,
    work_config,
)
from fiftyone_colortrack.tracking.config import TrackerConfig

LABEL = "Propagate labels"
REMEMBERED = "propagate_labels"
EVALUATE = f"{PLUGIN}/evaluate_tracks"
SECONDS_PER_FRAME = {"fast": 0.24, "lab": 0.12, "flow": 0.1, "identity": 0.02}
"""Of 852 x 480 pixels on two CPU cores, for the estimate until this machine has tracked with the model.

`fast` was measured; to it `lab` is as the sums of `python benchmarks/speed.py` are.
"""
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

TRACKER_SETTINGS: list[Choice] = [
    ("memory", "Memory", "How many of the last frames are looked at"),
    ("radius", "Radius", "How far things may move from frame to frame, in cells of 8 pixels"),
    ("top_k", "Matches", "How many of the best matches labels are copied from"),
    ("input_size", "Short side", "Larger frames are scaled down to this, in pixels"),
]


class PropagateLabels(WorkOperator):
    """Propagate labels through the videos of the grid."""

    @property
    def config(self) -> foo.OperatorConfig:
        return work_config(
            "propagate_labels",
            LABEL,
            "Track the labels of one or more frames of each video through all its frames",
            "propagate",
        )

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement:
        button = types.Button(label=LABEL, prompt=True)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view = self._add_target(ctx, inputs)
        _Form(ctx, view, inputs).build()
        return forms.form(self, inputs)

    def resolve_run_name(self, ctx: ExecutionContext) -> str:
        return f"Propagate {ctx.params.get('seed_field')} to {ctx.params.get('out_field')}"

    def resolve_delegation(self, ctx: ExecutionContext) -> bool | None:
        return False if ctx.params.get("shards", 1) > 1 else None  # it is the shards that are delegated

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        view, store = self._target(ctx), forms.store(ctx)
        options = _options(view, ctx.params)
        if ctx.dataset.app_config.color_scheme is None and not ctx.delegated:
            yield _color_by_instance(ctx)
        forms.remember(ctx, REMEMBERED)
        with StopSignal(store, f"{LABEL} to frames.{field_name(options['out_field'])}") as stop:
            report = yield from show(ctx, propagate_iter(view, stop=stop, **options), stop)
        seconds = sum(video.seconds for video in report.with_status("done"))
        estimates.remember_speed(_work(options["model"]), report.frames, seconds)
        return {
            "summary": summary(report),
            "variant": "warning" if report.with_status("failed") else "success",
            "run": report.run_key,
            "tracks": f"frames.{report.out_field}" if report.frames else None,
            "links": _links(ctx.dataset, report),
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
        if not ctx.current_sample:
            raise ColorTrackError("Open a video first")
        view = ctx.view.select(ctx.current_sample)
        if ctx.selected_labels and ctx.params.get("only_selected", True):
            view = view.select_labels(labels=ctx.selected_labels)
        return view


class _Form:
    def __init__(self, ctx: ExecutionContext, view: SampleCollection, inputs: types.Object) -> None:
        self._ctx, self._view, self._inputs = ctx, view, inputs
        self._last = forms.remembered(ctx, REMEMBERED)

    def build(self) -> None:
        try:
            check_videos(self._view)
        except ColorTrackError as error:
            forms.message(self._inputs, "no_videos", str(error), severity="error")
            return
        self._read = reader(self._view)
        choices = self._read(forms.field_choices)
        if not choices:
            text = (
                "Open a video, press Annotate, and draw masks, boxes or key points on one frame. "
                "Then come back."
            )
            forms.message(self._inputs, "no_labels", text, severity="error", title="No labels to start from")
            return
        if "seed_field" not in self._ctx.params:
            self._propose(choices)
        self._seeds(choices)
        videos = self._tracks()
        self._method(sum(video.labelled for video in videos))
        self._estimate(videos)

    def _value(self, name: str, default: Any = None) -> Any:
        """What the form holds: what was typed, else what was chosen the last time."""
        return self._ctx.params.get(name, self._last.get(name, default))

    def _propose(self, choices: list[Choice]) -> None:
        """Tracks that somebody has corrected are what to go on from; others are not what to start from."""
        tracks = [name for name, _, _ in choices if forms.is_tracks(self._view, name)]
        for name in tracks:
            if any(video.earlier and not video.reason for video in self._plan(name, "keyframes", name)):
                self._last = {**self._last, "seed_field": name, "seeds": "keyframes", "out_field": name}
                return
        if self._last.get("seed_field") in tracks:
            self._last = {k: v for k, v in self._last.items() if k not in ("seed_field", "out_field")}

    def _plan(
        self, seed_field: str, seeds: SeedFrames, out_field: str, *, skip_existing: bool = True
    ) -> list[PlannedVideo]:
        """What a run would do with each video."""
        models = [name for name, _, _ in _models()]
        model = self._value("model")
        settings = Settings(
            model if model in models else models[0],
            self._value("direction", "both"),
            _output(self._value("output")),
            self._config(),
        )
        fill_boxes = settings.output == "masks"
        found = self._read(find_videos, seed_field, out_field, seeds, skip_existing, fill_boxes)
        return [video.plan(settings) for video in found]

    def _config(self) -> TrackerConfig:
        value = self._value if self._value("advanced") else self._ctx.params.get
        return TrackerConfig(**{name: value(name) for name, *_ in TRACKER_SETTINGS if value(name)})

    def _seeds(self, choices: list[Choice]) -> None:
        """Which labels to start from."""
        field = self._value("seed_field")
        if field not in [name for name, _, _ in choices]:
            field = choices[0][0]
        keyframes = any(self._read(labelled_frames, field, "keyframes").values())
        seeds = self._value("seeds", "first")
        if seeds == "keyframes" and not keyframes:
            seeds = "first"
        prop = forms.choose(
            self._inputs, "seed_field", choices, default=field, required=True, label="Labels to start from"
        )
        options = SEEDS if keyframes else SEEDS[:2]
        forms.choose(self._inputs, "seeds", options, default=seeds, radio=True, label="Frames to start from")
        if not any(self._read(labelled_frames, field, seeds).values()):
            prop.invalid = True
            prop.error_message = (
                f"No frame of these videos has labels in {field}: label one, or choose another"
            )
        self._seed_field, self._seed_frames = field, seeds

    def _tracks(self) -> list[PlannedVideo]:
        """Where to write; returns what the run does with each video."""
        schema = self._view.get_frame_field_schema()
        name = self._ctx.params.get("out_field") or self._proposed_name(schema)
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
        name = field_name(name)
        videos = self._plan(self._seed_field, self._seed_frames, name)
        overwrite = False
        if name in earlier:
            overwrite = self._existing(name, videos)
            if overwrite:
                videos = self._plan(self._seed_field, self._seed_frames, name, skip_existing=False)
        elif name in schema and name != field_name(self._seed_field):
            overwrite = bool(self._ctx.params.get("replace", False))
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
                skip_existing=name in earlier and not overwrite,
            ),
        )
        return videos

    def _drawn_elsewhere(self, name: str) -> int:
        """How many frames of earlier tracks hold keyframes, and are not what this run starts from."""
        same = name == field_name(self._seed_field)
        starts = self._read(labelled_frames, self._seed_field, self._seed_frames if same else "all")
        drawn = self._read(labelled_frames, name, "keyframes")
        return sum(len(set(numbers) - set(starts.get(video, ()))) for video, numbers in drawn.items())

    def _existing(self, name: str, videos: list[PlannedVideo]) -> bool:
        """Ask what to do with earlier tracks; returns whether to overwrite them."""
        existing = self._ctx.params.get("existing", "skip_existing")
        forms.choose(
            self._inputs, "existing", EXISTING, default=existing, radio=True, label="Tracks of earlier runs"
        )
        by_hand = self._drawn_elsewhere(name)
        go_on = f"To go on from them, choose frames.{name} and Keyframes above."
        if existing == "overwrite":
            if by_hand:
                text = f"This loses what was drawn or corrected in {forms.plural(by_hand, 'frame')}. {go_on}"
                forms.message(self._inputs, "by_hand", text, severity="warning")
            return True
        anew = sum(video.anew for video in videos)
        if any(video.labelled for video in videos) and all(video.reason for video in videos):
            text = "All these videos are finished: replace their tracks, or write to another field."
            if by_hand:
                text += f" Labels were drawn or corrected in {forms.plural(by_hand, 'frame')}. {go_on}"
            forms.message(self._inputs, "finished", text, severity="error")
        elif anew:
            text = (
                f"With another model or settings than before all frames of {forms.plural(anew, 'video')} "
                "are tracked anew, not only those that follow from corrected ones."
            )
            forms.message(self._inputs, "anew", text, severity="warning")
        elif name == field_name(self._seed_field):
            text = (
                "Only frames that follow from corrected ones are tracked again; all others stay as they are."
            )
            forms.message(self._inputs, "corrected", text, severity="success")
        return False

    def _proposed_name(self, schema: Iterable[str]) -> str:
        """The last run's field if there is something to continue, else a new one."""
        last = field_name(self._last.get("out_field") or "")
        if last and forms.is_tracks(self._view, last):
            videos = self._plan(self._seed_field, self._seed_frames, last)
            if not all(video.reason for video in videos):
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
        for name, label, description in TRACKER_SETTINGS:
            default = self._value(name, getattr(TrackerConfig(), name))
            forms.whole(self._inputs, name, default=default, label=label, description=description)
        if videos > 1:
            forms.whole(
                self._inputs,
                "shards",
                default=self._value("shards", 1),
                label="Shards",
                description="More than one: shared among workers (fiftyone delegated launch) on any machines",
            )

    def _estimate(self, videos: list[PlannedVideo]) -> None:
        """Say how much work it is, before the button is pressed."""
        todo = [video for video in videos if not video.reason]
        if not todo:
            return
        known = [video.frames for video in todo if video.frames]
        frames = round(sum(known) / len(known) * len(todo)) if known else 0
        parts = [f"{forms.plural(len(todo), 'video')} to track"]
        if frames:
            model = self._value("model", _models()[0][0])
            labels = self._read(estimates.label_bytes, self._seed_field, self._seed_frames)
            parts += [
                forms.plural(frames, "frame"),
                estimates.time_needed(_work(model), frames, SECONDS_PER_FRAME.get(model)),
                f"about {estimates.size(frames * labels)} of labels in the database",
            ]
        finished = sum(video.labelled for video in videos) - len(todo)
        bare = sum(not video.labelled for video in videos)
        notes = [f"{finished} finished by earlier runs"] if finished else []
        notes += [f"{bare} without labels in {self._seed_field}"] if bare else []
        left_out = f" Left out: {' and '.join(notes)}." if notes else ""
        forms.message(self._inputs, "estimate", f"{', '.join(parts)}.{left_out}")


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
    settings = {name: params[name] for name, *_ in TRACKER_SETTINGS if name in params}
    shards = params.get("shards", 1)
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


def _work(model: str) -> str:
    return f"tracking with {model}"


def _links(dataset: fo.Dataset, report: PropagationReport) -> list[Results]:
    """What to do next with the videos of a run."""
    links = []
    if report.frames:
        tracked = dataset.match(F(run_field(report.out_field)) == report.run_key)
        doubtful = tracked.sort_by(confidence_field(report.out_field))
        links += [
            view_link("Show these videos, least confident first", doubtful),
            link("Evaluate tracks", EVALUATE, {"pred_field": f"frames.{report.out_field}"}, prompt=True),
        ]
    if report.with_status("failed"):
        failed = dataset.match_tags(failed_tag(report.out_field))
        links.append(view_link("Show the videos that failed", failed))
    return links
