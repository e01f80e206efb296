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
    monkeypatch.setattr("fiftyone_colortrack.training.scoring.TRACKED_SIDE", 96)
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
    messages: list[tuple[int, int, str]] = []
    numbers: dict[int, dict[str, float]] = {}
    result = ct.train(
        videos.name,
        name="mine",
        steps=2,
        progress=lambda *message: messages.append(message),
        on_numbers=numbers.__setitem__,
        **TINY,
    )
    assert result.model == "mine"
    assert result.weights == user_models_dir() / "mine.safetensors"
    assert [Path(path).name for path in result.unreadable] == ["offline.mp4"]
    assert result.scores["color_error"] > 0
    info = next(info for info in ct.list_models() if info.name == "mine")
    assert (info.metadata["init"], info.metadata["steps"]) == ("fast", 2)
    assert info.metadata["data"] == {"clips": 1, "images": 0, "frames": 8}
    assert len(list(ct.Tracker(squares[0], squares[1][0], model="mine"))) == 8
    assert [message[:2] for message in messages] == [(0, 2), (0, 2), (1, 2), (2, 2)]
    assert list(numbers) == [1, 2]
    assert all(np.isfinite(step["loss"]) for step in numbers.values())
    assert [entry.name for entry in run_folder("mine").iterdir()] == ["logs"]


def test_a_stopped_run_is_resumed_or_replaced_by_name(videos: fo.Dataset) -> None:
    asked = iter([False, False, True])
    options = {"name": "mine", "init": "random", **TINY}
    stopped = ct.train(videos, steps=2, stop=lambda: next(asked), **options)
    assert stopped.stopped
    assert (stopped.weights, stopped.model) == (None, "")
    assert is_unfinished("mine")
    assert "mine" not in [info.name for info in ct.list_models()]
    with pytest.raises(ColorTrackError, match=r"resume.*overwrite"):
        ct.train(videos, steps=2, **options)
    done: list[int] = []
    resumed = ct.train(videos, steps=2, resume=True, on_numbers=lambda step, _: done.append(step), **options)
    assert done == [2]
    assert resumed.weights.exists()
    assert not is_unfinished("mine")

    before = resumed.weights.read_bytes()
    with pytest.raises(ColorTrackError, match="mine exists"):
        ct.train(videos, steps=1, **options)
    ct.train(videos, steps=1, overwrite=True, **options)
    assert resumed.weights.read_bytes() != before


def test_a_folder_of_your_own_stays_as_it_is(videos: fo.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = ct.train(videos, out_dir=out, steps=1, **TINY)
    assert result.weights == out / "fast.safetensors"
    assert result.model == str(result.weights)
    assert {"cache", "logs", "last.ckpt", "fast.safetensors"} == {entry.name for entry in out.iterdir()}
    assert not user_models_dir().exists()


def test_wrong_arguments_are_refused(videos: fo.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ColorTrackError, match=r"\(name\)"):
        ct.train(videos)
    with pytest.raises(ColorTrackError, match="steps"):
        ct.train(videos, name="mine", steps=0)
    with pytest.raises(ColorTrackError, match="nowhere"):
        ct.train("nowhere", name="mine")
    with pytest.raises(ColorTrackError, match="absent"):
        ct.train(videos, name="mine", init="absent")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a b", "letters, digits"),
        ("../a", "letters, digits"),
        ("", "letters, digits"),
        ("fast", "ColorTrack itself uses"),
        ("lab", "ColorTrack itself uses"),
        ("flow", "ColorTrack itself uses"),
        ("random", "ColorTrack itself uses"),
    ],
)
def test_names_that_cannot_be_had(videos: fo.Dataset, name: str, reason: str) -> None:
    with pytest.raises(ColorTrackError, match=reason):
        ct.train(videos, name=name, overwrite=True)


def test_the_preset_is_that_of_the_first_weights(videos: fo.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ColorTrackError, match="preset 'paper', not 'fast'"):
        ct.train(videos, name="mine", init="paper", preset="fast")
    with pytest.raises(ColorTrackError, match="no clip is half a second long"):  # only `paper` needs one
        ct.train(images(tmp_path / "pictures", 2), name="mine", init="paper", device="cpu")


def test_a_view_gives_its_videos_or_pictures(videos: fo.Dataset, tmp_path: Path) -> None:
    here, offline = (Path(path) for path in videos.values("filepath"))
    assert collect(videos) == TrainingData(videos=(here, offline))
    assert collect(videos.limit(1), exclude=["other"]) == TrainingData(videos=(here,))
    assert collect(videos, exclude=["here"]) == TrainingData(videos=(offline,))
    with pytest.raises(ColorTrackError, match="clips"):
        collect(videos.to_clips([[[1, 2]], []]))
    pictures = fo.Dataset()
    pictures.add_images(images(tmp_path / "pictures", 3) + images(tmp_path / "more", 1))
    assert len(collect(pictures).images) == 4
    assert collect(pictures).videos == ()
    pictures.delete()


def test_groups_give_what_is_in_their_slices(dataset: fo.Dataset, squares_file: Path, tmp_path: Path) -> None:
    dataset.add_group_field("group", default="left")
    for picture in images(tmp_path / "pictures", 2):
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
    films = report.dataset
    assert len(films) == 1
    with pytest.raises(ColorTrackError, match="nothing to train on"):
        collect(films)
    imported = fo.Dataset.from_videos([*films.values("filepath"), *videos.values("filepath")])
    assert collect(imported) == collect(videos)
    assert len(collect(tmp_path).videos) == 1
    for dataset in (films, imported):
        dataset.delete()


def test_folders_and_lists(squares_file: Path, tmp_path: Path) -> None:
    sequence, picture = images(tmp_path / "sequence", 2), images(tmp_path / "pictures", 1)[0]
    data = collect([squares_file, sequence, picture])
    assert data == TrainingData((squares_file, tuple(map(Path, sequence))), (Path(picture),))
    assert collect(data) is data
    data = collect(squares_file.parent)
    assert (data.videos, len(data.images)) == ((squares_file,), 3)
    assert len(collect(squares_file.parent / "sequence", images=tmp_path / "pictures").images) == 1


def test_the_size_of_decoded_frames_is_estimated(videos: fo.Dataset, tmp_path: Path) -> None:
    ct.train(videos.limit(1), out_dir=tmp_path / "run", steps=1, **TINY)
    (frames,) = (tmp_path / "run" / "cache").glob("*.u8")
    assert decoded_bytes(videos) == 2 * frames.stat().st_size
    for sample in videos:
        sample.metadata = None
        sample.save()
    assert decoded_bytes(videos) is None
