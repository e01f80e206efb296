from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionContext, ExecutionError, Executor
from fiftyone.operators.registry import OperatorRegistry

from fiftyone_colortrack.api.stop import running
from fiftyone_colortrack.api.training import is_unfinished, run_folder
from fiftyone_colortrack.model import list_models
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.training import RECIPES

PLUGIN = "@colortrack/fiftyone-colortrack"
PARAMS = {"name": "mine", "init": "fast", "steps": 2}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Models and runs of a user of its own; small batches; every step is shown."""
    monkeypatch.setenv("FIFTYONE_COLORTRACK_HOME", str(tmp_path / "home"))
    batch = replace(RECIPES["fast"], frame_pairs=1, view_pairs=1, crops=(64,))
    monkeypatch.setitem(RECIPES, "fast", batch)
    monkeypatch.setattr("fiftyone_colortrack.plugin.work.SECONDS_BETWEEN_MESSAGES", 0)
    monkeypatch.setattr("fiftyone_colortrack.api.stop.SECONDS_BETWEEN_POLLS", 0)


def shown(messages):
    """What was shown while it ran: the label of the bar, and the points of the chart."""
    steps = [params for name, params in messages if name.endswith("show_output")]
    steps = [(params["outputs"]["type"]["properties"], params["results"]) for params in steps]
    return [
        (properties["progress"]["view"]["label"], results["chart"])
        for properties, results in steps
        if "progress" in properties
    ]


def in_app(dataset, params):
    """The messages of the operator as the App gets them, one by one."""
    uri = f"{PLUGIN}/train_tracker"
    request = {"dataset_name": dataset.name, "params": params}
    context = ExecutionContext(request_params=request, executor=Executor(), operator_uri=uri)
    return OperatorRegistry().get_operator(uri).execute(context)


def store(dataset):
    return forms.store(ExecutionContext(request_params={"dataset_name": dataset.name, "params": {}}))


def test_the_first_click_works(form, videos):
    first = form("train_tracker", videos, {})
    assert first.errors == {}
    assert first.default("name") == "my_tracker"
    assert first.choices("init")[0] == first.default("init") == "fast"
    assert first.choices("init")[-1] == "nothing"
    assert "lab" not in first.choices("init")
    assert first.text("content").startswith("2 videos. On two CPU cores 1,000 steps take")
    assert "about " in first.text("disk")
    assert str(run_folder("my_tracker")) in first.text("disk")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a b", "letters, digits"), ("../a", "letters"), ("fast", "comes with"), ("", "letters")],
)
def test_names_are_checked(form, videos, name, reason):
    assert reason in form("train_tracker", videos, {"name": name}).errors["name"]


def test_a_model_is_replaced_only_on_demand(form, execute, videos):
    execute("train_tracker", videos, {**PARAMS, "steps": 1})
    found = form("train_tracker", videos, PARAMS)
    assert "exists" in found.errors["name"]
    assert "replace" in found.inputs
    assert form("train_tracker", videos, {**PARAMS, "replace": True}).errors == {}
    assert "at the speed of the last run, mine" in found.text("content")
    with pytest.raises(ExecutionError, match="name"):
        execute("train_tracker", videos, PARAMS)


def test_without_files_it_says_so(form, dataset, tmp_path):
    assert "open a dataset" in form("train_tracker", None, {}).errors["no_files"]
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "points.pcd")))
    assert "nothing to train on" in form("train_tracker", dataset, {}).errors["no_files"]


def test_photographs_alone_are_enough(form, dataset, tmp_path):
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "a.png")))
    photographs = form("train_tracker", dataset, {})
    assert photographs.errors == {}
    assert photographs.text("content").startswith("1 photograph, no videos")


def test_a_model_is_trained_and_offered(form, execute, videos):
    Path(videos.last().filepath).unlink()
    messages = execute("train_tracker", videos, PARAMS)
    labels, charts = zip(*shown(messages), strict=True)
    assert labels[0] == "reading frames, file 1 of 2: video0.mp4"
    assert labels[-1].startswith("training step 2 of 2, loss ")
    assert charts[0] == []
    (curve,) = charts[-1]
    assert list(curve["x"]) == [1, 2]
    (note,) = [params for name, params in messages if name.endswith("notify")]
    assert note["message"].startswith("mine: trained for 2 steps")
    assert "colour error" in note["message"]
    assert "Propagate labels offers mine" in note["message"]
    assert "video1.mp4: " in note["message"]
    assert note["variant"] == "warning"
    assert "mine" in form("propagate_labels", videos, {"seed_field": "frames.gt"}).choices("model")
    assert "mine" in form("train_tracker", videos, {}).choices("init")
    assert running(store(videos)) == {}


def test_stopped_it_is_continued(form, execute, videos):
    messages = in_app(videos, {**PARAMS, "steps": 500})
    for message in messages:
        if "step 1 of 500" in str(message.body.to_json()):
            break
    (run,) = running(store(videos))
    assert running(store(videos))[run] == "Train tracker mine"
    execute("stop_tracking", videos, {"run": run})
    rest = [message.body.to_json() for message in messages]
    (note,) = [message["params"] for message in rest if message["operator_uri"] == "notify"]
    assert note["message"].startswith("mine: stopped after ")
    steps = int(note["message"].split("stopped after ")[1].split()[0])

    unfinished = form("train_tracker", videos, {})
    assert unfinished.errors == {}
    assert (unfinished.default("name"), unfinished.default("steps")) == ("mine", 500)
    assert unfinished.choices("unfinished") == ["continue", "anew"]
    messages = execute("train_tracker", videos, {**PARAMS, "steps": steps + 1, "unfinished": "continue"})
    (label,) = (label for label, _ in shown(messages))
    assert label.startswith(f"training step {steps + 1} of {steps + 1}, loss ")
    assert "mine" in [info.name for info in list_models()]
    assert not is_unfinished("mine")


def test_closing_the_window_stops_it_and_keeps_what_it_has_learned(videos):
    messages = in_app(videos, {**PARAMS, "steps": 500})
    for message in messages:
        if "step 1 of 500" in str(message.body.to_json()):
            break
    messages.close()
    assert is_unfinished("mine")
    assert running(store(videos)) == {}


def test_what_went_wrong_is_said(execute, videos):
    for path in videos.values("filepath"):
        Path(path).unlink()
    messages = execute("train_tracker", videos, PARAMS)
    (note,) = [params for name, params in messages if name.endswith("notify")]
    assert note["variant"] == "error"
    assert "none of the 2 files to train on can be read" in note["message"]


def test_delegated(videos):
    uri = f"{PLUGIN}/train_tracker"
    foo.execute_operator(uri, {"dataset": videos, "params": PARAMS}, request_delegation=True)
    service = DelegatedOperationService()
    (result,) = service.execute_queued_operations(operator=uri, dataset_name=videos.name)
    assert result.error is None
    assert result.result["model"] == "mine"
    assert "mine: trained for 2 steps" in result.result["summary"]
    (operation,) = service.list_operations(operator=uri, dataset_name=videos.name)
    assert operation.label == "Train tracker mine"
    assert operation.status.label.startswith("training step 2 of 2")
    assert "mine" in [info.name for info in list_models()]
