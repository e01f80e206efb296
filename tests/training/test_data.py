import subprocess
import sys
from pathlib import Path

import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.training import TrainingData


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_are_searched_and_names_excluded(tmp_path: Path) -> None:
    touch(*(tmp_path / f"{i}.mp4" for i in range(4)), tmp_path / "class" / "one.JPG", tmp_path / "notes.txt")
    data = TrainingData.collect(tmp_path, tmp_path, exclude=["0", "3.mp4"])
    assert [Path(video).name for video in data.videos] == ["1.mp4", "2.mp4"]
    assert [image.name for image in data.images] == ["one.JPG"]
    assert len(data) == 3


def test_lists_may_hold_image_sequences(tmp_path: Path) -> None:
    sequences = [[tmp_path / name / f"{i}.png" for i in range(2)] for name in ("bear", "bus")]
    data = TrainingData.collect([tmp_path / "0.mp4", *sequences], exclude=["bear"])
    assert data.videos == (tmp_path / "0.mp4", tuple(sequences[1]))


def test_what_this_program_wrote_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "colortrack-videos" / "a-colors-0123abcd.mp4")
    assert TrainingData.collect(tmp_path).videos == (tmp_path / "a.mp4",)


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ColorTrackError, match="nothing to train on"):
        TrainingData.collect(tmp_path)
    with pytest.raises(ColorTrackError, match="does not exist"):
        TrainingData.collect(tmp_path / "absent")
    with pytest.raises(ColorTrackError, match="a skipped"):
        TrainingData.collect([tmp_path / "a.mp4"], exclude=["a"])


def test_collecting_does_not_import_torch() -> None:
    code = "import sys, fiftyone_colortrack.training; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
