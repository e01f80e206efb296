import shutil
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionContext, ExecutionError, Executor
from fiftyone.operators.registry import OperatorRegistry
from PIL import Image

from fiftyone_colortrack.api.stop import running
from fiftyone_colortrack.api.training import is_unfinished, run_folder
from fiftyone_colortrack.model import list_models
from fiftyone_colortrack.training import RECIPES, TrainingData, fit
from fiftyone_colortrack.training.checkpoint import CHECKPOINT

PLUGIN = "@colortrack/fiftyone-colortrack"
PARAMS = {"name": "mine", "init": "fast", "steps": 2}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Models and runs of a user of its own; small batches; every step is shown."""
    monkeypatch.setenv("FIFTYONE_COLORTRACK_HOME", str(tmp_path / "home"))
    batch = replace(RECIPES["fast"], frame_pairs=1, view_pairs=1, crops=(64,))
    monkeypatch.setitem(RECIPES, "fast", batch)
    monkeypatch.setattr("fiftyone_colortrack.training.scoring.TRACKED_SIDE", 96)
    monkeypatch.setattr("fiftyone_colortrack.plugin.work.SECONDS_BETWEEN_MESSAGES", 0.01)


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


def test_the_first_click_works(form, videos):
    first = form("train_tracker", videos, {})
    assert first.errors == {}
    assert first.default("name") == "my_tracker"
    assert first.choices("init")[0] == first.default("init") == "fast"
    assert first.choices("init")[-1] == "random"
    assert "lab" not in first.choices("init")
    assert first.text("content").startswith("2 videos. ")
    assert "about " in first.text("disk")
    assert str(run_folder("my_tracker")) in first.text("disk")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a b", "letters, digits"), ("../a", "letters"), ("fast", "ColorTrack itself uses"), ("", "letters")],
)
def test_names_are_checked(form, videos, name, reason):
    assert reason in form("train_tracker", videos, {"name": name}).errors["name"]


def test_a_model_is_replaced_only_on_demand(form, execute, videos):
    execute("train_tracker", videos, {**PARAMS, "steps": 1})
    found = form("train_tracker", videos, PARAMS)
    assert "exists" in found.errors["name"]
    assert "overwrite" in found.inputs
    assert form("train_tracker", videos, {**PARAMS, "overwrite": True}).errors == {}
    assert "last run, mine" in found.text("content")
    with pytest.raises(ExecutionError, match="name"):
        execute("train_tracker", videos, PARAMS)


def test_without_files_it_says_so(form, dataset, tmp_path):
    assert "open a dataset" in form("train_tracker", None, {}).errors["no_files"]
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "points.pcd")))
    assert "nothing to train on" in form("train_tracker", dataset, {}).errors["no_files"]


def test_images_alone_are_enough_on_a_disk_with_little_space(form, dataset, tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "a.png")))
    pictures = form("train_tracker", dataset, {})
    assert pictures.errors == {}
    assert pictures.text("content").startswith("1 image, no videos")
    assert "up to " in pictures.text("disk")  # how large the image is, is not known before it is read


def test_a_model_is_trained_and_offered(form, execute, videos):
    Path(videos.last().filepath).unlink()
    messages = execute("train_tracker", videos, PARAMS)
    labels, charts = zip(*shown(messages), strict=True)
    assert any("video" in label for label in labels)
    assert labels[-1].startswith("Step 2 of 2")
    assert charts[0] == []
    (curve,) = charts[-1]
    assert list(curve["x"]) == [1, 2]
    note = [params["results"] for name, params in messages if name == "show_output"][-1]
    assert note["summary"].startswith("mine: trained for 2 steps")
    assert "color error" in note["summary"]
    assert "video1" in note["summary"]
    assert note["variant"] == "warning"
    assert "mine" in form("propagate_labels", videos, {"seed_field": "frames.gt"}).choices("model")
    assert "mine" in form("train_tracker", videos, {}).choices("init")
    assert running(videos) == []


def test_a_stopped_run_is_resumed(form, execute, videos):
    messages = in_app(videos, {**PARAMS, "steps": 500})
    for message in messages:
        if "Step 1 of 500" in str(message.body.to_json()):
            break
    (run,) = running(videos)
    assert run.title == "Train tracker mine"
    execute("stop_tracking", videos, {"run": run.id})
    rest = [message.body.to_json() for message in messages]
    note = [one["params"]["results"] for one in rest if one["operator_uri"] == "show_output"][-1]
    assert note["summary"].startswith("mine: stopped after ")
    steps = int(note["summary"].split("stopped after ")[1].split()[0])

    unfinished = form("train_tracker", videos, {})
    assert unfinished.errors == {}
    assert (unfinished.default("name"), unfinished.default("steps")) == ("mine", 500)
    assert unfinished.choices("unfinished") == ["resume", "overwrite"]
    messages = execute("train_tracker", videos, {**PARAMS, "steps": steps + 1, "unfinished": "resume"})
    *_, label = (label for label, _ in shown(messages))
    assert label.startswith(f"Step {steps + 1} of {steps + 1}")
    assert "mine" in [info.name for info in list_models()]
    assert not is_unfinished("mine")


def test_what_cannot_work_is_marked(form, execute, videos):
    folder = run_folder("mine")
    folder.mkdir(parents=True)
    (folder / CHECKPOINT).write_bytes(b"damaged")
    assert str(folder) in form("train_tracker", videos, PARAMS).errors["unfinished"]
    assert form("train_tracker", videos, {**PARAMS, "unfinished": "overwrite"}).errors == {}
    data = TrainingData.collect(videos.values("filepath")[:1])
    fit(data, steps=1, out_dir=folder, overwrite=True, device="cpu")
    assert "other files" in form("train_tracker", videos, PARAMS).errors["unfinished"]
    videos.delete_samples(videos.last().id)
    assert "steps" in form("train_tracker", videos, {**PARAMS, "steps": 1}).errors
    assert form("train_tracker", videos, PARAMS).errors == {}
    for path in videos.values("filepath"):
        Path(path).unlink()
    assert "video0.mp4" in form("train_tracker", videos, {**PARAMS, "name": "new"}).errors["no_files"]


def test_what_went_wrong_is_said(execute, videos):
    for path in videos.values("filepath"):
        Path(path).write_bytes(b"damaged")
    messages = execute("train_tracker", videos, PARAMS)
    outputs = [params["outputs"] for name, params in messages if name == "show_output"][-1]
    failed = outputs["type"]["properties"]["failed"]["view"]
    assert failed["severity"] == "error"
    assert "none of the 2 files to train on can be read" in failed["description"]


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
    assert operation.status.label.startswith("Step 2 of 2")
    assert "mine" in [info.name for info in list_models()]
