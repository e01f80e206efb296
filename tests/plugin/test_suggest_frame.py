from __future__ import annotations

from fiftyone_colortrack.api import propagate
from fiftyone_colortrack.tracking.config import TrackerConfig


def test_it_names_a_frame_and_goes_there(videos, execute, form) -> None:
    sample = videos.first().id
    assert form("suggest_frame", videos, {}, current_sample=sample).errors
    propagate(videos, "frames.seed", "frames.tracks", model="lab", config=TrackerConfig(input_size=64))
    shown = form("suggest_frame", videos, {}, current_sample=sample)
    assert not shown.errors
    assert shown.default("tracks") == "frames.tracks"
    messages = dict(
        (uri.split("/")[-1], params)
        for uri, params in execute(
            "suggest_frame", videos, {"tracks": "frames.tracks"}, current_sample=sample
        )
    )
    number = messages["set_frame_number"]["frame_number"]
    assert 2 <= number <= 8  # frame 1 is labelled
    assert f"frame {number}" in messages["notify"]["message"]


def test_a_video_without_tracks(videos, execute) -> None:
    propagate(videos, "frames.seed", "frames.tracks", model="lab", config=TrackerConfig(input_size=64))
    other = videos.last().id
    assert execute("suggest_frame", videos, {"tracks": "frames.tracks"}, current_sample=other) == []


def test_it_needs_an_open_video(videos, form) -> None:
    assert "no_video" in form("suggest_frame", videos, {}).errors
