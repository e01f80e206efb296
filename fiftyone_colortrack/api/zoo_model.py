"""The tracker as a model of FiftyOne's zoo."""

from __future__ import annotations

import os
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom

from fiftyone_colortrack import fields
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import OutputKind, SeedFrames
from fiftyone_colortrack.tracking.config import Direction, TrackerConfig


class ColorTrackModel(fom.SamplesMixin, fom.Model):
    """Track the labels of some frames of a video. Use it like FiftyOne's SAM 2 video models.

        model = foz.load_zoo_model("colortrack-fast")
        dataset.apply_model(model, label_field="tracks", prompt_field="frames.seed")

    Args:
        model: name or file of a model
        seeds: labels to start from, see `propagate`
        direction: in time, see `propagate`
        output: `masks`, `boxes` or `segmentation`; by default as the prompts are
        config: the tracker's settings
        device: torch device; default: the best one there is
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "fast",
        *,
        seeds: SeedFrames = "first",
        direction: Direction = "both",
        output: OutputKind | None = None,
        config: TrackerConfig | None = None,
        device: str | None = None,
    ) -> None:
        from fiftyone_colortrack.model import load_model

        super().__init__()
        self._embedder = load_model(model, device)
        self._seeds, self._direction, self._output = seeds, direction, output
        self._config = config

    @property
    def media_type(self) -> str:
        return "video"

    def predict(self, arg: Any, sample: fo.Sample | None = None) -> dict[int, fo.Label]:
        """Track one video.

        Args:
            arg: FiftyOne's reader of the video; not used, because the tracker reads in both directions
            sample: the video, with labels in the frame field `prompt_field`

        Returns:
            {frame number, from 1: detections, keypoints, polylines, or a segmentation}

        Raises:
            ColorTrackError: if there is no `prompt_field`, or nothing to track in it
        """
        from fiftyone_colortrack.tracking import Tracker

        field = self.needs_fields.get("prompt_field")
        if sample is None or not field or not field.startswith("frames."):
            raise ColorTrackError(
                'prompt_field is missing; pass the field to start from: apply_model(..., prompt_field="frames.<field>")'
            )
        video = fields.read_seeds(
            sample, field, fields.SeedRules(self._seeds, fill_boxes=self._output == "masks")
        )
        tracker = Tracker(
            video.frames,
            video.seeds,
            kind=video.kind,
            model=self._embedder,
            direction=self._direction,
            config=self._config,
        )
        output = self._output or fields.default_output(video)
        return {tracked.frame + 1: fields.frame_label(tracked, video, output) for tracked in tracker}
