"""What an operator raises by surprise reaches the log, and not the browser."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import execute_or_delegate_operator, resolve_placement, resolve_type
from fiftyone.operators.registry import OperatorRegistry
from fiftyone.operators.server import create_response_generator

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.plugin.operators.propagate import PropagateLabels
from fiftyone_colortrack.plugin.operators.stop import StopTracking
from fiftyone_colortrack.plugin.panel import ColorTrackPanel

PLUGIN = "@colortrack/fiftyone-colortrack"
SECRET = "/home/somebody/secret"


@pytest.fixture
def videos(dataset: fo.Dataset) -> fo.Dataset:
    sample = fo.Sample(filepath="video.mp4")
    sample.frames[1] = fo.Frame(seed=fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])]))
    dataset.add_sample(sample)
    return dataset


def fail(*_: object) -> None:
    raise KeyError(SECRET)


def executed(operator: str, dataset: fo.Dataset, params: dict) -> str:
    """What the browser gets when it executes an operator."""
    request = {"operator_uri": f"{PLUGIN}/{operator}", "dataset_name": dataset.name, "params": params}
    result = asyncio.run(execute_or_delegate_operator(request["operator_uri"], request))
    if result.is_generator:
        return "".join(create_response_generator(result.result))
    return str(result.to_json())


def form(operator: str, dataset: fo.Dataset, target: str = "inputs") -> str:
    """What the browser gets when it opens a form, or shows results."""
    request = {"dataset_name": dataset.name, "params": {}, "target": target}
    resolved = asyncio.run(resolve_type(OperatorRegistry(), f"{PLUGIN}/{operator}", request))
    return str(resolved.to_json())


PARAMS = {"seed_field": "frames.seed", "label_field": "tracks"}
IN_PANEL = {"panel_id": "panel", "__method__": "on_load", "panel_state": {}}


@pytest.mark.parametrize(
    ("cls", "method", "show"),
    [
        (PropagateLabels, "resolve_input", lambda videos: form("propagate_labels", videos)),
        (StopTracking, "resolve_output", lambda videos: form("stop_tracking", videos, "outputs")),
        (PropagateLabels, "work", lambda videos: executed("propagate_labels", videos, PARAMS)),
        (StopTracking, "execute", lambda videos: executed("stop_tracking", videos, {})),
        (ColorTrackPanel, "render", lambda videos: executed("colortrack_panel", videos, IN_PANEL)),
    ],
    ids=["a form", "results", "while it works", "at once", "the panel"],
)
def test_the_browser_gets_an_id_and_the_log_the_traceback(
    videos: fo.Dataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cls: type,
    method: str,
    show: Callable[[fo.Dataset], str],
) -> None:
    if method == "execute":
        monkeypatch.setattr(StopTracking, "resolve_input", lambda *_: None)
    monkeypatch.setattr(cls, method, fail)
    shown = show(videos)
    assert SECRET not in shown
    assert "Traceback" not in shown
    (id,) = set(re.findall(r"error (\w{8}) in the log", shown))
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert id in record.getMessage()
    assert record.exc_info
    assert SECRET in str(record.exc_info[1])


def test_a_button_is_left_out(
    videos: fo.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(PropagateLabels, "resolve_placement", fail)
    operator = OperatorRegistry().get_operator(f"{PLUGIN}/propagate_labels")
    assert resolve_placement(operator, {"dataset_name": videos.name, "params": {}}) is None
    assert SECRET in str(caplog.records[0].exc_info)


def test_delegated(
    videos: fo.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    params = {"seed_field": "frames.seed", "label_field": "tracks"}
    uri = f"{PLUGIN}/propagate_labels"
    foo.execute_operator(uri, {"dataset": videos, "params": params}, request_delegation=True)
    monkeypatch.setattr(PropagateLabels, "work", fail)
    (result,) = DelegatedOperationService().execute_queued_operations(operator=uri, dataset_name=videos.name)
    assert SECRET not in result.error
    (id,) = re.findall(r"Look for error (\w{8}) in the log of the worker", result.error)
    assert any(id in record.getMessage() and SECRET in str(record.exc_info) for record in caplog.records)


def test_errors_that_people_can_mend_are_shown_as_they_are(
    videos: fo.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise ColorTrackError("label a frame first")

    monkeypatch.setattr(PropagateLabels, "resolve_input", refuse)
    assert "label a frame first" in form("propagate_labels", videos)
    assert not caplog.records
