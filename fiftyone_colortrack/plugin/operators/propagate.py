"""Propagate labels: above the grid, and in a video's window."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.plan import PlannedVideo, video_length
from fiftyone_colortrack.api.propagation import Propagation
from fiftyone_colortrack.api.report import PropagationReport
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    check_videos,
    color_by_object,
    confidence_field,
    failed_tag,
    field_name,
    find_corrections,
    frame_path,
    is_image_groups,
    is_tracks,
    labeled_frames,
    run_field,
    seed_fields,
    select_frames,
    set_up_annotation,
    whole,
)
from fiftyone_colortrack.model.weights import list_models
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.forms import Choice
from fiftyone_colortrack.plugin.params import fitting
from fiftyone_colortrack.plugin.reading import forget, reader, videos_of
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
SECONDS_PER_MEGAPIXEL = {"fast": 1.5, "lab": 0.8, "flow": 0.5, "identity": 0.1}
"""On two CPU cores, for the estimate until this machine has tracked with the model."""
VIDEOS_TO_OPEN = 3
"""To estimate the number of frames, where no video has metadata."""
SECONDS_TO_START = 10
"""Until PyTorch is imported and the model is loaded, once in each server."""
RAFT_WEIGHTS = "raft_large_C_T_SKHT_V2-ff5fadd5.pth"
SEEDS: list[Choice] = [
    ("first", "First labeled frame", "Track the labels of the first labeled frame of each video"),
    ("all", "All labeled frames", "Track frames between two labeled frames from both sides"),
    ("keyframes", "Keyframes", "Track the labels that a person drew or corrected"),
]
DIRECTIONS: list[Choice] = [
    ("both", "Both", "All frames of the video"),
    ("forward", "Forward", "From the labeled frames to the end"),
    ("backward", "Backward", "From the labeled frames to the beginning"),
]
EXISTING: list[Choice] = [
    ("skip_existing", "Continue", "Keep finished videos and all corrections"),
    ("overwrite", "Replace", "Track all videos again. This replaces their tracks and all corrections"),
]
MODELS = {
    "fast": "Best tracks",
    "lab": "No network: twice as fast, but loses objects sooner",
}
BASELINES: list[Choice] = [
    ("identity", "identity", "Baseline: repeats the labels in place"),
    ("flow", "flow", "Baseline: moves the labels with optical flow"),
    ("raft", "raft", "Baseline: optical flow from a large network; slow without a GPU"),
]
OUTPUTS: dict[type[fo.Label], list[Choice]] = {
    fo.Detections: [
        ("same", "As labeled", "Masks stay masks, boxes stay boxes"),
        ("masks", "Masks", "Boxes are tracked as filled masks"),
        ("boxes", "Boxes", "Boxes around the tracked masks"),
        ("polylines", "Polygons", "Outlines of the tracked masks"),
    ],
    fo.Polylines: [
        ("same", "As labeled", "Polygons stay polygons, open polylines stay polylines"),
        ("masks", "Masks", "Polygons become detections with masks"),
        ("boxes", "Boxes", "Boxes around the tracked polygons"),
    ],
    fo.Segmentation: [
        ("same", "Detections with masks", "Each class becomes a track with a timeline"),
        ("segmentation", "Segmentation", "Segmentations stay segmentations"),
        ("boxes", "Boxes", "A box around each class"),
        ("polylines", "Polygons", "Outline of each class"),
    ],
}
TRACKER_SETTINGS: list[Choice] = [
    ("memory", "Memory", "Number of recent frames to search for matches"),
    ("radius", "Radius", "Farthest motion from one frame to the next, in pixels of the scaled frame"),
    ("top_k", "Matches", "Number of best matches to copy labels from"),
    ("input_size", "Short side", "Larger frames are scaled down to this, in pixels. Empty: the model's own"),
]
SWITCHES: list[Choice] = [
    ("end_at_cuts", "End tracks at cuts", "Label a new shot only if one of its frames is labeled"),
    ("clean_masks", "Remove specks", "Remove parts of masks that do not belong to the object"),
]


class PropagateLabels(WorkOperator):
    """Propagate labels through the videos of the grid."""

    @property
    def config(self) -> foo.OperatorConfig:
        return work_config(
            "propagate_labels",
            LABEL,
            "Propagate labels from one or more frames of each video to all of its frames",
            "propagate",
        )

    def resolve_placement(self, ctx: ExecutionContext) -> types.Placement | None:
        button = types.Button(label=LABEL, prompt=True)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view = self._add_target(ctx, inputs)
        _Form(ctx, view, inputs).build()
        return forms.form(self, inputs)

    def resolve_run_name(self, ctx: ExecutionContext) -> str:
        return f"Propagate {ctx.params.get('seed_field')} to {ctx.params.get('label_field')}"

    def resolve_delegation(self, ctx: ExecutionContext) -> bool | None:
        return False if ctx.params.get("shards", 1) > 1 else None  # it is the shards that are delegated

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        forget()
        run = propagation(self._target(ctx), ctx.params, ctx.selected_labels)
        path = run.label_field if is_image_groups(run.samples) else frame_path(run.label_field)
        if color_by_object(ctx.dataset, path) and not ctx.delegated:
            yield _show_colors(ctx)
        forms.remember(ctx, REMEMBERED)

        def track(progress: Any, stop: Any) -> PropagationReport:
            progress(0, 0, f"Loading the model {ctx.params.get('model', '')} and reading the videos")
            report = run.run(progress, stop)
            if report.frames and not is_image_groups(run.samples):
                set_up_annotation(ctx.dataset, run.label_field)
                seconds = sum(video.seconds for video in report.videos)
                size = report.frames * megapixels(check_videos(run.samples), run.tracker.input_size)
                estimates.remember_speed(_work(run.model), size, seconds)
            return report

        report = yield from show(ctx, f"{LABEL} to {frame_path(run.label_field)}", track)
        done, failed = bool(report.frames), bool(report.with_status("failed"))
        title = "Some videos failed" if failed else "Stopped" if report.stopped else "Done"
        return {
            "summary": summary(report),
            "title": title if done else "Nothing was tracked",
            "variant": "success" if done and not failed else "warning",
            "run": report.run_key,
            "tracks": report.label_field if done else None,
            "links": _links(ctx, report),
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
        config.description = "Propagate labels from one or more frames of this video to all of its frames"
        return config

    def resolve_placement(self, ctx: ExecutionContext) -> None:
        """`app.js` has the button, because it knows the frame that is shown."""

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield from super().after(ctx, results)
        params = {"id": ctx.current_sample, "field": field_name(ctx.params["label_field"])}
        yield ctx.trigger(f"{PLUGIN}/reopen_sample", params)

    def _add_target(self, ctx: ExecutionContext, inputs: types.Object) -> SampleCollection:
        return self._target(ctx)

    def _target(self, ctx: ExecutionContext) -> SampleCollection:
        return forms.open_sample(ctx)


def propagation(
    view: SampleCollection, params: dict[str, Any], selected: Sequence[dict[str, Any]] = ()
) -> Propagation:
    """The run that a form's values describe. Hidden inputs do not count.

    Args:
        view: the videos
        params: the form's values
        selected: labels that are selected in the App
    """
    settings = {name: params[name] for name, *_ in [*TRACKER_SETTINGS, *SWITCHES] if name in params}
    if params.get("min_confidence"):
        settings["min_confidence"] = float(params["min_confidence"])
    shards = params.get("shards", 1)
    field = field_name(params["label_field"])
    tracks = is_tracks(view._root_dataset, field)
    overwrite = params.get("existing") == "overwrite" if tracks else bool(params.get("replace"))
    return Propagation(
        view,
        params["seed_field"],
        field,
        model=params.get("model") or _models()[0][0],
        seeds=params.get("seeds", "first"),
        direction=params.get("direction", "both"),
        output=None if params.get("output") in (None, "same") else params["output"],
        objects=_objects(params, selected),
        frames=_frames(params, selected),
        complete=bool(params.get("complete")),
        config=TrackerConfig(**settings),
        overwrite=overwrite,
        skip_existing=not overwrite,
        cuts_field=f"{field}_shots" if params.get("cuts") else None,
        executor="delegated" if shards > 1 else "local",
        shards=shards,
    )


def _objects(params: dict[str, Any], selected: Sequence[dict[str, Any]]) -> list[str | int] | None:
    if selected and params.get("only_selected", True):
        return [label["label_id"] for label in selected]
    names = [name.strip() for name in (params.get("objects") or "").split(",")]
    return [int(name) if name.isdecimal() else name for name in names if name] or None


def _frames(params: dict[str, Any], selected: Sequence[dict[str, Any]]) -> tuple[int, int] | None:
    first = params.get("first_frame", first_frame(selected))
    if params.get("span") == "range":
        return first, max(params.get("last_frame", first), first)
    if params.get("span") == "next":
        return first, first + params.get("next_frames", 50)
    return None


def first_frame(selected: Sequence[dict[str, Any]]) -> int:
    """The frame of the selected label, for when the App does not say which frame is shown."""
    return min((label.get("frame_number") or 1 for label in selected), default=1)


class _Form:
    def __init__(self, ctx: ExecutionContext, view: SampleCollection, inputs: types.Object) -> None:
        self._ctx, self._view, self._inputs = ctx, view, inputs
        self._last = forms.remembered(ctx, REMEMBERED)
        self._selected = ctx.selected_labels or []

    def build(self) -> None:
        try:
            with videos_of(self._view) as self._videos:
                self._build()
        except ColorTrackError as error:
            forms.message(self._inputs, "no_videos", str(error), severity="error")
        if is_image_groups(self._view):
            forms.name_fields_of_images(self._inputs)

    def _build(self) -> None:
        self._read = reader(self._videos)
        choices = self._read(forms.field_choices)
        if is_image_groups(self._view):
            choices = [(field_name(name), field_name(label), text) for name, label, text in choices]
        if not choices:
            text = (
                "Open a video, click Annotate, and draw masks, boxes, polygons, or keypoints in one frame. "
                "Then come back."
            )
            forms.message(self._inputs, "no_labels", text, severity="error", title="No labels to start from")
            return
        if "seed_field" not in self._ctx.params:
            self._propose(choices)
        top = {*self._inputs.properties, "estimate", "finished", "again", "corrected", "by_hand"}
        self._seeds(choices)
        self._objects_and_frames()
        videos = self._tracks()
        self._method(sum(not video.reason for video in videos))
        self._estimate(videos)
        first = {name: p for name, p in self._inputs.properties.items() if name in top}
        self._inputs.properties = {**first, **self._inputs.properties}  # seen without scrolling

    def _value(self, name: str, default: Any = None) -> Any:
        """The value in the form: entered now, or chosen the last time."""
        return self._ctx.params.get(name, self._last.get(name, default))

    def _propose(self, choices: list[Choice]) -> None:
        """Propose to continue from corrected tracks, and never to start from other tracks."""
        tracks = [name for name, _, _ in choices if is_tracks(self._videos, name)]
        plans = {name: self._plan(name, "keyframes", name, "go on") for name in tracks}
        corrected = [name for name, plan in plans.items() if any(v.labeled and not v.reason for v in plan)]
        if corrected:
            name = max(corrected, key=lambda name: self._read(_last_edit, name))
            same = {"seed_field": name, "seeds": "keyframes", "label_field": name, **self._how_made(name)}
            self._last = {**self._last, **same}
        elif self._last.get("seed_field") in tracks:
            self._last = {k: v for k, v in self._last.items() if k not in ("seed_field", "label_field")}

    def _how_made(self, path: str) -> dict[str, Any]:
        """The settings of the last run that wrote tracks, as far as the form has them."""
        dataset = self._videos._root_dataset
        infos = [dataset.get_run_info(key) for key in dataset.list_runs()]
        infos = [info for info in infos if getattr(info.config, "label_field", None) == path]
        infos = [info for info in infos if getattr(info.config, "tracker", None)]
        if not infos:
            return {}
        how = max(infos, key=lambda info: info.timestamp).config
        names = [name for name, *_ in [*TRACKER_SETTINGS, *SWITCHES]] + ["min_confidence"]
        values = {name: how.tracker[name] for name in names if name in how.tracker}
        usual = vars(TrackerConfig())
        values = {name: value for name, value in values.items() if value != usual[name]}
        if how.direction != DIRECTIONS[0][0]:
            values["direction"] = how.direction
        return {"model": how.model, "output": "same", "advanced": bool(values), **fitting(values)}

    def _run(self, seed_field: str, seeds: str, label_field: str, existing: str = "") -> Propagation:
        """The run with the form's present values."""
        models = [name for name, _, _ in _models()]
        names = ["objects", "span", "first_frame", "last_frame", "next_frames", "existing", "replace"]
        params = {name: self._ctx.params[name] for name in names if name in self._ctx.params}
        params["only_selected"] = self._ctx.params.get("only_selected", True)
        params |= {"existing": existing} if existing else {}
        value = self._value if self._value("advanced") else self._ctx.params.get
        switches = [name for name, *_ in [*TRACKER_SETTINGS, *SWITCHES]]
        switches += ["min_confidence", "complete", "direction", "output"]
        params |= {name: value(name) for name in switches if value(name) is not None}
        params["model"] = self._value("model") if self._value("model") in models else models[0]
        params |= {"seed_field": seed_field, "seeds": seeds, "label_field": label_field}
        run = propagation(self._videos if is_image_groups(self._view) else self._view, params, self._selected)
        schema = self._videos.get_frame_field_schema()

        def read(function: Any, _: SampleCollection, seed_field: str, name: str, *args: Any) -> Any:
            """All new fields are alike: the name is not read again at each of its letters."""
            return self._read(function, seed_field, name if name in schema else "new field", *args)

        run.read = read
        return run

    def _plan(self, seed_field: str, seeds: str, label_field: str, existing: str = "") -> list[PlannedVideo]:
        """What a run would do with each video; empty if it cannot start."""
        try:
            return self._run(seed_field, seeds, label_field, existing).plan()
        except ColorTrackError:
            return []

    def _seeds(self, choices: list[Choice]) -> None:
        """Which labels to start from."""
        field = self._value("seed_field")
        if field not in [name for name, _, _ in choices]:
            field = choices[0][0]
        corrections = self._read(find_corrections, field)
        keyframes = any(self._read(labeled_frames, field, "keyframes").values()) or bool(corrections)
        seeds = self._value("seeds", "first")
        if seeds == "keyframes" and not keyframes:
            seeds = "first"
        prop = forms.choose(
            self._inputs, "seed_field", choices, default=field, required=True, label="Labels to start from"
        )
        options = SEEDS if keyframes else SEEDS[:2]
        if keyframes or any(
            len(numbers) > 1 for numbers in self._read(labeled_frames, field, "all").values()
        ):
            label = "Frames to start from"
            forms.choose(self._inputs, "seeds", options, default=seeds, radio=True, label=label)
        if not corrections and not any(self._read(labeled_frames, field, seeds).values()):
            prop.invalid = True
            prop.error_message = f"No frame has labels in {field}: label one, or choose another field"
        self._seed_field, self._seed_frames = field, seeds

    def _objects_and_frames(self) -> None:
        """What to track, and how far."""
        if self._selected:
            label = f"Only the {forms.plural(len(self._selected), 'selected label')}"
            self._chosen = self._inputs.bool(
                "only_selected", default=True, label=label, view=types.SwitchView()
            )
        if not (self._selected and self._ctx.params.get("only_selected", True)):
            self._chosen = self._inputs.str(
                "objects",
                default=self._ctx.params.get("objects"),
                label="Objects to track",
                description="Classes, indexes, or IDs, separated by commas. If empty: all objects",
            )
        span = self._ctx.params.get("span", "all")
        first = self._ctx.params.get("first_frame", first_frame(self._selected))
        spans: list[Choice] = [
            ("all", "All frames", ""),
            ("range", "A range of frames", "All other frames stay as they are"),
            ("next", "The next frames", f"After frame {first}, or after another frame that you enter"),
        ]
        forms.choose(self._inputs, "span", spans, default=span, label="Frames to track")
        if span == "all":
            return
        forms.whole(self._inputs, "first_frame", default=first, label="From frame")
        if span == "next":
            forms.whole(self._inputs, "next_frames", default=50, label="Number of frames")
            return
        last = forms.whole(self._inputs, "last_frame", default=first, label="To frame")
        if self._ctx.params.get("last_frame", first) < first:
            last.invalid, last.error_message = True, f"Must be {first} or later"

    def _tracks(self) -> list[PlannedVideo]:
        """Where to write; returns what the run does with each video."""
        schema = self._videos.get_frame_field_schema()
        name = self._ctx.params.get("label_field") or self._proposed_name(schema)
        earlier = [field for field in schema if is_tracks(self._videos, field)]
        view = types.AutocompleteView(allow_user_input=True)
        for field in earlier:
            view.add_choice(field, label=field, description="Tracks of an earlier run")
        prop = self._inputs.str(
            "label_field",
            default=name,
            required=True,
            label="Write tracks to",
            description="A frame field, new or from an earlier run",
            view=view,
        )
        if not forms.validate(prop, lambda: field_name(name)):
            return []
        name = field_name(name)
        videos: list[PlannedVideo] = []
        run = partial(self._run, self._seed_field, self._seed_frames, name)
        forms.validate(self._chosen, lambda: videos.extend(run().plan()))
        if name in earlier:
            self._existing(name, videos)
        elif name in schema and name != field_name(self._seed_field):
            count = forms.plural(sum(video.corrections for video in videos), "label")
            label = f"Replace the {count} in {frame_path(name)}"
            self._inputs.bool("replace", default=False, label=label, view=types.SwitchView())
        forms.validate(prop, lambda: self._run(self._seed_field, self._seed_frames, name).check())
        return videos

    def _existing(self, name: str, videos: list[PlannedVideo]) -> None:
        """Ask what to do with earlier tracks, and say what that does to corrections."""
        existing = self._ctx.params.get("existing", "skip_existing")
        forms.choose(
            self._inputs, "existing", EXISTING, default=existing, radio=True, label="Tracks of earlier runs"
        )
        count = sum(video.corrections for video in videos)
        by_hand = f"{forms.plural(count, 'label')} that a person drew, changed, or deleted"
        go_on = f"To continue from them, choose {frame_path(name)} and Keyframes above."
        in_place = name == field_name(self._seed_field)
        if existing == "overwrite":
            if count:
                forms.message(self._inputs, "by_hand", f"This loses {by_hand}. {go_on}", severity="warning")
            return
        again = sum(bool(video.other) and not video.reason for video in videos)
        if any(video.labeled for video in videos) and all(video.reason for video in videos):
            text = "All these videos are finished. Replace their tracks, or write to another field."
            if count:
                text += f" The tracks have {by_hand}. {go_on}"
            forms.message(self._inputs, "finished", text, severity="error")
        elif again:
            text = (
                "The model or the settings differ from the earlier run, so "
                f"{forms.plural(again, 'video')} will be tracked from scratch."
            )
            forms.message(self._inputs, "again", text, severity="warning")
        elif in_place:
            todo = "that depend on corrections are re-tracked" if count else "without labels are tracked"
            text = f"Only frames {todo}. All others stay as they are."
            forms.message(self._inputs, "corrected", text, severity="success")
        elif count:
            forms.message(self._inputs, "by_hand", f"{by_hand} stay as they are. {go_on}")

    def _proposed_name(self, schema: Iterable[str]) -> str:
        """The last run's field if there is something to continue, else a new one."""
        last = field_name(self._last.get("label_field") or "")
        if last and is_tracks(self._videos, last):
            videos = self._plan(self._seed_field, self._seed_frames, last)
            if not all(video.reason for video in videos):
                return last
        return forms.unused_name("tracks", schema)

    def _method(self, videos: int) -> None:
        prop = forms.choose(self._inputs, "model", _models(), default=self._value("model"), label="Model")
        if self._value("model") == "raft" and not _has_raft():
            prop.invalid = True
            prop.error_message = f"The weights of RAFT are missing. Save them as {_raft_path()}"
        advanced = bool(self._value("advanced"))
        self._inputs.bool("advanced", default=advanced, label="Advanced settings", view=types.SwitchView())
        if not advanced:
            return
        direction = self._value("direction")
        forms.choose(self._inputs, "direction", DIRECTIONS, default=direction, label="Direction")
        outputs = OUTPUTS.get(seed_fields(self._videos)[field_name(self._seed_field)])
        if outputs:
            forms.choose(self._inputs, "output", outputs, default=self._value("output"), label="Write as")
        self._inputs.bool(
            "complete",
            default=bool(self._value("complete")),
            label="Labeled frames show every object",
            description="A track ends at a labeled frame that omits its object",
            view=types.SwitchView(),
        )
        for name, label, description in SWITCHES:
            on = bool(self._value(name, getattr(TrackerConfig(), name)))
            view = types.SwitchView()
            self._inputs.bool(name, default=on, label=label, description=description, view=view)
        self._inputs.bool(
            "cuts",
            default=bool(self._value("cuts")),
            label="Save the shots",
            description="As temporal detections, in a field of their own",
            view=types.SwitchView(),
        )
        self._inputs.float(
            "min_confidence",
            default=self._value("min_confidence", 0.0),
            min=0,
            max=1,
            label="Minimum confidence",
            description="Labels with lower confidence are discarded",
        )
        for name, label, description in TRACKER_SETTINGS:
            default = self._value(name, getattr(TrackerConfig(), name))
            default = None if default is None else round(default)
            forms.whole(self._inputs, name, default=default, label=label, description=description)
        if videos > 1:
            forms.whole(
                self._inputs,
                "shards",
                default=self._value("shards", 1),
                label="Shards",
                description="If more than 1, workers (fiftyone delegated launch) on any machine share the videos",
            )

    def _estimate(self, videos: list[PlannedVideo]) -> None:
        """Show the estimated time and storage."""
        todo = [video for video in videos if not video.reason]
        if not todo:
            return
        run = self._run(self._seed_field, self._seed_frames, "tracks")
        known = [video.frames for video in todo if video.frames]
        if not known:  # no metadata yet: the run computes it
            first, last = run.frames or (1, sys.maxsize)
            lengths = self._read(_lengths, tuple(video.filepath for video in todo[:VIDEOS_TO_OPEN]))
            known = [min(length, last) - first + 1 for length in lengths if length >= first]
        frames = round(sum(known) / len(known) * len(todo)) if known else 0
        parts = [f"{forms.plural(len(todo), 'video')} to track"]
        if frames:
            size = frames * self._read(megapixels, run.tracker.input_size)
            labels = self._read(estimates.label_bytes, self._seed_field, self._seed_frames)
            each = SECONDS_PER_MEGAPIXEL.get(str(run.model))
            start = 0 if "torch" in sys.modules else SECONDS_TO_START
            parts += [
                forms.plural(frames, "frame"),
                estimates.time_needed(_work(run.model), size, each, start),
                f"about {estimates.size(frames * labels)} of labels in the database",
            ]
        else:
            parts.append("the number of frames and the remaining time appear once it runs")
        finished = sum(video.labeled for video in videos) - len(todo)
        bare = sum(not video.labeled for video in videos)
        notes = [f"{finished} finished by earlier runs"] if finished else []
        notes += [f"{bare} without labels in {self._seed_field}"] if bare else []
        left_out = f" Skipped: {' and '.join(notes)}." if notes else ""
        forms.message(self._inputs, "estimate", f"{', '.join(parts)}.{left_out}")


