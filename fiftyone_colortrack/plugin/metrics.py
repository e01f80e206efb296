"""Metrics for the Model Evaluation panel."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types

from fiftyone_colortrack.api.evaluation import add_scores, score_fields


class HigherIsBetterConfig(foo.EvaluationMetricConfig):
    """FiftyOne 1.22 looks for `lower_is_better` in `kwargs`, where its own config does not put it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, lower_is_better=False, **kwargs)
        self.kwargs["lower_is_better"] = False


class TrackScores(foo.EvaluationMetric):
    """J, F, and J&F of masks, J of boxes, PCK of keypoints; objects are paired by instance or index.

    `evaluate_tracks` adds these scores itself. This operator lets FiftyOne rename and delete their fields with the
    evaluation, and supports `evaluate_detections(..., custom_metrics=[...])`.
    """

    @property
    def config(self) -> HigherIsBetterConfig:
        return HigherIsBetterConfig(
            name="track_scores",
            label="Track scores",
            description="Score masks as in DAVIS (J, F, and J&F) and keypoints as in JHMDB (PCK)",
            eval_types=["detection"],
            unlisted=True,
            risk_level=types.RiskLevel.LOW,
        )

    def compute(self, samples: SampleCollection, results: Any, **_: Any) -> None:
        add_scores(samples, results)

    def get_fields(self, samples: SampleCollection, config: Any, eval_key: str) -> list[str]:
        return score_fields(samples, eval_key)
