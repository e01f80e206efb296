from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import fiftyone as fo
import numpy as np
import pytest

import fiftyone_colortrack as ct
from fiftyone_colortrack.api.training import collect, decoded_bytes, is_unfinished, run_folder
from fiftyone_colortrack.datasets.video_dataset import video_sample
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.weights import user_models_dir
from fiftyone_colortrack.training import RECIPES, TrainingData
from fiftyone_colortrack.video import write_video

TINY = {"recipe": replace(RECIPES["fast"], frame_pairs=1, view_pairs=1, crops=(64,)), "device": "cpu"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's models and runs."""
    monkeypatch.setenv("FIFTYONE_COLORTRACK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def videos(dataset: fo.Dataset, squares: tuple, tmp_path: Path) -> fo.Dataset:
    """Two videos of 8 frames, one of them offline."""
    for name in ("here", "offline"):
        info = write_video(tmp_path / f"{name}.mp4", squares[0], 10)
        dataset.add_sample(video_sample(tmp_path / f"{name}.mp4", info))
    (tmp_path / "offline.mp4").unlink()
    return dataset


def images(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True)
    paths = [str(folder / f"{i}.png") for i in range(count)]
    for i, path in enumerate(paths):
        cv2.imwrite(path, np.full((60, 80, 3), 10 * i, np.uint8))
    return paths


def test_a_trained_model_is_found_by_its_name(videos: fo.Dataset, squares: tuple) -> None:
    steps: list[ct.TrainProgress] = []
    result = ct.train(videos, "mine", steps=3, progress=steps.append, **TINY)
    assert result.weights == user_models_dir() / "mine.safetensors"
    assert [Path(path).name for path in result.unreadable] == ["offline.mp4"]
    assert "1 files left out" in str(result)
    assert "colour error" in str(result)
    info = next(info for info in ct.list_models() if info.name == "mine")
    assert info.description == "fast, fine-tuned from fast: 3 steps on 1 clips and 0 photographs"
    assert len(list(ct.Tracker(squares[0], squares[1][0], model="mine"))) == 8

    assert [step.file for step in steps] == ["here.mp4", "offline.mp4", "", "", ""]
    assert [step.fraction for step in steps] == pytest.approx([0.05, 0.1, 0.4, 0.7, 1])
    assert str(steps[0]) == "reading frames, file 1 of 2: here.mp4"
    assert str(steps[2]) == f"training step 1 of 3, loss {steps[2].loss:.3g}"  # a first step tells no time
    assert str(steps[-1]) == f"training step 3 of 3, loss {steps[-1].loss:.3g}, 0 s left"
    assert steps[-1].loss == pytest.approx(np.mean([step.numbers["loss"] for step in steps[2:]]))
    assert [entry.name for entry in run_folder("mine").iterdir()] == ["logs"]


def test_a_stopped_run_is_continued_or_replaced_by_name(videos: fo.Dataset) -> None:
    asked = iter([False, False, True])
    stopped = ct.train(videos, "mine", steps=2, init=None, stop=lambda: next(asked), **TINY)
    assert stopped.stopped
    assert is_unfinished("mine")
    assert "mine" not in [info.name for info in ct.list_models()]
    with pytest.raises(ColorTrackError, match="a run of mine was stopped"):
        ct.train(videos, "mine", steps=2, init=None, **TINY)
    done: list[int] = []
    resumed = ct.train(
        videos, "mine", steps=2, init=None, resume=True, progress=lambda s: done.append(s.done), **TINY
    )
    assert done == [2]
    assert resumed.weights.exists()
    assert not is_unfinished("mine")

    before = resumed.weights.read_bytes()
    with pytest.raises(ColorTrackError, match="a model mine exists"):
        ct.train(videos, "mine", steps=1, **TINY)
    ct.train(videos, "mine", steps=1, overwrite=True, **TINY)
    assert resumed.weights.read_bytes() != before


def test_a_folder_of_the_users_own_is_left_as_it_is(videos: fo.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = ct.train(videos, None, out_dir=out, steps=1, **TINY)
    assert result.weights == out / "fast.safetensors"
    assert {"cache", "logs", "last.ckpt", "fast.safetensors"} == {entry.name for entry in out.iterdir()}
    assert not user_models_dir().exists()
    with pytest.raises(ColorTrackError, match="Give the model a name"):
        ct.train(videos, None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a b", "letters, digits"),
        ("../a", "letters, digits"),
        ("", "letters, digits"),
        ("fast", "comes with"),
        ("lab", "comes with"),
        ("flow", "comes with"),
    ],
)
def test_names_that_cannot_be_had(videos: fo.Dataset, name: str, reason: str) -> None:
    with pytest.raises(ColorTrackError, match=reason):
        ct.train(videos, name, overwrite=True)


def test_the_preset_is_that_of_the_first_weights(videos: fo.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ColorTrackError, match="of preset 'paper', not 'fast'"):
        ct.train(videos, "mine", init="paper", preset="fast")
    with pytest.raises(ColorTrackError, match="no clip is half a second long"):  # which `paper` alone needs
        ct.train(images(tmp_path / "photographs", 2), "mine", init="paper", device="cpu")


def test_a_view_gives_its_videos_or_photographs(videos: fo.Dataset, tmp_path: Path) -> None:
    here, offline = (Path(path) for path in videos.values("filepath"))
    assert collect(videos) == TrainingData(videos=(here, offline))
    assert collect(videos.limit(1), exclude=["other"]) == TrainingData(videos=(here,))
    assert collect(videos, exclude=["here"]) == TrainingData(videos=(offline,))
    with pytest.raises(ColorTrackError, match="clips are parts of videos"):
        collect(videos.to_clips([[[1, 2]], []]))
    photographs = fo.Dataset()
    photographs.add_images(images(tmp_path / "photographs", 3) + images(tmp_path / "more", 1))
    assert len(collect(photographs).images) == 4
    assert collect(photographs).videos == ()
    photographs.delete()


def test_groups_give_what_is_in_their_slices(dataset: fo.Dataset, squares_file: Path, tmp_path: Path) -> None:
    dataset.add_group_field("group", default="left")
    for picture in images(tmp_path / "photographs", 2):
        group = fo.Group()
        left = fo.Sample(filepath=str(squares_file), group=group.element("left"))
        dataset.add_samples([left, fo.Sample(filepath=picture, group=group.element("picture"))])
    data = collect(dataset)
    assert data.videos == (squares_file,)
    assert [path.name for path in data.images] == ["0.png", "1.png"]


def test_a_dynamic_group_of_images_is_a_video(dataset: fo.Dataset, tmp_path: Path) -> None:
    for name in ("bear", "bus"):
        for number, path in enumerate(images(tmp_path / name, 3)):
            dataset.add_sample(fo.Sample(filepath=path, sequence=name, number=10 - number))
    data = collect(dataset.group_by("sequence", order_by="number"), exclude=["bus"])
    assert data.videos == (tuple(tmp_path / "bear" / f"{i}.png" for i in (2, 1, 0)),)
    assert data.images == ()


def test_films_of_this_program_are_no_material(videos: fo.Dataset, tmp_path: Path) -> None:
    videos.delete_samples(videos.skip(1))
    report = ct.colorize(videos, model="lab")
    films = fo.load_dataset(report.dataset)
    assert len(films) == 1
    with pytest.raises(ColorTrackError, match="nothing to train on"):
        collect(films)
    imported = fo.Dataset.from_videos([*films.values("filepath"), *videos.values("filepath")])
    assert collect(imported) == collect(videos)
    assert len(collect(tmp_path).videos) == 1
    for dataset in (films, imported):
        dataset.delete()


def test_folders_and_lists(squares_file: Path, tmp_path: Path) -> None:
    sequence, picture = images(tmp_path / "sequence", 2), images(tmp_path / "photographs", 1)[0]
    data = collect([squares_file, sequence, picture])
    assert data == TrainingData((squares_file, tuple(map(Path, sequence))), (Path(picture),))
    assert collect(data) is data
    data = collect(squares_file.parent)
    assert (data.videos, len(data.images)) == ((squares_file,), 3)


def test_the_size_of_decoded_frames_is_estimated(videos: fo.Dataset, tmp_path: Path) -> None:
    ct.train(videos.limit(1), None, out_dir=tmp_path / "run", steps=1, **TINY)
    (frames,) = (tmp_path / "run" / "cache").glob("*.u8")
    assert decoded_bytes(videos) == 2 * frames.stat().st_size
    for sample in videos:
        sample.metadata = None
        sample.save()
    assert decoded_bytes(videos) is None
