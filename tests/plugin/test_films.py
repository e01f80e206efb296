from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_colortrack.video import VideoFile


@pytest.fixture
def videos(dataset: fo.Dataset, squares_file: Path) -> Iterator[fo.Dataset]:
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    yield dataset
    if fo.dataset_exists(f"{dataset.name}-films"):
        fo.delete_dataset(f"{dataset.name}-films")


def results(messages: list[tuple[str, dict]]) -> dict:
    return [params["results"] for name, params in messages if name == "show_output"][-1]


@pytest.mark.parametrize(
    ("operator", "kind"),
    [("colorize_videos", "colors"), ("embed_videos", "embedding"), ("film_videos", "overview")],
)
def test_videos_are_rendered_and_opened(form, execute, operator, kind, videos):
    first = form(operator, videos, {})
    assert "1 video" in first.text("estimate")
    assert ("basis" in first.inputs) == (kind == "embedding")
    messages = execute(operator, videos, {"model": "lab"})
    names = [name.split("/")[-1] for name, _ in messages]
    assert names[0] == "set_progress"
    assert "buttons" in messages[1][1]["outputs"]["type"]["properties"]
    assert names[-2:] == ["show_output", "open_dataset"]
    assert results(messages)["variant"] == "success"
    assert form(operator, videos, {}).default("model") == "lab"  # what was chosen the last time
    (made,) = fo.load_dataset(messages[-1][1]["dataset"])
    assert made.film == kind
    assert VideoFile(made.filepath).info.codec == "h264"


def test_side_by_side_videos_show_tracks(form, execute, videos):
    before = form("film_videos", videos, {}).inputs
    assert "no_tracks" in before
    assert "label_field" not in before
    sample = videos.first()
    box = fo.Detection(label="red", index=1, bounding_box=[0.1, 0.1, 0.4, 0.4])
    sample.frames[1] = fo.Frame(drawn=fo.Detections(detections=[box]))
    sample.save()
    assert form("film_videos", videos, {}).default("label_field") == "frames.drawn"
    execute("film_videos", videos, {"model": "lab", "label_field": "frames.drawn", "confidence": True})
    (made,) = fo.load_dataset(f"{videos.name}-films")
    source = VideoFile(videos.first().filepath).info
    assert VideoFile(made.filepath).info.width == 2 * source.width


def test_a_failed_video_is_named(execute, videos, tmp_path):
    Path(videos.first().filepath).write_bytes(b"")
    bad = tmp_path / "<b>_x_[y](z).mp4"
    bad.write_bytes(b"")
    videos.add_sample(fo.Sample(filepath=str(bad)))
    shown = results(execute("colorize_videos", videos, {"model": "lab"}))
    assert shown["variant"] == "warning"
    assert "squares.mp4" in shown["summary"]
    assert r"\<b\>\_x\_\[y\](z).mp4" in shown["summary"]


def test_images_are_refused(form, dataset, tmp_path):
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "image.png")))
    assert form("colorize_videos", dataset, {}).errors
