from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import labeled_frames
from fiftyone_colortrack.datasets.davis import read_davis
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import LabEmbedder
from fiftyone_colortrack.tracking import TrackerConfig


@pytest.fixture
def davis_folder(tmp_path: Path) -> Path:
    """One DAVIS 2016 sequence: a disc that slowly takes the color of the ground, and goes on moving."""
    ground = cv2.resize(np.random.default_rng(0).integers(0, 90, (12, 16, 3), np.uint8), (128, 96))
    lines = []
    for t in range(10):
        mask = cv2.circle(np.zeros((96, 128), np.uint8), (30 + 7 * t, 50), 20, 255, -1)
        color = np.array([40, 60, 230]) * (1 - t / 12) + 45 * (t / 12)
        frame = np.where(mask[..., None] > 0, color.astype(np.uint8), ground)
        paths = [f"/JPEGImages/480p/disc/{t:05}.jpg", f"/Annotations/480p/disc/{t:05}.png"]
        for path, picture in zip(paths, (frame, mask), strict=True):
            Path(f"{tmp_path}{path}").parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(f"{tmp_path}{path}", picture)
        lines.append(" ".join(paths))
    (tmp_path / "ImageSets" / "480p").mkdir(parents=True)
    (tmp_path / "ImageSets" / "480p" / "val.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_more_labels_help_whoever_chooses(davis_folder: Path) -> None:
    config = TrackerConfig(input_size=96, memory=2, outlines=False)
    results = labeled_frames.run(davis_folder, [1, 2, 10], model="lab", seeds=2, config=config)
    assert set(results) == {"disc", "mean"}
    assert results["mean"] == results["disc"]
    assert set(results["mean"]) == set(labeled_frames.COLORS)
    ones = {scores[1] for scores in results["mean"].values()}
    assert len(ones) == 1  # the first frame, whoever chooses
    assert ones.pop() < 99
    for name in ("suggested", "suggested one by one", "random"):
        assert results["mean"][name][10] == pytest.approx(100)


def test_frames_that_a_label_cannot_change_are_not_tracked_again(davis_folder: Path, monkeypatch) -> None:
    embedded: list[int] = []
    features = LabEmbedder.features
    monkeypatch.setattr(LabEmbedder, "features", lambda *args: embedded.append(1) or features(*args))
    (davis,) = read_davis(davis_folder)
    config = TrackerConfig(input_size=96, memory=2)
    sequence = labeled_frames.LabeledSequence(davis, load_model("lab"), config)
    anew = labeled_frames.LabeledSequence(davis, load_model("lab"), config)
    for labeled, count in (([0], 10), ([0, 4], 10), ([0, 4, 7], 6), ([0, 4], 0)):
        embedded.clear()
        score = sequence.score(labeled)
        assert len(embedded) == count
        assert score == anew.score(labeled)


def test_a_table_and_a_chart(tmp_path: Path) -> None:
    scores = {way: {1: 70.04, 5: 80.0} for way in ("suggested", "evenly spaced", "random")}
    assert labeled_frames.markdown(scores).splitlines()[:3] == [
        "| labeled frames | 1 | 5 |",
        "| --- | ---: | ---: |",
        "| suggested | 70.0 | 80.0 |",
    ]
    labeled_frames.draw(scores, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_the_choices() -> None:
    assert labeled_frames.evenly_spaced(90, 1) == [0]
    assert labeled_frames.evenly_spaced(90, 5) == [0, 20, 40, 60, 80]
    chosen = labeled_frames.random_frames(90, 5, 0)
    assert chosen[0] == 0
    assert len(set(chosen)) == 5
    assert max(chosen) < 90
    assert chosen[:3] == labeled_frames.random_frames(90, 3, 0)
