"""Settings of a shared server."""

import os

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_colortrack as ct
from colortrack_benchmarks.scenes import load_scenes
from fiftyone_colortrack import video
from fiftyone_colortrack.datasets.download import download
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.exports import export_tracks, import_tracks
from fiftyone_colortrack.settings import check_allowed, check_space
from fiftyone_colortrack.video import write_video


def test_every_folder_is_allowed_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("FIFTYONE_COLORTRACK_ALLOWED_ROOTS", raising=False)
    assert check_allowed(tmp_path / "x") == (tmp_path / "x").resolve()


def test_only_allowed_folders_can_be_used(tmp_path, monkeypatch):
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        root.mkdir()
    (roots[0] / "link").symlink_to(tmp_path)
    monkeypatch.setenv("FIFTYONE_COLORTRACK_ALLOWED_ROOTS", os.pathsep.join(map(str, roots)))
    assert check_allowed(roots[1] / "deep" / "file.txt")
    for outside in (tmp_path, tmp_path / "c", roots[0] / ".." / "c", roots[0] / "link" / "c"):
        with pytest.raises(ColorTrackError, match=str(roots[0])):
            check_allowed(outside)


def test_a_folder_may_not_outgrow_its_limit(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(bytes(1000))
    monkeypatch.setenv("FIFTYONE_COLORTRACK_MAX_GB", str(2000 / 2**30))
    check_space(tmp_path, 500)
    with pytest.raises(ColorTrackError, match=str(tmp_path)):
        check_space(tmp_path, 1500)


def test_work_that_cannot_fit_on_the_disk_is_refused_before_it_begins(tmp_path):
    with pytest.raises(ColorTrackError, match="free"):
        check_space(tmp_path / "new", 10**18)


@pytest.mark.parametrize("work", ["davis", "kinetics", "scenes", "film", "import", "download", "training"])
def test_the_settings_hold_wherever_files_are_read_or_written(
    dataset, davis_squares, squares_file, tmp_path, monkeypatch, work
):
    (tmp_path / "open").mkdir()
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    videos = tmp_path / "more"
    videos.mkdir()
    (videos / "v.mp4").symlink_to(squares_file)
    before = set(tmp_path.rglob("*")), fo.list_datasets()
    calls = {
        "davis": lambda: ct.load_davis(davis_squares, "settings"),
        "kinetics": lambda: ct.load_kinetics(videos, "settings", video_dir=tmp_path / "open" / "v"),
        "scenes": lambda: load_scenes(tmp_path / "scenes", "settings", 1),
        "film": lambda: ct.embed(dataset, model="lab", on_error="raise"),
        "import": lambda: import_tracks(videos, "settings"),
        "download": lambda: download("davis-2017", tmp_path / "download"),
        "training": lambda: ct.train(videos, out_dir=tmp_path / "open" / "run", steps=1),
    }
    monkeypatch.setenv("FIFTYONE_COLORTRACK_ALLOWED_ROOTS", str(tmp_path / "open"))
    with pytest.raises(ColorTrackError, match="outside the folders that this server allows"):
        calls[work]()
    assert (set(tmp_path.rglob("*")), fo.list_datasets()) == before


@pytest.mark.parametrize("work", ["davis", "scenes", "film", "export"])
def test_a_made_video_counts_against_the_limit(dataset, davis_squares, squares_file, monkeypatch, work):
    sample = fo.Sample(filepath=str(squares_file))
    sample.frames[1] = fo.Frame(tracks=fo.Detections())
    dataset.add_sample(sample)
    folder = squares_file.parent / "made"
    folder.mkdir()
    (folder / "earlier").write_bytes(bytes(2000))
    monkeypatch.setenv("FIFTYONE_COLORTRACK_MAX_GB", str(1000 / 2**30))
    calls = {
        "davis": lambda: ct.load_davis(davis_squares, "settings", video_dir=folder),
        "scenes": lambda: load_scenes(folder, "settings", 1),
        "film": lambda: ct.embed(dataset, model="lab", out_dir=folder, on_error="raise"),
        "export": lambda: export_tracks(dataset, "tracks", folder / "out"),
    }
    with pytest.raises(ColorTrackError, match="exceed this server's limit"):
        calls[work]()
    assert [path.name for path in folder.iterdir()] == ["earlier"]


@pytest.mark.parametrize("work", ["film", "export"])
def test_work_stops_where_it_crosses_the_limit(dataset, squares_file, tmp_path, monkeypatch, work):
    noise = np.random.default_rng(0).integers(0, 256, (150, 64, 96, 3), np.uint8)
    write_video(tmp_path / "noise.mp4", noise, 10)
    for path in (squares_file, tmp_path / "noise.mp4"):
        sample = fo.Sample(filepath=str(path))
        sample.frames[1] = fo.Frame(tracks=fo.Detections())
        dataset.add_sample(sample)
    limit, folder = (tmp_path / "noise.mp4").stat().st_size // 5, tmp_path / "made"
    assert 2 * squares_file.stat().st_size < limit
    monkeypatch.setenv("FIFTYONE_COLORTRACK_MAX_GB", str(limit / 2**30))
    monkeypatch.setattr(video, "FRAMES_BETWEEN_CHECKS", 1)
    if work == "export":
        with pytest.raises(ColorTrackError, match="exceed this server's limit"):
            export_tracks(dataset, "tracks", folder / "out")
        assert list(folder.iterdir()) == []
        return
    report = ct.colorize(dataset, model="identity", out_dir=folder)
    assert [one.status for one in report.videos] == ["done", "failed"]
    assert "exceed this server's limit" in report.videos[1].reason
    assert list(folder.iterdir()) == [report.videos[0].path]
