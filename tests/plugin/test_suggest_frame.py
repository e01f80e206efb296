from __future__ import annotations

import fiftyone.operators as foo
import pytest

from fiftyone_colortrack.api import propagate
from fiftyone_colortrack.tracking.config import TrackerConfig

TRACKS = {"tracks": "frames.tracks"}


@pytest.fixture
def tracked(videos):
    """The first of two videos has tracks."""
    propagate(videos, "frames.seed", "frames.tracks", model="lab", config=TrackerConfig(input_size=64))
    return videos


def suggested(dataset, sample_id: str) -> dict:
    context = {"dataset": dataset, "params": TRACKS, "current_sample": sample_id}
    result = foo.execute_operator("@colortrack/fiftyone-colortrack/suggest_frame", context)
    result.raise_exceptions()
    return result.result


def test_it_names_a_frame_and_its_time(tracked, form) -> None:
    sample = tracked.first()
    sample.metadata.frame_rate = 10
    sample.save()
    shown = form("suggest_frame", tracked, {}, current_sample=sample.id)
    assert not shown.errors
    assert shown.default("tracks") == "frames.tracks"
    found = suggested(tracked, sample.id)
    number = found["frame_number"]
    assert 2 <= number <= 8  # frame 1 is labelled
    assert f"frame {number}, at {(number - 1) / 10:.2f} s" in found["summary"]


def test_a_video_without_tracks(tracked) -> None:
    assert "no tracks of this video" in suggested(tracked, tracked.last().id)["summary"]


def test_what_is_missing_is_said(videos, form) -> None:
    assert "no_video" in form("suggest_frame", videos, {}).errors
    assert "no_tracks" in form("suggest_frame", videos, {}, current_sample=videos.first().id).errors