def megapixels(videos: SampleCollection, input_size: int | tuple[int, int] | None) -> float:
    """Mean size of the scaled frames, in megapixels."""
    if isinstance(input_size, tuple):
        return input_size[0] * input_size[1] / 1e6
    sizes = zip(*videos.values(["metadata.frame_height", "metadata.frame_width"]), strict=True)
    known = [(height, width) for height, width in sizes if height and width] or [(480, 854)]
    short_side = input_size or 480  # as nearly every model's own
    areas = [height * width * min(short_side / min(height, width), 1) ** 2 for height, width in known]
    return sum(areas) / len(areas) / 1e6


def summary(report: PropagationReport) -> str:
    """What a run did, and which videos failed and why, in Markdown."""
    return "\n\n".join(map(forms.escape, report.lines))


def _lengths(videos: SampleCollection, paths: Sequence[str]) -> list[int]:
    """The numbers of frames of video files; 0 where one cannot be read."""
    return [video_length(path) for path in paths]


def _last_edit(videos: SampleCollection, field: str) -> float:
    """When a person last edited tracks."""
    numbers = {id: [*found.drawn, *found.deleted] for id, found in find_corrections(videos, field).items()}
    if not numbers:
        return 0.0
    times = select_frames(videos, field, numbers).values("frames.last_modified_at", unwind=True)
    return max((time.timestamp() for time in times if time), default=0.0)


