from __future__ import annotations

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.executor import ExecutionContext
from fiftyone.operators.registry import OperatorRegistry

from fiftyone_colortrack.fields.shapes import regions, relative_box
from fiftyone_colortrack.plugin.params import PARAMETERS

PLUGIN = "@colortrack/fiftyone-colortrack"


class Form:
    """An operator's form, as the App gets it."""

    def __init__(self, operator: str, dataset: fo.Dataset | None, params: dict, **request) -> None:
        uri = f"{PLUGIN}/{operator}"
        request = {"dataset_name": dataset and dataset.name, "params": params, **request}
        context = ExecutionContext(request_params=request, operator_uri=uri)
        resolved = OperatorRegistry().get_operator(uri).resolve_type(context, "inputs")
        self.inputs = resolved.to_json()["type"]["properties"]
        named = {name for name, prop in self.inputs.items() if prop["type"]["name"] != "Void"}
        assert named <= {*PARAMETERS[operator], "advanced"}, "the reference has every parameter"

    def default(self, name: str):
        return self.inputs[name]["default"]

    def choices(self, name: str) -> list[str]:
        return [choice["value"] for choice in self.inputs[name]["view"]["choices"]]

    def text(self, name: str) -> str:
        return self.inputs[name]["view"]["label"]

    @property
    def errors(self) -> dict[str, str]:
        return {name: prop.get("error_message") for name, prop in self.inputs.items() if prop.get("invalid")}


@pytest.fixture
def form(database):
    return Form


@pytest.fixture
def execute(database):
    """Runs an operator as the SDK does; returns the messages to the App, by their operator's name."""

    def run(operator: str, dataset: fo.Dataset | None = None, params: dict | None = None, **context):
        context = {"dataset": dataset, "params": params or {}, **context}
        result = foo.execute_operator(f"{PLUGIN}/{operator}", context)
        result.raise_exceptions()
        requests = result.executor.to_json()["requests"]
        return [(request["operator_uri"], request["params"]) for request in requests]

    return run


@pytest.fixture
def videos(dataset, squares, squares_file, tmp_path):
    """Two copies of `squares` with truth in `gt`; the first one has labels in frame 1 of `seed`."""

    def detections(id_map):
        return fo.Detections(
            detections=[
                fo.Detection(
                    label="square", index=id, bounding_box=relative_box(r, id_map.shape), mask=r.mask
                )
                for id, r in regions(id_map)
            ]
        )

    for i in range(2):
        path = tmp_path / f"video{i}.mp4"
        path.symlink_to(squares_file)
        sample = fo.Sample(
            filepath=str(path),
            metadata=fo.VideoMetadata(total_frame_count=8, frame_width=96, frame_height=64),
        )
        for number, id_map in enumerate(squares[1], 1):
            sample.frames[number] = fo.Frame(gt=detections(id_map))
        sample.frames[1]["seed"] = detections(squares[1][0]) if i == 0 else None
        dataset.add_sample(sample)
    return dataset
