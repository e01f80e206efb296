from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_colortrack.api.films import colorize, draw_tracks, embed, film
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import open_video
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.tracking.config import TrackerConfig
from fiftyone_colortrack.video import VideoFile, open_frames, write_video

CONFIG = TrackerConfig(input_size=64)
OPTIONS = {"model": "lab", "config": CONFIG}


@pytest.fixture
def videos(
    dataset: fo.Dataset, squares: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> Iterator[fo.Dataset]:
    """Two videos of moving squares, in folders of their own and with the same name."""
    for folder, frames in (("a", squares[0]), ("b", squares[0][::-1, :62, :93])):
        path = tmp_path / folder / "squares.mp4"
        write_video(path, frames, 10)
        dataset.add_sample(fo.Sample(filepath=str(path)))
    yield dataset
    if fo.dataset_exists(f"{dataset.name}-films"):
        fo.delete_dataset(f"{dataset.name}-films")


def test_colors_are_written_beside_the_video_with_their_errors(videos: fo.Dataset) -> None:
    seen: list[tuple[int, int, str]] = []
    report = colorize(videos, progress=lambda *step: seen.append(step), **OPTIONS)
    assert [video.status for video in report.videos] == ["done", "done"]
    assert seen[0] == (1, 16, "squares.mp4")
    assert seen[-1] == (16, 16, "squares.mp4")
    assert report.dataset.media_type == "video"
    assert report.dataset.values("source_id") == videos.values("id")
    assert report.dataset.values("film") == ["colors", "colors"]
    for made, video in zip(report.dataset, videos, strict=True):
        assert Path(made.filepath).parent.parent == Path(video.filepath).parent
        shown, true = VideoFile(made.filepath), VideoFile(video.filepath)
        assert (shown.info.codec, len(shown), shown.width) == ("h264", 8, true.width)
        assert made.metadata.total_frame_count == 8
        assert sorted(made.frames) == list(range(2, 9))
        errors = ("color_top1", "color_distance", "still_top1", "still_distance")
        assert all(np.isfinite(made.frames[5][name]) for name in errors)
        per_frame = [made.frames[number].color_distance for number in made.frames]
        assert made.color_distance == pytest.approx(np.mean(per_frame))
    first = report.videos[0]
    assert first.measures["color_distance"] == report.dataset.first().color_distance
    assert first.measures["color_distance"] < first.measures["still_distance"]  # the squares move


def test_finished_videos_are_kept(videos: fo.Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "rendered"
    first = colorize(videos[:1], out_dir=folder, **OPTIONS)
    (path,) = folder.iterdir()
    written = path.stat().st_mtime_ns
    video = videos.first()
    video.metadata = fo.VideoMetadata(total_frame_count=9)  # as a header may wrongly say
    video.save()
    again = colorize(videos.name, out_dir=folder, **OPTIONS)
    assert [video.status for video in again.videos] == ["skipped", "done"]
    assert [video.path for video in again.videos] == [path, *sorted({*folder.iterdir()} - {path})]
    assert path.stat().st_mtime_ns == written
    elsewhere = colorize(videos[:1], out_dir=tmp_path / "elsewhere", **OPTIONS)
    assert [video.path for video in elsewhere.videos] == [path]  # where it is
    path.write_bytes(b"cut off")
    colorize(videos, out_dir=folder, **OPTIONS)
    assert path.stat().st_size > 1000
    overwritten = colorize(videos, out_dir=folder, overwrite=True, **OPTIONS)
    assert len(overwritten.with_status("done")) == len(first.dataset) == 2
    videos.reload()
    assert videos.info["films"] == first.dataset.name


def test_a_broken_video_does_not_end_the_run(videos: fo.Dataset) -> None:
    Path(videos.first().filepath).write_bytes(b"no video")
    report = colorize(videos, **OPTIONS)
    assert [video.status for video in report.videos] == ["failed", "done"]
    assert "squares.mp4" in report.with_status("failed")[0].reason
    with pytest.raises(ColorTrackError, match=r"squares\.mp4"):
        colorize(videos, on_error="raise", **OPTIONS)


def test_a_damaged_mask_is_named(videos: fo.Dataset, tmp_path: Path) -> None:
    mask, video = tmp_path / "mask.png", videos.first()
    Image.effect_noise((40, 40), 99).save(mask)
    mask.write_bytes(mask.read_bytes()[:500])
    label = fo.Detection(bounding_box=[0, 0, 0.5, 0.5], mask_path=str(mask))
    video.frames[1] = fo.Frame(drawn=fo.Detections(detections=[label]))
    video.save()
    report = film(videos, "drawn", out_dir=tmp_path / "films", **OPTIONS)
    assert [video.status for video in report.videos] == ["failed", "done"]
    assert str(mask) in report.videos[0].reason


@pytest.mark.parametrize("kind", [str, Path, lambda path: [path]])
def test_for_files_it_says_how_to_make_a_dataset(videos: fo.Dataset, kind) -> None:
    with pytest.raises(ColorTrackError, match=r"fo\.Dataset\.from_videos"):
        film(kind(videos.first().filepath), **OPTIONS)


def test_stopping_leaves_no_unfinished_video(videos: fo.Dataset, tmp_path: Path) -> None:
    calls = iter(range(100))
    report = colorize(videos, out_dir=tmp_path / "new", stop=lambda: next(calls) == 10, **OPTIONS)
    assert report.stopped
    assert len(report.with_status("done")) == 1
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_embeddings_of_a_dataset_share_a_basis(videos: fo.Dataset, tmp_path: Path) -> None:
    report = embed(videos[:1], basis="dataset", out_dir=tmp_path, **OPTIONS)
    (basis,) = report.dataset.info["bases"].values()
    assert np.shape(basis["axes"]) == (109, 3)
    embed(videos, basis="dataset", out_dir=tmp_path, **OPTIONS)
    embed(videos, out_dir=tmp_path, **OPTIONS)
    report.dataset.reload()
    assert report.dataset.values("film") == ["embedding"] * 4
    assert list(report.dataset.info["bases"].values()) == [basis]
    paths = report.dataset.values("filepath")
    own, shared = (next(open_frames(paths[i]).read(range(1))) for i in (2, 0))
    assert own.std() > 10
    assert shared.std() > 10
    with pytest.raises(ColorTrackError, match="identity"):
        embed(videos, model="identity")


def test_another_model_renders_again(videos: fo.Dataset, tmp_path: Path) -> None:
    for model in ("lab", load_model("lab"), load_model("lab", samples=4)):
        report = embed(videos[:1], basis="dataset", out_dir=tmp_path, model=model, config=CONFIG)
    assert len(report.with_status("done")) == 1
    assert len(report.dataset) == 2
    assert [np.shape(basis["axes"]) for basis in report.dataset.info["bases"].values()] == [(109, 3), (49, 3)]


def test_tracks_are_drawn(videos: fo.Dataset, tmp_path: Path) -> None:
    sample = videos.first()
    box = fo.Detection(label="red", index=1, bounding_box=[0.1, 0.1, 0.4, 0.4])
    mask = fo.Detection(label="b", index=2, bounding_box=[0.6, 0.2, 0.2, 0.3], mask=np.ones((4, 4), bool))
    points = fo.Keypoint(points=[(0.5, 0.9), (np.nan, np.nan), (0.25, 0.9)])
    sample.frames[2] = fo.Frame(
        tracks=fo.Detections(detections=[box, mask]),
        joints=fo.Keypoints(keypoints=[points]),
        tracks_confidence=0.5,
    )
    sample.save()
    videos.default_skeleton = fo.KeypointSkeleton(edges=[[0, 1], [0, 2]])
    report = film(videos[:1], "frames.tracks", out_dir=tmp_path, confidence=True, **OPTIONS)
    made = VideoFile(report.videos[0].path)
    assert (made.height, made.width) == (2 * 64, 2 * 96)
    frames, canvas = open_video(sample)
    plain = list(frames.read(range(8)))

    def changed(field: str, confidence: bool = False) -> np.ndarray:
        drawn = list(draw_tracks(sample, field, frames, canvas, confidence))
        assert not any((a != b).any() for a, b in zip(drawn[2:], plain[2:], strict=True))
        return (drawn[1] != plain[1]).any(-1)

    tracks, joints = changed("tracks"), changed("frames.joints")
    assert tracks[25, 65]
    assert tracks[6, 20]
    assert not tracks[20, 25]  # inside the box
    assert joints[58, 48]
    assert joints[58, 36]  # the limb
    assert (changed("tracks", confidence=True) & ~tracks)[45:].any()
    with pytest.raises(ColorTrackError, match=r"frames\.nothing.*frames\.tracks"):
        film(videos, "frames.nothing", **OPTIONS)


def test_a_foreign_dataset_is_not_written_to(videos: fo.Dataset) -> None:
    foreign = fo.Dataset(f"{videos.name}-films")
    with pytest.raises(ColorTrackError, match=foreign.name):
        colorize(videos, **OPTIONS)
    assert len(foreign) == 0