def _models() -> list[Choice]:
    """The trained tracker first, the baselines last."""
    models = [(i.name, i.name, MODELS.get(i.name, i.description)) for i in list_models() if i.preset]
    models.sort(key=lambda model: model[0] != "fast")
    return models + BASELINES


def _raft_path() -> str:
    home = os.environ.get("TORCH_HOME", os.path.join(os.path.expanduser("~"), ".cache", "torch"))
    return os.path.join(home, "hub", "checkpoints", RAFT_WEIGHTS)


def _has_raft() -> bool:
    return os.path.isfile(_raft_path())


def _show_colors(ctx: ExecutionContext) -> Any:
    """Tell the open App of the dataset's colors, which it would not notice."""
    scheme = ctx.dataset.app_config.color_scheme
    params = {name: getattr(scheme, name) for name in ("color_by", "color_pool", "fields")}
    return ctx.trigger("set_color_scheme", params=params)


def _work(model: object) -> str:
    return f"tracking with {model}, in megapixels"


def _links(ctx: ExecutionContext, report: PropagationReport) -> list[Results]:
    """Buttons for the next steps after a run."""
    dataset, tracks = ctx.dataset, report.label_field
    links, videos = [], whole(dataset)
    if report.frames and not tracks.startswith("frames."):
        doubtful = dataset.exists(tracks).sort_by(confidence_field(tracks))
        links.append(view_link("Show these images, least confident first", doubtful))
        links.append(link("Evaluate tracks", EVALUATE, {"pred_field": tracks}, prompt=True))
    elif report.frames:
        tracked = videos.match(F(run_field(report.label_field)) == report.run_key)
        doubtful = tracked.sort_by(confidence_field(report.label_field))
        many = len(report.videos) > 1
        label = "Show these videos, least confident first" if many else "Show this video"
        if many or not ctx.current_sample:  # whose window shows it
            links.append(view_link(label, doubtful))
        links.append(link("Evaluate tracks", EVALUATE, {"pred_field": report.label_field}, prompt=True))
    if report.with_status("failed"):
        failed = videos.match_tags(failed_tag(report.label_field))
        links.append(view_link("Show failed videos", failed))
    return links
