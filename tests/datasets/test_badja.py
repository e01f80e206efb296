import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colortrack_benchmarks.badja import read_badja
from fiftyone_colortrack.errors import ColorTrackError

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A DAVIS folder with one video of 96 x 54, a twentieth of BADJA's size; joints in two of its frames."""
    davis, joints = tmp_path / "DAVIS", tmp_path / "BADJA"
    (davis / "ImageSets" / "2017").mkdir(parents=True)
    (davis / "ImageSets" / "2017" / "train.txt").write_text("bear\n")
    for kind in ("JPEGImages", "Annotations"):
        (davis / kind / "480p" / "bear").mkdir(parents=True)
    for t in range(4):
        Image.new("RGB", (96, 54)).save(davis / "JPEGImages" / "480p" / "bear" / f"{t:05}.jpg")
        mask = np.zeros((54, 96), np.uint8)
        mask[:10, :10] = 1
        Image.fromarray(mask).save(davis / "Annotations" / "480p" / "bear" / f"{t:05}.png")
    joints.mkdir()
    entries = [
        {"image_path": f"x/{t:05}.jpg", "joints": [[200, 400], [0, 0], [100, 60]], "visibility": [1, 0, 0]}
        for t in (1, 3)
    ]
    (joints / "bear.json").write_text(json.dumps(entries))
    (joints / "tiger.json").write_text("[]")
    return joints, davis


def test_joints_are_scaled_and_turned(folders: tuple[Path, Path]) -> None:
    (bear,) = read_badja(*folders)
    assert bear.davis.name == "bear"
    assert bear.annotated == [1, 3]
    assert bear.points[1, 0].tolist() == pytest.approx([400.5 / 20, 200.5 / 20])
    assert np.isnan(bear.points[:, 1]).all()
    assert np.isnan(bear.points[[0, 2]]).all()
    assert bear.visible.tolist() == [[False] * 3, [True, False, False]] * 2
    assert bear.reference_lengths().tolist() == pytest.approx([np.nan, 10, np.nan, 10], nan_ok=True)


def test_full_resolution_gives_the_scale(folders: tuple[Path, Path]) -> None:
    full = folders[1] / "JPEGImages" / "Full-Resolution" / "bear"
    full.mkdir(parents=True)
    Image.new("RGB", (960, 540)).save(full / "00000.jpg")
    assert read_badja(*folders)[0].points[1, 0].tolist() == pytest.approx([400.5 / 10, 200.5 / 10])


def test_damage_is_named(folders: tuple[Path, Path]) -> None:
    joints, davis = folders
    with pytest.raises(ColorTrackError, match="no sequence 'camel'"):
        read_badja(joints, davis, ["camel"])
    entry = {"image_path": "x/00009.jpg", "joints": [[1, 1]], "visibility": [1]}
    for content, message in (
        ("{", "is not a list of BADJA"),
        ('[{"joints": 1}]', "is not a list of BADJA"),
        (json.dumps([entry]), "joints of frame 00009, which is not in DAVIS"),
        (json.dumps([entry | {"visibility": [1, 1]}]), r"joints must be \[N, J, 2\]"),
    ):
        (joints / "bear.json").write_text(content)
        with pytest.raises(ColorTrackError, match=f"bear\\.json.*{message}"):
            read_badja(joints, davis)
    (joints / "bear.json").unlink()
    with pytest.raises(ColorTrackError, match="there are: tiger"):
        read_badja(joints, davis)


def test_the_sample() -> None:
    if not (DATA / "badja-dev").is_dir():
        pytest.skip("shared/data/badja-dev is not beside the project")
    sequences = {s.davis.name: s for s in read_badja(DATA / "badja-dev", DATA / "davis2016-dev")}
    assert {name: len(s.annotated) for name, s in sequences.items()} == {
        "bear": 17,
        "dog-agility": 5,
        "horsejump-low": 12,
    }
    for sequence in sequences.values():
        on_animal = []
        for t in sequence.annotated:
            mask = sequence.davis.read_mask(t)
            assert mask is not None
            x, y = sequence.points[t, sequence.visible[t]].astype(int).T
            near = np.pad(mask, 12)
            on_animal += [near[b : b + 25, a : a + 25].any() for a, b in zip(x, y, strict=True)]
        assert np.mean(on_animal) > 0.95  # joints are on the animal or at its edge
