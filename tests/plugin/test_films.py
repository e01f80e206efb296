from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_colortrack.plugin.operators.films import ColorizeVideos, EmbedVideos, FilmVideos
from fiftyone_colortrack.video import VideoFile


@pytest.fixture
def videos(dataset: fo.Dataset, squares_file: Path) -> Iterator[fo.Dataset]:
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    yield dataset
    if fo.dataset_exists(f"{dataset.name}-films"):
        fo.delete_dataset(f"{dataset.name}-films")


def form(operator: foo.Operator, dataset: fo.Dataset, **params: object) -> foo.types.Property:
    context = ExecutionContext({"dataset_name": dataset.name, "params": params}, operator_uri=operator.uri)
    return operator.resolve_input(context)


def execute(operator: type[foo.Operator], dataset: fo.Dataset, **params: object) -> list[dict]:
    """Runs an operator as the App does; returns what it sent there."""
    request = {"dataset_name": dataset.name, "params": params}
    context = ExecutionContext(request, executor=Executor(), operator_uri="test")
    return [message.body.to_json() for message in operator().execute(context)]


def test_they_are_registered_under_the_names_of_the_manifest(database: None) -> None:
    for name in ("colorize_videos", "embed_videos", "film_videos"):
        assert foo.operator_exists(f"@colortrack/fiftyone-colortrack/{name}")


@pytest.mark.parametrize(
    ("operator", "kind"),
    [(ColorizeVideos, "colors"), (EmbedVideos, "embedding"), (FilmVideos, "overview")],
)
def test_videos_are_rendered_and_opened(operator: type[foo.Operator], kind: str, videos: fo.Dataset) -> None:
    inputs = form(operator(), videos).type
    assert "1 video" in inputs.get_property("estimate").view.label
    assert ("basis" in inputs.properties) == (kind == "embedding")
    messages = execute(operator, videos, model="lab")
    names = [message["operator_uri"].split("/")[-1] for message in messages]
    assert names[0] == "set_progress"
    assert "buttons" in messages[1]["params"]["outputs"]["type"]["properties"]
    assert names[-2:] == ["show_output", "open_dataset"]
    assert messages[-2]["params"]["results"]["variant"] == "success"
    again = form(operator(), videos).type
    assert again.get_property("model").default == "lab"  # what was chosen the last time
    (made,) = fo.load_dataset(messages[names.index("open_dataset")]["params"]["dataset"])
    assert made.film == kind
    assert VideoFile(made.filepath).info.codec == "h264"


def test_side_by_side_videos_show_tracks(videos: fo.Dataset) -> None:
    assert "label_field" not in form(FilmVideos(), videos).type.properties
    assert form(FilmVideos(), videos).type.get_property("no_tracks")
    sample = videos.first()
    box = fo.Detection(label="red", index=1, bounding_box=[0.1, 0.1, 0.4, 0.4])
    sample.frames[1] = fo.Frame(drawn=fo.Detections(detections=[box]))
    sample.save()
    assert form(FilmVideos(), videos).type.get_property("label_field").default == "frames.drawn"
    execute(FilmVideos, videos, model="lab", label_field="frames.drawn", confidence=True)
    (made,) = fo.load_dataset(f"{videos.name}-films")
    source = VideoFile(videos.first().filepath).info
    assert VideoFile(made.filepath).info.width == 2 * source.width


def test_a_failed_video_is_named(videos: fo.Dataset) -> None:
    Path(videos.first().filepath).write_bytes(b"")
    messages = execute(ColorizeVideos, videos, model="lab")
    shown = [
        message["params"]["results"] for message in messages if message["operator_uri"] == "show_output"
    ][-1]
    assert shown["variant"] == "warning"
    assert "squares.mp4" in shown["summary"]


def test_names_are_escaped_in_the_summary(videos: fo.Dataset, tmp_path: Path) -> None:
    bad = tmp_path / "<b>_x_[y](z).mp4"
    bad.write_bytes(b"")
    videos.add_sample(fo.Sample(filepath=str(bad)))
    messages = execute(ColorizeVideos, videos, model="lab")
    (shown,) = [m["params"]["results"] for m in messages if "summary" in m["params"].get("results", {})]
    assert r"\<b\>\_x\_\[y\](z).mp4" in shown["summary"]


def test_images_are_refused(dataset: fo.Dataset, tmp_path: Path) -> None:
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "image.png")))
    inputs = form(ColorizeVideos(), dataset).type
    assert any(prop.invalid for prop in inputs.properties.values())
