from fiftyone.operators.executor import ExecutionContext, Executor, resolve_placement
from fiftyone.operators.registry import OperatorRegistry

from fiftyone_colortrack.api.stop import StopSignal, running
from fiftyone_colortrack.plugin import forms

PLUGIN = "@colortrack/fiftyone-colortrack"


def store(dataset):
    return forms.store(ExecutionContext(request_params={"dataset_name": dataset.name, "params": {}}))


def test_nothing_to_stop(form, videos):
    assert form("stop_tracking", videos, {}).errors == {"none": "Nothing is running on this dataset"}


def test_a_run_is_listed_while_it_lasts_and_stops_when_asked(form, execute, videos, monkeypatch):
    monkeypatch.setattr("fiftyone_colortrack.api.stop.SECONDS_BETWEEN_POLLS", 0)
    with StopSignal(store(videos), "First") as first, StopSignal(store(videos), "Second") as second:
        listed = form("stop_tracking", videos, {})
        assert sorted(running(store(videos)).values()) == ["First", "Second"]
        assert len(listed.choices("run")) == 2
        (chosen,) = [id for id, title in running(store(videos)).items() if title == "First"]
        execute("stop_tracking", videos, {"run": chosen})
        assert (first(), second()) == (True, False)
    assert running(store(videos)) == {}


def test_the_button_is_there_while_something_runs(videos):
    operator = OperatorRegistry().get_operator(f"{PLUGIN}/stop_tracking")
    request = {"dataset_name": videos.name, "params": {}}
    with StopSignal(store(videos), "Run"):
        assert resolve_placement(operator, request).view.label == "Stop tracking"
    assert resolve_placement(operator, request) is None


def test_propagation_stops_within_a_frame_and_keeps_what_is_finished(execute, videos, monkeypatch):
    monkeypatch.setattr("fiftyone_colortrack.api.stop.SECONDS_BETWEEN_POLLS", 0)
    monkeypatch.setattr("fiftyone_colortrack.plugin.work.SECONDS_BETWEEN_MESSAGES", 0)
    uri = f"{PLUGIN}/propagate_labels"
    params = {"seed_field": "frames.gt", "out_field": "tracks", "model": "identity"}
    request = {"dataset_name": videos.name, "params": params}
    context = ExecutionContext(request_params=request, executor=Executor(), operator_uri=uri)
    messages = OperatorRegistry().get_operator(uri).execute(context)
    for _ in range(1 + 8 + 3):  # in the second video
        next(messages)
    (run,) = running(store(videos))
    execute("stop_tracking", videos, {"run": run})
    rest = [message.body.to_json() for message in messages]
    steps = [message for message in rest if message["operator_uri"] == "show_output"]
    assert len(steps) <= 1
    (note,) = [message["params"]["message"] for message in rest if message["operator_uri"] == "notify"]
    assert note.startswith("Stopped: 1 video (8 frames) tracked")
    assert [run is not None for run in videos.values("tracks_run")] == [True, False]
    videos.reload()
    assert videos.count("frames.tracks") == 8
    assert running(store(videos)) == {}
