"""Evaluate tracks."""

from __future__ import annotations

import time

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.evaluation import (
    Untracked,
    check_compared,
    check_eval_key,
    evaluate_tracks,
    main_scores,
    score_fields,
    scored_frames,
    untracked_videos,
)
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import (
    field_name,
    is_image_groups,
    is_tracks,
    name_images,
    seed_fields,
    viewed_frames,
    whole,
)
from fiftyone_colortrack.plugin import estimates, forms
from fiftyone_colortrack.plugin.reading import forget, reader, videos_of
from fiftyone_colortrack.plugin.work import (
    Messages,
    Results,
    WorkOperator,
    has_left,
    link,
    show,
    until_stopped,
    view_link,
    work_config,
)

LABEL = "Evaluate tracks"
PANEL = "model_evaluation_panel_builtin"
CHARTS = "colortrack_panel"
WORK = "evaluating tracks"
SECONDS_PER_FRAME, BYTES_PER_FRAME = 0.03, 400  # measured with one to three objects


class EvaluateTracks(WorkOperator):
    """Score tracks against ground truth, and show the scores in the Model Evaluation panel."""

    @property
    def config(self) -> foo.OperatorConfig:
        return work_config(
            "evaluate_tracks",
            LABEL,
            "Score tracks against ground truth: J, F, and J&F for masks, J and HOTA for boxes, PCK for keypoints",
            "evaluate",
        )

    def resolve_input(self, ctx: ExecutionContext) -> types.Property:
        inputs = types.Object()
        view_prop = inputs.view_target(ctx, action_description="Evaluate")
        try:
            with videos_of(ctx.target_view(), viewed_frames) as view:
                self._build(ctx, inputs, view)
        except ColorTrackError as error:
            view_prop.invalid, view_prop.error_message = True, str(error)
        if is_image_groups(ctx.target_view()):
            forms.name_fields_of_images(inputs)
        return forms.form(self, inputs)

    def _build(self, ctx: ExecutionContext, inputs: types.Object, view: SampleCollection) -> None:
        read = reader(view)
        choices = read(forms.field_choices, fo.Detections, fo.Keypoints, empty=False)
        if is_image_groups(ctx.target_view()):
            choices = [tuple(map(name_images, choice)) for choice in choices]
        names = [name for name, _, _ in choices]
        if len(choices) < 2:
            text = "You need two frame fields of detections or keypoints: tracks and ground truth."
            forms.message(inputs, "no_fields", text, severity="error", title="Nothing to compare")
            return
        tracks = [name for name in names if is_tracks(view, name)]
        pred = ctx.params.get("pred_field", (tracks or names)[-1])
        last = forms.remembered(ctx, self.config.name).get("gt_field")
        likely = last if last in names and last != pred else _likely_truth(view, pred, names, tracks)
        gt = ctx.params.get("gt_field", likely)
        forms.choose(inputs, "pred_field", choices, default=pred, label="Tracks")
        gt_prop = forms.choose(inputs, "gt_field", choices, default=gt, label="Ground truth")
        unused = forms.unused_name(f"{field_name(pred)}_eval", ctx.dataset.list_evaluations())
        key = ctx.params.get("eval_key", unused)
        key_prop = inputs.str(
            "eval_key",
            default=key,
            required=True,
            label="Name of the evaluation",
            description="For the Model Evaluation panel and the fields with the scores",
        )
        exists = key in ctx.dataset.list_evaluations()
        if exists:
            label = f"Replace the evaluation {key}"
            inputs.bool("overwrite", default=False, label=label, view=types.SwitchView())
        overwrite = exists and bool(ctx.params.get("overwrite"))
        forms.validate(key_prop, lambda: check_eval_key(view._root_dataset, key, pred, gt, overwrite))
        if forms.validate(gt_prop, lambda: read(check_compared, pred, gt)):
            if without := len(read(untracked_videos, pred)):
                label = f"Score the {forms.plural(without, 'video')} without tracks as zero"
                text = "If off, they are skipped"
                inputs.bool("zero", default=False, label=label, description=text, view=types.SwitchView())
            untracked = "zero" if ctx.params.get("zero") else "skip"
            self._estimate(inputs, gt_prop, pred, gt, read(scored_frames, pred, gt, untracked))

    def _estimate(
        self, inputs: types.Object, gt_prop: types.Property, pred: str, gt: str, scored: dict[str, list[int]]
    ) -> None:
        """Show what will be scored, and the estimated time and storage."""
        counts = list(map(len, scored.values()))
        if any(counts):
            text = (
                f"{forms.frames_of_videos(counts)} will be scored: those with labels in {gt}, except frames "
            )
            text += f"that a person labeled in {pred}, and the first frame of each video; of masks and boxes also "
            text += "the last one. This takes "
            text += estimates.time_needed(WORK, sum(counts), SECONDS_PER_FRAME)
            text += f", and about {estimates.size(BYTES_PER_FRAME * sum(counts))} in the database."
            forms.message(inputs, "estimate", text)
        else:
            gt_prop.invalid = True
            gt_prop.error_message = (
                f"No frame can be scored: the first and the last frame of a video, and frames that a person labeled "
                f"in {pred}, do not count. Label other frames"
            )

    def resolve_run_name(self, ctx: ExecutionContext) -> str:
        return f"Evaluate {ctx.params.get('pred_field')} against {ctx.params.get('gt_field')}"

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        params, view, started = ctx.params, ctx.target_view(), time.monotonic()
        forms.remember(ctx, self.config.name, "gt_field")
        results = yield from show(
            ctx,
            self.config.label,
            lambda progress, stop: evaluate_tracks(
                view,
                params["pred_field"],
                params["gt_field"],
                params["eval_key"],
                untracked="zero" if params.get("zero") else "skip",
                overwrite=bool(params.get("overwrite")),
                progress=until_stopped(progress, stop, "Stopped. No scores were saved."),
            ),
        )
        untracked: Untracked = "zero" if params.get("zero") else "skip"
        with videos_of(view, viewed_frames) as videos:
            scored = scored_frames(videos, params["pred_field"], params["gt_field"], untracked)
            total = len(videos)
        forget()
        frames = sum(map(len, scored.values()))
        estimates.remember_speed(WORK, frames, time.monotonic() - started)
        scores = {row["label"]: row["value"] for row in results.custom_metrics.values()}
        main = main_scores(results).items()
        text = ", ".join(f"{label} {value:.3f}" for label, value in main if value is not None)
        score = score_fields(ctx.dataset, params["eval_key"])[0]
        count = sum(map(bool, scored.values())) if is_image_groups(view) else view.count(score)
        without = total - len(scored)
        reasons = [f"{without} without tracks"] if without else []
        if rest := total - count - without:
            reasons.append(f"{rest} without a frame to score")
        text += f". {count} of {forms.plural(total, 'video')} scored"
        text += f"; left out: {', '.join(reasons)}" if reasons else ""
        worst = whole(ctx.dataset).exists(score).sort_by(score)
        return {
            "summary": forms.escape(f"{params['eval_key']}: {text}"),
            "scores": scores,
            "links": [
                view_link(f"Show the worst {ctx.dataset.media_type}s first", worst),
                link("See where tracks fail", "open_panel", {"name": CHARTS, "isActive": True}),
            ],
        }

    def after(self, ctx: ExecutionContext, results: Results) -> Messages[None]:
        yield ctx.ops.reload_dataset()
        if not has_left(ctx):
            yield ctx.ops.open_panel(PANEL, layout="horizontal", is_active=True)


def _likely_truth(view: SampleCollection, pred: str, names: list[str], tracks: list[str]) -> str:
    """The likely ground truth: a field of the same type, not tracks, with the usual name or the most labels."""
    kinds = seed_fields(view)

    def likely(name: str) -> tuple[bool, ...]:
        same = kinds.get(field_name(name)) is kinds.get(field_name(pred))
        return same, name not in tracks, field_name(name) == "ground_truth"

    return max((name for name in reversed(names) if name != pred), key=likely)  # the fullest are last
