"""Values that do not fit: they count as not given, and their inputs are marked."""

import math

import pytest
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionError

from fiftyone_colortrack.plugin import params

LARGE = 10**200
WRONG = {
    "memory": ["3", [3], True, 2.5, math.nan, math.inf, LARGE, -1, 0, {}],
    "min_confidence": ["0.5", [0], True, math.nan, 1.5, -0.1],
    "complete": [1, "yes", [], math.nan],
    "label_field": [1, True, [], {}, math.nan, "a\0", "\ud800"],
    "sequences": ["bear", [1], ["a\0"]],
    "folder": [1, {"absolute_path": 3}],
}
RIGHT = {
    "memory": [1, 20],
    "min_confidence": [0, 0.5, 1],
    "complete": [True, False],
    "label_field": ["tracks", "Łódź"],
    "sequences": [[], ["bear"]],
    "folder": ["/data", {"absolute_path": "/data"}, {"absolute_path": None}],
    "anything else": [object()],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_counts_as_not_given(name):
    for value in WRONG[name]:
        assert params.fitting({name: value, "seeds": "all"}) == {"seeds": "all"}, value


@pytest.mark.parametrize("name", RIGHT)
def test_what_fits_stays(name):
    for value in RIGHT[name]:
        assert params.fitting({name: value}) == {name: value}


def test_inputs_are_marked_with_the_reason():
    inputs = types.Object()
    for name in ("memory", "steps"):
        inputs.int(name)
    inputs.enum("seeds", ["first", "all"])
    form = types.Property(inputs)
    params.mark(form, {"memory": "7", "steps": 5, "seeds": "some"})
    assert {name: bool(prop.invalid) for name, prop in inputs.properties.items()} == {
        "memory": True,
        "steps": False,
        "seeds": True,
    }
    assert "1 to 20" in inputs.properties["memory"].error_message
    assert "some" in inputs.properties["seeds"].error_message


def test_through_fiftyone(form, execute, videos):
    """Once with the real operator: the form marks it, and it is not executed."""
    values = {"seed_field": "frames.seed", "label_field": "found", "advanced": True, "memory": "7"}
    assert "memory" in form("propagate_labels", videos, values).errors
    with pytest.raises(ExecutionError, match="memory"):
        execute("propagate_labels", videos, values)
    assert "found" not in videos.get_frame_field_schema()


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        ("propagate_labels", {"advanced": True, "span": "next", "label_field": "gt"}),
        ("propagate_labels", {"span": "range"}),
        ("export_tracks", {}),
        ("load_scenes", {}),
        ("embed_videos", {}),
        ("film_videos", {}),
        ("train_tracker", {}),
    ],
)
def test_the_reference_has_the_defaults_of_the_forms(form, videos, operator, values):
    inputs = form(operator, videos, values).inputs
    for name, (default, _) in params.PARAMETERS[operator].items():
        if default.startswith("`") and name in inputs and name not in values and name != "name":
            assert default in (f"`{inputs[name].get('default')}`", "`first_frame`"), name


def test_the_reference_says_what_each_parameter_is():
    for rows in params.PARAMETERS.values():
        for name, (default, meaning) in rows.items():
            assert all((params.kind(name), default, meaning)), name
