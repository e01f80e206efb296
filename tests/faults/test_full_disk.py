"""A disk that is full, or read-only: one error that names the folder, and no temporary file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import fiftyone_colortrack as ct
from colortrack_benchmarks.protocols import Result
from colortrack_benchmarks.scenes import load_scenes
from fiftyone_colortrack.charts import write_report
from fiftyone_colortrack.datasets import download
from fiftyone_colortrack.exports import export_tracks
from fiftyone_colortrack.model.weights import add_model, find_model
from fiftyone_colortrack.tracking import TrackerConfig
from fiftyone_colortrack.video import write_video
from tests.faults.conftest import encode

SPACE = 300_000
SMALL = TrackerConfig(input_size=64, memory=2)


@pytest.fixture
def tracked(dataset: fo.Dataset, labeled: Callable[..., fo.Sample], tmp_path: Path) -> fo.Dataset:
    """Two videos, of which the disk takes one."""
    noise = np.random.default_rng(0)
    for i in range(2):
        path = tmp_path / "videos" / f"v{i}.mp4"
        write_video(path, noise.integers(0, 256, (20, 96, 128, 3), np.uint8), 25)
        assert SPACE / 2 < path.stat().st_size < SPACE
        dataset.add_sample(labeled(path))
    ct.propagate(dataset, "seed", "tracks", model="identity", config=SMALL)
    return dataset


def export(format: str) -> Callable[[fo.Dataset, Path], object]:
    return lambda tracked, folder: export_tracks(tracked, "tracks", folder / "out", format=format)


def film(tracked: fo.Dataset, folder: Path) -> object:
    return ct.film(tracked, out_dir=folder, model="lab", config=SMALL, on_error="raise")


def train(tracked: fo.Dataset, folder: Path) -> object:
    return ct.train(tracked, out_dir=folder / "run", steps=1, device="cpu")


def unpack(tracked: fo.Dataset, folder: Path) -> None:
    path = Path(tracked.first().filepath).parent / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(SPACE // 2))
        archive.writestr("b", bytes(SPACE))
    download.unpack(path, folder / "data")


def name_model(tracked: fo.Dataset, folder: Path) -> None:
    add_model(find_model("paper").path, "test-full")


def load(kind: str) -> Callable[[fo.Dataset, Path], object]:
    """Loads data whose encoded videos do not fit."""

    def work(tracked: fo.Dataset, folder: Path) -> object:
        root = Path(tracked.first().filepath).parents[1] / "data"
        frames = np.random.default_rng(1).integers(0, 256, (80, 96, 128, 3), np.uint8)
        if kind == "scenes":
            return load_scenes(folder / "made", "full-disk", 30)
        if kind == "kinetics":
            (root / "walk").mkdir(parents=True)
            encode(root / "walk" / "a.mp4", frames, codec="mpeg4")
            return ct.load_kinetics(root, "full-disk", video_dir=folder / "made")
        images = {"davis": "JPEGImages/480p/a", "jhmdb": "Rename_Images/walk/a"}[kind]
        masks = "Annotations/480p/a"
        joints = root / "joint_positions" / "walk" / "a"
        for path in (root / images, root / masks, joints):
            path.mkdir(parents=True, exist_ok=True)
        savemat(joints / "joint_positions.mat", {"pos_img": np.full((2, 15, 80), 9.0)})
        for t, frame in enumerate(frames):
            Image.fromarray(frame).save(root / images / f"{t:05}.jpg")
            Image.fromarray(frame[..., 0] % 2).save(root / masks / f"{t:05}.png")
        loader = ct.load_davis if kind == "davis" else ct.load_jhmdb
        return loader(root, "full-disk", video_dir=folder / "made")

    return work


def report(tracked: fo.Dataset, folder: Path) -> object:
    tracked.clone_frame_field("tracks", "truth")
    ct.evaluate_tracks(tracked, "tracks", "truth", "scored")
    return write_report(ct.analyze(tracked, "scored"), folder / "report.html")


def scores(tracked: fo.Dataset, folder: Path) -> None:
    with suppress(OSError), (folder / "all that was free").open("wb") as file:
        file.write(bytes(2 * SPACE))
    Result("davis", "identity", {}, {}).save(folder / "scores.json")


WORK = {
    "load davis": load("davis"),
    "load jhmdb": load("jhmdb"),
    "load kinetics": load("kinetics"),
    "load scenes": load("scenes"),
    "report": report,
    "scores": scores,
    "mot": export("mot"),
    "youtube-vis": export("youtube-vis"),
    "davis": export("davis"),
    "film": film,
    "train": train,
    "unpack": unpack,
    "weights": name_model,
}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("options", [f"size={SPACE}", "ro"], ids=["full", "read-only"])
def test_one_error_names_the_folder_and_no_temporary_file_is_left(
    tracked: fo.Dataset,
    small_disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    work: str,
    options: str,
) -> None:
    folder = small_disk(options)
    monkeypatch.setenv("FIFTYONE_COLORTRACK_HOME", str(folder / "home"))
    with pytest.raises(ct.ColorTrackError, match=str(folder)):
        WORK[work](tracked, folder)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert tracked.exists("tracks_run").count() == 2
    assert not fo.dataset_exists("full-disk")


def test_finished_videos_stay(tracked: fo.Dataset, small_disk: Callable[[str], Path], tmp_path: Path) -> None:
    options = {"model": "identity", "config": SMALL}
    size = ct.colorize(tracked[:1], out_dir=tmp_path, **options).videos[0].path.stat().st_size
    folder = small_disk(f"size={size * 3 // 2}")
    report = ct.colorize(tracked, out_dir=folder, overwrite=True, **options)
    assert [video.status for video in report.videos] == ["done", "failed"]
    assert str(folder) in report.videos[1].reason
    assert [path.name for path in folder.iterdir()] == [report.videos[0].path.name]
    assert len(report.dataset) == 1
