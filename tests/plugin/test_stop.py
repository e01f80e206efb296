import time

import fiftyone.core.odm as odm
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor, resolve_placement
from fiftyone.operators.registry import OperatorRegistry

import fiftyone_colortrack as ct
from fiftyone_colortrack.api.stop import StopSignal, running
from fiftyone_colortrack.exports import export_tracks
from fiftyone_colortrack.plugin.work import until_stopped

PLUGIN = "@colortrack/fiftyone-colortrack"


def soon(condition):
    """Whether something comes true within seconds."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_nothing_to_stop(form, videos):
    assert "Nothing is running" in form("stop_tracking", videos, {}).errors["none"]


def test_work_is_listed_while_it_lasts_and_stops_when_asked(form, execute, videos):
    with StopSignal(videos, "First") as first, StopSignal(videos, "Second") as second:
        listed = form("stop_tracking", videos, {})
        assert [work.title for work in running(videos)] == ["First", "Second"]
        assert listed.choices("run") == [first.id, second.id]
        first.update(1, 4, "frame 1 of 4")
        assert soon(lambda: running(videos)[0][2:] == ("frame 1 of 4", 0.25))
        execute("stop_tracking", videos, {"run": first.id})
        assert soon(first)
        assert not second()
    assert running(videos) == []


def test_work_on_an_empty_dataset_is_listed(dataset):
    with StopSignal(dataset, "Import"):
        assert [work.title for work in running(dataset)] == ["Import"]


def test_work_of_a_killed_process_leaves_the_list(videos, monkeypatch):
    with StopSignal(videos, "Killed") as killed:
        killed._beats.close()  # no more signs of life
        monkeypatch.setattr("fiftyone_colortrack.api.stop.SECONDS_WITHOUT_BEAT", 0.5)
        assert soon(lambda: running(videos) == [])


def test_the_button_is_there_while_something_runs(videos):
    operator = OperatorRegistry().get_operator(f"{PLUGIN}/stop_tracking")
    request = {"dataset_name": videos.name, "params": {}}
    with StopSignal(videos, "Run"):
        assert resolve_placement(operator, request).view.label == "Stop tracking"
    assert resolve_placement(operator, request) is None


def test_propagation_stops_and_keeps_what_is_tracked(execute, videos, monkeypatch):
    monkeypatch.setattr("fiftyone_colortrack.plugin.work.SECONDS_BETWEEN_MESSAGES", 0.01)
    monkeypatch.setattr("fiftyone_colortrack.fields.tracks.FRAMES_PER_WRITE", 1)
    uri = f"{PLUGIN}/propagate_labels"
    params = {"seed_field": "frames.gt", "label_field": "tracks", "model": "identity"}
    request = {"dataset_name": videos.name, "params": params}
    context = ExecutionContext(request_params=request, executor=Executor(), operator_uri=uri)
    messages = OperatorRegistry().get_operator(uri).execute(context)
    next(messages)
    while not running(videos):
        next(messages)
    (work,) = running(videos)
    execute("stop_tracking", videos, {"run": work.id})
    rest = [message.body.to_json() for message in messages]
    note = [one["params"]["results"] for one in rest if one["operator_uri"] == "show_output"][-1]["summary"]
    assert note.startswith("Stopped: ") or "2 videos (16 frames)" in note  # it may have been done before
    assert running(videos) == []


def test_a_clock_that_is_set_back_keeps_no_dead_work_in_the_list(videos):
    with StopSignal(videos, "Killed") as killed:
        killed._beats.close()
        seen = {
            "$set": {"seen": {"$add": ["$$NOW", 600_000]}}
        }  # as if the server's clock had been right before
        odm.get_db_conn()["colortrack.running"].update_one({"_id": killed.id}, [seen])
        assert running(videos) == []


def test_evaluation_and_export_stop_and_leave_nothing(videos, tmp_path):
    ct.propagate(videos, "frames.gt", "frames.tracks", model="identity")
    stopped = until_stopped(lambda *_: None, lambda: True, "Stopped")
    with pytest.raises(ct.ColorTrackError, match="Stopped"):
        ct.evaluate_tracks(videos, "tracks", "gt", "eval", progress=stopped)
    assert videos.list_evaluations() == []
    with pytest.raises(ct.ColorTrackError, match="Stopped"):
        export_tracks(videos, "tracks", tmp_path / "new" / "out", progress=stopped)
    assert list((tmp_path / "new").iterdir()) == []
