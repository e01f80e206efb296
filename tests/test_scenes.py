from pathlib import Path

import numpy as np
import pytest

from colortrack_benchmarks.scenes import POINT_NAMES, load_scenes, render_scene
from fiftyone_colortrack.errors import ColorTrackError


def test_shapes_and_determinism() -> None:
    scene = render_scene((96, 130), 5, 3, seed=4)
    assert (scene.frames.shape, scene.frames.dtype) == ((5, 96, 130, 3), np.uint8)
    assert scene.masks.shape == (5, 96, 130)
    assert scene.boxes.shape == (5, 3, 4)
    assert scene.points.shape == (5, 3, len(POINT_NAMES), 2)
    again, other = render_scene((96, 130), 5, 3, seed=4), render_scene((96, 130), 5, 3, seed=5)
    for name in ("frames", "masks", "boxes", "points"):
        assert np.array_equal(getattr(scene, name), getattr(again, name), equal_nan=True)
    assert not np.array_equal(scene.frames, other.frames)


@pytest.mark.parametrize("seed", range(6))
def test_easy_objects_never_touch_and_are_wholly_seen(seed: int) -> None:
    scene = render_scene((120, 160), 24, 4, seed=seed)
    assert np.isfinite(scene.points).all()
    assert np.isfinite(scene.boxes).all()
    for i in range(4):
        x0, y0, x1, y1 = scene.boxes[:, i].T
        assert x0.min() > 0
        assert y0.min() > 0
        assert x1.max() < 160
        assert y1.max() < 120
        for j in range(i):
            left, right = np.maximum(x0, scene.boxes[:, j, 0]), np.minimum(x1, scene.boxes[:, j, 2])
            top, bottom = np.maximum(y0, scene.boxes[:, j, 1]), np.minimum(y1, scene.boxes[:, j, 3])
            assert not ((left < right) & (top < bottom)).any()


def test_hard_objects_hide_each_other() -> None:
    scene = render_scene((120, 160), 24, 4, difficulty="hard", seed=0)
    assert np.isnan(scene.points).any()
    moved = np.nanmax(np.abs(np.diff(scene.boxes[..., :2], axis=0)))
    assert moved > np.nanmax(np.abs(np.diff(render_scene((120, 160), 24, 4).boxes[..., :2], axis=0)))


def test_points_stick_to_the_texture() -> None:
    scene = render_scene((240, 320), 24, 2, seed=1)
    for i in range(2):
        for p in range(len(POINT_NAMES)):
            x, y = np.floor(scene.points[:, i, p]).astype(int).T
            patches = np.array(
                [scene.frames[t, y[t] - 1 : y[t] + 2, x[t] - 1 : x[t] + 2].mean((0, 1)) for t in range(24)]
            )
            assert np.abs(patches - patches.mean(0)).mean() < 10


def test_boxes_and_points_agree_with_the_masks() -> None:
    scene = render_scene((120, 160), 12, 5, difficulty="hard", late=2, seed=3)
    for t in range(12):
        for i in range(5):
            ys, xs = np.nonzero(scene.masks[t] == i + 1)
            if len(ys):
                assert scene.boxes[t, i].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            else:
                assert np.isnan(scene.boxes[t, i]).all()
            for x, y in scene.points[t, i][np.isfinite(scene.points[t, i, :, 0])]:
                assert scene.masks[t, int(y), int(x)] == i + 1


def test_late_objects_enter() -> None:
    scene = render_scene((96, 128), 30, 3, late=1)
    present = [(scene.masks == i).any((1, 2)) for i in (1, 2, 3)]
    assert present[0].all()
    assert present[1].all()
    assert not present[2][:10].any()
    assert present[2][16:].all()


def test_bad_numbers() -> None:
    for arguments in ({"size": (20, 300)}, {"frames": 0}, {"objects": 2, "late": 3}):
        with pytest.raises(ColorTrackError, match="cannot render"):
            render_scene(**arguments)  # type: ignore[arg-type]


@pytest.mark.usefixtures("database")
def test_load(tmp_path: Path) -> None:
    dataset = load_scenes(tmp_path, "scenes", 2, size=(65, 97), frames=4, late=1, seed=7)
    scene = render_scene((65, 97), 4, late=1, seed=8)
    sample = dataset.match({"name": "easy-8"}).first()
    assert (sample.metadata.frame_width, sample.metadata.frame_height) == (98, 66)
    assert dataset.skeletons["frames.points"].labels == list(POINT_NAMES)
    instances: dict[int, set[str]] = {}
    for number, frame in sample.frames.items():
        ids = set(np.unique(scene.masks[number - 1]).tolist()) - {0}
        for field, key in (("ground_truth", "detections"), ("boxes", "detections"), ("points", "keypoints")):
            labels = frame[field][key]
            assert {label.index for label in labels} == ids
            for label in labels:
                instances.setdefault(label.index, set()).add(label.instance.id)
        for label in frame.points.keypoints:
            truth = scene.points[number - 1, label.index - 1]
            assert np.array_equal(
                np.round(np.array(label.points) * [98, 66], 6), truth.round(6), equal_nan=True
            )
        for label in frame.boxes.detections:
            x, y, w, h = np.array(label.bounding_box) * [98, 66, 98, 66]
            assert [x, y, x + w, y + h] == pytest.approx(scene.boxes[number - 1, label.index - 1])
    assert {len(ids) for ids in instances.values()} == {1}
    dataset.delete()
