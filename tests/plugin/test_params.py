"""What does not fit counts as not given, is marked with the reason, and is not executed."""

import math

import fiftyone as fo
import pytest
from fiftyone.operators.executor import ExecutionError

from fiftyone_colortrack.plugin import params

TRACKED = {"seed_field": "frames.gt", "advanced": True}


@pytest.mark.parametrize(
    "value", ["frames.seed", "3", [3], True, 2.5, math.nan, math.inf, 10**400, -1, 0, {}]
)
@pytest.mark.parametrize(
    ("operator", "name", "others"),
    [
        ("load_scenes", "count", {}),
        ("train_tracker", "steps", {}),
        *(
            ("propagate_labels", name, TRACKED)
            for name in ("memory", "radius", "top_k", "input_size", "shards")
        ),
    ],
)
def test_numbers(form, videos, operator, name, others, value):
    found = form(operator, videos, {**others, name: value})
    low, high = params.LIMITS[name]
    assert found.errors == {name: f"A whole number from {low:,} to {high:,}"}
    others_alone = form(operator, videos, others)
    assert found.default(name) == others_alone.default(name)
    assert {key: prop["view"] for key, prop in found.inputs.items()} == {
        key: prop["view"] for key, prop in others_alone.inputs.items()
    }


@pytest.mark.parametrize("value", [1, "yes", [], math.nan])
def test_switches(form, videos, value):
    assert form("propagate_labels", videos, {"advanced": value}).errors == {
        "advanced": "Yes or no: true or false"
    }


@pytest.mark.parametrize("value", [1, True, ["frames.seed"], {}, math.nan, "a\0"])
@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ("propagate_labels", "seed_field"),
        ("propagate_labels", "label_field"),
        ("propagate_labels", "model"),
        ("evaluate_tracks", "pred_field"),
        ("evaluate_tracks", "eval_key"),
        ("train_tracker", "name"),
        ("load_scenes", "name"),
        ("embed_videos", "basis"),
    ],
)
def test_texts(form, videos, operator, name, value):
    assert form(operator, videos, {name: value}).errors[name] == "A text"


def test_nothing_is_as_good_as_not_given(form, videos):
    names = form("propagate_labels", videos, {}).inputs
    assert form("propagate_labels", videos, dict.fromkeys(names)).errors == {}


def test_choices_that_are_not_there(form, videos):
    found = form("propagate_labels", videos, {"model": "fastest", "direction": "up"})
    assert found.errors == {
        "model": "There is no choice 'fastest' here",
        "direction": "There is no choice 'up' here",
    }
    assert found.text("estimate").startswith("1 video to track")


def test_it_is_not_executed(execute, videos):
    with pytest.raises(ExecutionError, match="A whole number from 1 to 20"):
        execute("propagate_labels", videos, {**TRACKED, "label_field": "found", "memory": "7"})
    assert not videos.has_frame_field("found")


@pytest.mark.parametrize("name", ["../..", "a/b", "Taken", "!"])
def test_names_of_datasets(form, database, name):
    taken = fo.Dataset("taken")
    errors = form("load_scenes", None, {"name": name}).errors
    taken.delete()
    assert ("name" in errors) == (name in ("../..", "Taken", "!"))
