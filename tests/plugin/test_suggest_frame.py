from __future__ import annotations

from pathlib import Path

import pytest
from fiftyone.operators.executor import resolve_placement
from fiftyone.operators.registry import OperatorRegistry
from fiftyone.plugins import get_plugin

from fiftyone_colortrack.api.propagation import propagate
from fiftyone_colortrack.plugin.operators.suggest_frame import GO_TO_FRAME
from fiftyone_colortrack.tracking.config import TrackerConfig

PLUGIN = "@colortrack/fiftyone-colortrack"


@pytest.fixture
def tracked(videos):
    """The first of two videos has tracks."""
    propagate(videos, "frames.seed", "frames.tracks", model="lab", config=TrackerConfig(input_size=64))
    return videos


@pytest.fixture
def suggest(execute):
    """Runs the operator; returns the parameters of its messages to the App, by name."""
    return lambda dataset, sample, params=None: {
        name.split("/")[-1]: message
        for name, message in execute("suggest_frame", dataset, params, current_sample=sample.id)
    }


def test_it_goes_to_a_frame_and_names_it(tracked, suggest) -> None:
    sample = tracked.first()
    sample.metadata.frame_rate = 10
    sample.save()
    messages = suggest(tracked, sample)
    (number,) = messages["go_to_frame"]["frame_numbers"]
    assert 2 <= number <= 8  # frame 1 is labeled
    assert f"frame {number}, at {(number - 1) / 10:.2f} s" in messages["notify"]["message"]


def test_a_form_opens_where_there_is_a_choice(tracked, form, suggest) -> None:
    operator = OperatorRegistry().get_operator(f"{PLUGIN}/suggest_frame")

    def asks() -> bool:
        return resolve_placement(operator, {"dataset_name": tracked.name, "params": {}}).view.prompt

    assert not asks()
    propagate(tracked, "frames.seed", "frames.others", model="identity")
    assert asks()
    shown = form("suggest_frame", tracked, {}, current_sample=tracked.first().id)
    assert shown.choices("label_field") == ["frames.tracks", "frames.others"]
    assert "go_to_frame" in suggest(tracked, tracked.first(), {"label_field": "frames.others"})


def test_a_video_without_tracks_gets_its_first_frame(tracked, videos, suggest) -> None:
    assert suggest(tracked, tracked.last())["go_to_frame"]["frame_numbers"][0] in range(1, 9)


def test_it_works_before_anything_is_tracked(videos, form, suggest) -> None:
    assert "no_video" in form("suggest_frame", videos, {}).errors
    assert not form("suggest_frame", videos, {}, current_sample=videos.first().id).errors
    assert suggest(videos, videos.first())["go_to_frame"]["frame_numbers"][0] in range(1, 9)


def test_the_app_has_the_operator_that_goes_there(database) -> None:
    plugin = get_plugin(PLUGIN)
    assert plugin.has_js
    script = Path(plugin.js_bundle_path).read_text()
    name, operator = GO_TO_FRAME.rsplit("/", 1)
    assert f'name: "{operator}"' in script
    assert f'"{name}"' in script
