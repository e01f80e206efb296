"""Videos as they come: each is tracked, or skipped with the reason, and none stops the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.fields.shapes import box_in_pixels

Film = Callable[..., Path]
Scene = Callable[..., np.ndarray]

NOT_TRACKED = {
    "cut_before.mp4": ["nothing to track", "frame 39", "ends with frame", "label a frame"],
    "empty.mp4": ["empty.mp4 cannot be decoded as a video", "re-encode it, or remove it"],
    "folder.mp4": ["folder.mp4 is not a file"],
    "header.mp4": ["header.mp4 cannot be decoded as a video"],
    "missing.mp4": ["missing.mp4 is not a file: it is missing, or was moved"],
    "not_there_yet.mp4": ["nothing to track", "frame 99", "the video ends with frame 6", "label a frame"],
    "text.mp4": ["text.mp4 cannot be decoded as a video"],
}
LENGTHS = {
    "gray.mp4": 6,
    "latin.avi": 6,
    "odd.mkv": 6,
    "one_frame.mp4": 1,
    "portrait.mp4": 6,
    "sparse.mp4": 6,
    "tiny.mkv": 3,
    "variable.mp4": 6,
}


@pytest.fixture
def odd(dataset: fo.Dataset, scene: Scene, film: Film, labeled: Callable, tmp_path: Path) -> fo.Dataset:
    """One dataset of all of them."""
    good = film(tmp_path / "portrait.mp4", scene(96, 54))
    film(tmp_path / "gray.mp4", scene(gray=True))
    film(tmp_path / "odd.mkv", scene(33, 47), pixels="yuv444p")
    film(tmp_path / "one_frame.mp4", scene(length=1))
    film(tmp_path / "sparse.mp4", scene())
    film(tmp_path / "tiny.mkv", scene(1, 1, 3), codec="ffv1", pixels="yuv444p")
    film(tmp_path / "variable.mp4", scene(), times=[0, 1, 2, 30, 90, 91])
    latin = film(tmp_path / "latin.avi", scene(), codec="mpeg4", title="Caf?")
    latin.write_bytes(latin.read_bytes().replace(b"Caf?", b"Caf\xe9"))

    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video" * 99)
    (tmp_path / "header.mp4").write_bytes(good.read_bytes()[:200])
    film(tmp_path / "not_there_yet.mp4", scene())
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), np.uint8)
    whole = film(tmp_path / "whole.mp4", noise).read_bytes()
    for name in ("cut.mp4", "cut_before.mp4"):
        (tmp_path / name).write_bytes(_with_index_first(tmp_path / "whole.mp4", whole))

    first = labeled(good).frames[1].seed
    frames = {"sparse.mp4": 4, "cut_before.mp4": 39, "not_there_yet.mp4": 99}
    for name in sorted([*NOT_TRACKED, *LENGTHS, "cut.mp4"]):
        dataset.add_sample(labeled(tmp_path / name, {frames.get(name, 1): first.copy()}))
    return dataset


def _with_index_first(path: Path, whole: bytes) -> bytes:
    """The first two thirds of an mp4 file whose index, at the start, promises all frames."""
    moved = path.with_name("index_first.mp4")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return moved.read_bytes()[: len(whole) * 2 // 3]


def test_each_is_tracked_or_says_why_not(odd: fo.Dataset, propagate: Callable) -> None:
    report = propagate(odd)
    results = {Path(video.filepath).name: video for video in report.videos}

    failed = {name: result.reason for name, result in results.items() if result.status == "failed"}
    assert failed.keys() == NOT_TRACKED.keys()
    for name, parts in NOT_TRACKED.items():
        assert name in failed[name]
        for part in parts:
            assert part in failed[name]
    tagged = odd.match_tags("tracks_failed").values("filepath")
    assert {Path(path).name for path in tagged} == NOT_TRACKED.keys()
    assert "7 failed, tagged tracks_failed" in str(report)

    cut = results.pop("cut.mp4")
    assert 20 <= cut.frames < 32
    (warning,) = cut.warnings
    assert "40 frames" in warning
    assert f"{cut.frames} can be decoded" in warning
    assert {name: results[name].frames for name in LENGTHS} == LENGTHS
    assert {name for name in LENGTHS if results[name].warnings} == {"variable.mp4"}
    for name in ("gray.mp4", "latin.avi", "odd.mkv", "portrait.mp4", "variable.mp4"):
        frames = odd.match(fo.ViewField("filepath").ends_with(name)).first().frames
        width, height = {"portrait.mp4": (54, 96), "odd.mkv": (47, 33)}.get(name, (96, 64))
        (label,) = frames[6].tracks.detections
        expected = [width // 4 + 5, height // 4, width // 2 + 5, height // 2]
        np.testing.assert_allclose(
            box_in_pixels(label, (height, width)), expected, atol=max(height, width) / 10
        )


def test_a_repaired_video_is_tracked_and_loses_its_tag(
    odd: fo.Dataset, film: Film, scene: Scene, propagate: Callable, tmp_path: Path
) -> None:
    view = odd.match(fo.ViewField("filepath").ends_with("missing.mp4"))
    propagate(view)
    assert odd.count_sample_tags() == {"tracks_failed": 1}
    film(tmp_path / "missing.mp4", scene())
    assert propagate(view, skip_existing=True).frames == 6
    assert odd.count_sample_tags() == {}


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write rotation"
)
def test_labels_refer_to_the_picture_as_it_is_shown(
    dataset: fo.Dataset,
    scene: Scene,
    film: Film,
    square: Callable,
    labeled: Callable,
    propagate: Callable,
    tmp_path: Path,
) -> None:
    shown = scene(96, 64)  # the sensor lay on its side: the file has 96 x 64, and the player turns it
    path = film(tmp_path / "turned.mp4", np.rot90(shown, -1, (1, 2)).copy(), turned=90)
    dataset.add_sample(labeled(path))
    propagate(dataset, on_error="raise")
    (label,) = dataset.first().frames[6].tracks.detections
    np.testing.assert_allclose(box_in_pixels(label, (96, 64)), [21, 24, 37, 48], atol=6)


@pytest.mark.soak
def test_4k(
    dataset: fo.Dataset, scene: Scene, film: Film, labeled: Callable, propagate: Callable, tmp_path: Path
) -> None:
    dataset.add_sample(labeled(film(tmp_path / "4k.mp4", scene(2160, 3840, 4))))
    propagate(dataset, on_error="raise", model="fast", config=None)
    (label,) = dataset.first().frames[4].tracks.detections
    np.testing.assert_allclose(box_in_pixels(label, (2160, 3840)), [960, 540, 1920, 1080], atol=40)
