from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.api.films import colorize, draw_tracks, embed, film, films_iter
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import open_video
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.tracking.config import TrackerConfig
from fiftyone_colortrack.video import VideoFile, open_frames, write_video

OPTIONS = {"model": "lab", "config": TrackerConfig(input_size=64)}


@pytest.fixture
def videos(dataset: fo.Dataset, squares: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> fo.Dataset:
    """Two videos of moving squares, in folders of their own and with one name."""
    for folder, frames in (("a", squares[0]), ("b", squares[0][::-1, :62, :93])):
        path = tmp_path / folder / "squares.mp4"
        write_video(path, frames, 10)
        dataset.add_sample(fo.Sample(filepath=str(path)))
    yield dataset
    if fo.dataset_exists(f"{dataset.name}-films"):
        fo.delete_dataset(f"{dataset.name}-films")


def test_colours_are_written_beside_the_video_with_their_errors(videos: fo.Dataset) -> None:
    seen = []
    report = colorize(videos, progress=seen.append, **OPTIONS)
    assert [video.status for video in report.videos] == ["done", "done"]
    assert seen[-1].done == seen[-1].total == 16
    films = fo.load_dataset(report.dataset)
    assert films.media_type == "video"
    assert films.values("source_id") == videos.values("id")
    assert films.values("film") == ["colors", "colors"]
    for made, video in zip(films, videos, strict=True):
        assert Path(made.filepath).parent.parent == Path(video.filepath).parent
        shown, true = VideoFile(made.filepath), VideoFile(video.filepath)
        assert (shown.info.codec, len(shown), shown.width) == ("h264", 8, true.width)
        assert made.metadata.total_frame_count == 8
        assert sorted(made.frames) == list(range(2, 9))
        errors = ("color_top1", "color_distance", "still_top1", "still_distance")
        assert all(np.isfinite(made.frames[5][name]) for name in errors)
        per_frame = [made.frames[number].color_distance for number in made.frames]
        assert made.color_distance == pytest.approx(np.mean(per_frame))
    assert films.first().color_distance < films.first().still_distance  # the squares move


def test_what_is_there_is_left_alone(videos: fo.Dataset, tmp_path: Path) -> None:
    first = colorize(videos[:1], tmp_path / "films", **OPTIONS)
    (path,) = (tmp_path / "films").iterdir()
    written = path.stat().st_mtime_ns
    video = videos.first()
    video.metadata = fo.VideoMetadata(total_frame_count=9)  # as a header may wrongly say
    video.save()
    again = colorize(videos, tmp_path / "films", **OPTIONS)
    assert [video.status for video in again.videos] == ["skipped", "done"]
    assert path.stat().st_mtime_ns == written
    assert len(list((tmp_path / "films").iterdir())) == 2  # of videos with one name
    path.write_bytes(b"cut off")
    colorize(videos, tmp_path / "films", **OPTIONS)
    assert path.stat().st_size > 1000
    overwritten = colorize(videos, tmp_path / "films", overwrite=True, **OPTIONS)
    assert len(overwritten.with_status("done")) == len(fo.load_dataset(first.dataset)) == 2
    assert videos.info["films"] == first.dataset


def test_a_broken_video_does_not_end_the_run(videos: fo.Dataset) -> None:
    Path(videos.first().filepath).write_bytes(b"no video")
    report = colorize(videos, **OPTIONS)
    assert [video.status for video in report.videos] == ["failed", "done"]
    assert "squares.mp4" in report.with_status("failed")[0].reason
    with pytest.raises(ColorTrackError, match=r"squares\.mp4"):
        colorize(videos, on_error="raise", **OPTIONS)


def test_stopping_leaves_no_unfinished_film(videos: fo.Dataset, tmp_path: Path) -> None:
    calls = iter(range(100))
    steps = films_iter(videos, "colors", tmp_path / "films", stop=lambda: next(calls) == 10, **OPTIONS)
    *_, report = _drain(steps)
    assert report.stopped
    assert len(report.with_status("done")) == 1
    assert len(list((tmp_path / "films").iterdir())) == 1


def test_embeddings_of_a_dataset_share_a_basis(videos: fo.Dataset, tmp_path: Path) -> None:
    report = embed(videos[:1], tmp_path, basis="dataset", **OPTIONS)
    films = fo.load_dataset(report.dataset)
    (basis,) = films.info["bases"].values()
    assert np.shape(basis["axes"]) == (108, 3)
    embed(videos, tmp_path, basis="dataset", **OPTIONS)
    embed(videos, tmp_path, **OPTIONS)
    assert films.values("film") == ["embedding"] * 4
    assert list(films.reload() or films.info["bases"].values()) == [basis]
    paths = films.values("filepath")
    own, shared = (next(open_frames(paths[i]).read(range(1))) for i in (2, 0))
    assert own.std() > 10
    assert shared.std() > 10
    with pytest.raises(ColorTrackError, match="identity has no embeddings"):
        embed(videos, model="identity")


def test_a_changed_model_makes_films_and_a_basis_of_its_own(videos: fo.Dataset, tmp_path: Path) -> None:
    config = TrackerConfig(input_size=64)
    for model in ("lab", load_model("lab"), load_model("lab", samples=4)):
        report = embed(videos[:1], tmp_path, basis="dataset", model=model, config=config)
    assert len(report.with_status("done")) == 1
    films = fo.load_dataset(report.dataset)
    assert len(films) == 2
    assert [np.shape(basis["axes"]) for basis in films.info["bases"].values()] == [(108, 3), (48, 3)]


def test_a_film_of_everything(videos: fo.Dataset, tmp_path: Path) -> None:
    sample = videos.first()
    box = fo.Detection(label="red", index=1, bounding_box=[0.1, 0.1, 0.4, 0.4])
    mask = fo.Detection(label="b", index=2, bounding_box=[0.6, 0.2, 0.2, 0.3], mask=np.ones((4, 4), bool))
    points = fo.Keypoints(keypoints=[fo.Keypoint(points=[(0.5, 0.9), (np.nan, np.nan)])])
    sample.frames[2] = fo.Frame(tracks=fo.Detections(detections=[box, mask]), joints=points)
    sample.save()
    film(videos[:1], "frames.tracks", tmp_path, **OPTIONS)
    (path,) = tmp_path.glob("*.mp4")
    assert VideoFile(path).width == 4 * 96
    frames, canvas = open_video(sample)
    plain = list(frames.read(range(8)))
    tracks, joints = (list(draw_tracks(sample, field, frames, canvas)) for field in ("tracks", "joints"))
    changed = [(a != b).any(-1) for a, b in zip(tracks, plain, strict=True)]
    assert [bool(c.any()) for c in changed] == [False, True, *[False] * 6]
    assert changed[1][25, 65]
    assert changed[1][6, 20]
    assert not changed[1][20, 25]  # inside the box
    assert (joints[1][58, 48] != plain[1][58, 48]).any()
    with pytest.raises(ColorTrackError, match=r"no tracks to draw.*frames\.tracks"):
        film(videos, "frames.nothing", **OPTIONS)


def test_a_foreign_dataset_is_not_written_to(videos: fo.Dataset) -> None:
    foreign = fo.Dataset(f"{videos.name}-films")
    with pytest.raises(ColorTrackError, match="holds no films of"):
        colorize(videos, **OPTIONS)
    assert len(foreign) == 0


def _drain(steps):
    while True:
        try:
            yield next(steps)
        except StopIteration as end:
            yield end.value
            return
